"""`deletions --follow`: keep printing new records as they arrive."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

from handler.console.portal_option import find_portals, portal_ids
from handler.console.printing import newest_of_portals
from handler.console.record_reading import (
    Progress,
    Reading,
    Selection,
    recorded_at,
    say_what_is_missing,
)
from handler.records.documents import DELETIONS, RECORDED_AT
from handler.stores.interface import Document, Store

_SECONDS: Final = 2  # between two readings

# Commits may become visible in a different order from that of their timestamps.
_OVERLAP: Final = timedelta(seconds=10)

_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


def follow(
    options: argparse.Namespace, selection: Selection, show: Callable[[Document], None]
) -> NoReturn:
    """Show the newest existing records, oldest first, then each new one until interrupted.

    At most `--limit` existing ones are shown, and the rest is counted on stderr.
    """
    store, members, since = options.open_store(), selection.members, selection.since
    newest = _newest(store, members, since, limit=1)
    start = _next_start(newest, since)
    # What arrives while these are read is new: it is shown below, and not counted here.
    until = recorded_at(newest[0]) + timedelta.resolution if newest else _BEFORE_ALL
    recent = [one for one in _newest(store, members, start) if recorded_at(one) < until]
    reading = Reading(store, replace(selection, until=until), Progress(), by=RECORDED_AT)
    existing = list(reading.records(options.limit))
    for record in reversed(existing):
        show(record)
    say_what_is_missing(reading, selection, remedy="use --limit N for more")
    seen = {record.path for record in (*recent, *existing)}
    while True:
        time.sleep(_SECONDS)
        store = options.open_store()
        members = find_portals(store, options.portal) if options.portal else portal_ids(store)
        records = _newest(store, members, start)
        for record in reversed(records):
            if record.path not in seen and selection.matches(record):
                show(record)
        seen.update(record.path for record in records)
        start = _next_start(records, start)


def _newest(
    store: Store, members: Sequence[str], start: datetime | None, *, limit: int | None = None
) -> list[Document]:
    return newest_of_portals(store, members, DELETIONS, RECORDED_AT, since=start, limit=limit)


def _next_start(records: Sequence[Document], start: datetime | None) -> datetime | None:
    """Return the time from which to read next: never earlier than `start`."""
    if not records:
        return start
    overlapping = recorded_at(records[0]) - _OVERLAP
    return max(start, overlapping) if start else overlapping
