"""Parses ONOPENLINEMESSAGEADD and ONOPENLINEMESSAGEUPDATE into messages.

An operator's message comes with CONNECTOR, LINE and Bitrix24's own number: `message.id` when it is
added, `im.message_id` when it is changed (`message.id` is then a list of external ids). A
customer's comes with the connector's ids only, under `connector`, `chat` and `message`. Bitrix24's
source sends one object as `DATA`, its documentation shows a list; both are accepted.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError

from handler.events import names
from handler.events.deletion_shapes import Connector, External, Line
from handler.events.fields import (
    Model,
    Number,
    OrNone,
    Text,
    UnixTime,
    UserId,
    as_text,
    php_list,
)
from handler.events.invalid_data import Fault, InvalidData, faults_of

MAX_TEXT: Final = 20_000  # characters of a message's text; the rest is cut

# Limits for the names of a message's files. File systems allow names of 255 bytes.
_MAX_FILES = 100
_MAX_FILE_NAME = 255

_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message, as one event describes it; absent fields are `None`.

    An operator's message is identified by `im_message_id`, Bitrix24's number; a customer's by
    its connector, line, `chat_id` and `message_id`, the external system's. `text` is BB code,
    `files` are names.
    """

    author: Literal["operator", "customer"]
    connector: str
    line_id: int
    im_message_id: int | None = None
    chat_id: str | None = None
    message_id: str | None = None
    author_id: int | None = None
    text: str | None = None
    text_cut: bool = False
    sent_at: datetime | None = None
    files: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MessageContents:
    """The parsed data of an event.

    `left_out` lists excluded connectors, `faults` the names of invalid fields.
    """

    messages: Sequence[Message]
    left_out: Sequence[str]
    faults: Sequence[str]


def parse_messages(name: str, data: object, connectors: Collection[str] = ()) -> MessageContents:
    """Parse the `data` of an event with this name; elements are parsed independently.

    `connectors`, in lower case, are those to keep; empty means all.
    """
    data = data if isinstance(data, Mapping) else {}
    model: type[_AddedByOperator | _ChangedByOperator | _ByCustomer] = _ByCustomer
    if "CONNECTOR" in data:
        model = _AddedByOperator if name == names.MESSAGE_ADD else _ChangedByOperator
    messages: list[Message] = []
    left_out: list[str] = []
    faults: list[Fault] = []
    elements = php_list(data.get("DATA"))
    for index, element in elements.items() if elements else [("", data.get("DATA"))]:
        one = {**data, "DATA": element}
        connector = _connector_of(one)
        if connector and connectors and connector.lower() not in connectors:
            left_out.append(connector)
            continue
        try:
            messages += model.model_validate(one).messages()
        except ValidationError as error:
            element_place = f"data.DATA.{index}" if index else "data.DATA"
            faults += [
                fault._replace(field=fault.field.replace("data.DATA", element_place))
                for fault in faults_of(error)
            ]
    return MessageContents(messages, left_out, InvalidData(faults).fields)


def _connector_of(one: Mapping[str, Any]) -> str | None:
    """Return the connector of an element, which may be invalid; `None` if it cannot be read."""
    try:
        in_portal = "CONNECTOR" in one
        name = as_text(one["CONNECTOR"] if in_portal else one["DATA"]["connector"]["connector_id"])
    except (KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _unicode(text: str) -> str:
    """Replace lone surrogates (half an emoji), which no store accepts; the rest stays readable."""
    return _SURROGATES.sub("\ufffd", text)


def _text(value: object) -> object:
    value = as_text(value)
    return _unicode(value) if isinstance(value, str) else value


def _file_names(value: object) -> object:
    """Return the names only: a file's links work for anyone who has them."""
    files = php_list(value)
    if files is None:
        return None
    found = [file.get("name") for file in files.values() if isinstance(file, Mapping)]
    texts = [_unicode(name) for name in found if isinstance(name, str) and name]
    return [name[:_MAX_FILE_NAME] for name in texts[:_MAX_FILES]]


def _ids(value: object) -> object:
    """Return a list of ids; a single id may come without a list."""
    ids = php_list(value)
    return [value] if ids is None else list(ids.values())


class _Content(Model):
    text: Annotated[str | None, BeforeValidator(_text)] = None
    date: Annotated[UnixTime | None, OrNone] = None
    files: Annotated[tuple[str, ...] | None, BeforeValidator(_file_names)] = None
    user_id: UserId = None

    def message(self, **about: Any) -> Message:  # noqa: ANN401 - fields of a Message
        return Message(
            text=self.text and self.text[:MAX_TEXT],
            text_cut=len(self.text or "") > MAX_TEXT,
            sent_at=self.date,
            files=self.files,
            **about,
        )


# Bitrix24's numbers start at 1; a 0 would join unrelated messages.
_MessageNumber = Annotated[Number, Field(gt=0)]


class _Added(_Content):
    id: _MessageNumber


class _Addition(Model):
    message: _Added


class _Im(Model):
    message_id: _MessageNumber


class _Change(Model):
    im: _Im
    message: _Content = _Content()


class _ByOperator(Line):
    def message(self, number: int, content: _Content) -> Message:
        return content.message(
            author="operator",
            connector=self.connector,
            line_id=self.line,
            im_message_id=number,
            author_id=content.user_id,
        )


class _AddedByOperator(_ByOperator):
    data: _Addition = Field(alias="DATA")

    def messages(self) -> list[Message]:
        return [self.message(self.data.message.id, self.data.message)]


class _ChangedByOperator(_ByOperator):
    data: _Change = Field(alias="DATA")

    def messages(self) -> list[Message]:
        return [self.message(self.data.im.message_id, self.data.message)]


class _FromCustomer(_Content):
    id: Annotated[tuple[Text, ...], BeforeValidator(_ids), Field(min_length=1)]


class _CustomerMessage(Model):
    connector: Connector
    chat: External
    message: _FromCustomer


class _ByCustomer(Model):
    data: _CustomerMessage = Field(alias="DATA")

    def messages(self) -> list[Message]:
        connector = self.data.connector
        return [
            self.data.message.message(
                author="customer",
                connector=connector.connector_id,
                line_id=connector.line_id,
                chat_id=self.data.chat.id,
                message_id=external,
                author_id=connector.user_id,
            )
            for external in self.data.message.id
        ]
