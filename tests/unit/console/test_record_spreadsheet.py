"""A spreadsheet that opens without a dialog, and in which nothing runs."""

import csv
import io
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from handler.console.record_spreadsheet import spreadsheet
from handler.console.record_view import View, view
from handler.stores.interface import Document

DELETED = datetime(2026, 3, 17, 15, 16, 17, 999_999, tzinfo=UTC)


def record(**fields: Any) -> View:  # noqa: ANN401
    """Return a record of a portal with a confirmed domain."""
    return view(Document("portals/M/deletions/1", fields), lambda _: "x.bitrix24.com")


def rows(*records: View, zone: str = "UTC") -> list[list[str]]:
    """Read a spreadsheet back, as strictly as Python can."""
    text = "".join(spreadsheet(records, ZoneInfo(zone)))
    assert text.startswith("\ufeffdeleted_at (")
    return list(csv.reader(io.StringIO(text[1:], newline=""), strict=True))


def test_record_is_a_row_below_titles_with_the_time_zone() -> None:
    """With everything known about it, the time of the deletion first."""
    full = record(
        origin="portal",
        domain="of-the-event.example",
        event="ONOPENLINEMESSAGEDELETE",
        via="offline",
        connector="whatsapp",
        line_id=107,
        message_id="m",
        chat_id="c",
        im_message_id=5,
        im_chat_id=1807,
        user_id=27,
        event_at=DELETED,
        recorded_at=DELETED.replace(minute=17),
        text='Hi, "you"\r\nthere',
        text_cut=True,
        text_outdated=True,
        author_id=9,
        sent_at=DELETED.replace(hour=1),
        edited_at=DELETED.replace(hour=2),
        files=["a.pdf", "b.png"],
    )

    titles, row = rows(full, zone="Asia/Tokyo")

    assert {
        "deleted_at (Asia/Tokyo)": "2026-03-18 00:16:17",
        "deleted_by": "staff",
        "user_id": "27",
        "employee_link": "https://x.bitrix24.com/company/personal/user/27/",
        "portal": "x.bitrix24.com",
        "connector": "whatsapp",
        "line_id": "107",
        "chat_id": "c",
        "message_id": "m",
        "chat_link": "https://x.bitrix24.com/online/?IM_DIALOG=chat1807",
        "text": 'Hi, "you"\r\nthere',
        "text_cut": "yes",
        "text_outdated": "yes",
        "author_id": "9",
        "sent_at (Asia/Tokyo)": "2026-03-17 10:16:17",
        "edited_at (Asia/Tokyo)": "2026-03-17 11:16:17",
        "files": "a.pdf\nb.png",
        "im_chat_id": "1807",
        "im_message_id": "5",
        "event": "ONOPENLINEMESSAGEDELETE",
        "via": "offline",
        "recorded_at (Asia/Tokyo)": "2026-03-18 00:17:17",
        "member_id": "M",
        "id": "1",
    } == dict(zip(titles, row, strict=True))


def test_unknown_values_are_empty_cells() -> None:
    """A customer's own deletion has no employee, and no chat in Bitrix24."""
    titles, row = rows(record(origin="customer", user_id=5, recorded_at=DELETED))
    cells = dict(zip(titles, row, strict=True))

    assert {
        "deleted_at (UTC)": "2026-03-17 15:16:17",
        "deleted_by": "customer",
        "user_id": "5",
        "portal": "x.bitrix24.com",
        "recorded_at (UTC)": "2026-03-17 15:16:17",
        "member_id": "M",
        "id": "1",
    } == {title: cell for title, cell in cells.items() if cell}


@pytest.mark.parametrize("first", [*"=+-@\t\r\n＝＋－＠", " =", '"=', "\u3000+"])  # noqa: RUF001
def test_no_cell_is_a_formula(first: str) -> None:
    """A customer may choose how a message or its id starts."""
    attack = f"{first}cmd|' /C calc'!A0"
    harmless = f"a{attack.lstrip()}"

    titles, row, other = rows(
        record(text=attack, message_id=attack, connector=attack, files=[attack]),
        record(text=harmless, files=[harmless, f"={attack}"]),
    )
    cells = dict(zip(titles, row, strict=True))

    assert [f"'{attack}"] * 4 == [
        cells[name] for name in ("text", "message_id", "connector", "files")
    ]
    assert harmless == other[titles.index("text")]
    assert f"{harmless}\n'={attack}" == other[titles.index("files")]


@pytest.mark.parametrize("separator", [";", "\t", "\r", "\n", "\r\n", "; ", ';"', "\n;"])
def test_no_part_of_a_cell_is_a_formula(separator: str) -> None:
    """Excel splits a cell at a semicolon where that is the list separator, even if quoted."""
    titles, row = rows(record(text=f"a{separator}=1{separator}b-1{separator}{separator}-2"))

    space = separator.lstrip(";\t\r\n")
    before = separator.removesuffix(space) + "'" + space
    text = f"a{before}=1{separator}b-1{separator}{before}-2"
    assert text == row[titles.index("text")]


def test_lines_end_with_cr_and_lf() -> None:
    """According to RFC 4180."""
    lines = list(spreadsheet([record(message_id="a")], UTC))

    assert 2 == len(lines)
    assert all(line.endswith("\r\n") and "\n" not in line[:-2] for line in lines)
