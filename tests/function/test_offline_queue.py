"""The offline queue: after any interruption, each deletion is recorded exactly once."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from io import StringIO
from itertools import product

import pytest

from handler.bitrix24.call_budget import Budget
from handler.bitrix24.offline_queue import Drained, Queue
from handler.bitrix24.rest import Rest
from handler.deadline import Deadline
from handler.log import Log
from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder
from handler.settings import Settings
from handler.stores.interface import Document, Fields, StoreUnavailable
from tests.doubles.app import App, Stage, event_body
from tests.doubles.bitrix24 import (
    Bitrix24,
    Call,
    Disconnect,
    Fault,
    Html,
    Installation,
    LostAnswer,
    OtherResult,
    PortalDeletion,
    Refusal,
    Token,
    TruncatedBody,
    Value,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.samples import typed

DELETE = "ONOPENLINEMESSAGEDELETE"
MEMBER_ID = "f" * 32
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Records:
    """A store of records in a dictionary; it fails `away` calls, after a number of successes.

    It fails without time left, too.
    """

    def __init__(self) -> None:
        self.documents: dict[str, Fields] = {}
        self.away = 0
        self.after = 0

    def __call__(self) -> "Records":
        return self

    def create(self, documents: list[Document], _stamp: str, deadline: Deadline) -> int:
        if not deadline.remaining:
            raise StoreUnavailable("no time left")
        if self.away and not self.after:
            self.away -= 1
            raise StoreUnavailable("away")
        self.after = max(0, self.after - 1)
        new = {one.path: one.fields for one in documents if one.path not in self.documents}
        self.documents |= new
        return len(new)


class Scene:
    """A portal with an offline queue, and a function that is pinged by hand."""

    def __init__(self, bitrix: Bitrix24, *, extended: bool) -> None:
        self.bitrix = bitrix
        self.portal = bitrix.add_portal(member_id=MEMBER_ID, offline_extended=extended)
        self.installation = self.portal.install()
        self.records = Records()
        self.log = StringIO()
        self.call("event.bind", event=DELETE, event_type="offline")
        bitrix.calls.clear()

    def rest(self, seconds: float = 10) -> Rest:
        token = self.installation.token()
        return Rest(self.portal.client_endpoint, token.access_token, Deadline(seconds))

    def call(self, method: str, **parameters: object) -> object:
        result: object = self.rest().call(method, **parameters)
        return result

    def delete(self, number: int) -> list[PortalDeletion]:
        """Delete messages inside the portal."""
        return [one for _ in range(number) for one in self.portal.delete_message()]

    def drain(
        self,
        seconds: float = 10,
        connectors: frozenset[str] = frozenset(),
        *,
        reserved: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Drained:
        """Drain the queue, as a ping does."""
        queue, done = self.queue(seconds, connectors, clock)
        queue.drain(reserved=reserved)
        return done

    def queue(
        self,
        seconds: float = 10,
        connectors: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> tuple[Queue, Drained]:
        """Return the queue, and the result that its drains add to."""
        recorder = Recorder(
            self.records,  # type: ignore[arg-type] # it is as much of a store as a recorder needs
            Settings(connectors=connectors),
            lambda: NOW,
        )
        ping = Delivery(
            member_id=MEMBER_ID,
            event="ONOFFLINEEVENT",
            via="online",
            domain="some-domain.bitrix24.com",
            event_at=datetime(2020, 1, 1, tzinfo=UTC),
            user_id=1,
        )
        deadline = Deadline(seconds, clock)
        budget = Budget(None, lambda: NOW, deadline)
        token = self.installation.token().access_token
        done = Drained()
        queue = Queue(
            Rest(self.portal.client_endpoint, token, deadline, pace=budget.spend),
            recorder,
            ping,
            budget,
            Log(self.log),
            done=done,
            deadline=deadline,
            page_seconds=8,
        )
        return queue, done

    @property
    def rows(self) -> list[str]:
        return [str(row["ID"]) for row in self.portal.queue(self.installation)]

    @property
    def recorded(self) -> set[object]:
        return {fields.get("im_message_id") for fields in self.deletions.values()}

    @property
    def deletions(self) -> dict[str, Fields]:
        found = self.records.documents.items()
        return {path: fields for path, fields in found if "/deletions/" in path}

    @property
    def quarantine(self) -> list[Fields]:
        found = self.records.documents.items()
        return [fields for path, fields in found if "/quarantine/" in path]


@pytest.fixture(params=["extended", "plain"])
def scene(request: pytest.FixtureRequest, bitrix: Bitrix24) -> Scene:
    """Return the scene on a plan with `rest_offline_extended`, and on one without."""
    return Scene(bitrix, extended=request.param == "extended")


@pytest.fixture
def extended(bitrix: Bitrix24) -> Scene:
    """Return the scene on a plan with `rest_offline_extended`."""
    return Scene(bitrix, extended=True)


@pytest.fixture
def plain(bitrix: Bitrix24) -> Scene:
    """Return the scene on a plan without."""
    return Scene(bitrix, extended=False)


@pytest.fixture(scope="module")
def lasting() -> Iterator[dict[str, Scene]]:
    """Return one scene per plan for many consecutive drains."""
    with Bitrix24() as one, Bitrix24() as other:
        plain = Scene(other, extended=False)
        yield {"extended": Scene(one, extended=True), "plain": plain, "unbatched": plain}


def emptied(
    counts: Counts | None = None, *, quarantined: int = 0, left_out: tuple[str, ...] = ()
) -> Drained:
    """Return the result of a drain that leaves the queue empty."""
    return Drained(counts or Counts(), quarantined, list(left_out), left=0)


def ids(deletions: list[PortalDeletion]) -> set[object]:
    """Return Bitrix24's own ids of the messages."""
    return {one.im_message_id for one in deletions}


