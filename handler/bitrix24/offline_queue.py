"""The portal's offline queue: what makes a deletion survive this function's absence.

Bitrix24 does not resend events, but a portal also writes those that are bound offline into a
queue of its own. ONOFFLINEEVENT brings a token that may read it, so it is drained then. Rows are
stored first and removed afterwards, exactly those: whatever ends a drain in between, the rows are
still there at the next ping, and come to the same documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, ValidationError

from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.deadline import Deadline
from handler.events import names
from handler.events.fields import Model, Number, OrNone, Text, UserId
from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder
from handler.stores.interface import Document

_PAGE = 50  # rows; what event.offline.list gives at a time

# With less left, of the seconds or of the share of a shorter STORE_DEADLINE_SECONDS, a page might
# not be done in time; the next ping goes on.
_LEAST_SECONDS = 2.0
_LEAST_SHARE = 0.25

_OURS = {"EVENT_NAME": names.DELETION}


@dataclass
class Drained:
    """What a drain has done; `problem` tells why it ended before the queue was empty."""

    counts: Counts = field(default_factory=Counts)
    quarantined: int = 0
    problem: str | None = None


def drain(rest: Rest, recorder: Recorder, ping: Delivery, deadline: Deadline) -> Drained:
    """Store and remove the queue's deletions, as many as there is time for.

    Where the plan has `rest_offline_extended`, rows are reserved, stored and cleared. Elsewhere
    they are listed, stored and taken one by one: `event.offline.get` takes no list of ids.

    `ping` is the delivery of the ping. Raises `StoreUnavailable`; nothing is removed then that
    is not stored.
    """
    work = _Drain(rest, recorder, ping, deadline)
    try:
        try:
            work.by_reservation()
        except Bitrix24Error as error:
            if error.code != "WRONG_LICENSE":
                raise
            work.one_by_one()
    except Bitrix24Error as error:
        work.done.problem = f"The offline queue is not empty yet: {error}."
    except _OutOfTime:
        work.done.problem = "The offline queue is not empty yet; the next ping goes on."
    return work.done


class _OutOfTime(Exception):  # noqa: N818 - it ends a drain, nothing went wrong
    pass


class _Additional(Model):
    user_id: UserId = None


class _Row(Model):
    """A row of the queue. `EVENT_DATA` and `EVENT_ADDITIONAL` can be `false`."""

    id: Number = Field(alias="ID")
    event: str = Field(alias="EVENT_NAME")
    data: Any = Field(None, alias="EVENT_DATA")
    additional: Annotated[_Additional | None, OrNone] = Field(None, alias="EVENT_ADDITIONAL")
    time: Annotated[AwareDatetime | None, OrNone] = Field(None, alias="TIMESTAMP_X")
    process_id: Annotated[Text | None, OrNone] = Field(None, alias="PROCESS_ID")


class _Drain:
    def __init__(self, rest: Rest, recorder: Recorder, ping: Delivery, deadline: Deadline) -> None:
        self._rest = rest
        self._recorder = recorder
        self._ping = ping
        self._deadline = deadline
        self._least_seconds = min(_LEAST_SECONDS, deadline.remaining * _LEAST_SHARE)
        self.done = Drained()

    def by_reservation(self) -> None:
        while True:
            batch = self._call("event.offline.get", clear=0, limit=_PAGE, filter=_OURS)
            rows = _rows(batch.get("events") if isinstance(batch, Mapping) else None)
            if not rows:
                break
            self._store(rows)
            self._clear(batch.get("process_id"), rows)
        # What an earlier drain reserved and did not come to clear is not given out again.
        reserved = [row for row in self._all() if row.process_id]
        for process_id in {row.process_id for row in reserved}:
            rows = [row for row in reserved if row.process_id == process_id]
            self._store(rows)
            self._clear(process_id, rows)

    def one_by_one(self) -> None:
        taken: set[int] = set()
        while rows := [row for row in self._list(0) if row.id not in taken]:
            self._store(rows)
            for row in rows:
                self._call("event.offline.get", filter={"ID": row.id})
                taken.add(row.id)

    def _all(self) -> list[_Row]:
        rows: dict[int, _Row] = {}
        while page := {row.id: row for row in self._list(len(rows)) if row.id not in rows}:
            rows |= page
        return list(rows.values())

    def _list(self, start: int) -> list[_Row]:
        order = {"ID": "ASC"}
        return _rows(self._call("event.offline.list", filter=_OURS, order=order, start=start))

    def _clear(self, process_id: object, rows: Sequence[_Row]) -> None:
        # Never without ids: that would clear the whole batch.
        ids = [row.id for row in rows]
        self._call("event.offline.clear", process_id=process_id, id=ids)

    def _store(self, rows: Sequence[_Row]) -> None:
        documents: list[Document] = []
        for row in rows:
            delivery = self._delivery(row)
            reading = self._recorder.read(delivery, row.data)
            documents += reading.documents
            if reading.invalid:
                self._recorder.quarantine(delivery, row.data, reading.invalid, self._deadline)
                self.done.quarantined += 1
        self.done.counts += self._recorder.record(documents, self._deadline)

    def _delivery(self, row: _Row) -> Delivery:
        user_id = row.additional.user_id if row.additional else None
        return replace(
            self._ping, event=row.event, via="offline", event_at=row.time, user_id=user_id
        )

    def _call(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 - it is JSON
        if min(self._rest.remaining, self._deadline.remaining) <= self._least_seconds:
            raise _OutOfTime
        return self._rest.call(method, **parameters)


def _rows(listed: object) -> list[_Row]:
    """Read rows; those of other events, and what is no row, are left alone."""
    rows = []
    for one in listed if isinstance(listed, list) else []:
        try:
            row = _Row.model_validate(one)
        except ValidationError:
            continue
        if row.event == names.DELETION:
            rows.append(row)
    return rows
