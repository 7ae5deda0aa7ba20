"""Recording: what is not in the store yet goes there once, and nothing is ever changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from handler.deadline import Deadline
from handler.events.deletion import Deletion, InvalidData, parse_deletions
from handler.records.documents import (
    RECEIVED_AT,
    RECORDED_AT,
    Delivery,
    deletion_document,
    quarantine_document,
)
from handler.settings import Settings
from handler.stores.interface import Document, Store


@dataclass(frozen=True)
class Counts:
    """How many deletions were new, and how many were there already."""

    recorded: int = 0
    duplicates: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.recorded + other.recorded, self.duplicates + other.duplicates)


class Recorder:
    """Records deletions as the settings want it. Each method may raise `StoreUnavailable`."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        self._open_store = open_store
        self._connectors = settings.connectors
        self._retention_days = settings.retention_days
        self._now = now

    def documents(self, delivery: Delivery, data: object) -> list[Document]:
        """Make the records of an event; none when nobody wants its connector's.

        Raises `InvalidData`, and does not touch the store.
        """
        return [
            self.document(delivery, deletion)
            for deletion in parse_deletions(delivery.event, data, delivery.user_id)
            if not self._connectors or deletion.connector in self._connectors
        ]

    def document(self, delivery: Delivery, deletion: Deletion) -> Document:
        """Make the record of one deletion; does not touch the store.

        It says when the message was deleted; without the event's own time, that is now.
        """
        delivery = replace(delivery, event_at=delivery.event_at or self._now())
        return deletion_document(deletion, delivery, self._expires_at())

    def record(self, documents: Sequence[Document], deadline: Deadline) -> Counts:
        """Store the records that are not there yet."""
        different = list({document.path: document for document in documents}.values())
        recorded = self._open_store().create(different, RECORDED_AT, deadline)
        return Counts(recorded, len(documents) - recorded)

    def quarantine(
        self, delivery: Delivery, data: object, invalid: InvalidData, deadline: Deadline
    ) -> str:
        """Keep an event whose data is invalid; return the name of its document."""
        document = quarantine_document(delivery, data, invalid, self._expires_at())
        self._open_store().create([document], RECEIVED_AT, deadline)
        return document.name

    def _expires_at(self) -> datetime | None:
        if self._retention_days is None:
            return None
        return self._now() + timedelta(days=self._retention_days)
