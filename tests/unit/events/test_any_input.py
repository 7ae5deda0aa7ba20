"""Whatever a stranger sends becomes an event, a deletion or a refusal: never a foreign error."""

import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from handler.answers import Refused
from handler.events import names
from handler.events.body import FORM, decode_body
from handler.events.deletion import InvalidData, parse_deletions
from handler.events.envelope import Event, parse_event
from handler.records.documents import Delivery, deletion_document, quarantine_document
from handler.stores.interface import Document
from handler.tokens import token_digest
from tests import samples
from tests.doubles.bitrix24 import http_build_query

JSON = "application/json"
TOKENS = {
    token
    for name in samples.NAMES
    for field, token in samples.typed(name)["auth"].items()
    if field.endswith("_token")
}

ANY_TEXT = st.text(st.characters(), max_size=5)  # lone surrogates included
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ANY_TEXT,
    st.sampled_from([0, 2**63 - 1, 2**63, 10**400, "1", "..", "é" * 1_001, "😀" * 1_000]),
)
KEYS = ANY_TEXT | st.sampled_from(["id", "im", "0", "1", "chat_id", "connector", "DATA"])
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def bodies(draw: st.DrawFn) -> Any:  # noqa: ANN401
    """Draw a sample with anything in up to three places, or with nothing there."""
    body = samples.typed(draw(st.sampled_from(samples.NAMES)))
    for _ in range(draw(st.integers(0, 3))):
        container, key = draw(st.sampled_from([*_places(body)] or [(body, "event")]))
        if draw(st.booleans()):
            container[key] = draw(ANYTHING)
        else:
            container.pop(key, None) if isinstance(container, dict) else container.pop(key)
    return body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    for key, inner in _items(value):
        yield value, key
        yield from _places(inner)


def _items(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def http_form(body: Any) -> bytes:  # noqa: ANN401
    """Write a form, with a byte that is no UTF-8 wherever the data has a lone surrogate."""
    text = re.sub("[\ud800-\udfff]", "\uffff", json.dumps(body, ensure_ascii=False))
    return http_build_query(json.loads(text)).replace("%EF%BF%BF", "%FF").encode()


def received(content_type: str, body: bytes) -> str:
    """Take a body the whole way to its documents, and tell how far it came.

    Whatever it raises but refusals fails the test.
    """
    try:
        event = parse_event(decode_body(content_type, body))
    except Refused as refused:
        answer = refused.answer
        assert (answer.status, answer.outcome) in (
            (400, "malformed_body"),
            (400, "malformed_event"),
            (415, "unsupported_media_type"),
        )
        assert shows_no_token(answer.body)
        return "refused"
    assert shows_no_token(event)
    assert 64 == len(token_digest(event.auth.application_token.get_secret_value()))
    if event.auth.access_token:
        assert event.auth.access_token.get_secret_value().encode()
    if event.name not in names.DELETIONS:
        return "ignored"
    outcome, documents = taken(event)
    for document in documents:
        assert document.path.encode()
        assert 3 == document.path.count("/")
        for value in document.fields.values():
            assert not isinstance(value, int) or 0 <= value < 2**63
            assert not isinstance(value, str) or value.encode()
    return outcome


def taken(event: Event) -> tuple[str, list[Document]]:
    """Make the documents of an event: of its deletions, or for the quarantine."""
    delivery = Delivery(
        member_id=event.auth.member_id,
        event=event.name,
        via="online",
        domain=event.auth.domain,
        event_at=event.sent_at,
        user_id=event.auth.user_id,
    )
    try:
        deletions = parse_deletions(event.name, event.data, event.auth.user_id)
    except InvalidData as unfit:
        faults = unfit
    else:
        assert deletions
        return "recorded", [deletion_document(deletion, delivery, None) for deletion in deletions]
    assert faults.fields
    assert shows_no_token(faults)
    return "quarantined", [quarantine_document(delivery, event.data, faults, None)]


def shows_no_token(shown: object) -> bool:
    """Tell whether something can be logged."""
    return not any(token in f"{shown!r} {shown}" for token in TOKENS)


@given(bodies())
def test_any_json_is_recorded_quarantined_or_refused(body: Any) -> None:  # noqa: ANN401
    """Numbers too large, text that is no Unicode, and types that nobody expects."""
    received(JSON, json.dumps(body).encode())
    received(JSON, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(bodies())
def test_any_form_is_recorded_quarantined_or_refused(body: Any) -> None:  # noqa: ANN401
    """The same, as PHP would send it."""
    received(FORM, http_form(body))


PIECES = st.sampled_from(
    [
        *(b"event=ONOPENLINEMESSAGEDELETE", b"auth[member_id]=m", b"auth[application_token]=t"),
        *(b"auth", b"data", b"[DATA]", b"[0]", b"[connector]", b"[]", b"=", b"&", b"[", b"]", b"%"),
        *(b"%00", b"%ff", b'{"event":', b'"auth":', b"{", b"}", b"[", b'"', b":", b",", b"1e999"),
        *(b"NaN", b"\\ud800", b"\xef\xbb\xbf", b"\0", b"-", b"9" * 5_000, b"[" * 2_000),
    ]
)
BYTES = st.binary(max_size=60) | st.lists(PIECES, max_size=20).map(b"".join)
CONTENT_TYPES = st.sampled_from([FORM, JSON, f"{JSON}; charset=x", "text/plain"]) | ANY_TEXT


@given(CONTENT_TYPES, BYTES)
@example(JSON, b"[" * 200_000)
@example(JSON, b'{"auth":' * 40_000)
@example(FORM, b"auth" + b"[" * 200_000)
@example(FORM, b"auth" + b"[]" * 100_000)
def test_any_bytes_are_recorded_quarantined_or_refused(content_type: str, body: bytes) -> None:
    """Whatever type they claim to be."""
    received(content_type, body)


def test_what_is_drawn_gets_as_far_as_it_can() -> None:
    """These tests would prove little if every example were refused at the door."""
    outcomes: list[str] = []

    @settings(database=None, derandomize=True)
    @given(bodies())
    def draw(body: Any) -> None:  # noqa: ANN401
        outcomes.append(received(JSON, json.dumps(body).encode()))

    draw()
    for outcome in ("recorded", "quarantined", "ignored", "refused"):
        assert outcomes.count(outcome) >= 3, outcomes
