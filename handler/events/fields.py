"""Field types as Bitrix24 sends them: text in forms, typed in JSON."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

MAX_INTEGER = 2**63 - 1  # Firestore's
_MAX_DIGITS = len(str(MAX_INTEGER))
_LAST_TIMESTAMP = 253_402_300_799  # Unix seconds of 9999-12-31T23:59:59Z, Firestore's last

_PHP_INDEX = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)

# The documentation allows external ids of up to 100 characters. Anything longer than this is not an
# id, and would make its dead letter too long for a line of the log.
_MAX_TEXT = 1_000


class Model(BaseModel):
    """The base of all models: frozen, and its errors omit the input, which may hold tokens."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


def whole_number(value: object) -> int:
    """Parse digits as a number, but not `true`, `1.0` or ` 1_0`. Raises `ValueError`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    if type(value) is int and value >= 0:
        return value
    raise ValueError("should be a whole number")


def _time(value: object) -> datetime:
    seconds = whole_number(value)
    if seconds > _LAST_TIMESTAMP:
        raise ValueError  # without a reason: all times are optional
    return datetime.fromtimestamp(seconds, UTC)


def as_text(value: object) -> object:
    """Convert a whole number to text, as it would be in a form."""
    return str(value) if type(value) is int else value


def php_list(value: object) -> Mapping[str, object] | None:
    """Return a list's elements by index, in order; `None` if it is not a list.

    A form has no lists, only indexes; in PHP they may start anywhere and have gaps (`unset`).
    """
    if isinstance(value, list):
        return {str(index): element for index, element in enumerate(value)}
    if isinstance(value, Mapping) and all(map(_PHP_INDEX.fullmatch, value)):
        return {index: value[index] for index in sorted(value, key=int)}
    return None


def _none_if_invalid(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401
    try:
        return validate(value)
    except ValueError:
        return None


Number = Annotated[int, BeforeValidator(whole_number), Field(le=MAX_INTEGER)]

# Unix seconds.
UnixTime = Annotated[datetime, BeforeValidator(_time)]

# The length limits also make pydantic reject lone surrogates, but only next to `str`: after a
# validator, it would check nothing but the length.
Text = Annotated[str, Field(min_length=1, max_length=_MAX_TEXT), BeforeValidator(as_text)]

# Optional field: an invalid value becomes `None`.
OrNone = WrapValidator(_none_if_invalid)


def _user_id(value: object) -> int | None:
    return whole_number(value) or None


# Who caused an event. Without a user, the field is absent, or 0 in the offline queue.
UserId = Annotated[Annotated[int, Field(le=MAX_INTEGER)] | None, BeforeValidator(_user_id), OrNone]
