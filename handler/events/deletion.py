"""What a deletion event says: one `Deletion` for each message that was deleted.

ONOPENLINEMESSAGEDELETE has two shapes. Inside Bitrix24 (by an operator, an administrator or a
bot), `DATA` is a list with one element per external message id; the documentation's page shows
one element and types external ids as integers, but they are any text. By the customer, `DATA`
is one object, without CONNECTOR, LINE and Bitrix24's own numbers. ONIMCONNECTORMESSAGEDELETE,
for the connector's own application, is the first shape with `MESSAGES` for `DATA`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from handler.events import names
from handler.events.fields import Model, Number, Text, UserId


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One deleted message. `message_id` and `chat_id` are the external system's."""

    origin: Literal["portal", "customer"]
    connector: Text
    line_id: Number
    message_id: Text
    chat_id: Text
    im_message_id: Number | None = None
    im_chat_id: Number | None = None
    user_id: Number | None = None

    def id(self, member_id: str) -> str:
        """Digest what identifies the deletion, and nothing else.

        The time, the event's name and the handler differ from delivery to delivery, so that
        repeats, the twin event and the offline queue share this id.
        """
        identity: tuple[object, ...]
        if self.origin == "portal":
            identity = (member_id, self.im_chat_id, self.im_message_id, self.message_id)
        else:
            identity = (member_id, self.connector, self.line_id, self.chat_id, self.message_id)
        return hashlib.sha256(json.dumps([self.origin, *identity]).encode()).hexdigest()


class InvalidData(Exception):  # noqa: N818 - the data is at fault, nothing went wrong here
    """The data does not fit its event; `fields` names those at fault, `reasons` says why."""

    def __init__(self, faults: ValidationError) -> None:
        self.fields: list[str] = []
        self.reasons: list[str] = []
        for fault in faults.errors():
            field = ".".join(map(str, ("data", *fault["loc"])))
            self.fields.append(field)
            self.reasons.append(f"{field}: {_reason(fault['type'], fault['msg'])}")
        super().__init__("; ".join(self.reasons))


def _reason(kind: str, message: str) -> str:
    """Say in a person's words what pydantic says in Python's."""
    return "should be an object" if kind == "model_type" else message.removeprefix("Value error, ")


def parse_deletions(name: str, data: object, user_id: int | None) -> tuple[Deletion, ...]:
    """Read the deletions out of the `data` of a deletion event, in its order.

    `user_id` is `auth[user_id]`: who deleted, where that was inside Bitrix24.

    Raises `InvalidData` with every fault at once.
    """
    data = data if isinstance(data, Mapping) else {}
    try:
        if name == names.DELETION_TWIN:
            return _Twin.model_validate(data).deletions(user_id)
        if _is_by_customer(data.get("DATA")):
            return (_ByCustomer.model_validate(data).deletion(),)
        return _InPortal.model_validate(data).deletions(user_id)
    except ValidationError as faults:
        raise InvalidData(faults) from None


def _is_by_customer(messages: object) -> bool:
    return isinstance(messages, Mapping) and "connector" in messages


def _php_list(value: object) -> object:
    """Make a list of what is one in PHP: forms know no lists, only the keys 0 to n-1."""
    if isinstance(value, Mapping):
        indexes = [str(index) for index in range(len(value))]
        if value.keys() == set(indexes):
            return [value[index] for index in indexes]
    if isinstance(value, list):
        return value
    raise ValueError("should be a list")


class _External(Model):
    id: Text


class _Im(Model):
    chat_id: Number
    message_id: Number


class _Message(Model):
    im: _Im
    message: _External
    chat: _External


_Messages = Annotated[tuple[_Message, ...], BeforeValidator(_php_list), Field(min_length=1)]


class _InPortal(Model):
    connector: Text = Field(alias="CONNECTOR")
    line: Number = Field(alias="LINE")
    messages: _Messages = Field(alias="DATA")

    def deletions(self, user_id: int | None) -> tuple[Deletion, ...]:
        return tuple(
            Deletion(
                origin="portal",
                connector=self.connector,
                line_id=self.line,
                message_id=message.message.id,
                chat_id=message.chat.id,
                im_message_id=message.im.message_id,
                im_chat_id=message.im.chat_id,
                user_id=user_id,
            )
            for message in self.messages
        )


class _Twin(_InPortal):
    messages: _Messages = Field(alias="MESSAGES")


class _Connector(Model):
    connector_id: Text
    line_id: Number
    user_id: UserId = None


class _CustomerMessage(Model):
    connector: _Connector
    message: _External
    chat: _External


class _ByCustomer(Model):
    message: _CustomerMessage = Field(alias="DATA")

    def deletion(self) -> Deletion:
        connector = self.message.connector
        return Deletion(
            origin="customer",
            connector=connector.connector_id,
            line_id=connector.line_id,
            message_id=self.message.message.id,
            chat_id=self.message.chat.id,
            user_id=connector.user_id,
        )
