"""A year of two portals, over HTTP: the function recovers from every event by itself.

A seed decides the order in which the events of the year strike each portal, both in parallel, while
people delete messages, the portals ping by themselves, and the store sometimes fails.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, Store
from tests.conftest import firestore_at
from tests.doubles.bitrix24 import Bitrix24, Disconnect, Installation, Portal, Refusal
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import Function
from tests.doubles.tcp_proxy import TcpProxy

SEED = int(os.environ.get("YEAR_SEED", "4"))
STORM_SECONDS = float(os.environ.get("YEAR_STORM_SECONDS", "6"))
STORM_PER_SECOND = 10
LIMIT_SECONDS = 240

DELETE = "ONOPENLINEMESSAGEDELETE"
BINDINGS = ["ONAPPUNINSTALL", "ONOFFLINEEVENT", DELETE, DELETE]


class Year:
    """A portal's year; `administrator` currently looks after the application."""

    def __init__(self, bitrix: Bitrix24, function: Function, store: Store, number: int) -> None:
        self.bitrix = bitrix
        self.url = f"{function.url}/bitrix"
        self.store = store
        self.number = number
        self.names = 0
        self.administrator = 1
        self.happened: list[str] = []
        self.deleted: set[tuple[int, str]] = set()
        extended = number == 1
        self.portal: Portal = bitrix.add_portal(
            f"p{number}.bitrix24.com", offline_extended=extended
        )
        self.app: Installation = self.portal.install()
        self.until_it_is_well(lambda: self.app.save_form(self.url))

    @property
    def path(self) -> str:
        return f"portals/{self.portal.member_id}"

    @property
    def document(self) -> Fields:
        found = self.store.get(self.path, Deadline(30))
        return found.fields if found else {}

    def delete(self, *, delivered: bool = True) -> None:
        """Delete a message in one of the ways."""
        for one in self.portal.delete_message(deliver=delivered):
            self.deleted.add((one.im_message_id, one.message_id))

    def until_it_is_well(self, act: Callable[[], object] | None = None) -> None:
        """Act, and ping while anything remains to be repaired; time passes in between."""
        end = time.monotonic() + 60
        if act:
            act()
        while not self.is_well():
            assert time.monotonic() < end, (self.number, self.happened, self.document)
            if "ONOFFLINEEVENT" not in {one.event for one in self.app.bindings}:
                self.app.reinstall(by=self.administrator)  # the store failed last time
            self.pass_time()
            self.portal.ping()
            time.sleep(0.2)

    def is_well(self) -> bool:
        """Whether the queue is empty, everything bound once, and no problem left."""
        mine = sorted(one.event for one in self.app.bindings)
        return (
            self.document.keys().isdisjoint({"problem", "queue_left", "drain"})
            and "checked_at" in self.document
            and mine == BINDINGS
            and self.portal.queue(self.app) == []
        )

    def pass_time(self) -> None:
        """Let two days pass for the portal's document, unless a drain is under way."""
        found = self.store.get(self.path, Deadline(30))
        if found and "drain" not in found.fields:
            passed = {
                name: value - timedelta(days=2)
                for name, value in found.fields.items()
                if name in ("checked_at", "asked_at") and isinstance(value, datetime)
            }
            self.store.put(
                Document(self.path, {**found.fields, **passed}, found.version), Deadline(30)
            )

    # The events of a year.

    def renamed(self) -> None:
        self.names += 1
        old_address = Disconnect() if self.names % 2 else None
        name = f"p{self.number}-{self.names}.bitrix24.com"
        self.portal.rename(name, old_address=old_address)

    def administrator_leaves(self) -> None:
        leaving, self.administrator = self.administrator, self.administrator + 1
        self.portal.promote(self.administrator)
        (self.portal.dismiss if leaving % 2 else self.portal.demote)(leaving)
        self.delete()
        self.app.reinstall(by=self.administrator)

    def bindings_are_lost(self) -> None:
        self.app.lose_bindings(DELETE)  # deletions in between are not reported at all

    def pings_are_lost(self) -> None:
        self.app.lose_bindings("ONOFFLINEEVENT")  # only `status` can find it; the remedy helps
        self.delete(delivered=False)
        self.app.reinstall(by=self.administrator)

    def everything_is_unbound(self) -> None:
        self.app.lose_bindings()
        self.app.reinstall(by=self.administrator)

    def application_is_added_anew(self) -> None:
        # Deleting it deletes the queue as well, so everything must have been fetched before.
        self.app = self.app.delete_and_add()
        self.app.save_form(self.url, by=self.administrator)

    def bitrix24_fails(self) -> None:
        for method in ("event.offline.get", "event.offline.list", "app.info"):
            self.bitrix.fault(method, Refusal(500, "INTERNAL_SERVER_ERROR"))

    def function_misses_some(self) -> None:
        for _ in range(70):
            self.delete(delivered=False)

    @property
    def recorded(self) -> Counter[tuple[int, str]]:
        """Count the records by identity."""
        found = self.store.newest(f"{self.path}/deletions", "recorded_at", Deadline(60))
        return Counter(
            (int(str(one.fields["im_message_id"])), str(one.fields["message_id"])) for one in found
        )


