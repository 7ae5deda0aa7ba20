"""The rows of the report's table, as data."""

import io
import json
from datetime import UTC, datetime

from handler.console.record_view import View, view
from handler.console.report_page.rows import PLAIN_ROWS, Rows
from handler.stores.interface import Document

NOON = datetime(2026, 3, 17, 12, tzinfo=UTC)


def record(text: str) -> View:
    """Return a record with a text."""
    return view(Document("portals/M/deletions/1", {"text": text, "event_at": NOON}), lambda _: "d")


def test_data_cannot_open_or_close_an_element() -> None:
    """It is embedded in the page, inside an element."""
    rows = Rows(io.StringIO(), UTC)
    text = "</script><!--<script>&amp;\u2028"
    rows.take(record(text))

    data = "".join(rows.data())

    assert not set("<>&") & set(data)
    assert text == json.loads(data)["rows"][0][8]


def test_only_the_newest_rows_are_kept() -> None:
    """They come first; the rest is counted elsewhere."""
    rows = Rows(io.StringIO(), UTC, most=PLAIN_ROWS + 1)
    for number in range(PLAIN_ROWS + 2):
        rows.take(record(str(number)))

    found = json.loads("".join(rows.data()))["rows"]

    assert [str(number) for number in range(PLAIN_ROWS + 1)] == [row[8] for row in found]
    assert (PLAIN_ROWS + 1, PLAIN_ROWS) == (rows.count, len(rows.plain))
