"""Requests as Bitrix24 sends them: `<name>.form`, and the same data as `<name>.json`."""

import json
from dataclasses import replace
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


DELETIONS: dict[str, tuple[Deletion, ...]] = {
    "portal-one-message": (PORTAL,),
    "connector-twin": (PORTAL,),
    "portal-two-external-ids": (
        replace(
            PORTAL,
            message_id="wamid.HBgLNDk4OTY1MzQ1MzQVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA==",
            chat_id="491701234567",
            im_message_id=86502,
        ),
        replace(
            PORTAL, message_id="ext/msg 006&b=[1]", chat_id="491701234567", im_message_id=86502
        ),
    ),
    "portal-no-user": (
        replace(
            PORTAL, message_id="Сообщение №7", chat_id="канал-7", im_message_id=86503, user_id=None
        ),
    ),
    "documentation-sample": (
        Deletion(
            origin="portal",
            connector="livechat",
            line_id=128,
            message_id="2056",
            chat_id="1024",
            im_message_id=2056,
            im_chat_id=1024,
        ),
    ),
    "customer": (CUSTOMER,),
    "variant-ids-in-array": (PORTAL, replace(PORTAL, message_id="ext-msg-007")),
    "variant-twin-with-data": (PORTAL,),
    "variant-customer-in-list": (replace(CUSTOMER, message_id="ext-msg-006"),),
    "variant-list-with-gaps": (
        PORTAL,
        replace(PORTAL, message_id="ext-msg-008", im_message_id=86502),
    ),
}
"""The deletions in each sample, complete."""


def form(name: str) -> bytes:
    """Return a request's body, as sent."""
    return (HERE / f"{name}.form").read_bytes().strip()


def typed(name: str) -> dict[str, Any]:
    """Return a request's data with types and lists."""
    return json.loads((HERE / f"{name}.json").read_bytes())  # type: ignore[no-any-return]


def in_portal(*message_ids: object, im_message_id: int = 86501) -> dict[str, Any]:
    """Return the data of a deletion inside Bitrix24: one message with these external ids."""
    im = {"chat_id": 1807, "message_id": im_message_id}
    return {
        "CONNECTOR": "myconnector",
        "LINE": 107,
        "DATA": [
            {"im": im, "message": {"id": message_id}, "chat": {"id": "channel-123"}}
            for message_id in message_ids
        ],
    }
