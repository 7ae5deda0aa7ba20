"""Reading records in pages, from every store: any number, in bounded memory."""

import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handler.console.record_reading import Progress, Reading, Selection, say_what_is_missing
from handler.console.record_spreadsheet import spreadsheet
from handler.console.record_view import Domains, view
from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, Store
from handler.stores.sqlite import LocalStore

NOON = datetime(2026, 3, 17, 12, tzinfo=UTC)
BOTH = Selection(members=("M", "N"))


class WatchedStore:
    """Counts the documents in each page that is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.pages: list[int] = []

    def newest(self, *arguments: Any, **options: Any) -> Sequence[Document]:  # noqa: ANN401
        found = self._store.newest(*arguments, **options)
        self.pages.append(len(found))
        return found

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._store, name)


def fill(store: Store, member_id: str, count: int, **fields: Any) -> None:  # noqa: ANN401
    """Create records of a portal, some in the same second."""
    records: list[Document] = []
    for number in range(count):
        own: Fields = {"event_at": NOON + timedelta(seconds=number // 3), "message_id": f"{number}"}
        records.append(Document(f"portals/{member_id}/deletions/{number}", {**own, **fields}))
    for start in range(0, count, 300):
        store.create(records[start : start + 300], "recorded_at", Deadline(60))


def silent() -> Progress:
    """Return progress with a stopped clock, so that a busy machine adds no line."""
    return Progress(lambda: 0.0)


def read(store: Store, selection: Selection, limit: int | None = None) -> list[Document]:
    """Read everything into memory, which no command does."""
    return list(Reading(store, selection, silent()).records(limit))


def test_records_come_once_each_in_order_and_in_pages(store: Store) -> None:
    """Of several portals together; one page of each is in memory."""
    fill(store, "M", 650)
    fill(store, "N", 40)
    watched = WatchedStore(store)

    found = read(watched, BOTH)

    places = [(record.fields["event_at"], record.path.split("/")[1]) for record in found]
    assert sorted((time for time, _ in places), reverse=True) == [time for time, _ in places]  # type: ignore[type-var] # all are timestamps
    assert 690 == len({record.path for record in found}) == len(found)
    assert [40, 50, 300, 300] == sorted(watched.pages)


def test_many_portals_have_small_pages(local_store: Store) -> None:
    """Since one page of each is in memory."""
    fill(local_store, "0", 240)
    watched = WatchedStore(local_store)

    read(watched, Selection(members=[f"{number}" for number in range(13)]))

    assert [0] * 12 + [10, 230] == sorted(watched.pages)


def test_no_more_is_read_than_is_shown(store: Store) -> None:
    """From each portal, since any may have all the newest; the rest is only counted."""
    fill(store, "M", 10)
    fill(store, "N", 10)
    watched = WatchedStore(store)
    reading = Reading(watched, BOTH, silent())

    assert 4 == len(list(reading.records(4)))
    assert (16, True) == reading.count_rest()
    assert [4, 4] == watched.pages


def test_records_without_event_at_are_merged_in(store: Store) -> None:
    """Within the same bounds."""
    fill(store, "M", 3)
    store.create(
        [Document("portals/M/deletions/old", {"message_id": "old"})], "recorded_at", Deadline(9)
    )
    recorded = store.get("portals/M/deletions/old", Deadline(9))
    assert recorded is not None
    moment = recorded.fields["recorded_at"]
    assert isinstance(moment, datetime)

    everything = Reading(store, Selection(members=["M"]), silent())
    before = Selection(members=["M"], until=moment)
    since = Selection(members=["M"], since=moment, until=moment + timedelta(days=1))

    assert ["old", "2", "1", "0"] == [one.fields["message_id"] for one in everything.records()]
    assert 1 == everything.shown_untimed
    assert ["2", "1", "0"] == [one.fields["message_id"] for one in read(store, before)]
    assert ["old"] == [one.fields["message_id"] for one in read(store, since)]


def test_records_can_be_read_by_when_they_were_recorded(local_store: Store) -> None:
    """Of several portals, too; `--follow` needs that."""
    noon = datetime(2026, 3, 17, 12, tzinfo=UTC)
    for member_id, recorded, deleted in (("M", 0, -2), ("N", -1, 0)):
        times = {"recorded_at": recorded, "event_at": deleted}
        fields = {name: noon + timedelta(hours=hours) for name, hours in times.items()}
        local_store.put(Document(f"portals/{member_id}/deletions/1", fields), Deadline(60))

    for by, members in (("recorded_at", ["M", "N"]), ("event_at", ["N", "M"])):
        found = Reading(local_store, BOTH, silent(), by=by).records()
        assert members == [record.path.split("/")[1] for record in found]


def test_counting_matches_is_limited(
    local_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs reading; above 10,000 records, the count is a lower bound."""
    fill(local_store, "M", 10_010, connector="a")
    selection = Selection(members=["M"], connector="A")
    reading = Reading(local_store, selection, silent())

    assert 5 == len(list(reading.records(5)))
    say_what_is_missing(reading, selection, remedy="use --all")
    told = "At least 10,000 more records are not shown: use --all.\n"
    assert told == capsys.readouterr().err


def test_a_large_portal_becomes_a_spreadsheet_in_little_memory(tmp_path: Path) -> None:
    """All at once, these texts would take 20 MB."""
    store = LocalStore(str(tmp_path / "store.sqlite3"))
    fill(store, "M", 2_000, text="x" * 10_000)
    domains = Domains(store)
    reading = Reading(store, Selection(members=["M"]), silent())

    tracemalloc.start()
    try:
        views = (view(record, domains) for record in reading.records())
        length = sum(len(line) for line in spreadsheet(views, UTC))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert length > 20_000_000
    assert most < 14_000_000


def test_long_reads_say_how_far_they_are(
    local_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """After several seconds, and then every few, by hundreds; short ones report nothing."""
    fill(local_store, "M", 1_450)
    times = iter([0.0, *[2.9] * 11, 3.0, 7.9, 8.0])

    for _ in Reading(local_store, Selection(members="M"), Progress(times.__next__)).records():
        pass

    told = "Reading, 1,200 so far ...\nReading, 1,400 so far ...\n"
    assert told == capsys.readouterr().err
