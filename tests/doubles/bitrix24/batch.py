"""`batch`: up to 50 calls in one request (page how-to-call-rest-api/batch, class CRestProvider)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.php import as_php_array, parse_str
from tests.doubles.bitrix24.request import Answer, Request
from tests.doubles.bitrix24.timing import timing

if TYPE_CHECKING:
    from tests.doubles.bitrix24.php import Value

LONGEST = 50
"""CRestUtil::BATCH_MAX_LENGTH."""


def run(request: Request, carry_out: "Callable[[str, Mapping[str, Value]], Answer]") -> Answer:
    """Carry out `cmd`, a list or a map of `method?query`, one after the other.

    Each has its result or its error under its key; `halt` and references to earlier results
    (`$result[key]`) are not supported.
    """
    commands = request.params.get("CMD")
    if isinstance(commands, Mapping):
        given = list(commands.items())
    else:
        given = (
            [(str(n), one) for n, one in enumerate(commands)] if isinstance(commands, list) else []
        )
    parts: dict[str, dict[str, Value]] = {
        name: {} for name in ("result", "result_error", "result_total", "result_next")
    }
    afterwards: list[Callable[[], object]] = []
    for number, (key, command) in enumerate(given):
        if not isinstance(command, str):
            continue
        try:
            answer = _one(number, command, carry_out)
        except RestError as error:
            parts["result_error"][key] = {
                "error": error.error,
                "error_description": error.description,
            }
            continue
        parts["result"][key] = answer.result
        for name in ("total", "next"):
            if name in answer.paging:
                parts[f"result_{name}"][key] = answer.paging[name]
        if answer.afterwards:
            afterwards.append(answer.afterwards)
    result = {name: as_php_array(part) for name, part in parts.items()}
    now = request.portal.bitrix.clock()
    times: dict[str, Value] = {key: timing(now, now) for key in parts["result"]}
    return Answer(
        {**result, "result_time": as_php_array(times)},
        afterwards=lambda: [send() for send in afterwards],
    )


def _one(
    number: int, command: str, carry_out: "Callable[[str, Mapping[str, Value]], Answer]"
) -> Answer:
    if number >= LONGEST:
        raise RestError(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
    method, _, query = command.partition("?")
    return carry_out(method.lower(), parse_str(query))
