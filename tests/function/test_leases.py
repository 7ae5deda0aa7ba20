"""One drain per portal at a time, by a lease in its document, across all instances."""

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest

from handler.bitrix24.call_budget import Budget, OutOfTime
from handler.bitrix24.drain_lease import Held, Leases, NotTaken
from handler.bitrix24.portal_upkeep import Upkeep
from handler.bitrix24.portal_visit import Visit
from handler.deadline import Deadline
from handler.events.body import FORM, decode_body
from handler.events.envelope import parse_event
from handler.log import Log
from handler.portal import Portal
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Document, Fields, Store, StoreUnavailable
from handler.stores.sqlite import LocalStore
from tests.doubles import bitrix24
from tests.doubles.app import ADDRESS, App, Stage
from tests.doubles.bitrix24 import Installation, Refusal
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.memory_store import MemoryStore
from tests.stopwatch import Stopwatch

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
POSTPONED = {"status": "postponed"}
ENTERED = ("token_digests", "active", "client_endpoint", "checked_at")


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Rival:
    """A portal's document, and competitors for its lease."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.clock = Clock()
        self.write(active=True)

    def write(self, **fields: object) -> None:
        document = self.store.documents.get("portals/m", Document("portals/m", {}))
        self.store.write("portals/m", {**document.fields, **fields})  # type: ignore[dict-item] # the caller's

    @property
    def leases(self) -> Leases:
        return Leases(self.store, "m", self.clock, 1)

    def take(self, user: int = 1) -> Held | NotTaken:
        return self.leases.take(user)

    def held(self, user: int = 1) -> Held:
        taken = self.take(user)
        assert isinstance(taken, Held)
        return taken

    @property
    def lease(self) -> Fields:
        found = self.store.documents["portals/m"].fields.get("drain", {})
        assert isinstance(found, dict)
        return found


class Lossy(MemoryStore):
    """A store that loses its answers to the next `lost` writes."""

    lost = 0

    def put(self, document: Document, deadline: Deadline) -> bool:
        written = super().put(document, deadline)
        self.lost -= 1
        return written and self.lost < 0


@pytest.fixture
def rival() -> Rival:
    """Return a portal in its own store."""
    return Rival()


def relay(turns: int) -> Rival:
    """Return a portal whose lease has a new holder whenever the store is read, for some turns.

    A turn takes a second; after the last one, the lease is released.
    """

    class Relay(MemoryStore):
        def get(self, path: str, deadline: Deadline) -> Document | None:
            if self.reads < turns:
                racing.clock.move(1)
                until = racing.clock.now + timedelta(seconds=12)
                racing.write(drain={"until": until, "nonce": str(self.reads), "user": 1})
            elif self.reads == turns:
                racing.write(drain={})
            return super().get(path, deadline)

    racing = Rival(Relay())
    return racing


def unchanged(portal: Portal) -> Portal:
    """Release a lease without changes."""
    return portal


class TestLease:
    """Who takes the lease, who waits, and who leaves a note."""

    def test_a_lease_is_taken_and_released(self, rival: Rival) -> None:
        """It lasts 12 seconds; without one, the portal has no such field."""
        held = rival.held(7)
        assert rival.lease.items() >= {"user": 7, "until": NOW + timedelta(seconds=12)}.items()
        assert not held.overdue
        assert held.finish(unchanged, may_continue=True)
        assert rival.lease == {}

    def test_same_users_event_leaves_a_note(self, rival: Rival) -> None:
        """The note is taken once: the holder continues, and then releases."""
        held = rival.held()
        rival.clock.move(9)  # three seconds are left
        assert rival.take() is NotTaken.POSTPONED
        noted = rival.store.documents["portals/m"]
        assert rival.take() is NotTaken.POSTPONED
        assert rival.store.documents["portals/m"] is noted
        assert rival.lease["again"] is True
        assert held.finish(unchanged, may_continue=True) is None
        assert rival.lease["again"] is False
        assert held.finish(unchanged, may_continue=True)
        assert rival.lease == {}

    def test_note_is_seen_by_a_holder_that_cannot_continue(self, rival: Rival) -> None:
        """So that the portal shows remaining rows."""
        held = rival.held()
        rival.take()
        seen: list[Portal] = []
        assert held.finish(lambda portal: seen.append(portal) or portal, may_continue=False)  # type: ignore[func-returns-value] # it is kept
        assert seen[0].drain
        assert seen[0].drain.again

    def test_one_event_waits_in_the_last_seconds(self, rival: Rival) -> None:
        """It will drain everything announced until then, so others need not wait."""
        held = rival.held()
        rival.clock.move(9.5)
        with ThreadPoolExecutor() as pool:
            follower = pool.submit(rival.take)
            while not rival.lease.get("follows"):
                time.sleep(0.01)
            assert rival.take() is NotTaken.POSTPONED
            assert held.finish(unchanged, may_continue=True)  # although there may be a note
            taken = follower.result()
        assert isinstance(taken, Held)
        assert not taken.overdue

    def test_another_users_event_waits_for_the_release(self, rival: Rival) -> None:
        """Its token may be the only one that can read the queue."""
        held = rival.held(1)
        rival.store.reads = 0
        with ThreadPoolExecutor() as pool:
            other = pool.submit(rival.take, 2)
            while rival.store.reads < 5 and not other.done():
                time.sleep(0.01)
            assert held.finish(unchanged, may_continue=True)
            assert isinstance(other.result(), Held)
        assert rival.lease["user"] == 2

    def test_event_that_loses_twice_gives_up(self, rival: Rival) -> None:
        """Or is postponed, if its own user's drain was faster."""
        for faster, seconds, outcome in (
            (3, 12, NotTaken.UNAVAILABLE),
            (2, 12, NotTaken.POSTPONED),
            (2, 2, NotTaken.UNAVAILABLE),
        ):
            rival.write(drain={"until": NOW + timedelta(seconds=5), "nonce": "1", "user": 1})
            with ThreadPoolExecutor() as pool:
                other = pool.submit(rival.take, 2)
                time.sleep(0.05)
                until = NOW + timedelta(seconds=seconds)
                rival.write(drain={"until": until, "nonce": "2", "user": faster})
                assert other.result() is outcome
            assert not rival.lease.get("follows")

    @pytest.mark.usefixtures("no_pauses")
    def test_install_waits_until_no_other_event_is_faster(self) -> None:
        """Nobody repeats it, unlike a ping."""
        rival = relay(turns=4)
        taken = rival.leases.take(1, postponable=False)
        assert isinstance(taken, Held)
        assert not taken.overdue
        assert rival.lease["user"] == 1

    @pytest.mark.usefixtures("no_pauses")
    def test_install_gives_up_after_two_leases(self) -> None:
        """Its request would time out."""
        rival = relay(turns=1000)
        assert rival.leases.take(1, postponable=False) is NotTaken.UNAVAILABLE
        assert rival.store.reads == 25  # one per second, and the last attempt

    def test_an_event_waits_no_longer_than_the_lease_lasts(self, rival: Rival) -> None:
        """Nothing was released; the portal's clock stands still, so the lease is still there."""
        until = NOW + timedelta(seconds=0.1)
        rival.write(drain={"until": until, "nonce": "1", "user": 1})
        with Stopwatch() as watch:
            assert rival.take(2) is NotTaken.UNAVAILABLE
        assert watch.seconds < 5

    @pytest.mark.parametrize("seconds", [0, -1, 24, 1_000_000])
    def test_unreleased_lease_expires(self, rival: Rival, seconds: float) -> None:
        """Its instance was killed; a lease that would last for days is invalid, too."""
        until = NOW + timedelta(seconds=seconds)
        rival.write(drain={"until": until, "nonce": "n", "user": 1})
        assert rival.held().overdue

    def test_overdue_holder_releases_nothing(self, rival: Rival) -> None:
        """The lease then belongs to another one."""
        late = rival.held()
        rival.clock.move(13)
        rival.held()
        lease = rival.lease
        assert late.finish(
            lambda portal: portal.model_copy(update={"scope": "x"}), may_continue=True
        )
        assert rival.lease == lease
        assert "scope" not in rival.store.documents["portals/m"].fields

    @pytest.mark.parametrize("fields", [{"active": False}, {"active": None}])
    def test_inactive_portal_has_no_lease(self, fields: Fields) -> None:
        """Nor is an unknown portal created."""
        rival = Rival()
        rival.write(**fields)
        assert rival.take() is NotTaken.UNAVAILABLE
        del rival.store.documents["portals/m"]
        assert rival.take() is NotTaken.UNAVAILABLE
        assert rival.store.documents == {}

    def test_release_does_not_change_an_uninstalled_portal(self, rival: Rival) -> None:
        """Only the lease is removed."""
        held = rival.held()
        rival.write(active=False)
        held.finish(lambda portal: portal.model_copy(update={"scope": "x"}), may_continue=False)
        assert rival.store.documents["portals/m"].fields == {"active": False}

    def test_release_does_not_create_a_portal_that_was_purged(self, rival: Rival) -> None:
        """The drain itself may have taken longer than `portals purge` waited."""
        held = rival.held()
        del rival.store.documents["portals/m"]
        assert held.finish(unchanged, may_continue=True)
        assert rival.store.documents == {}

    @pytest.mark.parametrize("overdue", [False, True])
    def test_lost_answer_is_not_a_conflict(self, overdue: bool) -> None:  # noqa: FBT001 - the case
        """After a lost answer, a store's retry may conflict with its own success."""
        store = Lossy()
        rival = Rival(store)
        if overdue:
            rival.write(drain={"until": NOW, "nonce": "n", "user": 1})
        store.lost = 1
        held = rival.held()
        assert (held.overdue, held.portal.active) == (overdue, True)
        store.lost = 1
        assert held.finish(unchanged, may_continue=True)
        assert rival.lease == {}

    def test_lost_answer_to_taking_the_note_still_continues(self) -> None:
        """Otherwise the announced rows would wait, and the queue would count as empty."""
        store = Lossy()
        rival = Rival(store)
        held = rival.held()
        assert rival.take() is NotTaken.POSTPONED
        store.lost = 1
        assert held.finish(unchanged, may_continue=True) is None
        assert rival.lease["again"] is False
        assert held.finish(unchanged, may_continue=True)
        assert rival.lease == {}

    def test_event_that_loses_the_answer_to_its_note_still_follows(self) -> None:
        """Otherwise the holder would leave the announced rows to an event that does not come."""

        class Ending(Lossy):
            def get(self, path: str, deadline: Deadline) -> Document | None:
                if self.reads == 2:  # the first read of the wait
                    waiting.write(drain={})
                return super().get(path, deadline)

        store = Ending()
        waiting = Rival(store)
        waiting.write(drain={"until": NOW + timedelta(seconds=2), "nonce": "1", "user": 1})
        store.lost = 1
        assert isinstance(waiting.take(), Held)

    def test_a_release_whose_answer_was_lost_is_known_to_the_next_attempt(self) -> None:
        """The store became unavailable after the write; what was written is still to be logged."""

        class Away(MemoryStore):
            away = False

            def put(self, document: Document, deadline: Deadline) -> bool:
                written = super().put(document, deadline)
                if self.away:
                    self.away = False
                    raise StoreUnavailable("unavailable, said a test")
                return written

        def change(portal: Portal) -> Portal:
            return portal.model_copy(update={"scope": "x"})

        rival = Rival(Away())
        held = rival.held()
        rival.store.away = True  # type: ignore[attr-defined] # it is one that goes away
        with pytest.raises(StoreUnavailable):
            held.finish(change, may_continue=False)
        seen = held.finish(change, may_continue=False)
        assert seen
        assert (None, "x") == tuple(portal.scope for portal in seen)


