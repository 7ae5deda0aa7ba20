"""Dead letters are complete, logged once, and in lines that Cloud Logging stores."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handler.log import Log
from handler.records.dead_letter import log_event, log_records
from handler.records.documents import Delivery, deletion_document
from handler.stores.interface import Document
from tests.samples import PORTAL
from tests.strategies import TYPED

EVENT_AT = datetime(2026, 3, 17, 15, 56, 17, tzinfo=UTC)
DELIVERY = Delivery(
    member_id="m", event="ONOPENLINEMESSAGEDELETE", via="online", event_at=EVENT_AT, user_id=27
)
LINE = {
    "severity": "CRITICAL",
    "logging.googleapis.com/trace": f"projects/{'p' * 30}/traces/{'1' * 32}",
    "outcome": "not_recorded",
    "event": "ONOPENLINEMESSAGEDELETE",
    "member_id": "m",
}


def new_log() -> tuple[Log, io.StringIO]:
    """Return a log whose lines have every possible field, and its stream."""
    stream = io.StringIO()
    return Log(stream, level="CRITICAL", project="p" * 30).for_request("1" * 32), stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the lines, checking that none is too long."""
    written = stream.getvalue().splitlines(keepends=True)
    assert all(len(line.encode()) <= 100_000 for line in written)
    return [json.loads(line) for line in written]


def documents(texts: list[str]) -> list[Document]:
    """Return records with these texts in each field that the sender fills."""
    return [
        deletion_document(
            replace(PORTAL, connector=text, message_id=f"{text}{number}", chat_id=text),
            replace(DELIVERY, domain=text),
            None,
        )
        for number, text in enumerate(texts)
    ]


def test_record_is_logged_with_all_fields_of_its_document() -> None:
    """Times are in ISO 8601; `python -m handler replay` reads it."""
    log, stream = new_log()
    log_records(log, [deletion_document(PORTAL, DELIVERY, EVENT_AT)])
    (line,) = lines(stream)
    assert {
        **LINE,
        "message": "1 deletion could not be stored; replay this line when Firestore is back.",
        "records": [
            {
                "member_id": "m",
                "event": "ONOPENLINEMESSAGEDELETE",
                "via": "online",
                "event_at": "2026-03-17T15:56:17+00:00",
                "user_id": 27,
                "origin": "portal",
                "connector": "myconnector",
                "line_id": 107,
                "message_id": "ext-msg-005",
                "chat_id": "channel-123",
                "im_message_id": 86501,
                "im_chat_id": 1807,
                "expires_at": "2026-03-17T15:56:17+00:00",
            }
        ],
    } == line


def test_unverified_record_is_marked() -> None:
    """Replay checks the token by its digest."""
    log, stream = new_log()
    log_records(log, documents(["a"]), unverified_digest="5f3c")
    (line,) = lines(stream)
    assert (False, "5f3c") == (line["verified"], line["token_digest"])


def test_a_number_too_large_for_cloud_logging_is_text() -> None:
    """Cloud Logging stores IEEE doubles, which are exact up to 2**53."""
    log, stream = new_log()
    large = replace(PORTAL, im_message_id=2**53, im_chat_id=2**53 + 1, line_id=2**63 - 1)
    log_records(log, [deletion_document(large, DELIVERY, None)])
    ((record,),) = [line["records"] for line in lines(stream)]
    assert [2**53, "9007199254740993", "9223372036854775807"] == [
        record["im_message_id"],
        record["im_chat_id"],
        record["line_id"],
    ]


def test_no_records_cause_no_line() -> None:
    """Nothing was lost."""
    log, stream = new_log()
    log_records(log, [])
    assert [] == lines(stream)


# The longest texts that fields accept, of characters that take 1, 2, 6 and 12 bytes in JSON.
TEXTS = st.tuples(
    st.sampled_from(["a", '"', "\0", "é", "😀"]), st.sampled_from([1, 10, 100, 999])
).map(lambda text: text[0] * text[1])


@given(st.lists(TEXTS, max_size=30))
@example(["😀" * 999] * 5)
@example(["a"] * 1_000)
def test_each_record_is_logged_once_and_no_line_is_too_long(texts: list[str]) -> None:
    """Cloud Logging cuts entries at 256 KB; lines end well before."""
    log, stream = new_log()
    kept = documents(texts)
    log_records(log, kept)
    written = lines(stream)
    assert [document.fields["message_id"] for document in kept] == [
        record["message_id"] for line in written for record in line["records"]
    ]
    assert all(line["message"].startswith(f"{len(line['records'])} ") for line in written)


def unverified(kept: list[Document]) -> tuple[list[dict[str, Any]], int]:
    """Log records whose token could not be checked; return the lines, and their size."""
    log, stream = new_log()
    log_records(log, kept, unverified_digest="f" * 64)
    return lines(stream), len(stream.getvalue())


