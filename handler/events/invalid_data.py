"""What is wrong with an event's data: by place and reason, without a value of the sender's."""

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError


class Fault(NamedTuple):
    """A field that is not valid, by its place in the event, and why."""

    field: str
    reason: str


class InvalidData(Exception):  # noqa: N818 - the data is at fault, nothing went wrong here
    """Data that is not valid for its event: `fields` at fault, and `reasons` that name them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        by_field = {fault.field: fault.reason for fault in faults}
        self.fields: list[str] = list(by_field)
        self.reasons: list[str] = [f"{field}: {reason}" for field, reason in by_field.items()]
        super().__init__("; ".join(self.reasons))


def faults_of(error: ValidationError, *place: str) -> list[Fault]:
    """Return what a model says of a part of the data, the part being at `place` within it."""
    return [
        Fault(
            ".".join(map(str, ("data", *place, *fault["loc"]))),
            _reason(fault["type"], fault["msg"]),
        )
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _reason(kind: str, message: str) -> str:
    """Say in a person's words what pydantic says in Python's."""
    return _IN_WORDS.get(kind) or message.removeprefix("Value error, ")


_IN_WORDS = {
    "missing": "is missing",
    "model_type": "should be an object",
    "string_type": "should be text",
    "string_too_short": "is empty",
}
