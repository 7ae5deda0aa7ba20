"""`quarantine retry`: record events that have become valid, and remove them from quarantine."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter

from handler.console.printing import store_deadline
from handler.events import names
from handler.portal import member_id_in
from handler.records.documents import RECEIVED_AT, Delivery
from handler.records.recorder import Counts, Recorder, as_decided
from handler.stores.interface import Document


@dataclass
class Retried:
    """The result of a retry: what was recorded, and why the rest remains."""

    counts: Counts = field(default_factory=Counts)
    problems: list[str] = field(default_factory=list)


def retry(options: argparse.Namespace, documents: Iterable[Document]) -> Retried:
    """Record the valid deletions of these events; an event without faults leaves quarantine."""
    settings = as_decided(options.settings)
    recorder = Recorder(options.open_store, settings, lambda: datetime.now(UTC))
    done = Retried()
    for document in documents:
        try:
            data = json.loads(_payload(document.fields))
            wanted = recorder.with_connectors(_connectors(document.fields))
            reading = wanted.read(_delivery(document), data)
        except ValueError:
            done.problems.append(
                f"{document.name} cannot be read: its data is incomplete. `quarantine show"
                f" {document.name}` shows the rest; `quarantine drop {document.name}` deletes it."
            )
            continue
        done.counts += recorder.record(reading.documents, store_deadline())
        if reading.invalid:
            done.problems.append(
                f"{document.name} is still not valid: {reading.invalid}. Retry after an update,"
                f" or delete it: `quarantine drop {document.name}`."
            )
        else:
            options.open_store().delete([document.path], store_deadline())
    return done


def _payload(fields: Mapping[str, Any]) -> str:
    return str(fields.get("payload"))


def _connectors(fields: Mapping[str, Any]) -> Iterable[str]:
    """Return the connectors to record; raises `ValueError` if they were damaged by hand."""
    connectors = fields.get("connectors", [])
    if not isinstance(connectors, list):
        raise ValueError  # noqa: TRY004 - the document is at fault
    return (str(connector).lower() for connector in connectors)


def _delivery(document: Document) -> Delivery:
    """Return how an event arrived.

    Raises `ValueError` if it is not a deletion event, or if a field's type was changed by hand.
    """
    event_at = document.fields.get("event_at") or document.fields.get(RECEIVED_AT)
    own = {"member_id": member_id_in(document.path), "via": "replay", "event_at": event_at}
    given = {**document.fields, **own}
    delivery = _DELIVERY.validate_python(given)
    converted = any(given.get(name) != value for name, value in vars(delivery).items())
    if delivery.event not in names.DELETIONS or converted:
        raise ValueError
    return delivery


_DELIVERY: Final = TypeAdapter(Delivery)
