"""Recording: what is not in the store yet goes there once, and nothing is ever changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

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


# A name has 64 characters, and a line of the log 100 kB.
_NAMED = 500


@dataclass(frozen=True)
class Counts:
    """How many deletions were new, and how many were there already."""

    recorded: int = 0
    duplicates: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.recorded + other.recorded, self.duplicates + other.duplicates)


@dataclass(frozen=True)
class Reading:
    """What an event holds: the documents to record, and what is not recorded.

    `left_out` has the connector of each deletion that CONNECTORS leaves out; `invalid`, what is
    wrong with the rest, for which the event belongs in quarantine.
    """

    documents: Sequence[Document] = ()
    left_out: Sequence[str] = ()
    invalid: InvalidData | None = None


def as_decided(settings: Settings) -> Settings:
    """Return settings under which nothing is decided anew that the service has decided before.

    What is recorded later, from a dead letter or the quarantine, is recorded by an operator's
    shell, which may lack CONNECTORS and RETENTION_DAYS, or have others.
    """
    return replace(settings, connectors=frozenset(), retention_days=None)


def name_connectors(left_out: Sequence[str]) -> Mapping[str, object]:
    """Say, for the log, what CONNECTORS left out: the connectors, and of how many deletions."""
    if not left_out:
        return {}
    named = ", ".join(dict.fromkeys(left_out))
    return {"connector": named[:SENSIBLE_LENGTH], "ignored": len(left_out)}


def name_documents(**ids: Sequence[str]) -> Mapping[str, object]:
    """Name, for the log, an event's documents, so that each is found from the other.

    A line has room for some hundred names; of what else a drain stored, it says how many.
    """
    named: dict[str, object] = {}
    for field, names in ids.items():
        unique = list(dict.fromkeys(names))
        if unique:
            named[field] = unique[:_NAMED]
        if len(unique) > _NAMED:
            named[f"{field}_left_out"] = len(unique) - _NAMED
    return named


class Recorder:
    """Records deletions as the settings want it. Each method may raise `StoreUnavailable`."""

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
        """What messages say, if the settings want it to be kept."""
        if self._keep_text_days is None:
            return None
        # Without the setting, a deletion should not pay for importing it.
        from handler.records.messages import Messages  # noqa: PLC0415

        return Messages(self._open_store, self._keep_text_days, self._now)

    def read(self, delivery: Delivery, data: object) -> Reading:
        """Make the records of an event; does not touch the store."""
        contents = parse_deletions(delivery.event, data, delivery.user_id, self.connectors)
        documents = [self.document(delivery, deletion) for deletion in contents.deletions]
        return Reading(documents, contents.left_out, contents.invalid)

    def document(self, delivery: Delivery, deletion: Deletion) -> Document:
        """Make the record of one deletion; does not touch the store.

        It says when the message was deleted; without the event's own time, that is now.
        """
        delivery = replace(delivery, event_at=delivery.event_at or self._now())
        return deletion_document(deletion, delivery, delivery.expires_at or self.expires_at())

    def record(self, documents: Sequence[Document], deadline: Deadline) -> Counts:
        """Store the records that are not there yet, with their messages' texts if those are kept.

        Without any, the store is not asked.
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
        """Keep an event whose data is not all valid; return the name of its document.

        All of the data is kept: in a retry, what is recorded already counts as a duplicate.
        """
        document = quarantine_document(
            delivery, data, invalid, delivery.expires_at or self.expires_at()
        )
        self._open_store().create([document], RECEIVED_AT, deadline)
        return document.name

    def expires_at(self) -> datetime | None:
        """Return when what is stored now may be deleted; `None` if it is to be kept."""
        if self._retention_days is None:
            return None
        return self._now() + timedelta(days=self._retention_days)