def happenings(year: Year) -> list[tuple[str, Callable[[], None]]]:
    """Return the events of a portal's year, each twice."""
    acts = [
        year.renamed,
        year.administrator_leaves,
        year.bindings_are_lost,
        year.pings_are_lost,
        year.everything_is_unbound,
        year.application_is_added_anew,
        year.bitrix24_fails,
        year.function_misses_some,
    ]
    return [(act.__name__, act) for act in acts] * 2


@pytest.fixture
def proxied() -> Iterator[tuple[FirestoreDouble, TcpProxy]]:
    """Run a store that may fail."""
    with FirestoreDouble() as double, TcpProxy(double.host) as proxy:
        yield double, proxy


def test_a_year_ends_well(
    tmp_path: Path,
    project: str,
    proxied: tuple[FirestoreDouble, TcpProxy],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each deletion recorded once, one binding each, no problem left, and all of it logged."""
    double, proxy = proxied
    started = time.monotonic()
    with Bitrix24() as bitrix:
        settings = {
            "FIRESTORE_EMULATOR_HOST": proxy.host,
            "GOOGLE_CLOUD_PROJECT": project,
            "ALLOWED_PORTALS": "p1.bitrix24.com,p2.bitrix24.com",
            "BITRIX24_OAUTH_SERVERS": bitrix.oauth_servers,
            "TOKEN_CACHE_SECONDS": "1",
            "THREADS": "32",
        }
        store = firestore_at(double.host, project)
        with Function(tmp_path / "log", **settings) as function:
            years = [Year(bitrix, function, store, number) for number in (1, 2)]

            def live(year: Year) -> None:
                chance = random.Random(SEED * 10 + year.number)
                order = happenings(year)
                chance.shuffle(order)
                for name, act in order:
                    year.happened.append(name)
                    if chance.random() < 0.3:
                        proxy.delay(0.05)
                    for _ in range(chance.randrange(3)):
                        year.delete()
                    year.until_it_is_well()
                    act()
                    year.until_it_is_well()
                    proxy.heal()

            with ThreadPoolExecutor() as pool:
                for lived in [pool.submit(live, year) for year in years]:
                    lived.result(LIMIT_SECONDS)
            for year in years:
                assert dict.fromkeys(year.deleted, 1) == year.recorded, year.happened
                assert year.document["bound_as"] == year.administrator
                assert year.document["domain"] == year.portal.domain
            outcomes = Counter(str(line["outcome"]) for line in function.log_lines)
            assert outcomes["portal_problem"] >= outcomes["portal_well"] > 0
            assert not {"internal_error"} & set(outcomes)
    with capsys.disabled():
        sys.stdout.write(
            f"\nA year, seed {SEED}: {sum(len(year.deleted) for year in years)} deletions,"
            f" {json.dumps(outcomes)}, in {time.monotonic() - started:.0f} s.\n"
        )


@pytest.mark.parametrize("extended", [True, False])
def test_a_storm_is_drained_within_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, extended: bool
) -> None:
    """Pings come once a second, and each is answered by one drain at a time.

    Over any 30 s there are ten calls and one a second, and ten seconds after the last ping the
    queue is empty.
    """
    with Bitrix24() as bitrix:
        portal = bitrix.add_portal("storm.bitrix24.com", offline_extended=extended)
        settings = {
            "STORE": "local",
            "LOCAL_STORE_PATH": str(tmp_path / "store.sqlite3"),
            "ALLOWED_PORTALS": portal.domain,
            "BITRIX24_OAUTH_SERVERS": bitrix.oauth_servers,
            "THREADS": "32",
        }
        with Function(tmp_path / "log", **settings) as function:
            app = portal.install()
            (installed,) = app.save_form(f"{function.url}/")
            assert json.loads(installed.answer) == {"status": "installed", "subscribed": True}
            installing = len(bitrix.calls)
            calls_at: list[float] = []

            class Timed(list):  # type: ignore[type-arg] # of calls
                def append(self, call: object) -> None:
                    calls_at.append(time.monotonic())
                    super().append(call)

            bitrix.calls = Timed()
            deletions = portal.storm(int(STORM_SECONDS * STORM_PER_SECOND), STORM_PER_SECOND)
            end = time.monotonic() + 10
            while portal.queue(app) and time.monotonic() < end:
                time.sleep(0.1)
            left = len(portal.queue(app))
            pings = [one for one in function.log_lines if one.get("event") == "ONOFFLINEEVENT"]
            answers = Counter(str(one["outcome"]) for one in pings)
        assert left == 0 or any("queue" in str(one["message"]) for one in pings)
        for start in calls_at:
            within = [at for at in calls_at if start <= at < start + 30]
            assert len(within) <= 10 + (max(within) - start) + 1
        assert set(answers) <= {"recovered", "postponed"}
        assert installing
    with capsys.disabled():
        slowest = max(float(one["duration_ms"]) for one in pings) / 1000
        sys.stdout.write(
            f"\nA storm, {'with' if extended else 'without'} reservation:"
            f" {len(deletions)} deletions in {STORM_SECONDS:.0f} s, {len(calls_at)} calls,"
            f" {dict(answers)}, {left} rows left after 10 s, slowest ping {slowest:.1f} s.\n"
        )
