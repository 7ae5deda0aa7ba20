"""The event used for measuring: one message deleted by an operator."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

MEMBER_ID: Final = "bac1cd5c8940947a75e0d71b1a84e348"
TOKEN: Final = "831c76b092f9f135d9b6b36c3a720757"  # noqa: S105 - nobody's
FORM: Final = "application/x-www-form-urlencoded"


def body(message_id: object = "ext-msg-005") -> bytes:
    """Return a body as Bitrix24 writes it, of typical length."""
    fields = {
        "event": "ONOPENLINEMESSAGEDELETE",
        "event_handler_id": "559",
        "data[CONNECTOR]": "myconnector",
        "data[LINE]": "107",
        "data[DATA][0][im][chat_id]": "1807",
        "data[DATA][0][im][message_id]": "86501",
        "data[DATA][0][message][id]": message_id,
        "data[DATA][0][chat][id]": "channel-123",
        "ts": "1773760577",
        "auth[access_token]": "5b00844001b0007cd181977d455de630432",
        "auth[expires]": "1773764178",
        "auth[expires_in]": "3600",
        "auth[scope]": "imopenlines",
        "auth[domain]": "some-domain.bitrix24.com",
        "auth[server_endpoint]": "https://oauth.bitrix.info/rest/",
        "auth[status]": "L",
        "auth[client_endpoint]": "https://some-domain.bitrix24.com/rest/",
        "auth[member_id]": MEMBER_ID,
        "auth[user_id]": "27",
        "auth[application_token]": TOKEN,
    }
    return urlencode(fields).encode()


def portal() -> Mapping[str, str | bool | Sequence[str]]:
    """Return the portal's document for the function and the reference."""
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    return {"active": True, "token_digests": [digest], "token": TOKEN}