class Second:
    """A clock in seconds that advances only during sleeps."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def budget(self, seconds: float, paid_until: datetime | None = None) -> Budget:
        """Return a budget for a drain of this many seconds."""
        deadline = Deadline(seconds, self)
        return Budget(paid_until, lambda: NOW, deadline, clock=self, sleep=self.sleep)

    def calls(self, budget: Budget) -> list[float]:
        """Return the times of calls until no time is left."""
        made = []
        try:
            while True:
                budget.spend()
                made.append(self.passed)
        except OutOfTime:
            return made


class TestBudget:
    """A burst of ten calls, then one a second, across all drains of a portal."""

    def test_some_calls_are_reserved_for_the_end(self) -> None:
        """Rows announced in a drain's last seconds can then be fetched."""
        second = Second()
        made = second.calls(second.budget(10))
        assert made == [*[0] * 6, 1, 2, 3, 4, 5, 6, 7, *[8] * 5, 9]
        assert len(second.calls(second.budget(2))) == 11  # a short one starts with its last seconds
        odd = Second()
        assert odd.calls(odd.budget(9.5)) == [*[0] * 6, 1, 2, 3, 4, 5, 6, 7, *[7.5] * 4, 8, 9]

    def test_next_drain_pays_for_the_previous_one(self) -> None:
        """The debt is in the portal's document: at most ten calls' worth."""
        second = Second()
        budget = second.budget(10)
        made = second.calls(budget)
        owed = budget.paid_until
        assert owed == NOW + timedelta(seconds=len(made) - second.passed)
        made += second.calls(second.budget(10, owed))
        for start in made:
            within = [at for at in made if start <= at < start + 30]
            assert len(within) <= 10 + (max(within) - start) + 1
        assert second.budget(10, NOW + timedelta(days=9)).paid_until == NOW + timedelta(seconds=10)
        assert second.budget(10, NOW - timedelta(days=9)).paid_until is None


