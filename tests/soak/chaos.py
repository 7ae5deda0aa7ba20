"""Chaos: deletions in portals, while Firestore, the network, the function and Bitrix24 fail.

A run consists of rounds, each a burst of deletions and a fault in the middle of it; a seed
decides their order and what is deleted. What was sent, and what became of it, is counted here
without the help of the code under test.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final, Protocol, TypeAlias

from handler.bitrix24.rest import Rest
from handler.deadline import Deadline
from tests.doubles.bitrix24 import (
    Bitrix24,
    Delivery,
    Disconnect,
    Fault,
    Html,
    Installation,
    LostAnswer,
    OtherResult,
    Portal,
    Refusal,
    TruncatedBody,
    Value,
    parse_str,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.bitrix24.open_lines import CONNECTOR_TWIN, DELETE_EVENT
from tests.doubles.function import ROOT, Function, environment
from tests.doubles.tcp_proxy import TcpProxy

Identity: TypeAlias = tuple[object, ...]

STORE_DEADLINE_SECONDS: Final = 1.5
"""Short, so that faults bite soon."""

REPLAY_SECONDS: Final = 900
"""A replay's time limit on a busy machine."""

_SENDERS: Final = 12
_HANG_SECONDS: Final = 2.2  # longer than the deadline, so that a retry cannot succeed
# Between deletions that are sent only because a fault lasts. Drains are paced: what came faster
# would wait in the queues for minutes.
_TRICKLE_SECONDS: Final = 1.0
_POSTPONED_SECONDS: Final = 0.5  # between the pings of a portal whose drain is under way
_AWAY_SECONDS: Final = 0.3  # a sender's wait while the handler is down

KINDS: Final = {
    "of one message": 23,
    "of several": 35,
    "by a customer": 25,
    "misfit": 10,
    "repeat": 4,
    "unheard": 3,
}
"""What happens, and how often in per cent; unheard events are only in the portal's queue."""


