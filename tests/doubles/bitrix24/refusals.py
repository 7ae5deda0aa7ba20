"""Bitrix24's temporary refusals, for `Bitrix24.fault`."""

from typing import Final

from tests.doubles.bitrix24.faults import Refusal

BINDING_BUSY: Final = Refusal(
    400,
    "ERROR_CORE",
    "Unable to set event handler: Process of binding the handler has already started",
)
"""event.bind while another bind of the same handler is under way."""

OPERATION_TIME_LIMIT: Final = Refusal(
    429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."
)
"""This method has used up its time, for minutes."""

QUERY_LIMIT_EXCEEDED: Final = Refusal(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
"""Slow down."""

WRONG_CLIENT: Final = Refusal(200, "WRONG_CLIENT", "Wrong client")
"""An error whose status says success."""