def test_row_becomes_the_same_record_as_the_online_event(scene: Scene) -> None:
    """EVENT_DATA is the event's data, EVENT_ADDITIONAL has the user, TIMESTAMP_X the time."""
    (deletion,) = scene.portal.delete_message("wamid.HBgL==", user_id=42)
    written = datetime.fromisoformat(str(scene.portal.queue(scene.installation)[0]["TIMESTAMP_X"]))
    assert scene.drain() == emptied(Counts(recorded=1))
    (document,) = scene.deletions.values()
    assert document == {
        "origin": "portal",
        "member_id": MEMBER_ID,
        "domain": "some-domain.bitrix24.com",
        "event": DELETE,
        "via": "offline",
        "connector": "myconnector",
        "line_id": 107,
        "message_id": "wamid.HBgL==",
        "chat_id": "channel-123",
        "im_message_id": deletion.im_message_id,
        "im_chat_id": 1807,
        "user_id": 42,
        "event_at": written,
    }
    assert scene.rows == []


def test_both_shapes_of_the_event_are_recovered(scene: Scene) -> None:
    """Customers' deletions are in the queue like those inside the portal."""
    scene.portal.customer_deletes("theirs")
    scene.portal.delete_message("one", "two")
    assert scene.drain() == emptied(Counts(recorded=3))
    assert {one["message_id"] for one in scene.deletions.values()} == {"theirs", "one", "two"}
    assert scene.rows == []


@pytest.mark.parametrize("additional", [None, False, [], {"user_id": "x"}, {"user_id": 0}])
def test_row_without_a_user_does_not_get_the_pings(scene: Scene, additional: Value) -> None:
    """EVENT_ADDITIONAL can be false, and user_id 0: a bot, a robot or a workflow deleted."""
    scene.portal.delete_message(user_id=None)
    (row,) = scene.portal.queue(scene.installation)
    assert row["EVENT_ADDITIONAL"] == {"user_id": 0}
    scene.portal.enqueue(scene.installation, DELETE, row["EVENT_DATA"], additional=additional)
    assert scene.drain() == emptied(Counts(recorded=1))
    (document,) = scene.deletions.values()
    assert "user_id" not in document


