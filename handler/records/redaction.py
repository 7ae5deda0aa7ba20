"""Redacts message texts and credentials in an event's data before it is stored or logged."""

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "(redacted)"

# What Bitrix24 calls texts, files (anyone with a link could open them) and credentials.
_SECRET: Final = re.compile(
    r".*(token|secret|password).*|auth(_id)?|refresh_id|(message_?)?text|body|files?|attach(ments)?",
    re.IGNORECASE | re.DOTALL,
)

# Its value is an object, an id or a text.
_MESSAGE: Final = "message"

_MAX_LEVELS = 100  # far more than a deletion has, and fewer than Python can recurse


def redacted(data: object, name: str = "", *, levels: int = _MAX_LEVELS) -> object:
    """Return a copy of data without texts and credentials; `name` is the data's own field name.

    The copy has the same shape, so it is parsed to the same deletions and faults, and has the same
    digest whether the event came in a form or from the offline queue.
    """
    if isinstance(data, list):
        data = {str(index): element for index, element in enumerate(data)}
        copy = redacted(data, name, levels=levels)
        return list(copy.values()) if isinstance(copy, dict) else copy
    if isinstance(data, Mapping):
        if not levels:
            return REDACTED
        return {
            key: redacted(
                value, name if key.isdigit() or _SECRET.fullmatch(name) else key, levels=levels - 1
            )
            for key, value in data.items()
        }
    return REDACTED if _hides(name, data) else data


def _hides(name: str, value: object) -> bool:
    if value is None:
        return False
    if name.lower() == _MESSAGE:
        text = str(int(value) if isinstance(value, bool) else value)
        return not (text.isascii() and text.isdigit())
    return bool(_SECRET.fullmatch(name))
