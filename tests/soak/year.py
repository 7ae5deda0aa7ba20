"""A portal's year: its events, its users' deletions, and its operator's remedies.

Time passes here by moving all times in the portal's document back, not by waiting. Faults of the
store and the function are in `weather.py`.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event
from typing import Any, Final, TypeAlias

from handler.bitrix24 import portal_problems as problems
from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, Store
from tests.doubles.app import event_body, install_body
from tests.doubles.bitrix24 import (
    BINDING_BUSY,
    OPERATION_TIME_LIMIT,
    QUERY_LIMIT_EXCEEDED,
    Bitrix24,
    Disconnect,
    Fault,
    Installation,
    LostAnswer,
    Portal,
    Refusal,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.function import Function
from tests.soak.chaos import Identity, drain_calls, record_identity
from tests.soak.weather import SECONDS, Weather

DELETE: Final = "ONOPENLINEMESSAGEDELETE"
PING: Final = "ONOFFLINEEVENT"
BINDINGS: Final = sorted(["ONAPPUNINSTALL", PING, DELETE, DELETE])
OTHER_HOST: Final = "http://localhost:9/hook"

Plan: TypeAlias = deque[tuple[str, str]]
"""Events of the year, each with the fault during which it happens.

The portals share one plan: each event happens to the portal that is free first.
"""

NO_FAULT: Final = "nothing fails"

CONNECTORS: Final = "MyConnector"
"""As set; the portal registered it as `myconnector`, but customers' events keep the case."""

MOST_ATTEMPTS: Final = 100
"""Of a ping each, until a portal is well: far more than it takes, with faults in between."""

KINDS: Final = {
    "one message": 40,
    "several ids": 20,
    "by a customer": 20,
    "of another connector": 5,
    "unheard": 15,
}
"""Deletions, and how often in per cent; unheard ones are only in the portal's queue."""

# A portal's fields before there was upkeep.
_OF_VERSION_0_1_0: Final = (
    *("token_digests", "active", "domain", "client_endpoint", "server_endpoint", "client_id"),
    *("status", "scope", "installed_at", "updated_at"),
)