def test_a_large_genuine_event_is_logged_whole_without_its_token_checked() -> None:
    """A form has at most a thousand fields, and Bitrix24's ids at most a hundred characters."""
    for text, size in (("channel-123", 400_000), ("a" * 100, 700_000), ("я" * 36, 1_040_000)):
        kept = [
            deletion_document(
                replace(PORTAL, connector="whatsapp", message_id=f"{text}{number}", chat_id=text),
                replace(DELIVERY, member_id="f" * 32, domain="some-domain.bitrix24.com"),
                None,
            )
            for number in range(1_000)
        ]
        written, logged = unverified(kept)
        assert logged < size
        assert 1_000 == sum(len(line["records"]) for line in written)
        assert not any("left_out" in line for line in written)


def test_the_lines_of_a_small_unverified_event_are_limited() -> None:
    """A body of 15 kB could have 989 ids and long fields that every record repeats: 33 MB."""
    text = "😀" * 990
    kept = [
        deletion_document(
            replace(PORTAL, connector=text, message_id=str(number), chat_id=text),
            replace(DELIVERY, member_id="é" * 750, domain="😀" * 253, event="É" * 100),
            None,
        )
        for number in range(989)
    ]
    written, logged = unverified(kept)
    records = [record for line in written for record in line["records"]]

    assert 1_000_000 < logged < 1_200_000
    assert [str(number) for number in range(len(records))] == [one["message_id"] for one in records]
    *others, last = written
    assert not any("left_out" in line for line in others)
    left_out = 989 - len(records)
    assert left_out == last["left_out"]
    assert f" {left_out} more of this unverified event are left out." in last["message"]


def test_nothing_of_a_verified_event_is_left_out() -> None:
    """It is genuine, whatever its size."""
    log, stream = new_log()
    log_records(log, documents(["😀" * 900] * 60))
    assert 60 == sum(len(line["records"]) for line in lines(stream))
    assert 2_000_000 < len(stream.getvalue())


@pytest.mark.parametrize("digest", [None, "f" * 64])
def test_a_line_has_room_for_its_own_names(digest: str | None) -> None:
    """The longest member_id and event, of characters that take most bytes in JSON."""
    log, stream = new_log()
    long = replace(DELIVERY, member_id="é" * 750, event="😀" * 100)
    kept = [
        deletion_document(replace(PORTAL, message_id=f"{number}"), long, None)
        for number in range(100)
    ]
    log_records(log, kept, unverified_digest=digest)
    assert 100 == sum(len(line["records"]) for line in lines(stream))


def test_lines_are_filled() -> None:
    """A thousand records take as few lines as possible, since lines are billed by size."""
    log, stream = new_log()
    log_records(log, documents(["a" * 100] * 1_000))
    sizes = [len(line) for line in stream.getvalue().splitlines()]
    assert all(90_000 < size for size in sizes[:-1])


def logged_event(data: object, delivery: Delivery = DELIVERY) -> list[dict[str, Any]]:
    """Log an event, and return the records of its lines, one per line."""
    log, stream = new_log()
    log_event(log, delivery, data)
    written = lines(stream)
    assert ["not_recorded"] * len(written) == [line["outcome"] for line in written]
    records = [record for line in written for record in line["records"]]
    assert 1 == len({record.pop("id") for record in records})
    return records


def test_invalid_event_is_logged_with_its_data() -> None:
    """As JSON text, so that numbers stay exact; unknown fields are omitted."""
    log, stream = new_log()
    log_event(log, DELIVERY, {"DATA": [2**53 + 1, "é"]})
    payload = '{"DATA": [9007199254740993, "\\u00e9"]}'
    (line,) = lines(stream)
    assert {
        **LINE,
        "message": "An event could not be stored; replay this line when the fault is fixed.",
        "records": [
            {
                "member_id": "m",
                "event": "ONOPENLINEMESSAGEDELETE",
                "via": "online",
                "event_at": "2026-03-17T15:56:17+00:00",
                "user_id": 27,
                "id": sha256(payload.encode()).hexdigest(),
                "payload": payload,
                "part": 1,
                "parts": 1,
            }
        ],
    } == line


@given(TYPED | st.none())
def test_data_of_an_event_round_trips(data: object) -> None:
    """Including types."""
    assert data == json.loads("".join(part["payload"] for part in logged_event(data)))


@pytest.mark.parametrize("character", ["a", '"', "\\", "\0", "é", "😀", "\udcff"])
def test_long_event_is_split_into_lines(character: str) -> None:
    """In the worst case, JSON in JSON doubles; the parts are numbered."""
    long = Delivery(
        member_id="😀" * 375, event="É" * 100, via="online", domain="😀" * 1_000, user_id=2**63 - 1
    )
    parts = logged_event({"DATA": character * 100_000}, long)
    assert {"DATA": character * 100_000} == json.loads("".join(part["payload"] for part in parts))
    assert list(range(1, len(parts) + 1)) == [part["part"] for part in parts]
    assert {len(parts)} == {part["parts"] for part in parts}
    assert {"😀" * 1_000} == {part["domain"] for part in parts}
    *full, _ = parts
    assert full
    assert all(32_000 < len(part["payload"]) for part in full)
