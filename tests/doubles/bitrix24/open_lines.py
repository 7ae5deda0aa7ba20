"""Deletions in a portal's open lines, and the shapes of their events.

Shapes are those of the module `imconnector`.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from tests.doubles.bitrix24.deletions import CustomerDeletion, PortalDeletion

if TYPE_CHECKING:
    from tests.doubles.bitrix24.delivery import Delivery
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.sockets import Sockets

DELETE_EVENT = "ONOPENLINEMESSAGEDELETE"
CONNECTOR_TWIN = "ONIMCONNECTORMESSAGEDELETE"

_SENDERS = 8
"""How many events the queue server posts at once in a storm; inferred."""


class _Hub(Protocol):
    sockets: "Sockets"


class OpenLines:
    """The open lines of one portal."""

    bitrix: _Hub
    member_id: str

    def __init__(self) -> None:
        self._numbers = count(1)

    def fire(
        self,
        event: str,
        data: "Value",
        user_id: int | None = 27,
        *,
        deliver: bool = True,
        connector: str | None = None,
    ) -> "list[Delivery]":
        """Trigger an event; see `Portal.fire`."""
        raise NotImplementedError

    def delete_message(
        self,
        *external_ids: str,
        connector: str = "myconnector",
        line: int = 107,
        chat_id: str = "channel-123",
        im_chat_id: int = 1807,
        im_message_id: int | None = None,
        user_id: int | None = 27,
        deliver: bool = True,
    ) -> list[PortalDeletion]:
        """Delete a message inside Bitrix24: shape (a), one element per external id.

        `user_id` None: a bot or a robot did it. The connector's id is in lower case, since it was
        registered so.
        """
        connector = connector.lower()
        im_message_id = im_message_id or 86500 + next(self._numbers)
        external_ids = external_ids or (f"ext-msg-{im_message_id}",)
        elements: list[Value] = [
            {
                "im": {"chat_id": im_chat_id, "message_id": im_message_id},
                "message": {"id": external_id},
                "chat": {"id": chat_id},
            }
            for external_id in external_ids
        ]
        about: dict[str, Value] = {"CONNECTOR": connector, "LINE": line}
        self.fire(DELETE_EVENT, {**about, "DATA": elements}, user_id, deliver=deliver)
        twin: dict[str, Value] = {**about, "MESSAGES": elements}
        self.fire(CONNECTOR_TWIN, twin, user_id, deliver=deliver, connector=connector)
        return [
            PortalDeletion(
                *(self.member_id, im_chat_id, im_message_id, external_id),
                *(connector, line, chat_id, user_id),
            )
            for external_id in external_ids
        ]

    def customer_deletes(
        self,
        message_id: str = "",
        *,
        connector: str = "myconnector",
        line: int = 107,
        chat_id: str = "channel-123",
        customer_id: int = 1985,
        user_id: int | None = 27,
        chat: "Mapping[str, Value] | None" = None,
        message: "Mapping[str, Value] | None" = None,
        extra: "Mapping[str, Value] | None" = None,
        deliver: bool = True,
    ) -> CustomerDeletion:
        """Delete a message as the customer, in the external system: shape (b), never the twin.

        `chat`, `message` and `extra` (`ref`, `extra`) add to, or replace, what the connector sends,
        unvalidated, and in its own case (inferred). `user_id` is whose token the connector uses,
        not who deleted.
        """
        message_id = message_id or f"ext-msg-{86500 + next(self._numbers)}"
        content: Value = {
            "connector": {
                "connector_id": connector,
                "line_id": line,
                "chat_id": chat_id,
                "user_id": customer_id,
            },
            "chat": {"id": chat_id, **(chat or {})},
            "message": {"id": message_id, "user_id": customer_id, **(message or {})},
            **(extra or {}),
        }
        self.fire(DELETE_EVENT, {"DATA": content}, user_id, deliver=deliver)
        return CustomerDeletion(self.member_id, connector, line, chat_id, message_id, customer_id)

    def storm(self, deletions: int, per_second: float) -> list[PortalDeletion]:
        """Delete messages at a steady pace, several events under way at once; wait for the last."""
        started = monotonic()
        with ThreadPoolExecutor(_SENDERS) as senders:
            under_way = []
            for number in range(deletions):
                wait = started + number / per_second - monotonic()
                if wait > 0 and self.bitrix.sockets.closing.wait(wait):
                    break
                under_way.append(senders.submit(self.delete_message))
            return [one for sent in under_way for one in sent.result()]
