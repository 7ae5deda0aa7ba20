"""Dead letters: complete records in the log, which `python -m handler replay` stores later."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256

from handler.log import MAX_LINE_BYTES, Log, count
from handler.records.documents import Delivery
from handler.records.redaction import redacted
from handler.stores.interface import Document

NOT_RECORDED = "not_recorded"

# Leaves room in a line for the severity, the message, the trace and the names.
_MAX_RECORDS_BYTES = MAX_LINE_BYTES - 4_000

# Cloud Logging stores numbers as IEEE doubles, so larger integers are written as text.
_LARGEST_EXACT_INTEGER = 2**53


def log_records(
    log: Log, documents: Sequence[Document], *, unverified_digest: str | None = None
) -> None:
    """Log the records of one event that could not be stored.

    `unverified_digest` is the digest of a token that could not be checked; replay checks it.
    """
    records = [document.fields for document in documents]
    verified = None if unverified_digest is None else False
    for lines in _in_lines(map(_json_object, records)):
        log(
            "CRITICAL",
            f"{count(len(lines), 'deletion')} could not be stored; replay this line when Firestore"
            " is back.",
            outcome=NOT_RECORDED,
            event=lines[0]["event"],
            member_id=lines[0]["member_id"],
            verified=verified,
            token_digest=unverified_digest,
            records=lines,
        )


def log_event(log: Log, delivery: Delivery, data: object, connectors: Iterable[str] = ()) -> None:
    """Log the data of an event that could be neither recorded nor quarantined.

    `connectors` are those to record, empty for all; replay cannot know the setting. The data is
    JSON text, so that its numbers stay exact, in as many parts as needed, and without texts and
    credentials.
    """
    payload = json.dumps(redacted(data))
    # JSON text within JSON grows by escaped quotes and backslashes, at most twofold.
    size = _MAX_RECORDS_BYTES // 3
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    about = {**asdict(delivery), "connectors": sorted(connectors) or None}
    event = {**_json_object(about), "id": sha256(payload.encode()).hexdigest()}
    for number, part in enumerate(parts, start=1):
        log(
            "CRITICAL",
            "An event could not be stored; replay this line when the fault is fixed.",
            outcome=NOT_RECORDED,
            event=delivery.event,
            member_id=delivery.member_id,
            records=[{**event, "payload": part, "part": number, "parts": len(parts)}],
        )


def _json_object(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: _json_value(value) for name, value in fields.items() if value is not None}


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int) and value > _LARGEST_EXACT_INTEGER:
        return str(value)
    return value


def _in_lines(records: Iterator[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    line: list[Mapping[str, object]] = []
    room = _MAX_RECORDS_BYTES
    for record in records:
        size = len(json.dumps(record))
        if line and size > room:
            yield line
            line, room = [], _MAX_RECORDS_BYTES
        line.append(record)
        room -= size
    if line:
        yield line
