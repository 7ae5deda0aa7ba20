"""The documents of a deletion event: a record per deletion, and one in quarantine if needed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import AwareDatetime

from handler.events.deletion import Deletion
from handler.events.envelope import MemberId
from handler.events.fields import Number, Text
from handler.events.invalid_data import InvalidData
from handler.portal import portal_path
from handler.records.redaction import redacted
from handler.stores.interface import Document, Value

DELETIONS = "deletions"
RECORDED_AT = "recorded_at"
EVENT_AT = "event_at"
QUARANTINE = "quarantine"
RECEIVED_AT = "received_at"

Via: TypeAlias = Literal["online", "offline", "replay"]

# Firestore allows documents of up to 1 MiB.
_MAX_PAYLOAD = 900_000


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How a deletion event arrived: its portal, time, user and route.

    `event_at` is the event's own time, `user_id` who caused it; either may be unknown. `expires_at`
    is when its documents may be deleted, if that is already decided.
    """

    member_id: MemberId
    event: str
    via: Via
    domain: Text | None = None
    event_at: AwareDatetime | None = None
    user_id: Number | None = None
    expires_at: AwareDatetime | None = None


def deletion_document(
    deletion: Deletion, delivery: Delivery, expires_at: datetime | None
) -> Document:
    """Return the record of one deletion; the same deletion always has the same path."""
    path = f"{portal_path(delivery.member_id)}/{DELETIONS}/{deletion.id(delivery.member_id)}"
    return Document(path, _present({**vars(delivery), **vars(deletion), "expires_at": expires_at}))


def quarantine_document(
    delivery: Delivery,
    data: object,
    invalid: InvalidData,
    expires_at: datetime | None,
    connectors: Iterable[str] = (),
) -> Document:
    """Return the quarantine document of an event with invalid data, for a later retry.

    The same data gives the same document, whether it came as text in a form or typed from the
    offline queue. Texts and credentials in it are redacted. `connectors` are those to record, empty
    for all; a retry cannot know the setting.
    """
    data = redacted(data)
    identity = [delivery.member_id, delivery.event, *_as_in_a_form(data)]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    payload = json.dumps(data)
    cut = [f"payload: cut at {_MAX_PAYLOAD} characters"] if len(payload) > _MAX_PAYLOAD else []
    fields = {
        "event": delivery.event,
        "reasons": [*invalid.reasons, *cut],
        "payload": payload[:_MAX_PAYLOAD],
        "connectors": sorted(connectors) or None,
        "domain": delivery.domain,
        "event_at": delivery.event_at,
        "user_id": delivery.user_id,
        "expires_at": expires_at,
    }
    return Document(f"{portal_path(delivery.member_id)}/{QUARANTINE}/{name}", _present(fields))


def _present(fields: Mapping[str, Value | None]) -> Mapping[str, Value]:
    return {name: value for name, value in fields.items() if value is not None}


def _as_in_a_form(value: object) -> list[tuple[str, str]]:
    """Flatten a value as `http_build_query` does: no nulls or empty arrays, booleans as 1 or 0."""
    flat = []
    waiting = [("", value)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(f"{name}[{key}]", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{name}[{index}]", inner) for index, inner in enumerate(value)]
        elif value is not None:
            flat.append((name, str(int(value)) if isinstance(value, bool) else str(value)))
    return sorted(flat)
