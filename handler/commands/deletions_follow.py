"""`deletions --follow`: keep printing new records as they arrive."""

import argparse
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NoReturn, cast

from handler.console.portal_option import find_portals, portal_ids
from handler.console.printing import newest_of_portals
from handler.console.record_reading import Selection
from handler.records.documents import DELETIONS, RECORDED_AT
from handler.stores.interface import Document

_SECONDS: Final = 2  # between two readings

# Commits may become visible in a different order from that of their timestamps.
_OVERLAP: Final = timedelta(seconds=10)


def follow(
    options: argparse.Namespace, selection: Selection, show: Callable[[Document], None]
) -> NoReturn:
    """Show the newest existing records, oldest first, then each new one until interrupted.

    Of the newest `--limit` existing ones, those that match are shown.
    """
    start, members = selection.since, selection.members
    documents = newest_of_portals(
        options.open_store(), members, DELETIONS, RECORDED_AT, since=start, limit=options.limit
    )
    oldest = min(map(_recorded_at, documents), default=None)
    shown: set[str] = set()
    while True:
        for document in reversed(documents):
            if document.path in shown or (oldest and _recorded_at(document) < oldest):
                continue
            shown.add(document.path)
            if selection.matches(document):
                show(document)
        if documents:
            start = _recorded_at(documents[0]) - _OVERLAP
        time.sleep(_SECONDS)
        store = options.open_store()
        members = find_portals(store, options.portal) if options.portal else portal_ids(store)
        documents = newest_of_portals(store, members, DELETIONS, RECORDED_AT, since=start)


def _recorded_at(document: Document) -> datetime:
    return cast("datetime", document.fields[RECORDED_AT])
