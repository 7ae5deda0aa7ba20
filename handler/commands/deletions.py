"""`deletions`: read the records, newest first."""

import argparse
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, cast

from handler.commands.console import (
    newest_of_portals,
    print_json,
    print_table,
    printable,
)
from handler.commands.portal_option import add_portal_option, find_portals, portal_ids
from handler.records.documents import DELETIONS, RECORDED_AT
from handler.stores.interface import Document

_FOLLOW_SECONDS = 2

# Firestore's timestamps of two commits need not come in the order in which they are seen.
_FOLLOW_OVERLAP = timedelta(seconds=10)

_LARGEST_LIMIT = 2**31 - 1  # Firestore's

_AGO = re.compile(r"(\d{1,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "deletions", help="read the records, newest first", description=__doc__
    )
    add_portal_option(parser)
    parser.add_argument(
        "--since", metavar="WHEN", type=when, help="30m, 12h, 7d, 2026-11-22 or 2026-11-22T10:00Z"
    )
    parser.add_argument(
        "--limit", metavar="N", type=_count, default=20, help="at most so many (20)"
    )
    parser.add_argument("--follow", action="store_true", help="go on with new ones, newest last")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.set_defaults(run=_deletions)


def when(text: str) -> datetime:
    """Read a moment: so long ago, or a date or time (UTC unless it says otherwise)."""
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "give so long ago (30m, 12h, 7d), or a date or time (2026-11-22T10:00Z)"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(text: str) -> int:
    if text.isdecimal() and len(text) <= len(str(_LARGEST_LIMIT)):
        number = int(text)
        if 0 < number <= _LARGEST_LIMIT:
            return number
    raise argparse.ArgumentTypeError(f"give a whole number from 1 to {_LARGEST_LIMIT}")


def _deletions(options: argparse.Namespace) -> int:
    store = options.open_store()
    documents = newest_of_portals(
        store,
        find_portals(store, options.portal),
        DELETIONS,
        RECORDED_AT,
        since=options.since,
        limit=options.limit,
    )
    if options.follow:
        return _follow(options, documents)
    if options.json:
        for document in documents:
            print_json(document)
    else:
        print_table(_TITLES, map(_row, documents))
    return 0


def _follow(options: argparse.Namespace, documents: list[Document]) -> NoReturn:
    """Print what is there, oldest first, and then each new record until interrupted."""
    shown: set[str] = set()
    oldest = min(map(_time, documents), default=None)
    start = options.since
    while True:
        for document in reversed(documents):
            if document.path in shown or (oldest and _time(document) < oldest):
                continue
            shown.add(document.path)
            if options.json:
                print_json(document)
            else:
                print("  ".join(map(printable, _row(document))), flush=True)
        if documents:
            start = _time(documents[0]) - _FOLLOW_OVERLAP
        time.sleep(_FOLLOW_SECONDS)
        store = options.open_store()
        members = find_portals(store, options.portal) if options.portal else portal_ids(store)
        documents = newest_of_portals(store, members, DELETIONS, RECORDED_AT, since=start)


_TITLES = ("RECORDED (UTC)", "PORTAL", "BY", "CONNECTOR", "LINE", "CHAT", "MESSAGE", "USER")


def _row(document: Document) -> Sequence[object]:
    fields = document.fields
    names = ("origin", "connector", "line_id", "chat_id", "message_id", "user_id")
    portal = fields.get("domain") or document.path.split("/")[1]
    return (_time(document), portal, *map(fields.get, names))


def _time(document: Document) -> datetime:
    return cast("datetime", document.fields[RECORDED_AT])
