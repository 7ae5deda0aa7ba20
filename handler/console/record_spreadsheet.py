"""Records as a spreadsheet: CSV according to RFC 4180, with the time zone in the header.

It starts with a byte-order mark: without one, Excel uses the machine's legacy code page and garbles
every text that is not English. LibreOffice and Google Sheets accept both.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import Final

from handler.console.moments import time_text
from handler.console.record_view import View

BYTE_ORDER_MARK: Final = "\ufeff"

# A spreadsheet runs a cell that starts like this as a formula, and customers choose their ids and
# texts. Some versions read full-width characters like ASCII. Where the list separator is a
# semicolon, Excel splits cells there, and at tabs and line ends, whether quoted or not.
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = re.compile(
    r"""^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=(?:[^\S\t\r\n]|")*[=+@＝＋－＠-])"""  # noqa: RUF001
)


def print_spreadsheet(views: Iterable[View], zone: tzinfo) -> None:
    """Print a spreadsheet, with RFC 4180's line ends on every platform."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")  # type: ignore[union-attr] # it is a TextIOWrapper
    sys.stdout.writelines(spreadsheet(views, zone))


def spreadsheet(views: Iterable[View], zone: tzinfo) -> Iterator[str]:
    """Return the lines of a spreadsheet, starting with the mark and the header."""
    name = str(zone)
    yield BYTE_ORDER_MARK + _line([title.format(zone=name) for title in _COLUMNS])
    for one in views:
        yield _line([_cell(value, zone) for value in _values(one)])


_COLUMNS = (
    "deleted_at ({zone})",
    "deleted_by",
    "user_id",
    "employee_link",
    "portal",
    "connector",
    "line_id",
    "chat_id",
    "message_id",
    "chat_link",
    "text",
    "text_cut",
    "text_outdated",
    "author_id",
    "sent_at ({zone})",
    "edited_at ({zone})",
    "files",
    "im_chat_id",
    "im_message_id",
    "event",
    "via",
    "recorded_at ({zone})",
    "member_id",
    "id",
)


def _values(one: View) -> Iterator[object]:
    for column in _COLUMNS:
        value = getattr(one, column.partition(" ")[0])
        yield "\n".join(value) if isinstance(value, tuple) else value


def _cell(value: object, zone: tzinfo) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if isinstance(value, datetime):
        return time_text(value, zone)
    return _FORMULA.sub("'", str(value))


def _line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
