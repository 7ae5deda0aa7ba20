"""Reads records by when the message was deleted, newest first, a page at a time.

Only a few pages are in memory at a time. Old records without `event_at` are merged in by when they
were recorded; in a portal without any, that costs only two counts. `--follow` reads all records by
when they were recorded.
"""

import heapq
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from handler.console.moments import time_text
from handler.console.portal_state import count_quarantined
from handler.console.printing import store_deadline
from handler.portal import portal_path
from handler.records.documents import DELETIONS, EVENT_AT, RECORDED_AT
from handler.stores.interface import Document, Store

# How many records of all portals are in memory at most, unless there are hundreds of portals.
_IN_MEMORY = 3_000
_LARGEST_PAGE = 300
_SMALLEST_PAGE = 20

# If counting the rest means reading it, this many records are read at most.
_MAX_COUNTED: Final = 10_000

_FIRST_REPORT_SECONDS = 3.0
_NEXT_REPORT_SECONDS = 5.0

# The clock is read once for so many records, so that a short reading on a busy machine reports
# nothing.
_REPORTED_RECORDS = 100


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A selection of records: of which portals, deleted when, by whom, where.

    `since` is inclusive, `until` exclusive; `connector` is compared without case.
    """

    members: Sequence[str]
    since: datetime | None = None
    until: datetime | None = None
    origin: str | None = None
    connector: str | None = None

    @property
    def is_of_all_kinds(self) -> bool:
        """Whether the selection is by portals and times only."""
        return self.origin is None and self.connector is None

    def matches(self, record: Document) -> bool:
        """Return whether a record's origin and connector match; portal and time are not checked.

        This is checked here, not by the store: Firestore would need a composite index for each
        combination, and every record would have to be written to all of them.
        """
        return (self.origin is None or self.origin == record.fields.get("origin")) and (
            self.connector is None
            or self.connector.casefold() == str(record.fields.get("connector", "")).casefold()
        )


class Progress:
    """Reports on stderr how many hundreds have been read, if that takes several seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_report = clock() + _FIRST_REPORT_SECONDS

    def __call__(self, count: int) -> None:
        """Report how many have been read so far."""
        now = self._clock()
        if now >= self._next_report:
            self._next_report = now + _NEXT_REPORT_SECONDS
            print(f"Reading, {count:,} so far ...", file=sys.stderr, flush=True)


class Reading:
    """One pass over the records of a selection, and counts of those it did not show.

    `by` is the timestamp to select and sort by: EVENT_AT or RECORDED_AT.
    """

    def __init__(
        self, store: Store, selection: Selection, progress: Progress, *, by: str = EVENT_AT
    ) -> None:
        self._store = store
        self._selection = selection
        self._progress = progress
        self._by = by
        self._time = deleted_at if by == EVENT_AT else recorded_at
        pages = _IN_MEMORY // max(1, len(selection.members))
        self._page = min(_LARGEST_PAGE, max(_SMALLEST_PAGE, pages))
        self._untimed = False
        self._read = 0
        self._merged: Iterator[Document] = iter(())
        self.shown = 0
        self.shown_untimed = 0

    def records(self, limit: int | None = None) -> Iterator[Document]:
        """Return the records, newest first, at most `limit`."""
        if limit and self._selection.is_of_all_kinds:
            self._page = min(self._page, limit)
        portals = [self._of_portal(member) for member in self._selection.members]
        self._merged = heapq.merge(*portals, key=self._time, reverse=True)
        for record in self._matching(None):
            self.shown += 1
            self.shown_untimed += not has_own_time(record)
            yield record
            if self.shown == limit:
                return

    def count_rest(self) -> tuple[int, bool]:
        """Return how many more there are, and whether that is exact or a lower bound."""
        if self._selection.is_of_all_kinds and not self._untimed:
            return max(0, self._count_timed() - self.shown), True
        self._page = _LARGEST_PAGE
        end = self._read + _MAX_COUNTED
        rest = sum(1 for _ in self._matching(end))
        return rest, self._read < end

    def count_quarantined(self) -> int:
        """Return how many events of these portals since `since` are in quarantine."""
        return count_quarantined(self._store, self._selection.members, since=self._selection.since)

    def _count_timed(self) -> int:
        return sum(
            self._store.count(
                f"{portal_path(member)}/{DELETIONS}",
                self._by,
                store_deadline(),
                since=self._selection.since,
                until=self._selection.until,
            )
            for member in self._selection.members
        )

    def _matching(self, end: int | None) -> Iterator[Document]:
        while self._read != end:
            record = next(self._merged, None)
            if record is None:
                return
            self._read += 1
            if self._read % _REPORTED_RECORDS == 0:
                self._progress(self._read)
            if self._selection.matches(record):
                yield record

    def _of_portal(self, member: str) -> Iterator[Document]:
        collection = f"{portal_path(member)}/{DELETIONS}"
        timed = self._pages(collection, self._by)
        if self._by == RECORDED_AT:  # every record has it
            return timed
        # In this order: a record created in between makes the counts differ, and hides nothing.
        with_time = self._store.count(collection, EVENT_AT, store_deadline())
        if self._store.count(collection, RECORDED_AT, store_deadline()) <= with_time:
            return timed
        self._untimed = True
        untimed = (one for one in self._pages(collection, RECORDED_AT) if not has_own_time(one))
        return heapq.merge(timed, untimed, key=deleted_at, reverse=True)

    def _pages(self, collection: str, stamp: str) -> Iterator[Document]:
        last = None
        while True:
            size = self._page
            page = self._store.newest(
                collection,
                stamp,
                store_deadline(),
                since=self._selection.since,
                until=self._selection.until,
                after=last,
                limit=size,
            )
            yield from page
            if len(page) < size:
                return
            last = page[-1]


