"""Keeps the texts of messages, and copies them to the records of their deletions.

Either may arrive first. Both derive the same document path: a message stores its text there, a
deletion the id of its record, and later texts are copied to that record. All of this is one commit,
so a crash loses nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from handler.deadline import Deadline
from handler.records.documents import EVENT_AT, RECORDED_AT
from handler.records.message_document import (
    Join,
    MessageDocument,
    message_path,
    possible_paths,
    record_path,
    sibling_path,
)
from handler.records.versions import Version, copied_fields, with_version
from handler.stores.interface import Document, Patch, Put, Store, StoreUnavailable, Write

if TYPE_CHECKING:
    from handler.events.message import Message

# Records, with their texts, per commit, which must stay below 10 MiB.
_MAX_RECORDS = 20


class Messages:
    """Keeps the texts of messages for `days` after their last change.

    If that is 0, the days are unknown, and only `record` may be called: it neither creates
    documents of messages nor changes when they expire. Each method may raise `StoreUnavailable`.
    """

    def __init__(
        self, open_store: Callable[[], Store], days: int, now: Callable[[], datetime]
    ) -> None:
        self._open_store = open_store
        self._days = timedelta(days=days)
        self._now = now

    def keep(
        self, member_id: str, message: "Message", deadline: Deadline, *, update: bool, at: datetime
    ) -> bool:
        """Keep a message as an event describes it; return whether its text is known now.

        `at` is the event's time. Two calls to the store, and more only after a conflict, or if a
        record has texts under both of its keys.
        """
        version = Version.of(message, update=update, at=at)
        path = message_path(member_id, message)
        conflict = False
        while deadline.remaining:
            store, now = self._open_store(), self._now()
            before = MessageDocument.read(path, store.get(path, deadline), now)
            history = with_version(before.history, version, before.deleted_at)
            if history == before.history:
                return before.has_text
            after, others = replace(before, history=history), None
            if before.joins and (conflict or before.contested):
                after, others = _read_other_keys(store, after, now, deadline)
            writes = [
                Put(after.to_document(now + self._days)),
                *_copy_to_records(before, after, others),
            ]
            if store.commit(writes, deadline):
                return after.has_text
            conflict = True
        raise _kept_changing(path)

    def record(self, records: Sequence[Document], deadline: Deadline) -> int:
        """Create the records that do not exist yet, with the texts of their messages.

        Returns how many were created. Two calls to the store for up to twenty, and more only after
        a conflict.
        """
        return sum(
            self._record(records[start : start + _MAX_RECORDS], deadline)
            for start in range(0, len(records), _MAX_RECORDS)
        )

    def _record(self, records: Sequence[Document], deadline: Deadline) -> int:
        keys = {record.path: possible_paths(record) for record in records}
        paths = [*keys, *dict.fromkeys(key for both in keys.values() for key in both)]
        while deadline.remaining:
            store, now = self._open_store(), self._now()
            found = dict(zip(paths, store.get_all(paths, deadline), strict=True))
            new = [record for record in records if not found[record.path]]
            if not new:
                return 0
            messages: dict[str, MessageDocument] = {}
            writes: list[Write] = []
            for record in new:
                for key in keys[record.path]:
                    messages.setdefault(key, MessageDocument.read(key, found[key], now))
                writes.append(Put(_joined(record, keys[record.path], messages), RECORDED_AT))
            for one in messages.values():
                expires_at = now + self._days if self._days else one.expires_at
                if expires_at:
                    writes.append(Put(one.to_document(expires_at)))
            if store.commit(writes, deadline):
                return len(new)
        raise _kept_changing(records[0].path)


def _joined(
    record: Document, keys: Sequence[str], messages: dict[str, MessageDocument]
) -> Document:
    """Return a record with its message's text, and join it to the documents of the message."""
    deleted_at = int(cast("datetime", record.fields[EVENT_AT]).timestamp())
    mine = [messages[key] for key in keys]
    for one in mine:
        other = next((other for other in mine if other is not one), None)
        join = Join(record.name, deleted_at, other.name if other else None)
        messages[one.path] = one.joined(join, contested=bool(other and other.history))
    text = copied_fields([one.history for one in mine], deleted_at)
    return replace(record, fields={**record.fields, **text})


def _read_other_keys(
    store: Store, message: MessageDocument, now: datetime, deadline: Deadline
) -> tuple[MessageDocument, Mapping[str, MessageDocument]]:
    """Read the other keys of a message's records, and drop those that no longer exist."""
    records = {join: record_path(message.path, join) for join in message.joins}
    others = {
        join.other: sibling_path(message.path, join.other) for join in message.joins if join.other
    }
    paths = [*records.values(), *others.values()]
    found = dict(zip(paths, store.get_all(paths, deadline), strict=True))
    there = {
        name: MessageDocument.read(path, found[path], now)
        for name, path in others.items()
        if found[path]
    }
    joins = [
        replace(join, other=join.other if join.other in there else None)
        for join, path in records.items()
        if found[path]
    ]
    return replace(message, joins=joins), there


def _copy_to_records(
    before: MessageDocument,
    after: MessageDocument,
    others: Mapping[str, MessageDocument] | None,
) -> Sequence[Write]:
    """Return the writes that copy a message's new text to its records.

    The records' other keys are marked as contested, so that a concurrent write there conflicts and
    reads again. Where `others` were read, they must be unchanged.
    """
    writes: list[Write] = []
    for join in after.joins:
        other = others[join.other].history if others and join.other else ()
        old = copied_fields([before.history, other], join.deleted_at)
        new = copied_fields([after.history, other], join.deleted_at)
        if old != new:
            gone = dict.fromkeys(old)
            writes.append(Patch(record_path(after.path, join), {**gone, **new}))
    for name in dict.fromkeys(join.other for join in after.joins if join.other):
        version = others[name].stored if others else None
        writes.append(Patch(sibling_path(after.path, name), {"contested": True}, version))
    return writes


def _kept_changing(path: str) -> StoreUnavailable:
    return StoreUnavailable(f"{path} kept changing until the deadline.")
