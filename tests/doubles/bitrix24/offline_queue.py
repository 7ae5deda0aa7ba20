"""A portal's offline queue: the table b_rest_event_offline, with its filters and its order.

Sources: the pages event-offline-get, -list and -clear, and the classes EventOfflineTable and
IRestService of the module `rest`.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import md5

from tests.doubles.bitrix24 import errors
from tests.doubles.bitrix24.php import Value, intval

GET_FIELDS = ("ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID")
LIST_FIELDS = (*GET_FIELDS, "PROCESS_ID", "ERROR")
OPERATIONS = ("", "=", "<", ">=", "<=")

Row = dict[str, Value]
Test = Callable[[Row], bool]


class OfflineQueue:
    """The rows of one portal, by application. Not locked: callers hold the stand-in's lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: list[tuple[str, Row]] = []
        self._uncommitted: list[tuple[str, Row]] = []
        self._last_id = 0

    def add(
        self, client_id: str, event: str, data: Value, additional: Value, *, commit: bool = True
    ) -> None:
        """Write a row, or renew the one that has the same name and data and is not reserved.

        The key MESSAGE_ID is the MD5 of `name|json(data)`: rows merge only when byte-identical.
        Without `commit`, the row gets its id but stays invisible until `commit` is called, as if
        later transactions ended before its own.
        """
        text = f"{event}|{json.dumps(data, separators=(',', ':'))}"
        message_id = md5(text.encode(), usedforsecurity=False).hexdigest()
        written: Row = {
            "TIMESTAMP_X": datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds"),
            "EVENT_DATA": json.loads(json.dumps(data)),
            "EVENT_ADDITIONAL": additional,
        }
        for owner, row in self._rows:
            if owner == client_id and (row["MESSAGE_ID"], row["PROCESS_ID"]) == (message_id, ""):
                row.update(written)
                return
        self._last_id += 1
        row = {"ID": str(self._last_id), "TIMESTAMP_X": "", "EVENT_NAME": event, **written}
        row |= {"MESSAGE_ID": message_id, "PROCESS_ID": "", "ERROR": "0"}
        (self._rows if commit else self._uncommitted).append((client_id, row))

    def commit(self) -> None:
        """Make visible the rows that were added without `commit`."""
        self._rows += self._uncommitted
        self._uncommitted.clear()

    def select(
        self, client_id: str, tests: Sequence[Test] = (), order: Sequence[tuple[str, str]] = ()
    ) -> list[Row]:
        """Return an application's rows that pass every test, in the requested order."""
        rows = [row for owner, row in self._rows if owner == client_id]
        rows = [row for row in rows if all(test(row) for test in tests)]
        for field, direction in reversed(order):
            key = partial(_sort_key, field)
            rows.sort(key=key, reverse=direction == "DESC")
        return rows

    def reserve(self, rows: Sequence[Row]) -> str:
        """Mark rows with a fresh process id (EventOfflineTable::markEvents)."""
        process_id = secrets.token_hex(16)
        for row in rows:
            row["PROCESS_ID"] = process_id
        return process_id

    def clear(self, client_id: str, process_id: str, ids: Sequence[str] = ()) -> None:
        """Delete the rows of a process: all of them, or those with the given ids."""
        self._rows = [
            (owner, row)
            for owner, row in self._rows
            if owner != client_id
            or row["PROCESS_ID"] != process_id
            or (ids and row["ID"] not in ids)
        ]

    def drop(self, client_id: str) -> None:
        """Delete all rows of an application, as deleting a local application does."""
        self._rows = [(owner, row) for owner, row in self._rows if owner != client_id]


def conditions(filters: Value, fields: Sequence[str]) -> list[Test]:
    """Turn a `filter` parameter into tests; 400 ERROR_ARGUMENT for what Bitrix24 does not allow.

    Lists as values are refused, as event.offline.get does (EventOfflineTable::markEvents).
    """
    if not filters:
        return []
    assert isinstance(filters, Mapping)
    tests: list[Test] = []
    for key, value in filters.items():
        operation, field = re.fullmatch(r"([^A-Za-z]*)(.*)", key.upper(), re.DOTALL).groups()  # type: ignore[union-attr]
        if operation not in OPERATIONS:
            errors.refuse_argument(f"Filter operation not allowed: {operation}")
        if field not in fields:
            errors.refuse_argument(f"Filter field not allowed: {field}")
        if isinstance(value, Mapping | list):
            errors.refuse_argument(
                f"The value of an argument '{operation}{field}' has an invalid type"
            )
        tests.append(partial(_passes, field, operation, _comparable(field, value)))
    return tests


def _passes(field: str, operation: str, limit: tuple[float, str], row: Row) -> bool:
    value = _comparable(field, row[field])
    match operation:
        case "" | "=":
            return value == limit
        case "<":
            return value < limit
        case ">=":
            return value >= limit
    return value <= limit


def _comparable(field: str, value: Value) -> tuple[float, str]:
    if field in {"ID", "ERROR"}:
        return intval(value), ""
    if field == "TIMESTAMP_X":
        return datetime.fromisoformat(str(value)).timestamp(), ""
    return 0, str(value)


def _sort_key(field: str, row: Row) -> tuple[float, str]:
    return _comparable(field, row[field])


def sequence(order: Value, fields: Sequence[str]) -> list[tuple[str, str]]:
    """Turn an `order` parameter into fields and directions (IRestService::sanitizeOrder)."""
    if not order:
        return []
    assert isinstance(order, Mapping)
    wanted = [(field.upper(), str(direction).upper()) for field, direction in order.items()]
    assert all(field in fields and way in {"ASC", "DESC"} for field, way in wanted)
    return wanted