@pytest.mark.parametrize(
    "time",
    [
        *(None, "", "yesterday", "2026-03-17T12:00:00", []),
        *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_row_without_a_valid_time_is_dated_on_receipt(extended: Scene, time: Value) -> None:
    """The ping's own time is not the row's."""
    extended.delete(1)
    (row,) = extended.portal.queue(extended.installation)
    batch = {"process_id": "p", "events": [{**row, "TIMESTAMP_X": time}]}
    extended.bitrix.fault("event.offline.get", OtherResult({"result": batch}))
    assert extended.drain() == emptied(Counts(recorded=1))
    (document,) = extended.deletions.values()
    assert document["event_at"] == NOW


def test_rows_are_stored_before_removal_with_reservation(extended: Scene) -> None:
    """Get with clear=0, store, clear exactly those; a short page is the last one."""
    extended.delete(2)
    at = record_calls(extended)
    assert extended.drain() == emptied(Counts(recorded=2))
    assert at == [("event.offline.get", 0), ("event.offline.clear", 2)]
    (first, *_) = extended.bitrix.calls_to("event.offline.get")
    assert first.params == {"clear": 0, "limit": 50, "filter": {"EVENT_NAME": DELETE}}
    (clear,) = extended.bitrix.calls_to("event.offline.clear")
    assert clear.params["id"] == [1, 2]
    assert clear.params["process_id"]


def test_rows_are_stored_before_removal_without_reservation(plain: Scene) -> None:
    """403 WRONG_LICENSE; then list, store, and one batch that removes exactly the stored ids."""
    plain.delete(2)
    at = record_calls(plain)
    assert plain.drain() == emptied(Counts(recorded=2))
    assert at == [("event.offline.get", 0), ("event.offline.list", 0), ("batch", 2)]
    (batch,) = plain.bitrix.calls_to("batch")
    get = "event.offline.get?filter%5BID%5D="
    assert batch.params == {"halt": 0, "cmd": {"r1": f"{get}1", "r2": f"{get}2"}}
    (listed,) = plain.bitrix.calls_to("event.offline.list")
    assert listed.params == {"filter": {"EVENT_NAME": DELETE}, "order": {"ID": "ASC"}, "start": 0}


def test_every_page_is_removed_by_a_batch_where_batches_work(plain: Scene) -> None:
    """A range could remove rows that were committed late."""
    plain.delete(51)
    at = record_calls(plain)
    assert plain.drain() == emptied(Counts(recorded=51))
    page = ["event.offline.list", "batch"]
    assert [method for method, _ in at] == ["event.offline.get", *page, *page]


def test_reservation_is_tried_once(plain: Scene) -> None:
    """Several drains may follow one ping."""
    queue, done = plain.queue()
    for _ in range(2):
        queue.drain(reserved=False)
        assert done == emptied()
    calls = ["event.offline.get", "event.offline.list", "event.offline.list"]
    assert [call.method for call in plain.bitrix.calls] == calls


class TestWithoutBatches:
    """A portal whose `batch` cannot read the queue: a stored page is removed as a range."""

    @pytest.fixture
    def unbatched(self, plain: Scene) -> Scene:
        """Refuse the batches."""
        plain.portal.batch_offline = False
        return plain

    def test_stored_page_is_removed_as_a_range(self, unbatched: Scene) -> None:
        """A filter accepts no list of ids, but a range; the next page skips the batch."""
        deletions = unbatched.delete(60)
        at = record_calls(unbatched)
        assert unbatched.drain() == emptied(Counts(recorded=60))
        assert unbatched.recorded == ids(deletions)
        assert at == [
            ("event.offline.get", 0),
            ("event.offline.list", 0),
            ("batch", 50),
            ("event.offline.get", 50),
            ("event.offline.list", 50),
            ("event.offline.get", 60),
        ]
        ranges = [call.params for call in unbatched.bitrix.calls_to("event.offline.get")[1:]]
        assert [one["filter"] for one in ranges] == [
            {">=ID": 1, "<=ID": 50, "EVENT_NAME": DELETE},
            {">=ID": 51, "<=ID": 60, "EVENT_NAME": DELETE},
        ]
        assert unbatched.rows == []

    @pytest.fixture
    def late(self, unbatched: Scene) -> list[int]:
        """Commit two rows after the page was listed, with ids in its range."""
        unbatched.delete(1)
        with unbatched.portal.uncommitted_rows():
            late = unbatched.delete(2)
        unbatched.delete(1)

        def commit_first(exchange: Exchange, effect: Callable[[], Message]) -> None:
            unbatched.portal.commit()
            exchange.write(effect().encode())

        unbatched.bitrix.fault("batch", commit_first)
        return [one.im_message_id for one in late]

    def test_late_rows_removed_with_a_range_are_stored(
        self, unbatched: Scene, late: list[int]
    ) -> None:
        """Rows get their ids before they are committed, so the range may have more rows."""
        assert unbatched.drain() == emptied(Counts(recorded=4))
        assert unbatched.recorded.issuperset(late)
        assert unbatched.rows == []

    def test_late_row_that_cannot_be_stored_goes_to_the_log(
        self, unbatched: Scene, late: list[int]
    ) -> None:
        """It exists nowhere else; `replay` stores it."""
        unbatched.records.away, unbatched.records.after = 1, 1
        assert unbatched.drain() == emptied(Counts(recorded=3))
        assert late[0] not in unbatched.recorded
        assert late[1] in unbatched.recorded
        (line,) = map(json.loads, unbatched.log.getvalue().splitlines())
        assert (line["outcome"], line["event"]) == ("not_recorded", DELETE)
        assert f'"message_id": {late[0]}' in line["records"][0]["payload"]
        assert line["records"][0]["user_id"] == 27
        assert unbatched.rows == []

    def test_invalid_late_row_goes_to_the_log(self, unbatched: Scene) -> None:
        """With all the data of its event; neither its time nor its user is known."""
        unbatched.delete(1)
        odd = {"ID": "x", "EVENT_NAME": DELETE, "EVENT_DATA": {"odd": 1}}
        taken = OtherResult({"result": {"process_id": None, "events": [odd, {"ID": "y"}, "odd"]}})
        unbatched.bitrix.fault("event.offline.get", taken, after=1)
        unbatched.drain(connectors=frozenset({"myconnector"}))
        told = [json.loads(line)["records"] for line in unbatched.log.getvalue().splitlines()]
        payloads = ['{"odd": 1}', '{"ID": "y"}', '"odd"']
        assert told == [
            [
                {
                    "member_id": MEMBER_ID,
                    "domain": "some-domain.bitrix24.com",
                    "event": DELETE,
                    "via": "offline",
                    # The value of CONNECTORS at that time, which replay cannot know.
                    "connectors": ["myconnector"],
                    "id": sha256(payload.encode()).hexdigest(),
                    "payload": payload,
                    "part": 1,
                    "parts": 1,
                }
            ]
            for payload in payloads
        ]

    def test_no_range_contains_an_unreadable_row(self, unbatched: Scene) -> None:
        """It would be removed without being stored; the others are then removed one by one."""
        unbatched.delete(2)
        listed = [*unbatched.portal.queue(unbatched.installation), {"ID": "x"}]
        unbatched.bitrix.fault("event.offline.list", OtherResult({"result": listed}))
        done = unbatched.drain()
        assert (done.counts, done.left) == (Counts(recorded=2), 1)
        assert done.detail == "1 row of the offline queue can be neither read nor removed."
        gets = [call.params for call in unbatched.bitrix.calls_to("event.offline.get")[1:]]
        assert gets == [{"filter": {"ID": 1}}, {"filter": {"ID": 2}}]
        assert unbatched.rows == []


@pytest.mark.parametrize("code", ["", "QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT"])
def test_transient_failure_of_a_batch_does_not_cause_a_range(plain: Scene, code: str) -> None:
    """The rows stay until the next ping."""
    plain.delete(1)
    plain.bitrix.fault("batch", Refusal(503, code), times=None)
    done = plain.drain(seconds=2)
    assert done.left != 0
    assert len(plain.rows) == 1
    assert len(plain.bitrix.calls_to("event.offline.get")) == 1


def record_calls(scene: Scene) -> list[tuple[str, int]]:
    """Record each call from now on, with the number of records at that time."""
    at: list[tuple[str, int]] = []
    records = scene.records.documents

    class Noted(list[Call]):
        def append(self, call: Call) -> None:
            at.append((call.method, len(records)))
            super().append(call)

    scene.bitrix.calls = Noted()
    return at


@pytest.mark.parametrize("number", [0, 1, 50, 51, 120])
def test_every_page_is_drained(scene: Scene, number: int) -> None:
    """event.offline.list and -get return 50 rows at a time."""
    deletions = scene.delete(number)
    done = scene.drain()
    assert done == emptied(Counts(recorded=number))
    assert scene.recorded == ids(deletions)
    assert len(set(done.ids)) == number  # for the log
    assert scene.rows == []


def test_what_was_recorded_online_is_a_duplicate(scene: Scene) -> None:
    """The online event and the offline row lead to one document."""
    deletions = scene.delete(2)
    assert scene.drain() == emptied(Counts(recorded=2))
    for one in deletions:
        scene.portal.delete_message(one.message_id, im_message_id=one.im_message_id)
    assert scene.drain() == emptied(Counts(duplicates=2))
    assert scene.rows == []


@pytest.mark.parametrize("data", [False, None, [], {}, "x", 5, {"DATA": {"connector": 1}}])
def test_invalid_row_is_quarantined_and_removed(scene: Scene, data: Value) -> None:
    """EVENT_DATA can be false; other rows are recorded."""
    deletions = scene.delete(1)
    scene.portal.enqueue(scene.installation, DELETE, data)
    deletions += scene.delete(1)
    scene.portal.enqueue(scene.installation, DELETE, {"odd": 1})
    assert scene.drain() == emptied(Counts(recorded=2), quarantined=2)
    assert scene.recorded == ids(deletions)
    document, _ = scene.quarantine
    assert document["event"] == DELETE
    assert document["reasons"]
    assert scene.rows == []


def test_valid_part_of_a_row_is_recorded(scene: Scene) -> None:
    """The row is quarantined for the rest, and removed."""
    data = typed("variant-one-element-unfit")["data"]
    scene.portal.enqueue(scene.installation, DELETE, data)
    assert scene.drain() == emptied(Counts(recorded=1), quarantined=1)
    assert scene.recorded == {86501}
    (document,) = scene.quarantine
    assert data == json.loads(str(document["payload"]))
    assert scene.rows == []


def test_rows_of_excluded_connectors_are_removed(scene: Scene) -> None:
    """Otherwise they would be read again with every ping, for 30 days."""
    scene.portal.delete_message(connector="other")
    (wanted,) = scene.portal.delete_message(connector="ours")
    assert scene.drain(connectors=frozenset({"ours"})) == emptied(
        Counts(recorded=1), left_out=("other",)
    )
    assert scene.recorded == {wanted.im_message_id}
    assert scene.rows == []


def test_rows_of_other_events_are_left_alone(scene: Scene) -> None:
    """Another handler of the same application may be waiting for them."""
    scene.portal.enqueue(scene.installation, "ONCRMLEADADD", {"FIELDS": {"ID": 1}})
    scene.delete(1)
    before = scene.portal.queue(scene.installation)[0]
    assert scene.drain() == emptied(Counts(recorded=1))
    assert scene.portal.queue(scene.installation) == [before]
    assert len(scene.records.documents) == 1


def test_rows_of_other_applications_are_left_alone(scene: Scene) -> None:
    """Each application has its own queue at the portal."""
    other = scene.portal.install()
    scene.portal.enqueue(other, DELETE, {"DATA": []})
    assert scene.drain() == emptied()
    assert len(scene.portal.queue(other)) == 1


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([None, 5, {}, {"ID": "x", "EVENT_NAME": DELETE}, {"ID": "1"}], "5 rows"),
        ([{"ID": "7", "EVENT_NAME": "ONCRMLEADADD"}], "1 row"),
    ],
)
def test_invalid_rows_are_left_alone(scene: Scene, rows: list[object], number: str) -> None:
    """Whatever a portal answers, only rows of deletions are stored or removed."""
    if scene.portal.offline_extended:
        scene.bitrix.fault("event.offline.get", OtherResult({"result": {"events": rows}}))
    else:
        scene.bitrix.fault("event.offline.list", OtherResult({"result": rows}))
    told = f"{number} of the offline queue can be neither read nor removed."
    assert scene.drain() == Drained(left=len(rows), detail=told)
    assert scene.records.documents == {}
    assert scene.bitrix.calls_to("event.offline.clear") == []


