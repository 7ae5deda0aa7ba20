"""Records as a table for people at a terminal."""

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from itertools import islice
from typing import Final

from handler.console.moments import time_text
from handler.console.printing import print_table, printable
from handler.console.record_view import View

# Column widths are set for this many rows at a time, so that a table can be of any length.
_BLOCK: Final = 1_000
_LONGEST_TEXT: Final = 60

_COLUMNS: Final = {
    "PORTAL": "portal",
    "DELETED BY": "deleted_by",
    "USER": "user_id",
    "CONNECTOR": "connector",
    "LINE": "line_id",
    "CHAT": "chat_id",
    "MESSAGE": "message_id",
}
_OPTIONAL_COLUMNS: Final = {"TEXT": "text", "CHAT LINK": "chat_link"}


def print_records(views: Iterable[View], zone: tzinfo) -> None:
    """Print a table; a block has columns for texts and links only if one of its records has any."""
    remaining = iter(views)
    block = list(islice(remaining, _BLOCK))
    while True:
        columns = _COLUMNS | {
            title: name
            for title, name in _OPTIONAL_COLUMNS.items()
            if any(getattr(one, name) is not None for one in block)
        }
        rows = ([*_cells(one, zone, columns.values())] for one in block)
        print_table([f"DELETED ({zone})", *columns], rows)
        block = list(islice(remaining, _BLOCK))
        if not block:
            return
        print()


def print_record(one: View, zone: tzinfo) -> None:
    """Print a record as a line, immediately."""
    present = [name for name in _OPTIONAL_COLUMNS.values() if getattr(one, name) is not None]
    names = [*_COLUMNS.values(), *present]
    print("  ".join(map(printable, _cells(one, zone, names))), flush=True)


def _cells(one: View, zone: tzinfo, names: Iterable[str]) -> Iterator[object]:
    yield time_text(one.deleted_at, zone)
    for name in names:
        value = getattr(one, name)
        is_long = name == "text" and value is not None and len(value) > _LONGEST_TEXT
        yield f"{value[: _LONGEST_TEXT - 1]}…" if is_long else value
