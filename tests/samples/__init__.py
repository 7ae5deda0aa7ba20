"""Requests as Bitrix24 sends them: `<name>.form`, and the same data as `<name>.json`."""

import json
from pathlib import Path
from typing import Any

from handler.events.deletion import Deletion

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.form"))
EVENTS = [name for name in NAMES if name != "page-open"]
"""All but what a Bitrix24 page posts, which is not an event."""

PORTAL = Deletion(
    origin="portal",
    connector="myconnector",
    line_id=107,
    message_id="ext-msg-005",
    chat_id="channel-123",
    im_message_id=86501,
    im_chat_id=1807,
    user_id=27,
)
"""The deletion in `portal-one-message` and its twin."""

CUSTOMER = Deletion(
    origin="customer",
    connector="myconnector",
    line_id=107,
    message_id="ext-msg-007",
    chat_id="channel-123",
    user_id=1985,
)
"""The deletion in `customer`."""


def form(name: str) -> bytes:
    """Return a request's body, as sent."""
    return (HERE / f"{name}.form").read_bytes().strip()


def typed(name: str) -> dict[str, Any]:
    """Return a request's data with types and lists."""
    return json.loads((HERE / f"{name}.json").read_bytes())  # type: ignore[no-any-return]
