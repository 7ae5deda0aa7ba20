"""Faults in an event's data: field and reason, but never the value sent."""

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError


class Fault(NamedTuple):
    """An invalid field, by its path in the event, and the reason."""

    field: str
    reason: str


class InvalidData:
    """The invalid fields of an event's data, and the `reasons`, which name them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        by_field = dict(faults)
        self.fields: list[str] = list(by_field)
        self.reasons: list[str] = [f"{field}: {reason}" for field, reason in by_field.items()]

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def faults_of(error: ValidationError, *place: str) -> list[Fault]:
    """Return the faults that a model found in the part of the data at `place`."""
    return [
        Fault(
            ".".join(map(str, ("data", *place, *fault["loc"]))),
            _reason(fault["type"], fault["msg"]),
        )
        for fault in error.errors()
    ]


def _reason(kind: str, message: str) -> str:
    """Reword pydantic's message for operators."""
    return _PLAIN_REASONS.get(kind) or message.removeprefix("Value error, ")


_PLAIN_REASONS = {
    "missing": "is missing",
    "model_type": "should be an object",
    "string_type": "should be text",
    "string_too_short": "is empty",
}
