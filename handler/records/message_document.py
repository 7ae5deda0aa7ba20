"""A message's document, `portals/{member_id}/openline_messages/{id}`, and its path.

An operator's message is keyed by Bitrix24's number, a customer's by the connector's ids. A deletion
may have both keys, since it does not say who wrote the message.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from handler.portal import member_id_in, portal_path
from handler.records.documents import DELETIONS
from handler.records.versions import Version, decoded, encoded, last_said, text_known
from handler.stores.interface import EXPIRING, Document, Value

if TYPE_CHECKING:
    from handler.events.message import Message

MESSAGES: Final = EXPIRING
EXPIRES_AT: Final = "expires_at"


@dataclass(frozen=True)
class Join:
    """A deletion's record to copy the text to, and that record's other key, if it has one.

    `deleted_at` is the record's `event_at`, in Unix seconds.
    """

    record: str
    deleted_at: int
    other: str | None = None

    def __str__(self) -> str:
        return f"{self.record} {self.deleted_at} {self.other or ''}".rstrip()

    @classmethod
    def read(cls, text: str) -> "Join":
        """Parse what `str` wrote."""
        record, deleted_at, *other = text.split()
        return cls(record, int(deleted_at), *other)


@dataclass(frozen=True)
class MessageDocument:
    """The versions of one message, oldest first, and the records that copy from them.

    `contested`: the other key of one of the records has versions, too. `expires_at` is `None` if
    the document does not exist or has expired.
    """

    path: str
    history: list[Version] = field(default_factory=list)
    joins: Sequence[Join] = ()
    contested: bool = False
    expires_at: datetime | None = None
    stored: object = None  # the store's version of the document

    @classmethod
    def read(cls, path: str, found: Document | None, now: datetime) -> "MessageDocument":
        """Read a document; one that has expired counts as absent, but has to be replaced.

        One whose `expires_at` was removed by hand has expired.
        """
        if found is None:
            return cls(path)
        fields: Mapping[str, Any] = found.fields
        expires_at = fields.get(EXPIRES_AT)
        if not isinstance(expires_at, datetime) or expires_at <= now:
            return cls(path, stored=found.version)
        return cls(
            path,
            decoded(fields.get("versions", ()), fields),
            [Join.read(text) for text in fields.get("records", ())],
            bool(fields.get("contested")),
            expires_at,
            found.version,
        )

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def deleted_at(self) -> int | None:
        """When the message was deleted, in Unix seconds; the latest time if there are several."""
        return max((join.deleted_at for join in self.joins), default=None)

    @property
    def has_text(self) -> bool:
        """Whether the message's text is known."""
        return text_known(self.history, self.deleted_at)

    def joined(self, join: Join, *, contested: bool) -> "MessageDocument":
        """Add a record; it replaces one with the same id."""
        others = [known for known in self.joins if known.record != join.record]
        return replace(self, joins=[*others, join], contested=contested or self.contested)

    def to_document(self, expires_at: datetime) -> Document:
        """Return the document to store."""
        said = last_said(self.history, self.deleted_at)
        more: dict[str, Value] = {
            "versions": encoded(self.history, said),
            "records": [str(join) for join in self.joins],
            "contested": self.contested,
        }
        present = {name: value for name, value in more.items() if value}
        return Document(self.path, {**said, **present, EXPIRES_AT: expires_at}, self.stored)


def message_path(member_id: str, message: "Message") -> str:
    """Return the path of a message's document."""
    if message.im_message_id is not None:
        return _path(member_id, "operator", message.im_message_id)
    ids = (message.line_id, message.chat_id, message.message_id)
    return _path(member_id, "customer", message.connector.lower(), *ids)


def possible_paths(record: Document) -> Sequence[str]:
    """Return the one or two paths at which a record's message may be stored."""
    fields: Mapping[str, Any] = record.fields
    member_id = member_id_in(record.path)
    ids = (fields[name] for name in ("line_id", "chat_id", "message_id"))
    customers = _path(member_id, "customer", fields["connector"].lower(), *ids)
    number = fields.get("im_message_id")
    return [_path(member_id, "operator", number), customers] if number else [customers]


def sibling_path(path: str, name: str) -> str:
    """Return the path of another message's document, by its name, in the same portal."""
    return f"{path.rpartition('/')[0]}/{name}"


def record_path(path: str, join: Join) -> str:
    """Return the path of a record that is joined to the message at `path`."""
    return f"{path.rsplit('/', 2)[0]}/{DELETIONS}/{join.record}"


def _path(member_id: str, *identity: str | int | None) -> str:
    digest = hashlib.sha256(json.dumps([member_id, *identity]).encode()).hexdigest()
    return f"{portal_path(member_id)}/{MESSAGES}/{digest}"
