"""A message of an open line, for a test to edit and to delete."""

from dataclasses import dataclass
from typing import Literal

from tests.doubles.bitrix24.php import Value


@dataclass(frozen=True)
class Place:
    """Where a message is: the connector, its line and chat, and the chat's number in Bitrix24."""

    connector: str = "myconnector"
    line: int = 107
    chat_id: str = "channel-123"
    im_chat_id: int = 1807
    customer_id: int = 1985

    def connection(self) -> dict[str, Value]:
        """Return `connector` as events have it."""
        return {
            "connector_id": self.connector,
            "line_id": self.line,
            "chat_id": self.chat_id,
            "user_id": self.customer_id,
        }


@dataclass(frozen=True)
class Message:
    """What was said, and by whom: `user_id` is the operator's, or the customer's own.

    `external_ids` are empty for an operator's message whose delivery the connector never confirmed
    (imconnector.send.status.delivery).
    """

    author: Literal["operator", "customer"]
    place: Place
    im_message_id: int
    external_ids: tuple[str, ...]
    user_id: int
    text: str