def has_own_time(record: Document) -> bool:
    """Return whether a record says when the message was deleted."""
    return isinstance(record.fields.get(EVENT_AT), datetime)


def deleted_at(record: Document) -> datetime:
    """Return when the message was deleted or, if the record does not say, when it was recorded."""
    for stamp in (EVENT_AT, RECORDED_AT):
        found = record.fields.get(stamp)
        if isinstance(found, datetime):
            return found
    return datetime.min.replace(tzinfo=UTC)


def last_deletion(store: Store, member_id: str) -> datetime | None:
    """Return when the newest deletion of a portal was; see `deleted_at`."""
    collection = f"{portal_path(member_id)}/{DELETIONS}"
    newest = [
        record
        for stamp in (EVENT_AT, RECORDED_AT)
        for record in store.newest(collection, stamp, store_deadline(), limit=1)
    ]
    return max(map(deleted_at, newest), default=None)


def recorded_at(record: Document) -> datetime:
    """Return when a record that was found by that time was created."""
    return cast("datetime", record.fields[RECORDED_AT])


def say_what_is_missing(reading: Reading, selection: Selection, remedy: str) -> None:
    """Say on stderr what was not shown, or why nothing was; `remedy` says how to see the rest."""
    for sentence in _what_is_missing(reading, selection, remedy):
        print(sentence, file=sys.stderr)


def _what_is_missing(reading: Reading, selection: Selection, remedy: str) -> Iterable[str]:
    if not selection.members:  # already reported
        return
    rest, exact = reading.count_rest()
    if rest:
        at_least = "" if exact else "At least "
        yield f"{at_least}{rest:,} more {_records(rest)} not shown: {remedy}."
    elif not reading.shown:
        yield _why_nothing(selection)
    if reading.shown_untimed:
        yield (
            f"For {reading.shown_untimed:,} of these, the time of the deletion is unknown; the time"
            " shown is when they were recorded."
        )
    quarantined = reading.count_quarantined()
    if quarantined:
        events = "event is" if quarantined == 1 else "events are"
        yield f"{quarantined:,} {events} in quarantine and not shown: see `quarantine`."


def _records(count: int) -> str:
    return "record is" if count == 1 else "records are"


def _why_nothing(selection: Selection) -> str:
    options = [
        f"{name} {time_text(value, UTC)} UTC" if isinstance(value, datetime) else name
        for name, value in (
            ("--since", selection.since),
            ("--until", selection.until),
            ("--by", selection.origin),
            ("--connector", selection.connector),
        )
        if value is not None
    ]
    if options:
        return f"No records match {', '.join(options)}: try other values."
    return "No records: nothing has been recorded yet. `status` shows whether events arrive."