@pytest.mark.parametrize(
    ("scene", "result"),
    [
        *product(("extended", "plain"), (None, "x", {}, {"events": None}, {"events": {}})),
        ("extended", []),
        ("plain", {"events": []}),
    ],
    indirect=["scene"],
)
def test_invalid_answer_does_not_pass_for_an_empty_queue(scene: Scene, result: object) -> None:
    """The next ping reads again."""
    method = "event.offline.get" if scene.portal.offline_extended else "event.offline.list"
    scene.bitrix.fault(method, OtherResult({"result": result}))
    told = "The offline queue is not empty yet: the portal's answer is not valid."
    assert scene.drain() == Drained(left="more than 0", detail=told)


def test_removal_that_is_not_confirmed_is_reported(extended: Scene) -> None:
    """The rows may still be reserved."""
    extended.delete(1)
    extended.bitrix.fault("event.offline.clear", OtherResult({"result": False}))
    told = "The offline queue is not empty yet: event.offline.clear is not confirmed."
    assert extended.drain() == Drained(Counts(recorded=1), left="more than 0", detail=told)


def test_unreadable_rows_of_every_page_are_counted(extended: Scene) -> None:
    """A full page is not the last one."""
    for number in (50, 2):
        page: Value = {"process_id": "p", "events": [{"ID": "x"}] * number}
        extended.bitrix.fault("event.offline.get", OtherResult({"result": page}))
    assert extended.drain().left == 52


