"""The versions of a message, and which text was its last. No I/O.

The last text is the one with the greatest `ts`; at equal `ts`, an update wins over the addition,
and of two updates, the later arrival. An update after the deletion does not count: that is how
Bitrix24 overwrites a deleted message. Since the deletion may arrive after that update, earlier
texts are kept as long as the message's document.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from handler.stores.interface import Value

if TYPE_CHECKING:
    from handler.events.message import Message

TEXT: Final = "text"
AUTHOR_ID: Final = "author_id"

# The fields that a record copies from its message.
COPIED_FIELDS: Final = (
    TEXT,
    "text_cut",
    "text_outdated",
    AUTHOR_ID,
    "sent_at",
    "edited_at",
    "files",
)

# For one message, in bytes as stored. Firestore allows documents of 1 MiB and commits of 10 MiB,
# which may hold forty of these documents; a text has up to 80 kB, or 120 kB as JSON, where control
# characters have six bytes.
_MAX_VERSIONS = 50
_MAX_BYTES = 200_000

# Stands for a version's text if it equals the document's own.
_SAME = True


@dataclass(frozen=True, kw_only=True)
class Version:
    """A message as one event described it; `at` is the event's `ts`, in Unix seconds."""

    at: int
    author: str
    connector: str
    line_id: int
    update: bool = False
    text: str | None = None
    text_cut: bool = False
    author_id: int | None = None
    sent_at: int | None = None
    files: tuple[str, ...] | None = None

    @classmethod
    def of(cls, message: "Message", *, update: bool, at: datetime) -> "Version":
        """Return the version that an event describes; `at` is the event's time."""
        seconds = int(at.timestamp())
        sent_at = int(message.sent_at.timestamp()) if message.sent_at else None
        return cls(
            at=seconds,
            update=update,
            author=message.author,
            connector=message.connector,
            line_id=message.line_id,
            text=message.text,
            text_cut=message.text_cut,
            author_id=message.author_id,
            # The time of an update says nothing about when the message was sent.
            sent_at=seconds if sent_at is None and not update else sent_at,
            files=message.files,
        )

    @property
    def order(self) -> tuple[int, bool]:
        """The sort key: greater for a later version."""
        return self.at, self.update


def with_version(
    history: Sequence[Version], version: Version, deleted_at: int | None
) -> list[Version]:
    """Add a version, then drop versions until they are within the limits.

    Those after the deletion go first, then the oldest updates, then the oldest additions; one
    always stays. `deleted_at` is when the message was deleted, if that is known, in Unix seconds.
    """
    versions = [one for one in history if one != version]
    place = bisect_right(versions, version.order, key=lambda one: one.order)
    versions.insert(place, version)
    while len(versions) > _MAX_VERSIONS or (len(versions) > 1 and _size(versions) > _MAX_BYTES):
        after = [one for one in versions if not _counts(one, deleted_at)]
        changes = [one for one in versions[:-1] if one.update]
        versions.remove((after[-1:] or changes or versions)[0])
    return versions


def last_said(history: Sequence[Version], deleted_at: int | None) -> Mapping[str, Value]:
    """Return the last state of a message before its deletion, as fields of a document.

    `history` is in order. Unknown fields are absent.
    """
    said: dict[str, Value | None] = {}
    for version in history:
        if not _counts(version, deleted_at):
            continue
        said |= {
            "author": version.author,
            "connector": version.connector,
            "line_id": version.line_id,
            AUTHOR_ID: version.author_id or said.get(AUTHOR_ID),
            "files": said.get("files") if version.files is None else version.files,
        }
        if version.text is not None:
            said |= {TEXT: version.text, "text_cut": version.text_cut, "text_outdated": False}
        elif version.update:
            said["text_outdated"] = True
        if version.update:
            said["edited_at"] = _time(version.at)
        if version.sent_at is not None and not (version.update and "sent_at" in said):
            said["sent_at"] = _time(version.sent_at)
    present = {name: value for name, value in said.items() if value is not None}
    return {name: value for name, value in present.items() if value is not False and value != ()}


def text_known(history: Sequence[Version], deleted_at: int | None) -> bool:
    """Return whether a text of the message is known."""
    return TEXT in last_said(history, deleted_at)


def copied_fields(histories: Iterable[Sequence[Version]], deleted_at: int) -> Mapping[str, Value]:
    """Return the fields that a record copies from the histories of its message."""
    versions = sorted(chain(*histories), key=lambda one: (one.order, one.author))
    said = last_said(versions, deleted_at)
    return {name: said[name] for name in COPIED_FIELDS if name in said}


def encoded(history: Iterable[Version], fields: Mapping[str, Value]) -> list[str]:
    """Encode versions as lines of JSON, for the document that has these `fields`."""
    return [
        json.dumps(
            {
                name: _SAME if name == TEXT and value == fields.get(TEXT) else value
                for name, value in vars(version).items()
                if value is not None and value is not False
            },
            ensure_ascii=False,
        )
        for version in history
    ]


def decoded(lines: Iterable[str], fields: Mapping[str, Any]) -> list[Version]:
    """Decode what `encoded` wrote."""
    return [_decoded(json.loads(line), fields.get(TEXT)) for line in lines]


def _decoded(version: dict[str, Any], text: str | None) -> Version:
    if version.get(TEXT) is _SAME:
        version[TEXT] = text
    if "files" in version:
        version["files"] = tuple(version["files"])
    return Version(**version)


def _counts(version: Version, deleted_at: int | None) -> bool:
    return not version.update or deleted_at is None or version.at <= deleted_at


def _size(versions: Iterable[Version]) -> int:
    return sum(len(line.encode()) for line in encoded(versions, {}))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