class Year:
    """A portal's year; `administrator` currently looks after the application.

    `stranger` is an application in another portal; `replay` replays the function's log.
    """

    def __init__(
        self,
        *,
        bitrix: Bitrix24,
        function: Function,
        store: Store,
        weather: Weather,
        domain: str,
        chance: random.Random,
        stranger: Installation,
        extended: bool,
        replay: Callable[[], object],
    ) -> None:
        self.chance = chance
        self.administrator = 1
        self.happened: list[str] = []
        self.deleted: set[Identity] = set()
        self._bitrix = bitrix
        self._url = f"{function.url}/bitrix"
        self._function = function
        self._store = store
        self._weather = weather
        self._stranger = stranger
        self._replay = replay
        self._numbers = iter(range(1, 1_000_000))
        self.portal: Portal = bitrix.add_portal(domain, offline_extended=extended)
        self.app: Installation = self.portal.install()
        self.app.save_form(self._url)
        self.until_it_is_well()

    @property
    def _path(self) -> str:
        return f"portals/{self.portal.member_id}"

    @property
    def document(self) -> Fields:
        """The portal's document."""
        found = self._store.get(self._path, Deadline(30))
        return found.fields if found else {}

    @property
    def recorded(self) -> Counter[Identity]:
        """Count the records by identity."""
        found = self._store.newest(f"{self._path}/deletions", "recorded_at", Deadline(60))
        return Counter(record_identity(one.fields) for one in found)

    @property
    def logged_problems(self) -> list[str]:
        """The portal's problems in the log so far."""
        return [
            str(line["message"])
            for line in self._function.log_lines
            if line["outcome"] == "portal_problem" and line["member_id"] == self.portal.member_id
        ]

    def live(self, plan: Plan) -> None:
        """Live through events of the plan until it is empty."""
        while plan:
            try:
                act, kind = plan.popleft()
            except IndexError:  # the other portal was faster
                return
            self._live_through(act, kind)

    def _live_through(self, act: str, kind: str) -> None:
        self.happened.append(f"{act}, while {kind}")
        self._pass_time()
        if act in (*UNDISTURBED, "another_users_pings_come_too"):  # it needs the one binding
            self.until_it_is_well()
        struck = self._let_it_strike(act, kind)
        if act in UNDISTURBED:
            getattr(self, act)()
        else:
            self._meanwhile(getattr(self, act))
        if act in UNDISTURBED or self.chance.random() < 0.5:
            self.until_it_is_well()
        for attempt in self._attempts():
            if struck.is_set():
                break
            if self._is_bound(DELETE, offline=True):
                self.delete("unheard")
            self._look_after(attempt)

    def _let_it_strike(self, act: str, kind: str) -> Event:
        """Let a fault strike now, or during the calls that this act causes."""
        struck = Event()
        if kind == NO_FAULT:
            struck.set()
            return struck
        seconds = self.chance.uniform(*SECONDS)
        if act in ("everything_is_unbound", "pings_are_lost"):
            middle, methods = "binding", ["event.bind"]
        elif act in ("bound_at_other_spellings", "another_users_pings_come_too"):
            middle, methods = "unbinding", ["event.unbind"]
        else:
            middle = self.chance.choice(["calm", "an install or a check", "a drain"])
            methods = ["app.info", "profile", "event.get"]
        if middle == "calm":
            self._weather.strike(kind, seconds)
            struck.set()
            return struck
        if middle == "a drain":
            plan_changes = act == "batches_are_refused"
            methods = ["event.offline.get"] if plan_changes else drain_calls(self.app)
        method = self.chance.choice(methods)
        after_effect = self.chance.random() < 0.5
        return self._weather.strike_in(middle, method, kind, seconds, after_effect=after_effect)

    def _meanwhile(self, act: Callable[[], None]) -> None:
        """Act while users delete messages."""
        kinds = self.chance.choices(
            list(KINDS), list(KINDS.values()), k=self.chance.randrange(1, 6)
        )
        with ThreadPoolExecutor() as pool:
            deletions = [pool.submit(self.delete, kind) for kind in kinds]
            act()
            for one in deletions:
                one.result()

    def delete(self, kind: str) -> None:
        """Delete a message in one of the ways."""
        number = next(self._numbers)
        if kind == "of another connector":
            self.portal.delete_message(connector="telegram")
        elif kind == "by a customer":
            self.deleted.add(
                (
                    "customer",
                    self.portal.member_id,
                    "MyConnector",
                    107,
                    "channel-123",
                    f"c-{number}",
                )
            )
            self.portal.customer_deletes(f"c-{number}", connector="MyConnector")
        else:
            ids = [f"m-{number}-{part}" for part in range(3 if kind == "several ids" else 1)]
            about = ("portal", self.portal.member_id, 1807, number)
            self.deleted.update((*about, external_id) for external_id in ids)
            self.portal.delete_message(*ids, im_message_id=number, deliver=kind != "unheard")

    # Waiting.

    def until_it_is_well(self) -> None:
        """Ping, let time pass, and follow the portal's problem, until nothing is left to repair."""
        for attempt in self._attempts():
            if self._is_well():
                return
            self._look_after(attempt)

    def _look_after(self, attempt: int) -> None:
        """Ping, or carry out the problem's remedy, two days after the last attempt."""
        if attempt or "drain" in self.document:  # a killed drain never released it
            self._pass_time()
        if not self._is_bound(PING) or (attempt and "problem" in self.document):
            self.app.reinstall(by=self.administrator)
        else:
            self.portal.ping()

    def _until_logged(self, problem: str) -> None:
        """Ping until the log has this problem."""
        before = len(self.logged_problems)
        for _ in self._attempts():
            if problem in self.logged_problems[before:]:
                return
            self.portal.ping()
            self._pass_time()

    def _attempts(self) -> Iterator[int]:
        for attempt in range(MOST_ATTEMPTS):
            self._weather.wait_for_function()
            yield attempt
        raise AssertionError((self.portal.domain, self.happened, self.document, self.app.bindings))

    def _is_well(self) -> bool:
        """Whether the queue is empty, everything bound once, and no problem left."""
        with self._bitrix.lock:
            mine = [one for one in self.app.bindings if one.handler != OTHER_HOST]
            queue = self.portal.queue(self.app)
        return (
            not queue
            and sorted(one.event for one in mine) == BINDINGS
            and {one.user_id for one in mine if one.event == PING} == {self.administrator}
            and self.document.keys().isdisjoint({"problem", "queue_left", "drain"})
            and "checked_at" in self.document
        )

    def _is_bound(self, event: str, *, offline: bool = False) -> bool:
        with self._bitrix.lock:
            return any(
                one.event == event and bool(one.handler) != offline for one in self.app.bindings
            )

    def _pass_time(self) -> None:
        """Let two days pass, and leases expire; no event of this portal is under way."""
        found = self._store.get(self._path, Deadline(30))
        if found:
            fields = {name: _two_days_ago(value) for name, value in found.fields.items()}
            self._store.put(Document(self._path, fields, found.version), Deadline(30))

    # The events of a year. Those that only a Reinstall repairs include it.

    def renamed_with_a_redirect(self) -> None:
        self._rename(None)

    def renamed_and_silent(self) -> None:
        self._rename(Disconnect())

    def _rename(self, old_address: Fault | None) -> None:
        self.portal.rename(f"{next(self._numbers)}-{self.portal.domain}", old_address=old_address)
        if self.chance.random() < 0.3:  # otherwise the next ping finds it
            self.app.reinstall(by=self.administrator)

    def administrator_is_demoted(self) -> None:
        leaving = self._another_administrator()
        self.portal.demote(leaving)
        self.delete("one message")
        self._until_logged(problems.ADMINISTRATOR)
        self.app.reinstall(by=self.administrator)

    def administrator_leaves(self) -> None:
        leaving = self._another_administrator()
        self.portal.dismiss(leaving)
        self.delete("one message")
        self._until_logged(problems.NO_TOKEN)
        self.app.reinstall(by=self.administrator)

    def _another_administrator(self) -> int:
        leaving, self.administrator = self.administrator, self.administrator + 1
        self.portal.promote(self.administrator)
        return leaving

    def another_users_pings_come_too(self) -> None:
        with self._bitrix.lock:
            (ping,) = (one for one in self.app.bindings if one.event == PING)
            self.app.bindings.append(replace(ping, id=self.portal.next_binding_id(), user_id=27))
        self.portal.ping()

    def bindings_are_lost(self) -> None:
        self.app.lose_bindings(DELETE)  # deletions in between are not reported at all

    def queue_is_lost(self) -> None:
        """Delete when events come online only: the log keeps those that are not stored."""
        with self._bitrix.lock:
            self.app.bindings[:] = [one for one in self.app.bindings if one.handler]
        before = len(self.portal.deliveries)
        with self._weather.store_unavailable():
            self.delete("several ids")
            self.delete("by a customer")
        sent = [one for one in self.portal.deliveries[before:] if one.url != OTHER_HOST]
        assert {one.status for one in sent} == {503}
        self._replay()  # while the application has this token

    def pings_are_lost(self) -> None:
        self.app.lose_bindings(PING)  # only `status` can find it; the remedy helps
        self.delete("unheard")
        self.app.reinstall(by=self.administrator)

    def everything_is_unbound(self) -> None:
        self.app.lose_bindings()
        self._bitrix.fault("event.bind", BINDING_BUSY)
        self.app.reinstall(by=self.administrator)

    def bound_at_other_spellings(self) -> None:
        with self._bitrix.lock:
            for bound in list(self.app.bindings):
                for spelled in (self._url, f"{self._url}/", self._url.replace("/b", "/%62")):
                    if bound.handler not in ("", OTHER_HOST, spelled):
                        number = self.portal.next_binding_id()
                        self.app.bindings.append(replace(bound, id=number, handler=spelled))

    def another_host_is_bound(self) -> None:
        with self._bitrix.lock:
            bound = next(one for one in self.app.bindings if one.event == DELETE and one.handler)
            number = self.portal.next_binding_id()
            self.app.bindings.append(replace(bound, id=number, handler=OTHER_HOST))

    def application_is_added_anew(self) -> None:
        """Delete the application with its queue, and add it; its uninstall event arrives late."""
        former, self.app = self.app, self.app.delete_and_add()
        self.app.save_form(self._url, by=self.administrator)
        self.until_it_is_well()
        self.portal.post(self._url, former.uninstall_event(clean=True), "ONAPPUNINSTALL")

    def plan_ends(self) -> None:
        self.portal.commercial = False
        self.delete("one message")
        self._until_logged(problems.PLAN)
        self.portal.commercial = True
        self.app.reinstall(by=self.administrator)

    def permission_is_taken(self) -> None:
        self.app.scope = "crm"
        self.app.lose_bindings(DELETE)
        self._until_logged(problems.PERMISSION)
        self.app.scope = "crm,imopenlines"
        self.app.reinstall(by=self.administrator)

    def bitrix24_slows_down(self) -> None:
        for method in ("event.offline.get", "event.offline.list", "app.info"):
            self._bitrix.fault(method, QUERY_LIMIT_EXCEEDED)
            self._bitrix.fault(method, OPERATION_TIME_LIMIT)

    def bitrix24_fails(self) -> None:
        for method in ("event.offline.get", "event.offline.clear", "batch", "app.info"):
            self._bitrix.fault(method, Refusal(500, "INTERNAL_SERVER_ERROR"))
            self._bitrix.fault(method, LostAnswer(), after=1)

    def batches_are_refused(self) -> None:
        """Rows are taken as a range, with one more that is committed in between."""
        self.portal.offline_extended = False  # a plan without reservation, too
        self.portal.batch_offline = False
        self.delete("unheard")
        with self.portal.uncommitted_rows():
            self.delete("unheard")

        def commit(exchange: Exchange, effect: Callable[[], Message]) -> None:
            message = effect()
            self.portal.commit()
            exchange.write(message.encode())

        self.delete("unheard")
        self._bitrix.fault("event.offline.list", commit)
        self.portal.ping()
        self.portal.commit()

    def server_is_not_named(self) -> None:
        token = self.app.token(self.administrator)
        install = install_body(self.app, token, server_endpoint=None)
        self.portal.post(self._url, install, "ONAPPINSTALL")
        auth = {**self.app.auth(token), "server_endpoint": None}
        self.portal.post(self._url, event_body(PING, [], auth), PING)

    def stranger_pings(self) -> None:
        """Its pings with a leaked application token of the portal change nothing."""
        auth = {**self.app.auth(self._stranger.token()), "domain": "evil.example.com"}
        self.portal.post(self._url, event_body(PING, [], auth), PING)

    def function_misses_some(self) -> None:
        for _ in range(70):
            self.delete("unheard")

    def version_0_1_0_comes_back(self) -> None:
        found = self._store.get(self._path, Deadline(30))
        if found:  # a drain may be faster
            fields = {
                name: found.fields[name] for name in _OF_VERSION_0_1_0 if name in found.fields
            }
            self._store.put(Document(self._path, fields, found.version), Deadline(30))


ACTS: Final = [
    name
    for name, value in vars(Year).items()
    if callable(value)
    and not name.startswith("_")
    and name not in {"live", "delete", "until_it_is_well"}
]

UNDISTURBED: Final = (
    "bindings_are_lost",
    "queue_is_lost",
    "everything_is_unbound",
    "application_is_added_anew",
    "permission_is_taken",
    "administrator_is_demoted",
    "administrator_leaves",
    "plan_ends",
    "batches_are_refused",
)
"""Users delete nothing in between: it would not be reported, or would disturb the order of rows."""


def _two_days_ago(value: Any) -> Any:  # noqa: ANN401 - any field's value
    if isinstance(value, datetime):
        return value - timedelta(days=2)
    if isinstance(value, Mapping):
        return {name: _two_days_ago(inner) for name, inner in value.items()}
    return value
