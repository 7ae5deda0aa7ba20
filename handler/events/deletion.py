"""Parses deletion events into one `Deletion` per deleted message."""

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
    is_by_customer,
    split_by_id,
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
        """Return the record's id: a digest of the identifying fields only.

        The time, the event's name and the handler differ between deliveries. Without them, repeats,
        the twin event and the offline queue share one id.
        """
        identity: tuple[object, ...]
        if self.origin == "portal":
            identity = (member_id, self.im_chat_id, self.im_message_id, self.message_id)
        else:
            identity = (member_id, self.connector, self.line_id, self.chat_id, self.message_id)
        return hashlib.sha256(json.dumps([self.origin, *identity]).encode()).hexdigest()


@dataclass(frozen=True)
class Contents:
    """The parsed data of a deletion event.

    `left_out` lists the connector of each excluded deletion; `invalid` describes the elements that
    could not be parsed.
    """

    deletions: tuple[Deletion, ...] = ()
    left_out: tuple[str, ...] = ()
    invalid: InvalidData | None = None


def parse_deletions(
    name: str, data: object, user_id: int | None, connectors: Collection[str] = ()
) -> Contents:
    """Parse the `data` of a deletion event.

    Elements are parsed independently: an invalid one does not affect the others. `user_id` is
    `auth[user_id]`: who deleted a message inside Bitrix24. `connectors`, in lower case, are those
    to record; empty means all.
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
            (index, one) for index, element in elements.items() for one in split_by_id(element)
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
        messages = split_by_id(element)
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
        """Return whether a connector is excluded, and if so, note it once per message."""
        name = as_text(connector)
        if not self._connectors or not isinstance(name, str) or not name:
            return False
        if name.lower() in self._connectors:
            return False
        self._left_out += [name] * messages
        return True

    def _valid(self, model: type[ModelT], value: object, *place: str) -> ModelT | None:
        """Validate a part of the data; note its faults."""
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self._faults += faults_of(error, *place)
            return None
