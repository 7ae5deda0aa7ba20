"""Replays what `dead_letter` wrote, from any format of a saved log.

That is: the function's own lines, even among others or after a prefix, and the output of `gcloud
logging read --format=json`, whose numbers were stored as doubles.
"""

import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter

from handler.deadline import Deadline
from handler.events import names
from handler.events.deletion import Deletion
from handler.events.fields import Model, Number
from handler.log import count
from handler.portal import Portal, read_portal
from handler.records.dead_letter import NOT_RECORDED
from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder
from handler.stores.interface import Document, Store
from handler.tokens import accepts

# Reveals a damaged letter in text that is not JSON.
_LETTER_MARK = re.compile(rf'"{NOT_RECORDED}"|"CRITICAL"')


@dataclass(frozen=True)
class Letter:
    """One dead letter: records that could not be stored, and whether their token was verified."""

    line: int
    records: Sequence[object]
    verified: bool
    token_digest: str


@dataclass
class Replayed:
    """The result of a replay.

    `problems` say what failed, and what to do; `notes`, what was rightly skipped.
    """

    counts: Counts = field(default_factory=Counts)
    quarantined: int = 0
    forged: int = 0
    unknown: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_letters(text: str) -> tuple[list[Letter], list[int]]:
    """Find the letters in a saved log, and the line numbers of damaged ones."""
    letters: list[Letter] = []
    damaged: list[int] = []
    line_ends = [end.start() for end in re.finditer("\n", text)]

    def line_of(position: int) -> int:
        return bisect_left(line_ends, position) + 1

    end = 0
    for start, next_end, entry in [*_objects(text), (len(text), len(text), None)]:
        for trace in _LETTER_MARK.finditer(text, end, start):
            line = line_of(trace.start())
            if line not in damaged[-1:]:
                damaged.append(line)
        end = next_end
        letter = _letter(entry)
        if letter is None:
            continue
        if not isinstance(letter.get("records"), list):
            damaged.append(line_of(start))
            continue
        letters.append(
            Letter(
                line=line_of(start),
                records=letter["records"],
                verified=letter.get("verified") is not False,
                token_digest=str(letter.get("token_digest", "")),
            )
        )
    return letters, damaged


class Replay:
    """Records the contents of letters; `take` may raise `StoreUnavailable`.

    Only for portals that the store knows: in a database that is not the service's, the records
    would never be found, and every unverified letter would look forged.
    """

    def __init__(self, store: Store, recorder: Recorder, deadline: Callable[[], Deadline]) -> None:
        self._store = store
        self._recorder = recorder
        self._deadline = deadline
        self._portals: dict[str, Portal | None] = {}
        self._unknown: Counter[str] = Counter()
        self._forged: Counter[str] = Counter()
        self._parts: dict[tuple[str, str], dict[int, _EventPart]] = {}
        self.done = Replayed()

    def take(self, letter: Letter) -> None:
        """Record the deletions of one letter, unless they turn out to be forged."""
        documents: list[Document] = []
        for logged in letter.records:
            try:
                record = _exact(logged)
                delivery = _delivery(record)
                if not self._is_genuine(letter, delivery.member_id):
                    continue
                if "payload" in record:
                    self._take_part(delivery, _EventPart.model_validate(record))
                else:
                    deletion = _DELETION.validate_python(record)
                    documents.append(self._recorder.document(delivery, deletion))
            except ValueError:  # from the models, or from a payload that is not JSON
                self.done.problems.append(f"Line {letter.line}: a record is damaged.")
        self.done.counts += self._recorder.record(documents, self._deadline())

    def finish(self) -> Replayed:
        """Return the result, with what was left undone."""
        done = self.done
        for parts in self._parts.values():
            whole = next(iter(parts.values())).parts
            done.problems.append(
                f"Only {len(parts)} of the {whole} parts of an event were found: replay all of"
                " their lines together."
            )
        for member_id, number in self._unknown.items():
            done.problems.append(
                f"{count(number, 'record')} of portal {member_id} not written: there is no such"
                f" portal in {self._store.name}. Is that the service's own database? If so, and"
                " the portal was not purged, enter it with `portals add`, and replay again."
            )
        for member_id, number in self._forged.items():
            done.notes.append(
                f"{count(number, 'record')} of portal {member_id} skipped as forged: the portal"
                " does not accept the token. If it has changed since, enter the old one with"
                " `portals add`, and replay again."
            )
        done.unknown = self._unknown.total()
        done.forged = self._forged.total()
        return done

    def _is_genuine(self, letter: Letter, member_id: str) -> bool:
        if member_id not in self._portals:
            self._portals[member_id] = read_portal(self._store, member_id, self._deadline())
        portal = self._portals[member_id]
        if portal is None:
            self._unknown[member_id] += 1
        elif not letter.verified and not accepts(portal, letter.token_digest):
            self._forged[member_id] += 1
        else:
            return True
        return False

    def _take_part(self, delivery: Delivery, part: "_EventPart") -> None:
        parts = self._parts.setdefault((delivery.member_id, part.id), {})
        parts[part.part] = part
        if len(parts) < part.parts:
            return
        del self._parts[delivery.member_id, part.id]
        data = json.loads("".join(parts[number].payload for number in sorted(parts)))
        recorder = self._recorder.with_connectors(part.connectors)
        reading = recorder.read(delivery, data)
        self.done.counts += recorder.record(reading.documents, self._deadline())
        if reading.invalid:
            recorder.quarantine(delivery, data, reading.invalid, self._deadline())
            self.done.quarantined += 1


def _objects(text: str) -> Iterator[tuple[int, int, object]]:
    """Find the JSON objects in a text, among anything else."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            entry, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield start, end, entry
        start = text.find("{", end)


def _letter(entry: object) -> Mapping[str, Any] | None:
    """Unwrap a letter, as the function wrote it or as an entry of Cloud Logging."""
    if not isinstance(entry, Mapping):
        return None
    text = entry.get("textPayload")
    if isinstance(text, str):
        found = next(_objects(text), None)
        return _letter(found[2]) if found else None
    payload = entry.get("jsonPayload", entry)
    if not isinstance(payload, Mapping) or payload.get("outcome") != NOT_RECORDED:
        return None
    return payload


def _exact(record: object) -> dict[str, object]:
    """Turn doubles back into integers: Cloud Logging stores numbers as doubles."""
    if not isinstance(record, Mapping):
        raise ValueError  # noqa: TRY004 - the letter is at fault
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in record.items()
    }


def _delivery(record: Mapping[str, object]) -> Delivery:
    delivery = _DELIVERY.validate_python({**record, "via": "replay"})
    if delivery.event not in names.DELETIONS:
        raise ValueError
    return delivery


class _EventPart(Model):
    id: str
    payload: str
    part: Number
    parts: Number
    connectors: Sequence[str] = ()


_DELETION: Final = TypeAdapter(Deletion)
_DELIVERY: Final = TypeAdapter(Delivery)
