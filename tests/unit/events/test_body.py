"""Bodies are forms or JSON, according to the content type, with the same limits."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.answers import Refused
from handler.events.body import decode_body
from tests import samples


def refusal(content_type: str, body: bytes) -> tuple[int, str]:
    """Return the status and the error code for a refused body."""
    with pytest.raises(Refused) as refused:
        decode_body(content_type, body)
    return refused.value.answer.status, refused.value.answer.outcome


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=UTF-8",
        "application/x-www-form-urlencoded;charset=windows-1251",
        " Application/X-WWW-Form-URLencoded ;",
    ],
)
def test_form_is_utf8_regardless_of_parameters(content_type: str) -> None:
    """Bitrix24 writes UTF-8 everywhere."""
    assert {"a": {"b": "é"}} == decode_body(content_type, "a[b]=é".encode())


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON ; charset=latin-1"],
)
def test_json_is_utf8_regardless_of_parameters(content_type: str) -> None:
    """People who test by hand send it."""
    assert {"a": ["é", 1, None]} == decode_body(content_type, '{"a": ["é", 1, null]}'.encode())


@pytest.mark.parametrize(
    ("content_type", "body", "detail"),
    [
        (
            "text/plain",
            b"",
            "Send the event as application/x-www-form-urlencoded or as application/json.",
        ),
        ("application/json", b"{", "The body is not JSON in UTF-8."),
        ("application/json", b"[]", "The body is not a JSON object."),
        ("application/json", b"[" * 100_000, "The body is nested more than 16 levels deep."),
        (
            "application/json",
            b'{"a":' + b"[" * 18 + b"]" * 18 + b"}",
            "The body is nested more than 16 levels deep.",
        ),
        (
            "application/json",
            b'{"a": [' + b"0," * 1_000 + b"0]}",
            "The body has more than 1000 fields.",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(content_type: str, body: bytes, detail: str) -> None:
    """Always in the same words."""
    with pytest.raises(Refused) as refused:
        decode_body(content_type, body)

    assert detail == refused.value.answer.body["detail"] == str(refused.value)


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_sample_in_json_keeps_its_types(name: str) -> None:
    """Lists stay lists."""
    body = json.dumps(samples.typed(name)).encode()
    assert samples.typed(name) == decode_body("application/json", body)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        ";",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "text/json",
        "application/x-www-form-urlencoded, application/json",
    ],
)
def test_any_other_type_is_refused(content_type: str) -> None:
    """The answer names the two that are accepted."""
    assert (415, "unsupported_media_type") == refusal(content_type, b"{}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"a=1",
        b'{"a": 1} x',
        b"{'a': 1}",
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b"[]",
        b'"event"',
        b"null",
        b"1",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=lambda body: repr(body[:16]),
)
def test_anything_but_a_json_object_is_refused(body: bytes) -> None:
    """Including numbers that only Python accepts: stored JSON must be readable anywhere."""
    assert (400, "malformed_body") == refusal("application/json", body)


def test_a_byte_order_mark_is_skipped() -> None:
    """Windows tools put one before their JSON."""
    assert {"a": 1.5} == decode_body("application/json", b'\xef\xbb\xbf{"a": 1.5}')


def test_last_of_equal_names_wins() -> None:
    """As in forms."""
    assert {"a": 2} == decode_body("application/json", b'{"a": 1, "a": 2}')


def test_json_may_have_a_thousand_fields() -> None:
    """An empty array is a field; any other array consists of its fields."""
    for field in ("1", "null", '""', "[]", "{}", "[1]", '{"b": 1}'):
        fields = ",".join([field] * 999)
        decode_body("application/json", f'{{"x": 1, "a": [{fields}]}}'.encode())
        over = refusal("application/json", f'{{"x": 1, "a": [{fields}], "y": {field}}}'.encode())
        assert (400, "malformed_body") == over


@given(st.integers(1, 20), st.booleans())
def test_json_may_be_nested_as_deep_as_forms(levels: int, lists: bool) -> None:  # noqa: FBT001
    """Sixteen levels below a name."""
    start, end = ("[", "]") if lists else ('{"k":', "}")
    nested = f'{{"a": {start * levels}1{end * levels}}}'.encode()
    form = b"a" + b"[k]" * levels + b"=1"
    if levels <= 16:
        decode_body("application/json", nested)
        decode_body("application/x-www-form-urlencoded", form)
    else:
        assert (400, "malformed_body") == refusal("application/json", nested)
        assert (400, "malformed_body") == refusal("application/x-www-form-urlencoded", form)


def test_empty_arrays_cannot_go_deeper_either() -> None:
    """The sixteenth level may be empty; a seventeenth is refused."""
    decode_body("application/json", b'{"a":' + b"[" * 17 + b"]" * 17 + b"}")
    body = b'{"a":' + b"[" * 18 + b"]" * 18 + b"}"
    assert (400, "malformed_body") == refusal("application/json", body)
