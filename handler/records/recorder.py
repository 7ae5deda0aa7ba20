"""Records deletions: create-if-absent, so that a repeat changes nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from handler.deadline import Deadline
from handler.events.deletion import Deletion, parse_deletions
from handler.events.envelope import SENSIBLE_LENGTH
from handler.events.invalid_data import InvalidData
from handler.records.documents import (
    RECEIVED_AT,
    RECORDED_AT,
    Delivery,
    deletion_document,
    quarantine_document,
)
from handler.settings import Settings
from handler.stores.interface import Document, Store

if TYPE_CHECKING:
    from handler.records.messages import Messages

# KEEP_TEXT_DAYS where only the service knows it.
UNKNOWN_DAYS: Final = 0

# A name has 64 characters, and a line of the log 100 kB.
_MAX_NAMES = 500


@dataclass(frozen=True)
class Counts:
    """How many deletions were new, and how many were already recorded."""

    recorded: int = 0
    duplicates: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.recorded + other.recorded, self.duplicates + other.duplicates)


@dataclass(frozen=True)
class Reading:
    """The records of an event, and what is not recorded.

    `left_out` lists the connector of each deletion that CONNECTORS excludes; `invalid` describes
    the faults that put the event in quarantine.
    """

    documents: Sequence[Document] = ()
    left_out: Sequence[str] = ()
    invalid: InvalidData | None = None


def as_decided(settings: Settings) -> Settings:
    """Return the settings for what the service decided on: a dead letter, a quarantined event.

    It is recorded later from an operator's shell, whose settings may be missing or different. So
    RETENTION_DAYS is ignored: letters and documents have the service's. (They have its CONNECTORS,
    too: see `Recorder.with_connectors`.) Without KEEP_TEXT_DAYS, texts are looked up nevertheless,
    and messages expire when they would have.
    """
    keep_text_days = settings.keep_text_days or UNKNOWN_DAYS
    return replace(settings, retention_days=None, keep_text_days=keep_text_days)


def name_connectors(left_out: Sequence[str]) -> Mapping[str, object]:
    """Return log fields for what CONNECTORS excluded: the connectors, and how many messages."""
    if not left_out:
        return {}
    named = ", ".join(dict.fromkeys(left_out))
    return {"connector": named[:SENSIBLE_LENGTH], "ignored": len(left_out)}


def name_documents(**ids: Sequence[str]) -> Mapping[str, object]:
    """Return log fields that name an event's documents.

    A line has room for several hundred names; the rest, from a drain, are only counted.
    """
    named: dict[str, object] = {}
    for field, names in ids.items():
        unique = list(dict.fromkeys(names))
        if unique:
            named[field] = unique[:_MAX_NAMES]
        if len(unique) > _MAX_NAMES:
            named[f"{field}_left_out"] = len(unique) - _MAX_NAMES
    return named


class Recorder:
    """Records deletions according to the settings."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._open_store = open_store
        self.connectors = settings.connectors
        self._retention_days = settings.retention_days
        self._keep_text_days = settings.keep_text_days
        self._now = now

    @property
    def messages(self) -> "Messages | None":
        """The texts of messages; `None` without KEEP_TEXT_DAYS."""
        if self._keep_text_days is None:
            return None
        # Without the setting, deletions should not pay for this import.
        from handler.records.messages import Messages  # noqa: PLC0415

        return Messages(self._open_store, self._keep_text_days, self._now)

    def with_connectors(self, connectors: Iterable[str]) -> "Recorder":
        """Return a recorder of these connectors, in lower case; empty means all."""
        recorder = copy(self)
        recorder.connectors = frozenset(connectors)
        return recorder

    def read(self, delivery: Delivery, data: object) -> Reading:
        """Return the records of an event, without using the store."""
        contents = parse_deletions(delivery.event, data, delivery.user_id, self.connectors)
        documents = [self.document(delivery, deletion) for deletion in contents.deletions]
        return Reading(documents, contents.left_out, contents.invalid)

    def document(self, delivery: Delivery, deletion: Deletion) -> Document:
        """Return the record of one deletion, without using the store.

        If the event has no time, the record says that the message was deleted now.
        """
        delivery = replace(delivery, event_at=delivery.event_at or self._now())
        return deletion_document(deletion, delivery, delivery.expires_at or self.expires_at())

    def record(self, documents: Sequence[Document], deadline: Deadline) -> Counts:
        """Store the records that do not exist yet, with their messages' texts if those are kept.

        Without documents, the store is not opened. Raises `StoreUnavailable`.
        """
        if not documents:
            return Counts()
        different = list({document.path: document for document in documents}.values())
        if messages := self.messages:
            recorded = messages.record(different, deadline)
        else:
            recorded = self._open_store().create(different, RECORDED_AT, deadline)
        return Counts(recorded, len(documents) - recorded)

    def quarantine(
        self, delivery: Delivery, data: object, invalid: InvalidData, deadline: Deadline
    ) -> str:
        """Quarantine an event with invalid data; return its document's name.

        All of the data is stored, valid or not: on a retry, deletions already recorded count as
        duplicates. Raises `StoreUnavailable`.
        """
        document = quarantine_document(
            delivery, data, invalid, delivery.expires_at or self.expires_at(), self.connectors
        )
        self._open_store().create([document], RECEIVED_AT, deadline)
        return document.name

    def expires_at(self) -> datetime | None:
        """Return when a document stored now may be deleted; `None` without RETENTION_DAYS."""
        if self._retention_days is None:
            return None
        return self._now() + timedelta(days=self._retention_days)
