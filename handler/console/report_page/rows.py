"""The report's table: all rows as data for the script, and the first ones also as HTML."""

import json
from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import IO, Final

from handler.console.moments import time_text
from handler.console.record_view import STAFF, View

MAX_ROWS: Final = 50_000
"""A browser can search and sort this many without delay, and the file can still be e-mailed."""

PLAIN_ROWS: Final = 250
"""Rows shown without scripts."""


class Rows:
    """Rows that are written to a file as they come, to save memory."""

    def __init__(self, file: IO[str], zone: tzinfo, most: int = MAX_ROWS) -> None:
        self._file = file
        self._most = most
        self._zone = zone
        self._portals: dict[tuple[str, str], int] = {}
        self.count = 0
        self.plain: list[View] = []

    def take(self, one: View) -> None:
        """Add a record, unless there are already too many."""
        if self.count == self._most:
            return
        if self.count < PLAIN_ROWS:
            self.plain.append(one)
        host = one.host or ""
        portal = self._portals.setdefault((one.portal, host), len(self._portals))
        row = [
            time_text(one.deleted_at, self._zone),
            0 if one.deleted_by == STAFF else 1,
            one.user_id,
            one.connector,
            one.line_id,
            one.chat_id,
            one.message_id,
            one.im_chat_id,
            one.text,
            notes(one, self._zone),
            portal,
            one.id,
        ]
        self._file.write(f"{',' if self.count else ''}\n{_json(row)}")
        self.count += 1

    def data(self) -> Iterator[str]:
        """Return the data as JSON that is safe in a page, in pieces."""
        yield f'{{"portals": {_json([*self._portals])}, "rows": ['
        self._file.seek(0)
        yield from self._file
        yield "\n]}"


def notes(one: View, zone: tzinfo) -> str:
    """Return what else is known about a record, in words."""
    return "; ".join(_notes(one, zone))


def _notes(one: View, zone: tzinfo) -> Iterable[str]:
    if one.is_untimed:
        yield "time recorded; the time of deletion is unknown"
    if one.sent_at:
        author = f" by {one.author_id}" if one.author_id is not None else ""
        yield f"sent {time_text(one.sent_at, zone)}{author}"
    if one.edited_at:
        yield f"edited {time_text(one.edited_at, zone)}"
    if one.text_outdated:
        yield "the text after the last edit is not known"
    if one.text_cut:
        yield "the text is cut"
    if one.files:
        yield f"files: {', '.join(one.files)}"


def _json(value: object) -> str:
    """Encode JSON without any character that could end the HTML element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
