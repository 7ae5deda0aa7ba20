"""Reading back what `dead_letter` wrote, from whatever the log was saved as.

That is: the function's own lines, such lines among others or behind a prefix, and what
`gcloud logging read --format=json` prints, in which numbers have been doubles.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
)

from handler.deadline import Deadline
from handler.events.deletion import DELETION_EVENTS, Deletion, Unfit
from handler.events.envelope import document_name
from handler.events.fields import Number, Text
from handler.portal import read_portal
from handler.records.dead_letter import NOT_RECORDED
from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder
from handler.stores.interface import Document, Store
from handler.tokens import accepts

# Tells that a piece of text should have been a letter.
_TRACE_OF_A_LETTER = re.compile(rf'"{NOT_RECORDED}"|"CRITICAL"')


@dataclass(frozen=True)
class Letter:
    """One line of the log: records that could not be stored, and whether they are verified."""

    line: int
    records: Sequence[object]
    verified: bool
    token_digest: str


@dataclass
class Replayed:
    """What a replay has done; `problems` name what it could not do, with line numbers."""

    counts: Counts = field(default_factory=Counts)
    forged: int = 0
    quarantined: int = 0
    problems: list[str] = field(default_factory=list)


def read_letters(text: str) -> tuple[list[Letter], list[int]]:
    """Find the letters in a saved log, and the numbers of the lines of damaged ones."""
    letters: list[Letter] = []
    damaged: list[int] = []
    line_ends = [end.start() for end in re.finditer("\n", text)]

    def line_of(position: int) -> int:
        return bisect_left(line_ends, position) + 1

    end = 0
    for start, next_end, entry in [*_objects(text), (len(text), len(text), None)]:
        for trace in _TRACE_OF_A_LETTER.finditer(text, end, start):
            line = line_of(trace.start())
            if line not in damaged[-1:]:
                damaged.append(line)
        end = next_end
        letter = _letter(entry)
        if letter:
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
    """Records what letters hold. Each method may raise `StoreUnavailable`."""

    def __init__(self, store: Store, recorder: Recorder, deadline: Callable[[], Deadline]) -> None:
        self._store = store
        self._recorder = recorder
        self._deadline = deadline
        self._parts: dict[tuple[str, str], dict[int, _EventPart]] = {}
        self.done = Replayed()

    def take(self, letter: Letter) -> None:
        """Record the deletions of one letter, unless they turn out to be forged."""
        documents: list[Document] = []
        for record in letter.records:
            try:
                if isinstance(record, Mapping) and "payload" in record:
                    self._take_part(_EventPart.model_validate(record))
                elif self._is_genuine(letter, deletion := _Record.model_validate(record)):
                    documents.append(self._recorder.document(*deletion.parts()))
                else:
                    self.done.forged += 1
            except ValueError:  # of the models, or of a payload that is no JSON
                self.done.problems.append(f"line {letter.line}: a record is damaged")
        if documents:
            self.done.counts += self._recorder.record(documents, self._deadline())

    def finish(self) -> Replayed:
        """Tell what has been done, and which events are not whole."""
        for parts in self._parts.values():
            whole = next(iter(parts.values())).parts
            self.done.problems.append(
                f"an event has {len(parts)} of its {whole} parts; give the lines of all at once"
            )
        return self.done

    def _is_genuine(self, letter: Letter, record: "_Record") -> bool:
        if letter.verified:
            return True
        portal = read_portal(self._store, record.member_id, self._deadline())
        return accepts(portal, letter.token_digest)

    def _take_part(self, part: "_EventPart") -> None:
        parts = self._parts.setdefault((part.member_id, part.id), {})
        parts[part.part] = part
        if len(parts) < part.parts:
            return
        del self._parts[part.member_id, part.id]
        data = json.loads("".join(parts[number].payload for number in sorted(parts)))
        delivery = part.delivery()
        try:
            documents = self._recorder.documents(delivery, data)
        except Unfit as unfit:
            self._recorder.quarantine(delivery, data, unfit, self._deadline())
            self.done.quarantined += 1
            return
        if documents:
            self.done.counts += self._recorder.record(documents, self._deadline())


def _objects(text: str) -> Iterator[tuple[int, int, object]]:
    """Find the JSON objects in a text, whatever stands between them."""
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
    return payload if isinstance(payload.get("records"), list) else None


def _not_a_double(value: object) -> object:
    """Cloud Logging keeps numbers as doubles, and may print them so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _deletion_event(name: str) -> str:
    if name not in DELETION_EVENTS:
        raise ValueError("is no deletion event")
    return name


_Integer = Annotated[Number, BeforeValidator(_not_a_double)]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    member_id: Annotated[str, AfterValidator(document_name)]
    event: Annotated[str, AfterValidator(_deletion_event)]
    domain: Text | None = None
    event_at: AwareDatetime | None = None
    user_id: _Integer | None = None

    def delivery(self) -> Delivery:
        return Delivery(
            member_id=self.member_id,
            event=self.event,
            via="replay",
            domain=self.domain,
            event_at=self.event_at,
            user_id=self.user_id,
        )


class _Record(_Kept):
    origin: Literal["portal", "customer"]
    connector: Text
    line_id: _Integer
    message_id: Text
    chat_id: Text
    im_message_id: _Integer | None = None
    im_chat_id: _Integer | None = None

    def parts(self) -> tuple[Delivery, Deletion]:
        deletion = Deletion(
            origin=self.origin,
            connector=self.connector,
            line_id=self.line_id,
            message_id=self.message_id,
            chat_id=self.chat_id,
            im_message_id=self.im_message_id,
            im_chat_id=self.im_chat_id,
            user_id=self.user_id,
        )
        return self.delivery(), deletion


class _EventPart(_Kept):
    id: str
    payload: str
    part: _Integer
    parts: _Integer