def test_valid_row_next_to_invalid_ones_is_recovered(plain: Scene) -> None:
    """No invalid row prevents reading the following ones."""
    plain.delete(1)
    rows = plain.portal.queue(plain.installation)
    plain.bitrix.fault("event.offline.list", OtherResult({"result": [None, {"ID": "x"}, *rows]}))
    assert plain.drain().counts == Counts(recorded=1)
    assert plain.rows == []


def test_rows_that_a_crashed_drain_reserved_are_recovered(extended: Scene) -> None:
    """Reserved rows are not returned again; event.offline.list shows them with PROCESS_ID."""
    deletions = extended.delete(60)
    extended.call("event.offline.get", clear=0, limit=40)
    extended.call("event.offline.get", clear=0, limit=15)
    assert extended.drain(reserved=True) == emptied(Counts(recorded=60))
    assert extended.recorded == ids(deletions)
    assert extended.rows == []
    assert extended.drain(reserved=True) == emptied()


def test_reserved_rows_beyond_the_first_page_are_recovered(extended: Scene) -> None:
    """More than one page may have stayed reserved."""
    deletions = extended.delete(120)
    for _ in range(3):
        extended.call("event.offline.get", clear=0, limit=50)
    assert extended.drain(reserved=True) == emptied(Counts(recorded=120))
    assert extended.recorded == ids(deletions)
    assert extended.rows == []


