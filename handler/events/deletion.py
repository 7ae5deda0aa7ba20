"""What a deletion event says: one `Deletion` for each message that was deleted."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import ValidationError

from handler.events import names
from handler.events.deletion_shapes import (
    CustomerMessage,
    Line,
    PortalMessage,
    for_each_id,
    is_by_customer,
)
from handler.events.fields import Model, Number, Text, as_text, php_list
from handler.events.invalid_data import Fault, InvalidData, faults_of

ModelT = TypeVar("ModelT", bound=Model)


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


@dataclass(frozen=True)
class Contents:
    """What a deletion event says.

    `left_out` has the connector of each deletion that is not wanted; `invalid` says what is wrong
    with the elements that are not among the `deletions`.
    """

    deletions: tuple[Deletion, ...] = ()
    left_out: tuple[str, ...] = ()
    invalid: InvalidData | None = None


def parse_deletions(
    name: str, data: object, user_id: int | None, connectors: Collection[str] = ()
) -> Contents:
    """Read the deletions out of the `data` of a deletion event, in its order.

    Each is read on its own: a fault in one keeps no other from being recorded. `user_id` is
    `auth[user_id]`: who deleted, where that was inside Bitrix24. `connectors`, in lower case, are
    those that are wanted; all, if there are none.
    """
    data = data if isinstance(data, Mapping) else {}
    reader = _Reader(data, user_id, connectors)
    if name == names.DELETION_TWIN:
        key = "DATA" if "DATA" in data and "MESSAGES" not in data else "MESSAGES"
        reader.in_portal(key, php_list(data.get(key)) or {})
        return reader.contents()
    messages = data.get("DATA")
    if is_by_customer(messages):
        reader.by_customer(messages, "DATA")
        return reader.contents()
    elements = php_list(messages) or {}
    in_portal = {}
    for index, element in elements.items():
        if is_by_customer(element):
            reader.by_customer(element, "DATA", index)
        else:
            in_portal[index] = element
    if in_portal or not elements:
        reader.in_portal("DATA", in_portal)
    return reader.contents()


class _Reader:
    def __init__(
        self, data: Mapping[str, object], user_id: int | None, connectors: Collection[str]
    ) -> None:
        self._data = data
        self._user_id = user_id
        self._connectors = connectors
        self._deletions: list[Deletion] = []
        self._left_out: list[str] = []
        self._faults: list[Fault] = []

    def contents(self) -> Contents:
        invalid = InvalidData(self._faults) if self._faults else None
        return Contents(tuple(self._deletions), tuple(self._left_out), invalid)

    def in_portal(self, key: str, elements: Mapping[str, object]) -> None:
        messages = [
            (index, one) for index, element in elements.items() for one in for_each_id(element)
        ]
        if self._leaves_out(self._data.get("CONNECTOR"), max(1, len(messages))):
            return
        line = self._valid(Line, self._data)
        if not messages:
            self._faults.append(Fault(f"data.{key}", "should be a list of one element or more"))
        for index, one in messages:
            message = self._valid(PortalMessage, one, key, index)
            if message and line:
                self._deletions.append(
                    Deletion(
                        origin="portal",
                        connector=line.connector,
                        line_id=line.line,
                        message_id=message.message.id,
                        chat_id=message.chat.id,
                        im_message_id=message.im.message_id,
                        im_chat_id=message.im.chat_id,
                        user_id=self._user_id,
                    )
                )

    def by_customer(self, element: Mapping[str, object], *place: str) -> None:
        messages = for_each_id(element)
        connector = element["connector"]
        name = connector.get("connector_id") if isinstance(connector, Mapping) else None
        if self._leaves_out(name, len(messages)):
            return
        for one in messages:
            message = self._valid(CustomerMessage, one, *place)
            if message:
                self._deletions.append(
                    Deletion(
                        origin="customer",
                        connector=message.connector.connector_id,
                        line_id=message.connector.line_id,
                        message_id=message.message.id,
                        chat_id=message.chat.id,
                        user_id=message.connector.user_id,
                    )
                )

    def _leaves_out(self, connector: object, messages: int) -> bool:
        """Tell whether a connector, if it can be read, is not wanted; note it for each message."""
        name = as_text(connector)
        if not self._connectors or not isinstance(name, str) or not name:
            return False
        if name.lower() in self._connectors:
            return False
        self._left_out += [name] * messages
        return True

    def _valid(self, model: type[ModelT], value: object, *place: str) -> ModelT | None:
        """Validate a part of the data; note what is wrong with it, and where."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self._faults += faults_of(error, *place)
            return None
