"""Dead letters: complete records in the log, which `python -m handler replay` stores later."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from itertools import accumulate

from handler.log import MAX_LINE_BYTES, Log, count
from handler.records.documents import Delivery
from handler.records.redaction import redacted
from handler.stores.interface import Document

NOT_RECORDED = "not_recorded"

# Leaves room for a line's severity, message and trace; event and portal are counted separately.
_MAX_RECORDS_BYTES = MAX_LINE_BYTES - 2_000

# A small event can have many ids, and long fields that every record repeats. A genuine deletion of
# a thousand messages takes about 400,000 bytes.
_MAX_UNVERIFIED_BYTES = 1_048_576

# Cloud Logging stores numbers as IEEE doubles, so larger integers are written as text.
_LARGEST_EXACT_INTEGER = 2**53


def log_records(
    log: Log, documents: Sequence[Document], *, unverified_digest: str | None = None
) -> None:
    """Log the records of one event that could not be stored.

    `unverified_digest` is the digest of a token that could not be checked; replay checks it. The
    size of such records is limited: the last line says how many are left out.
    """
    records = [_json_object(document.fields) for document in documents]
    kept = records
    if unverified_digest is not None:
        sizes = accumulate(len(json.dumps(record)) for record in records)
        kept = records[: bisect_right(list(sizes), _MAX_UNVERIFIED_BYTES)]
    for line in _in_lines(kept):
        left_out = len(records) - len(kept) if line[-1] is kept[-1] else 0
        log(
            "CRITICAL",
            f"{count(len(line), 'deletion')} could not be stored; replay this line when Firestore"
            " is back."
            + (f" {left_out} more of this unverified event are left out." if left_out else ""),
            outcome=NOT_RECORDED,
            event=line[0]["event"],
            member_id=line[0]["member_id"],
            verified=None if unverified_digest is None else False,
            token_digest=unverified_digest,
            left_out=left_out or None,
            records=line,
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


def _in_lines(records: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    """Divide one event's records among lines, which repeat its name and its portal."""
    line: list[Mapping[str, object]] = []
    room = 0
    for record in records:
        size = len(json.dumps(record))
        if size > room:
            if line:
                yield line
            names = json.dumps([record["event"], record["member_id"]])
            line, room = [], _MAX_RECORDS_BYTES - len(names)
        line.append(record)
        room -= size
    if line:
        yield line