class Backend(Protocol):
    """Google's emulator, or its replacement."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


@dataclass
class Sent:
    """What was sent by the portals, by identity."""

    deletions: set[Identity] = field(default_factory=set)
    misfits: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Kept:
    """The dead letters in the log, by identity."""

    deletions: set[Identity] = field(default_factory=set)
    misfits: set[str] = field(default_factory=set)
    unverified: int = 0
    lines: int = 0


@dataclass
class Injection:
    """How often a fault was injected, and how many deliveries, connections or calls it affected."""

    times: int = 0
    effect: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Meanwhile:
    """A fault of the portal: something happens while it answers, before or after the effect."""

    action: Callable[[], object]
    after_effect: bool

    def __call__(self, exchange: Exchange, effect: Callable[[], Message]) -> None:
        if not self.after_effect:
            self.action()
        message = effect()
        if self.after_effect:
            self.action()
        exchange.write(message.encode())


class Chaos:
    """A chaos run; it gives up at `until`."""

    def __init__(
        self,
        *,
        bitrix: Bitrix24,
        function: Function,
        backend: Backend,
        proxy: TcpProxy,
        seed: int,
        until: float,
    ) -> None:
        self.sent = Sent()
        self.injected: dict[str, Injection] = {}
        self._bitrix = bitrix
        self._function = function
        self._backend = backend
        self._proxy = proxy
        self._random = random.Random(seed)
        self._until = until
        self._lock = Lock()
        self._up = Event()
        self._up.set()
        self._striking = Event()
        self._senders = ThreadPoolExecutor(_SENDERS)
        self._apps = [
            self._install("main.bitrix24.com"),
            self._install("plain.bitrix24.com", extended=False),
            self._install("twins.bitrix24.com", twins=True),
        ]
        self._faults: dict[str, Callable[[], int]] = {
            "Firestore hangs": self._hang,
            "Firestore hangs, function just started": self._hang_at_start,
            "Firestore is cut off": self._cut,
            "Firestore is slow": self._delay,
            "answers of Firestore are lost": self._swallow,
            "function killed (SIGKILL)": self._kill,
            "function asked to stop (SIGTERM)": self._terminate,
            "Bitrix24 fails in a drain": self._fail_drains,
            "function killed in a drain": self._kill_in_drains,
            "Firestore hangs in a drain": self._hang_in_drains,
            "two drains at once": self._drain_twice_at_once,
        }

    @property
    def portals(self) -> list[Portal]:
        """The portals in which messages are deleted."""
        return [app.portal for app in self._apps]

    @property
    def deliveries(self) -> list[Delivery]:
        """All events that were posted, including pings."""
        with self._bitrix.lock:
            return [delivery for portal in self.portals for delivery in portal.deliveries]

    def run(self, deletions: int, rounds_of_each: int) -> None:
        """Send at least this many deletions, while each fault strikes this many times."""
        order = [name for name in self._faults for _ in range(rounds_of_each)]
        self._random.shuffle(order)
        with self._senders:
            for number, name in enumerate(order, start=1):
                self._round(name, deletions * number // len(order))

    def heal(self) -> None:
        """End all faults."""
        self._bitrix.clear_faults()
        self._backend.resume()
        self._proxy.heal()
        self._restart()

    def drain(self) -> int:
        """Ping the portals until their queues are empty or time is up; count the pings."""
        pings = 0
        for app in self._apps:
            while app.portal.queue(app) and time.monotonic() < self._until:
                self._ping(app)
                pings += 1
        return pings

    def queued(self) -> tuple[set[Identity], set[str]]:
        """Return the deletions, and the invalid events, in the portals' queues."""
        deletions: set[Identity] = set()
        misfits: set[str] = set()
        for app in self._apps:
            for row in app.portal.queue(app):
                _sort_out(app.portal.member_id, row["EVENT_DATA"], deletions, misfits)
        return deletions, misfits

    def answered(self, *statuses: int) -> tuple[set[Identity], set[str]]:
        """Return the deletions, and the invalid events, whose delivery had one of these answers."""
        deletions: set[Identity] = set()
        misfits: set[str] = set()
        for delivery in self.deliveries:
            if delivery.status in statuses and delivery.event in (DELETE_EVENT, CONNECTOR_TWIN):
                event: Any = parse_str(delivery.body.decode())
                _sort_out(event["auth"]["member_id"], event["data"], deletions, misfits)
        return deletions, misfits

    def _round(self, name: str, deletions: int) -> None:
        """Let a fault strike a burst, which ends with the fault, or at this many deletions."""
        started = time.monotonic()
        self._striking.set()
        burst = [self._senders.submit(self._send, deletions) for _ in range(_SENDERS)]
        time.sleep(self._random.uniform(0.02, 0.1))
        injection = self.injected.setdefault(name, Injection())
        injection.times += 1
        try:
            injection.effect += self._faults[name]()
        finally:
            self._striking.clear()
        done, late = wait(burst, max(0, self._until - time.monotonic()))
        assert not late, "the run took too long"
        for sender in done:
            sender.result()
        injection.seconds += time.monotonic() - started

    def _install(self, domain: str, *, extended: bool = True, twins: bool = False) -> Installation:
        # Its pings are sent here, where faults wait for them; test_year.py has a portal's own.
        portal = self._bitrix.add_portal(domain, offline_extended=extended, pings=False)
        connectors = ["myconnector"] if twins else []
        app = portal.install(scope="imopenlines,imconnector", connectors=connectors)
        token = app.token()
        while True:  # a deadline this short is easily missed by a function that has just started
            installed = portal.post(f"{self._function.url}/", app.install_event(token))
            if installed.status == 200 or time.monotonic() > self._until:
                break
        assert json.loads(installed.answer) == {"status": "installed", "subscribed": True}
        if twins:
            rest = Rest(portal.client_endpoint, token.access_token, Deadline(10))
            rest.call("event.bind", event=CONNECTOR_TWIN, handler=f"{self._function.url}/")
        return app

    # What happens in the portals.

    def _send(self, deletions: int) -> None:
        while len(self.sent.deletions) < deletions or self._striking.is_set():
            assert time.monotonic() < self._until, "the run took too long"
            self._delete_something()
            if not self._up.is_set():
                time.sleep(_AWAY_SECONDS)
            elif len(self.sent.deletions) >= deletions:
                time.sleep(_TRICKLE_SECONDS)

    def _delete_something(self) -> None:
        with self._lock:
            app = self._random.choices(self._apps, [60, 15, 25])[0]
            what = self._random.choices(list(KINDS), list(KINDS.values()))[0]
            number = self.sent.counts.total()
            self.sent.counts[what] += 1
            size = self._random.randint(2, 5) if what == "of several" else 1
            user_id = self._random.choice([27, None])
        portal = app.portal
        if what == "repeat":
            self._repeat(portal)
        elif what == "misfit":
            with self._lock:
                self.sent.misfits.add(f"misfit-{number}")
            empty: dict[str, Value] = {"CONNECTOR": "myconnector", "LINE": 107, "DATA": []}
            portal.fire(DELETE_EVENT, {**empty, "no": f"misfit-{number}"}, user_id)
        elif what == "by a customer":
            identity = customer_identity(portal.member_id, f"wamid.{number}==")
            with self._lock:
                self.sent.deletions.add(identity)
            portal.customer_deletes(f"wamid.{number}==", user_id=user_id)
        else:
            ids = [f"ext-{number}-{part}" for part in range(size)]
            with self._lock:
                self.sent.deletions.update(
                    ("portal", portal.member_id, 1807, number + 1, external) for external in ids
                )
            portal.delete_message(
                *ids, im_message_id=number + 1, user_id=user_id, deliver=what != "unheard"
            )

    def _repeat(self, portal: Portal) -> None:
        """Post an event again, as some clients may."""
        with self._bitrix.lock:
            past = [d for d in portal.deliveries[-50:] if d.event == DELETE_EVENT]
        if past:
            with self._lock:
                again = self._random.choice(past)
            portal.post(again.url, again.body, again.event)

    # The faults. Each returns how much it affected.

    def _until_told(self, effect: Callable[[], int]) -> None:
        """Let a fault last until it has affected something, however busy the machine is."""
        while not effect():
            assert time.monotonic() < self._until, "the run took too long"
            time.sleep(0.01)

    def _hang(self) -> int:
        before = self._count(503)
        self._backend.pause()
        time.sleep(_HANG_SECONDS)
        self._until_told(lambda: self._count(503) - before)
        self._backend.resume()
        return self._count(503) - before

    def _hang_at_start(self) -> int:
        before = self._count(503)
        self._backend.pause()
        self._kill()
        time.sleep(_HANG_SECONDS)
        self._until_told(lambda: self._count(503) - before)
        self._backend.resume()
        return self._count(503) - before

    def _cut(self) -> int:
        before = self._count(503)
        self._proxy.cut()
        time.sleep(_HANG_SECONDS)
        self._until_told(lambda: min(self._count(503) - before, self._proxy.refused))
        self._proxy.heal()
        return min(self._count(503) - before, self._proxy.refused)

    def _delay(self) -> int:
        before = self._proxy.delayed
        self._proxy.delay(self._random.uniform(0.05, 0.2))
        time.sleep(1)
        self._until_told(lambda: self._proxy.delayed - before)
        self._proxy.heal()
        return self._proxy.delayed - before

    def _swallow(self) -> int:
        before = self._proxy.swallowed
        self._proxy.swallow()
        time.sleep(self._random.uniform(0.3, 0.8))
        self._until_told(lambda: self._proxy.swallowed - before)
        self._proxy.heal()
        return self._proxy.swallowed - before

    def _kill(self) -> int:
        before = self._count(None)
        self._kill_only()
        self._until_told(lambda: self._count(None) - before)
        self._restart()
        return self._count(None) - before

    def _kill_only(self) -> None:
        self._up.clear()
        self._function.kill()

    def _terminate(self) -> int:
        before = self._count(None)
        self._up.clear()
        self._function.stop()
        self._until_told(lambda: self._count(None) - before)
        self._restart()
        return self._count(None) - before

    def _fail_drains(self) -> int:
        """Let a drain fail at each of its calls, in each way."""
        ways: list[Fault] = [
            Refusal(503, "QUERY_LIMIT_EXCEEDED"),
            Refusal(401, "expired_token"),
            Disconnect(),
            LostAnswer(),
            TruncatedBody(),
            Html(502),
            OtherResult(body={"result": None}),
        ]
        self._random.shuffle(ways)
        struck = 0
        for app in self._apps[:2]:
            for method in drain_calls(app):
                struck += self._strike(app, method, ways.pop())
        return struck

    def _kill_in_drains(self) -> int:
        """Kill the function at each call of a drain, before and after its effect."""
        struck = 0
        for app in self._apps[:2]:
            method = self._random.choice(drain_calls(app))
            fault = Meanwhile(self._kill_only, after_effect=self._random.random() < 0.5)
            struck += self._strike(app, method, fault)
            self._restart()
        return struck

    def _hang_in_drains(self) -> int:
        before = self._count(503)
        app = self._random.choice(self._apps)
        fault = Meanwhile(self._backend.pause, after_effect=True)
        struck = self._strike(app, drain_calls(app)[0], fault)
        self._until_told(lambda: self._count(503) - before)
        self._backend.resume()
        return min(struck, self._count(503) - before)

    def _drain_twice_at_once(self) -> int:
        drained = 0
        with ThreadPoolExecutor(2) as pings:
            for app in self._apps:
                both = [pings.submit(self._ping, app) for _ in range(2)]
                drained += sum(ping.result().status == 200 for ping in both)
        return drained

    def _strike(self, app: Installation, method: str, fault: Fault) -> int:
        """Let a fault strike one of the next calls of a drain."""
        struck = Event()

        def once(exchange: Exchange, effect: Callable[[], Message]) -> None:
            struck.set()
            fault(exchange, effect)

        self._bitrix.fault(method, once, after=self._random.randrange(2))
        while not struck.is_set():  # the first pings may find the queue nearly empty
            assert time.monotonic() < self._until, "the run took too long"
            app.portal.customer_deletes(self._another(app), deliver=False)
            self._ping(app)
        self._bitrix.clear_faults()
        return True

    def _another(self, app: Installation) -> str:
        """Note one more deletion, which the function does not hear of."""
        with self._lock:
            number = self.sent.counts.total()
            self.sent.counts["unheard"] += 1
            self.sent.deletions.add(customer_identity(app.portal.member_id, f"unheard-{number}"))
        return f"unheard-{number}"

    def _ping(self, app: Installation) -> Delivery:
        """Ping until it is not postponed: a killed drain holds its lease for a while."""
        while True:
            pinged = app.portal.post(
                f"{self._function.url}/", app.offline_ping(app.token()), "ONOFFLINEEVENT"
            )
            if b"postponed" not in pinged.answer or time.monotonic() > self._until:
                return pinged
            time.sleep(_POSTPONED_SECONDS)

    def _restart(self) -> None:
        if not self._up.is_set():
            self._function.start()
            self._up.set()

    def _count(self, status: int | None) -> int:
        return sum(delivery.status == status for delivery in self.deliveries)