@pytest.mark.usefixtures("no_pauses")
class TestPings:
    """Concurrent pings, over HTTP."""

    def test_ping_during_a_drain_is_postponed_and_its_rows_are_fetched(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """Immediately, even by another instance; the drain continues with another round."""
        other = stage.start(ALLOWED_PORTALS="ours.bitrix24.com")
        clearing, go_on = threading.Event(), threading.Event()

        def hold(exchange: Exchange, effect: Callable[[], Message]) -> None:
            message = effect()
            clearing.set()
            assert go_on.wait(9)
            exchange.write(message.encode())

        stage.bitrix.fault("event.offline.clear", hold)
        portal = installation.portal
        portal.delete_message(deliver=False)
        with ThreadPoolExecutor() as pool:
            first = pool.submit(app.post, installation.offline_ping(installation.token()))
            assert clearing.wait(9)
            portal.delete_message("late", deliver=False)
            for instance in (other, app):
                ping = installation.offline_ping(installation.token())
                answer = instance.post(ping)
                assert (answer.status, answer.json) == (200, POSTPONED)
            go_on.set()
            assert first.result().json["recorded"] == 2
        assert portal.queue(installation) == []
        assert not stage.bitrix.calls_to("event.offline.list")  # nothing can be reserved
        assert [line["outcome"] for line in other.log_lines] == ["postponed"]
        assert not {"drain", "queue_left"} & set(stage.portal(portal))

    @pytest.mark.parametrize("left", [{"rows": 1, "at": NOW}, None])
    def test_rows_that_an_earlier_drain_reserved_are_recovered(
        self, stage: Stage, app: App, installation: Installation, left: Fields | None
    ) -> None:
        """It left rows, or it is unknown whether it did."""
        portal = installation.portal
        portal.delete_message(deliver=False)
        portal.offline.reserve(portal.offline.select(installation.client_id))
        path = f"portals/{portal.member_id}"
        known = {name: value for name, value in stage.portal(portal).items() if left}
        known |= {name: stage.portal(portal)[name] for name in ENTERED}
        stage.replace(path, {**known, "queue_left": left} if left else known)  # type: ignore[dict-item] # a map
        answer = app.post(installation.offline_ping(installation.token()))
        assert answer.json["recorded"] == 1
        assert portal.queue(installation) == []

    def test_a_drain_that_was_killed_leaves_its_rows_to_the_next(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """They are reserved, its lease was never released, and its calls are unknown."""
        portal = installation.portal
        deletions = [one for _ in range(3) for one in portal.delete_message(deliver=False)]
        rows = portal.queue(installation)
        portal.offline.reserve(portal.offline.select(installation.client_id))
        started = now()
        lease: Fields = {"until": started - timedelta(seconds=1), "nonce": "n", "user": 1}
        stage.write(f"portals/{portal.member_id}", {"drain": lease})  # type: ignore[dict-item] # a map
        answer = app.post(installation.offline_ping(installation.token()))
        assert answer.json["recorded"] == len(rows) == len(deletions)
        assert portal.queue(installation) == []
        assert paid_until(stage, installation) > started + timedelta(seconds=8)

    def test_drain_adds_its_calls_to_those_of_earlier_drains(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """The portal allows them one a second, whichever instance makes them."""
        debts = []
        for _ in range(2):
            stage.bitrix.calls.clear()
            app.post(installation.offline_ping(installation.token()))
            debts.append(paid_until(stage, installation))
        assert stage.bitrix.calls
        added = timedelta(seconds=len(stage.bitrix.calls) - 0.5)
        assert debts[1] - debts[0] > added

    def test_a_drain_names_the_connectors_that_it_leaves_out(
        self, stage: Stage, installation: Installation
    ) -> None:
        """In the log; the answer has their number."""
        app = stage.start(CONNECTORS="other")
        installation.portal.delete_message(deliver=False)
        answer = app.post(installation.offline_ping(installation.token()))
        counts = {"recorded": 0, "duplicates": 0, "quarantined": 0, "ignored": 1}
        assert answer.json == {"status": "recovered", **counts}
        line = app.log_lines[-1]
        assert (line["outcome"], line["connector"]) == ("recovered", "myconnector")

    def test_a_drain_that_fails_releases_its_lease(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """The next ping need not wait for its expiry."""

        def break_the_recording(exchange: Exchange, effect: Callable[[], Message]) -> None:
            message = effect()
            stage.write(f"portals/{installation.portal.member_id}", {"note": "changed"})
            exchange.write(message.encode())

        stage.bitrix.fault("event.offline.get", break_the_recording)
        installation.portal.delete_message(deliver=False)
        assert app.post(installation.offline_ping(installation.token())).json["recorded"] == 1
        assert "drain" not in stage.portal(installation.portal)
        assert stage.portal(installation.portal)["note"] == "changed"

    def test_an_install_waits_for_the_drain_under_way(
        self,
        stage: Stage,
        app: App,
        installation: Installation,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Bindings are changed only under the lease, even if it is the same user's."""
        store = LocalStore(str(stage.store))
        held = Leases(store, installation.portal.member_id, now, 8).take(1)
        assert isinstance(held, Held)
        stage.bitrix.calls.clear()
        calls_before_the_end: list[str] = []

        def wait(_seconds: float) -> None:
            if not calls_before_the_end:
                calls_before_the_end.extend(call.method for call in stage.bitrix.calls)
                assert held.finish(unchanged, may_continue=True)

        monkeypatch.setattr(time, "sleep", wait)
        answer = app.post(installation.install_event(installation.token()))
        assert answer.json["subscribed"] is True
        assert ["app.info", "profile"] == calls_before_the_end
        assert stage.bitrix.calls_to("event.get")

    def test_lease_that_changes_hands_is_given_up(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """The answer to another user's ping says so."""
        path = f"portals/{installation.portal.member_id}"
        answered = threading.Event()

        def pass_it_on() -> None:
            for number in itertools.count():
                until = datetime.now(UTC) + timedelta(seconds=20)  # however late the next is
                lease: Fields = {"until": until, "nonce": str(number), "user": 2}
                stage.write(path, {"drain": lease})  # type: ignore[dict-item] # a map
                if answered.wait(0.1):
                    return

        with ThreadPoolExecutor() as pool:
            passing = pool.submit(pass_it_on)
            try:
                while "drain" not in stage.portal(installation.portal):
                    time.sleep(0.01)
                answer = app.post(installation.offline_ping(installation.token()))
            finally:
                answered.set()
            passing.result()
        assert answer.json["detail"].endswith("the next ping continues.")

    def test_install_whose_portal_is_uninstalled_while_it_waits_checks_no_bindings(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """The answer says so; a take-over is a warning nevertheless."""
        path = f"portals/{installation.portal.member_id}"
        another = installation.portal.install("local.another")
        until = datetime.now(UTC) + timedelta(seconds=20)  # however late the next is
        lease: Fields = {"until": until, "nonce": "other", "user": 2}
        stage.write(path, {"drain": lease, "scope": "before"})  # type: ignore[dict-item] # a map
        with ThreadPoolExecutor() as pool:
            install = pool.submit(app.post, another.install_event(another.token()))
            while stage.portal(installation.portal)["scope"] == "before":  # not accepted yet
                time.sleep(0.01)
            stage.write(path, {"active": False, "drain": {}})
            answer = install.result()
        assert answer.json["subscribed"] is False
        assert answer.json["detail"].endswith("Choose Reinstall again, or install it again.")
        assert app.log_lines[-1]["message"].startswith("Another application of the portal has")

    def test_ping_during_a_first_install_is_not_forgotten(
        self, stage: Stage, app: App, portal: bitrix24.Portal
    ) -> None:
        """The install does not drain, so the portal shows that rows may remain."""
        installation = portal.install("local.ours")

        def ping(exchange: Exchange, effect: Callable[[], Message]) -> None:
            body = installation.offline_ping(installation.token())
            assert app.post(body).json == POSTPONED
            exchange.write(effect().encode())

        stage.bitrix.fault("event.bind", ping)
        app.post(installation.install_event(installation.token()))
        left = stage.portal(installation.portal)["queue_left"]
        assert isinstance(left, dict)
        assert left["rows"] == "more than 0"

    def test_ping_during_an_incomplete_first_install_is_not_forgotten(
        self, stage: Stage, app: App, portal: bitrix24.Portal
    ) -> None:
        """Some event could not be bound; the queue was."""
        installation = portal.install("local.ours")

        def ping_and_refuse(exchange: Exchange, effect: Callable[[], Message]) -> None:
            body = installation.offline_ping(installation.token())
            assert app.post(body).json == POSTPONED
            Refusal(500, "INTERNAL_SERVER_ERROR")(exchange, effect)

        stage.bitrix.fault("event.bind", ping_and_refuse, after=3)
        assert not app.post(installation.install_event(installation.token())).json["subscribed"]
        left = stage.portal(installation.portal)["queue_left"]
        assert isinstance(left, dict)
        assert left["rows"] == "more than 0"

    def test_rows_stay_if_the_store_fails_during_a_drain(
        self, stage: Stage, installation: Installation
    ) -> None:
        """If the lease cannot be released, it expires."""
        app = stage.start(STORE_DEADLINE_SECONDS="2")
        installation.portal.delete_message(deliver=False)
        with closing(sqlite3.connect(stage.store, isolation_level=None)) as somebody_else:

            def lock(exchange: Exchange, effect: Callable[[], Message]) -> None:
                message = effect()
                with closing(sqlite3.connect(stage.store)) as waiting:
                    waiting.execute("SELECT 1 FROM documents").fetchall()
                locked.set()
                assert held.wait(9)
                exchange.write(message.encode())

            locked, held = threading.Event(), threading.Event()
            stage.bitrix.fault("event.offline.get", lock)
            with ThreadPoolExecutor() as pool:
                ping = installation.offline_ping(installation.token())
                answer = pool.submit(app.post, ping)
                assert locked.wait(9)
                somebody_else.execute("BEGIN IMMEDIATE")
                held.set()
                assert answer.result().status == 503
        assert len(installation.portal.queue(installation)) == 1
        assert "drain" in stage.portal(installation.portal)

    def test_drain_without_time_to_wait_says_that_rows_may_remain(
        self, stage: Stage, installation: Installation
    ) -> None:
        """Rows in the second after a ping are not announced, so an earlier look proves nothing."""
        store = LocalStore(str(stage.store))
        visit, _ = begin_visit(installation, store, StringIO(), deadline=Deadline(0.9, lambda: 0))
        visit.drain()
        assert (visit.done.left, visit.done.error) == ("more than 0", None)
        left = stage.portal(installation.portal)["queue_left"]
        assert isinstance(left, dict)
        assert left["rows"] == "more than 0"

    def test_rows_that_are_announced_at_the_end_are_left_to_the_next_ping(
        self, stage: Stage, installation: Installation
    ) -> None:
        """If no time is left for another drain; the answer says so, too."""
        visit, _ = begin_visit(
            installation,
            LocalStore(str(stage.store)),
            StringIO(),
            deadline=Deadline(0.5, lambda: 0),
        )
        lease = stage.portal(installation.portal)["drain"]
        assert isinstance(lease, dict)
        stage.write(f"portals/{installation.portal.member_id}", {"drain": {**lease, "again": True}})
        visit.drain(announced=False)
        assert visit.done.detail == (
            "More rows were added to the offline queue while the drain ended; the next ping reads"
            " them."
        )
        left = stage.portal(installation.portal)["queue_left"]
        assert isinstance(left, dict)
        assert left["rows"] == "more than 0"

    def test_a_problem_that_ends_is_logged_even_if_the_drain_then_fails(
        self, stage: Stage, installation: Installation
    ) -> None:
        """Its end is stored with the lease's release, so no later event would log it."""
        portal, log = installation.portal, StringIO()
        checked = datetime.now(UTC) - timedelta(days=2)
        stage.write(f"portals/{portal.member_id}", {"problem": "Any.", "checked_at": checked})
        portal.delete_message(deliver=False)
        visit, upkeep = begin_visit(
            installation, LocalStore(str(stage.store)), log, open_records=unavailable
        )
        assert upkeep.begin()
        with pytest.raises(StoreUnavailable), visit.released():
            visit.drain()
        assert not {"problem", "drain"} & set(stage.portal(portal))
        (line,) = map(json.loads, log.getvalue().splitlines())
        assert (line["outcome"], line["message"]) == ("portal_well", "Resolved: Any.")


def begin_visit(
    installation: Installation,
    store: LocalStore,
    log: StringIO,
    *,
    deadline: Deadline | None = None,
    open_records: Callable[[], Store] | None = None,
) -> tuple[Visit, Upkeep]:
    """Take the lease for a ping; `open_records` opens the store for what is drained."""
    portal = installation.portal
    settings = Settings(oauth_servers=(portal.server_endpoint.removesuffix("/rest/"),))
    held = Leases(store, portal.member_id, now, 8).take(1)
    assert isinstance(held, Held)
    held.deadline = deadline or held.deadline
    event = parse_event(decode_body(FORM, installation.offline_ping(installation.token())))
    upkeep = Upkeep(
        event.auth, held.portal, url=ADDRESS, deadline=Deadline(10), settings=settings, now=now
    )
    visit = Visit(
        event,
        held,
        upkeep,
        settings=settings,
        recorder=Recorder(open_records or (lambda: store), settings, now),
        ping=Delivery(member_id=event.auth.member_id, event=event.name, via="online"),
        log=Log(log),
        now=now,
    )
    return visit, upkeep


def unavailable() -> Store:
    """Fail like a store that cannot be opened."""
    raise StoreUnavailable("unavailable, said a test")


def paid_until(stage: Stage, installation: Installation) -> datetime:
    """Return when a portal's calls will be paid off."""
    moment = stage.portal(installation.portal)["calls_until"]
    assert isinstance(moment, datetime)
    return moment


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