def test_new_row_is_left_to_the_next_drain(extended: Scene) -> None:
    """It is not reserved, so it was not left by a crash."""
    extended.delete(1)
    listed = OtherResult({"result": [*extended.portal.queue(extended.installation)]})
    extended.drain()
    extended.bitrix.fault("event.offline.list", listed)
    assert extended.drain(reserved=True) == emptied()


def test_repeating_list_is_read_once(extended: Scene) -> None:
    """A drain does not loop until its deadline, whatever a portal answers."""
    extended.delete(50)
    extended.call("event.offline.get", clear=0)
    result = extended.call("event.offline.list")
    extended.bitrix.fault("event.offline.list", OtherResult({"result": result}), times=None)
    extended.bitrix.calls.clear()
    assert extended.drain(reserved=True) == emptied(Counts(recorded=50))
    assert len(extended.bitrix.calls_to("event.offline.list")) == 2
    assert extended.rows == []


@pytest.mark.parametrize("number", [2, 60])
def test_drain_without_reservation_ends_although_rows_stay(plain: Scene, number: int) -> None:
    """Rows reserved before a change of plan cannot be removed; each is read only once."""
    plain.portal.offline_extended = True
    plain.delete(number)
    plain.call("event.offline.get", clear=0, limit=number)
    plain.portal.offline_extended = False
    told = f"{number} rows of the offline queue can be neither read nor removed."
    for counts in (Counts(recorded=number), Counts(duplicates=number)):
        assert plain.drain(clock=lambda: 0) == Drained(counts, left=number, detail=told)


@pytest.mark.parametrize("drains", [2, 4])
def test_concurrent_drains_lose_and_repeat_nothing(scene: Scene, drains: int) -> None:
    """As during a rollout from a version without leases; the next drain does the rest."""
    deletions = scene.delete(30)
    with ThreadPoolExecutor(drains) as pool:
        done = list(pool.map(lambda _: scene.drain(reserved=True), range(drains)))
    done.append(scene.drain(reserved=True))
    assert sum(one.counts.recorded for one in done) == 30
    assert scene.recorded == ids(deletions)
    assert scene.rows == []


