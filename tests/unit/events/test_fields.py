"""Single fields mean the same as text in a form and typed in JSON."""

import re
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from handler.events.fields import Number, OrNone, Text, whole_number

NUMBER: TypeAdapter[int] = TypeAdapter(Number)
TEXT: TypeAdapter[str] = TypeAdapter(Text)
NUMBER_IF_FITS: TypeAdapter[int | None] = TypeAdapter(Annotated[Number | None, OrNone])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0", 0),
        ("107", 107),
        ("007", 7),
        (107, 107),
        (0, 0),
        ("9223372036854775807", 2**63 - 1),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_digits_are_a_number(value: object, number: int) -> None:
    """Up to Firestore's largest."""
    assert number == NUMBER.validate_python(value)


@pytest.mark.parametrize(
    "value",
    [
        *("", " 1", "1 ", "+1", "-1", "1.0", "1e3", "1_0", "0x1", "٣", "²", "\udcff"),
        *("9223372036854775808", 2**63, "00000000000000000001", 10**4_000),
        *(True, False, None, 1.0, -1, [], [1], {}, {"0": 1}, b"1"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_anything_else_is_not_a_number(value: object) -> None:
    """Python itself would accept many of these."""
    with pytest.raises(ValidationError):
        NUMBER.validate_python(value)
    assert NUMBER_IF_FITS.validate_python(value) is None


@given(st.integers(0, 2**63 - 1))
def test_a_number_is_the_same_as_text_and_typed(number: int) -> None:
    """Forms and the offline queue agree."""
    assert number == NUMBER.validate_python(number) == NUMBER.validate_python(str(number))
    assert str(number) == TEXT.validate_python(number) == TEXT.validate_python(str(number))


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.binary())
def test_any_value_is_a_number_or_a_value_error(value: object) -> None:
    """For arbitrary input."""
    try:
        number = whole_number(value)
    except ValueError:
        assert not re.fullmatch("[0-9]{1,19}", str(value), re.ASCII) or isinstance(value, bytes)
    else:
        assert int(str(value)) == number


@pytest.mark.parametrize(
    "text", ["a", " ", "\0", "ext/msg 006&b=[1]", "Сообщение №7", "😀", "a" * 1_000]
)
def test_any_characters_are_text(text: str) -> None:
    """External ids are up to the other system."""
    assert text == TEXT.validate_python(text)


@pytest.mark.parametrize(
    "value",
    ["", "a" * 1_001, 10**1_000, True, None, 1.5, [], ["a"], {}],
    ids=lambda value: repr(value)[:24],
)
def test_anything_else_is_not_text(value: object) -> None:
    """Connectors sometimes send an array instead of an id."""
    with pytest.raises(ValidationError):
        TEXT.validate_python(value)


@pytest.mark.parametrize("text", ["\udcff", "a\ud800b"])
def test_lone_surrogates_are_not_text(text: str) -> None:
    """Firestore stores UTF-8 only; its client would raise its own error."""
    with pytest.raises(ValidationError):
        TEXT.validate_python(text)
