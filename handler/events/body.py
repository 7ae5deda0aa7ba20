"""Decodes a request's body: a form as PHP writes it, or JSON."""

import json
import math
from collections.abc import Collection, Mapping

from handler.answers import Refused, malformed_body
from handler.events.php_form import MAX_FIELDS, MAX_NESTING, parse_php_form

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def decode_body(content_type: str, body: bytes) -> Mapping[str, object]:
    """Decode a body by its `Content-Type`, ignoring the parameters: Bitrix24 writes UTF-8.

    Raises `Refused`: 415 for any other type, 400 for a body that cannot be decoded.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == FORM:
        return parse_php_form(body)
    if media_type == JSON:
        return _parse_json(body)
    raise Refused(415, "unsupported_media_type", f"Send the event as {FORM} or as {JSON}.")


def _parse_json(body: bytes) -> Mapping[str, object]:
    try:
        decoded = json.loads(body.decode("utf-8-sig"), parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # not UTF-8, not JSON, or a number that Python or IEEE 754 cannot hold
        raise malformed_body("The body is not JSON in UTF-8.") from None
    if not isinstance(decoded, dict):
        raise malformed_body("The body is not a JSON object.")
    _check_limits(decoded)
    return decoded


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError
    return value


def _check_limits(tree: Mapping[str, object]) -> None:
    """Apply the limits of forms to JSON, where a field is a value without children."""
    fields = 0
    level: list[object] = list(tree.values())
    for _ in range(MAX_NESTING + 1):
        below: list[object] = []
        for value in level:
            inner = _inner(value)
            fields += not inner
            below.extend(inner)
        if fields > MAX_FIELDS:
            raise malformed_body(f"The body has more than {MAX_FIELDS} fields.")
        level = below
    if level:
        raise _too_deep()


def _inner(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> Refused:
    return malformed_body(f"The body is nested more than {MAX_NESTING} levels deep.")