def test_rate_limited_drain_slows_down(scene: Scene) -> None:
    """503 QUERY_LIMIT_EXCEEDED in the middle; the drain continues after a pause."""
    deletions = scene.delete(5)
    scene.portal.limit_rate(burst=2, per_second=6)
    done = scene.drain()
    scene.portal.rate_limit = None
    assert done.detail is None
    assert done.counts.recorded == 5
    assert scene.recorded == ids(deletions)
    assert scene.rows == []


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("data", [None, {"odd": 1}])
def test_nothing_is_removed_that_is_not_stored(scene: Scene, after: int, data: Value) -> None:
    """While Firestore is unavailable, every row stays: a deletion's, and an invalid one."""
    deletions = scene.delete(60) if data is None else []
    if data is not None:
        for number in range(60):
            scene.portal.enqueue(scene.installation, DELETE, {"odd": number})
    scene.records.away, scene.records.after = 1, after
    with pytest.raises(StoreUnavailable):
        scene.drain()
    kept = len(scene.rows)
    assert kept + len(scene.records.documents) >= 60
    done = scene.drain(reserved=True)
    assert done.detail is None
    assert scene.recorded == ids(deletions)
    assert len(scene.quarantine) == (0 if data is None else 60)
    assert scene.rows == []


FAULTS: list[Fault] = [
    Disconnect(),
    LostAnswer(),
    TruncatedBody(),
    Html(status=502),
    Refusal(401, "expired_token"),
    Refusal(403, "ACCESS_DENIED"),
    OtherResult({"result": None}),
]
STEPS = [
    ("extended", "event.offline.get", 0),
    ("extended", "event.offline.clear", 0),
    ("extended", "event.offline.list", 0),
    ("extended", "event.offline.clear", 1),
    ("plain", "event.offline.get", 0),
    ("plain", "event.offline.list", 0),
    ("plain", "batch", 0),
    ("unbatched", "event.offline.get", 1),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(("plan", "method", "after"), STEPS)
def test_one_more_drain_repairs_any_failure(
    lasting: Mapping[str, Scene], plan: str, method: str, after: int, fault: Fault
) -> None:
    """A call without effect, or an effect without answer: the records equal the deletions."""
    scene = lasting[plan]
    scene.portal.batch_offline = plan != "unbatched"
    deletions = scene.delete(1)
    if plan == "extended":
        scene.call("event.offline.get", clear=0)  # by an earlier, crashed drain
    deletions += scene.delete(1)
    scene.portal.enqueue(scene.installation, DELETE, {"odd": str(fault), "at": [method, after]})
    before, quarantined = scene.recorded, len(scene.quarantine)
    scene.bitrix.fault(method, fault, after=after)
    done = scene.drain(reserved=True)
    assert (done.detail or "").startswith("The offline queue is not empty yet: ") is (
        done.left != 0
    )
    # A refused batch is replaced immediately.
    refused = isinstance(fault, OtherResult) or fault == Refusal(403, "ACCESS_DENIED")
    assert (done.left == 0) is (method == "batch" and refused)
    assert scene.drain(reserved=True).left == 0
    assert scene.recorded == before | ids(deletions)
    assert len(scene.deletions) == len(scene.recorded)
    assert len(scene.quarantine) == quarantined + 1
    assert scene.rows == []


def test_drain_without_time_does_not_start(scene: Scene) -> None:
    """Half a page would be stored and not removed; the next ping continues."""
    scene.delete(1)
    done = scene.drain(seconds=0.2)
    assert (done.counts, done.left) == (Counts(), "more than 0")
    assert done.detail == "The offline queue is not empty yet; the next ping continues."
    assert scene.records.documents == {}
    assert len(scene.rows) == 1


def test_drain_of_an_endless_queue_ends_in_time(extended: Scene) -> None:
    """A portal that always returns the same rows is read until the deadline, not longer."""
    extended.delete(50)
    rows: list[Value] = [*extended.portal.queue(extended.installation)]
    endless = OtherResult({"result": {"process_id": "p", "events": rows}})
    extended.bitrix.fault("event.offline.get", endless, times=None)
    done = extended.drain(clock=lambda: len(extended.bitrix.calls))  # each takes a second
    assert done.detail == "The offline queue is not empty yet; the next ping continues."
    assert (done.counts.recorded, done.left) == (50, "more than 49")
    assert done.counts.duplicates >= 50
    assert len(extended.bitrix.calls) <= 12


def test_rows_that_arrive_just_before_the_deadline_are_stored(plain: Scene) -> None:
    """There is time for that before the lease ends; the next ping removes them."""
    plain.delete(1)

    def clock() -> float:
        if plain.records.documents:
            return 10
        return 8.6 if plain.bitrix.calls_to("event.offline.list") else 0

    done = plain.drain(clock=clock)
    assert (done.counts, done.left) == (Counts(recorded=1), "more than 0")
    assert plain.drain() == emptied(Counts(duplicates=1))


def test_drain_reports_how_many_rows_it_leaves(extended: Scene) -> None:
    """A backlog takes several drains: 50 rows are two calls, at one call a second."""
    extended.delete(70)
    extended.bitrix.calls.clear()
    # There is time for one page, and to count what is left; it does not pass.
    done = extended.drain(seconds=1.9, clock=lambda: 0)
    assert (done.counts, done.left) == (Counts(recorded=50), 20)
    assert extended.drain() == emptied(Counts(recorded=20))


@pytest.mark.usefixtures("no_pauses")
class TestPings:
    """ONOFFLINEEVENT, over HTTP: no `data`, but a token that may read the queue."""

    def test_a_ping_drains_the_queue(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """The answer and the log count what was recovered."""
        installation.portal.delete_message("one", "two", deliver=False)
        installation.portal.enqueue(installation, DELETE, {"odd": 1})
        answer = app.post(installation.offline_ping(installation.token()))
        counts = {"recorded": 2, "duplicates": 0, "quarantined": 1, "ignored": 0}
        assert (answer.status, answer.json) == (200, {"status": "recovered", **counts})
        line = app.log_lines[-1]
        assert (line["outcome"], line["severity"], line["recorded"]) == ("recovered", "INFO", 2)
        assert len(stage.documents) == 1 + 3
        for collection, named in (("deletions", "ids"), ("quarantine", "quarantine_ids")):
            names = [path.split("/")[3] for path in stage.documents if f"/{collection}/" in path]
            assert sorted(line[named]) == sorted(names)
        assert installation.portal.queue(installation) == []

    def test_recovered_record_has_the_portals_domain(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """Even if the ping has none, as with the online event."""
        installation.portal.delete_message(deliver=False)
        auth = installation.auth(installation.token()) | {"domain": None}
        app.post(event_body("ONOFFLINEEVENT", None, auth))
        (record,) = [fields for path, fields in stage.documents.items() if "/deletions/" in path]
        assert record["domain"] == "ours.bitrix24.com"

    @pytest.mark.parametrize(
        ("token", "why"),
        [
            (lambda installation: installation.token(27), "not an administrator (ACCESS_DENIED)"),
            (lambda _: None, "pings come without a user's token"),
            (lambda installation: installation.token(expires_in=0), "has expired (expired_token)"),
        ],
    )
    def test_token_that_may_not_read_the_queue_is_reported(
        self,
        app: App,
        installation: Installation,
        token: Callable[[Installation], Token | None],
        why: str,
    ) -> None:
        """Bound without the administrator's auth_type, a ping has any user's token, or none."""
        installation.portal.delete_message(deliver=False)
        answer = app.post(installation.offline_ping(token(installation)))
        nothing = dict.fromkeys(("recorded", "duplicates", "quarantined", "ignored"), 0)
        assert answer.status == 200
        assert answer.json.items() >= {"status": "recovered", **nothing}.items()
        assert why in answer.json["detail"]
        assert app.log_lines[-1]["message"] == answer.json["detail"]
        assert app.log_lines[-1]["severity"] == "WARNING"
        assert len(installation.portal.queue(installation)) == 1

    def test_a_ping_without_a_valid_token_reads_nothing(
        self, stage: Stage, app: App, installation: Installation
    ) -> None:
        """A stranger's ping is forbidden like all of their events."""
        stranger = stage.bitrix.add_portal("strange.bitrix24.com").install()
        stage.bitrix.calls.clear()
        answer = app.post(stranger.offline_ping(installation.token()))
        assert (answer.status, answer.json["error"]) == (403, "forbidden")
        assert stage.bitrix.calls == []
