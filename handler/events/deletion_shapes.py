"""The shapes of deletion events.

ONOPENLINEMESSAGEDELETE has two shapes. For a deletion inside Bitrix24 (by an operator, an
administrator or a bot), `DATA` is a list with one element per external message id; the
documentation shows one element and integer ids, but an id can be any text. For a deletion by the
customer, `DATA` is one object, without CONNECTOR, LINE or Bitrix24's own numbers.
ONIMCONNECTORMESSAGEDELETE, sent to the connector's own application, has the first shape with
`MESSAGES` instead of `DATA`.

Other handlers and older documentation show variants, which are accepted, too: several external ids
in one `message.id`, a list of customers' deletions, the twin with the key `DATA`, and lists that do
not start at 0 or have gaps.
"""

from collections.abc import Mapping
from typing import TypeGuard

from pydantic import Field

from handler.events.fields import Model, Number, Text, UserId, php_list


def is_by_customer(element: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether an element is a customer's deletion, which names its own connector."""
    return isinstance(element, Mapping) and "connector" in element


def split_by_id(element: object) -> list[object]:
    """Split an element whose `message.id` is an array into one element per external id."""
    if isinstance(element, Mapping):
        message = element.get("message")
        if isinstance(message, Mapping) and (ids := php_list(message.get("id"))):
            return [{**element, "message": {**message, "id": one}} for one in ids.values()]
    return [element]


class External(Model):
    """A message or a chat by the connector's id."""

    id: Text


class _Im(Model):
    chat_id: Number
    message_id: Number


class Line(Model):
    """The connector and line of a deletion in Bitrix24, sent beside its elements."""

    connector: Text = Field(alias="CONNECTOR")
    line: Number = Field(alias="LINE")


class PortalMessage(Model):
    """An element of a deletion in Bitrix24; `im` has Bitrix24's own numbers."""

    im: _Im
    message: External
    chat: External


class Connector(Model):
    """A customer's connector and line; `user_id` is the customer."""

    connector_id: Text
    line_id: Number
    user_id: UserId = None


class CustomerMessage(Model):
    """A customer's deletion."""

    connector: Connector
    message: External
    chat: External