def customer_identity(member_id: str, message_id: str) -> Identity:
    """Return the identity of a customer's deletion in the stand-in's usual channel."""
    return ("customer", member_id, "myconnector", 107, "channel-123", message_id)


def record_identity(fields: Mapping[str, object]) -> Identity:
    """Return the identity of a record's deletion, from a document or the log."""
    names = (
        ("im_chat_id", "im_message_id", "message_id")
        if fields["origin"] == "portal"
        else ("connector", "line_id", "chat_id", "message_id")
    )
    return (fields["origin"], fields["member_id"], *(fields[name] for name in names))


def read_kept(lines: Iterable[Mapping[str, Any]]) -> Kept:
    """Find the dead letters in the log."""
    kept = Kept()
    payloads: dict[str, list[str]] = {}
    for line in lines:
        if line.get("outcome") != "not_recorded":
            continue
        kept.lines += 1
        kept.unverified += line.get("verified") is False
        for record in line["records"]:
            if "payload" not in record:
                kept.deletions.add(record_identity(record))
                continue
            parts = payloads.setdefault(record["id"], [""] * record["parts"])
            parts[record["part"] - 1] = record["payload"]
            if all(parts):
                data = json.loads("".join(parts))
                _sort_out(record["member_id"], data, kept.deletions, kept.misfits)
    return kept


