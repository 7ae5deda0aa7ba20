"""What happens in a portal's open lines, and in which shapes its events tell.

Shapes are those of the module `imconnector`; where the documentation's pages show others, it says
so. Which deletions make an event at all: none in the website's widget (`livechat`), and of an
operator's messages only those whose delivery was confirmed.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from tests.doubles.bitrix24.deletions import CustomerDeletion, PortalDeletion
from tests.doubles.bitrix24.message import Message, Place

if TYPE_CHECKING:
    from tests.doubles.bitrix24.delivery import Delivery
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.sockets import Sockets

ADD_EVENT = "ONOPENLINEMESSAGEADD"
UPDATE_EVENT = "ONOPENLINEMESSAGEUPDATE"
DELETE_EVENT = "ONOPENLINEMESSAGEDELETE"
CONNECTOR_TWIN = "ONIMCONNECTORMESSAGEDELETE"
WIDGET = "livechat"
"""The portal mirrors the messages of its own widget itself."""

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
        """Let an event happen; see `Portal.fire`."""
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
        if connector == WIDGET:
            return []
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
        """Let the customer delete a message in the external system: shape (b), never the twin.

        `chat`, `message` and `extra` (`ref`, `extra`) add to, or replace, what the connector sends,
        unvalidated, and in its own case (inferred). `user_id` is whose token the connector uses,
        not who deleted.
        """
        if connector == WIDGET:
            raise ValueError("a deletion in the website's widget makes no event")
        message_id = message_id or f"ext-msg-{86500 + next(self._numbers)}"
        content: Value = {
            "connector": Place(connector, line, chat_id, 0, customer_id).connection(),
            "chat": {"id": chat_id, **(chat or {})},
            "message": {"id": message_id, "user_id": customer_id, **(message or {})},
            **(extra or {}),
        }
        self.fire(DELETE_EVENT, {"DATA": content}, user_id, deliver=deliver)
        return CustomerDeletion(self.member_id, connector, line, chat_id, message_id, customer_id)

    def operator_writes(
        self,
        text: str,
        place: Place | None = None,
        *,
        user_id: int = 27,
        external_ids: Sequence[str] | None = None,
        files: "Sequence[Value]" = (),
        in_list: bool = False,
        deliver: bool = True,
    ) -> Message:
        """Let an operator write: ONOPENLINEMESSAGEADD with Bitrix24's own ids, but in the widget.

        No `external_ids` (an empty list): the connector never confirms the delivery. `in_list`: as
        the documentation's page shows it.
        """
        place = place or Place()
        number = 86500 + next(self._numbers)
        ids = (f"ext-msg-{number}",) if external_ids is None else tuple(external_ids)
        content: Value = {
            "connector": place.connection(),
            "message": {
                "id": number,
                "chat_id": place.im_chat_id,
                "user_id": user_id,
                "text": text,
                "files": files,
                "attachments": [],
                "params": [],
                "system": "N",
            },
            "no_session": "N",
        }
        if place.connector != WIDGET:
            self._tell(ADD_EVENT, content, place, user_id, in_list=in_list, deliver=deliver)
        return Message("operator", place, number, ids, user_id, text)

    def customer_writes(
        self,
        text: str,
        place: Place | None = None,
        *,
        message_id: str = "",
        date: int | None = None,
        files: "Sequence[Value]" = (),
        in_list: bool = False,
        deliver: bool = True,
    ) -> Message:
        """Let a customer write: ONOPENLINEMESSAGEADD with external ids and none of Bitrix24's.

        `in_list`: as the documentation's page shows it.
        """
        place = place or Place()
        number = 86500 + next(self._numbers)
        message_id = message_id or f"ext-msg-{number}"
        message = Message("customer", place, number, (message_id,), place.customer_id, text)
        content = _customers(message, date, files)
        self._tell(ADD_EVENT, content, None, 27, in_list=in_list, deliver=deliver)
        return message

    def edit(
        self,
        message: Message,
        text: str,
        *,
        message_id: str = "",
        as_documented: bool = False,
        deliver: bool = True,
    ) -> Message:
        """Let its author edit a message: ONOPENLINEMESSAGEUPDATE.

        An operator's has its external ids in an array, and the new text; a customer's looks as
        when it was added, perhaps under another `message_id`. `as_documented`: as the page shows
        it, a list without any text.
        """
        if message_id:
            message = replace(message, external_ids=(message_id,))
        edited = replace(message, text=text)
        place = message.place
        if message.author == "customer":
            content = _customers(edited, None, ())
            self._tell(UPDATE_EVENT, content, None, 27, in_list=as_documented, deliver=deliver)
        elif message.external_ids and place.connector != WIDGET:
            ids: list[Value] = list(message.external_ids)
            content = {
                "im": {"chat_id": place.im_chat_id, "message_id": message.im_message_id},
                "message": {"id": ids[0]} if as_documented else {"id": ids, "text": text},
                "chat": {"id": place.chat_id},
            }
            self._tell(
                UPDATE_EVENT,
                content,
                place,
                message.user_id,
                in_list=as_documented,
                deliver=deliver,
            )
        return edited

    def delete(
        self, message: Message, *, user_id: int | None = 27, deliver: bool = True
    ) -> list[PortalDeletion]:
        """Delete anyone's message inside Bitrix24; what was never confirmed goes in silence."""
        if not message.external_ids:
            return []
        place = message.place
        return self.delete_message(
            *message.external_ids,
            connector=place.connector,
            line=place.line,
            chat_id=place.chat_id,
            im_chat_id=place.im_chat_id,
            im_message_id=message.im_message_id,
            user_id=user_id,
            deliver=deliver,
        )

    def take_back(self, message: Message, *, deliver: bool = True) -> CustomerDeletion:
        """Let the customer delete a message of their own."""
        place = message.place
        return self.customer_deletes(
            message.external_ids[0],
            connector=place.connector,
            line=place.line,
            chat_id=place.chat_id,
            customer_id=place.customer_id,
            deliver=deliver,
        )

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

    def _tell(
        self,
        event: str,
        content: "Value",
        place: Place | None,
        user_id: int,
        *,
        in_list: bool,
        deliver: bool,
    ) -> None:
        """Fire an event about a message; `place` for what happens inside Bitrix24."""
        data: dict[str, Value] = {"DATA": [content] if in_list else content}
        if place:
            data = {"CONNECTOR": place.connector.lower(), "LINE": place.line, **data}
        self.fire(event, data, user_id, deliver=deliver)


def _customers(message: Message, date: int | None, files: "Sequence[Value]") -> "Value":
    place = message.place
    return {
        "connector": place.connection(),
        "chat": {"id": place.chat_id},
        "message": {
            "id": message.external_ids[0],
            "user_id": place.customer_id,
            "text": message.text,
            "date": date,
            "files": files,
        },
        "extra": {"EXTRA_URL": ""},
    }