def replay(log: Path, host: str, project: str) -> dict[str, Any]:
    """Replay the log like an operator; return the command's output."""
    done = subprocess.run(
        [sys.executable, "-m", "handler", "replay", str(log), "--json"],
        cwd=ROOT,
        env=environment(FIRESTORE_EMULATOR_HOST=host, GOOGLE_CLOUD_PROJECT=project),
        capture_output=True,
        check=False,
        text=True,
        timeout=REPLAY_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def drain_calls(app: Installation) -> list[str]:
    """Return the calls of a drain, in order."""
    if app.portal.offline_extended:
        return ["event.offline.get", "event.offline.clear"]  # it lists only what a crash left
    return ["event.offline.list", "event.offline.get", "batch"]


def _sort_out(member_id: str, data: Any, deletions: set[Identity], misfits: set[str]) -> None:  # noqa: ANN401 - it is JSON, or a form
    """Add an event's deletions to the valid or the invalid ones."""
    if "no" in data:
        misfits.add(data["no"])
        return
    messages = data.get("DATA") or data["MESSAGES"]
    if "connector" in messages:
        about, chat, message = (messages[name] for name in ("connector", "chat", "message"))
        identity = (about["connector_id"], int(about["line_id"]), chat["id"], message["id"])
        deletions.add(("customer", member_id, *identity))
        return
    for element in messages.values() if isinstance(messages, dict) else messages:
        numbers = (int(element["im"][name]) for name in ("chat_id", "message_id"))
        deletions.add(("portal", member_id, *numbers, element["message"]["id"]))
