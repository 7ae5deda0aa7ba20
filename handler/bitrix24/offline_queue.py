"""The portal's offline queue, which holds deletions while the function is unavailable.

Bitrix24 does not resend events, but a portal also keeps a queue of the events that are bound
offline. ONOFFLINEEVENT brings a token that may read it, so that is when it is drained. Rows are
stored first and removed afterwards, which is idempotent: after an interruption, the next ping reads
the same rows into the same documents.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from handler.bitrix24.call_budget import Budget, OutOfTime
from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.deadline import Deadline
from handler.events import names
from handler.events.fields import Model, Number, OrNone, Text, UserId
from handler.log import Log, count
from handler.records import dead_letter
from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder
from handler.stores.interface import Document

_PAGE = 50  # rows; the page size of event.offline.list

# With less left, no further page is started; the first page of a drain needs only the time of a
# call.
_SECONDS_FOR_A_PAGE = 2.0
_SECONDS_FOR_A_CALL = 0.3

# After the work's deadline, fetched rows can still be stored before the lease ends.
_SECONDS_TO_STORE = 1.5

_OURS = {"EVENT_NAME": names.DELETION}

UNKNOWN: Final = "more than 0"  # rows left, if they could not be counted

# Errors that do not mean that the portal refuses batches.
_TRANSIENT = ("", "QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "expired_token", "invalid_token")


@dataclass
class Drained:
    """The result of drains; `detail` says why the last one ended before the queue was empty.

    `left_out` lists the connector of each deletion that CONNECTORS excludes. `left` is how many
    rows remain in the queue, 0 if it is empty, `None` if it was not read. `answered`: the portal
    answered a call of the last drain.
    """

    counts: Counts = field(default_factory=Counts)
    quarantined: int = 0
    left_out: list[str] = field(default_factory=list)
    left: int | str | None = UNKNOWN
    detail: str | None = None
    error: Bitrix24Error | None = field(default=None, compare=False)
    answered: bool = field(default=False, compare=False)
    ids: list[str] = field(default_factory=list, compare=False)
    quarantine_ids: list[str] = field(default_factory=list, compare=False)


class Queue:
    """A portal's offline queue, read with one token.

    If the plan has `rest_offline_extended`, rows are reserved, stored and cleared. Otherwise, a
    page is listed, stored and removed, if possible with one request. `ping` is the ping's delivery,
    `done` the result to add to, `deadline` is for the work, `page_seconds` for storing one page.
    """

    def __init__(
        self,
        rest: Rest,
        recorder: Recorder,
        ping: Delivery,
        budget: Budget,
        log: Log,
        *,
        done: Drained,
        deadline: Deadline,
        page_seconds: float,
    ) -> None:
        self._rest = rest
        self._recorder = recorder
        self._ping = ping
        self._budget = budget
        self._log = log
        self._done = done
        self._deadline = deadline
        self._page_seconds = page_seconds
        self._reserves = True
        self._batches = True

    def drain(self, *, reserved: bool) -> None:
        """Store and remove as many of the queue's deletions as time allows.

        `reserved`: an earlier drain may have left rows reserved, which are not returned again.
        Raises `StoreUnavailable`; every row removed by then is in the store or in the log.
        """
        done = self._done
        done.left, done.detail, done.error, done.answered = UNKNOWN, None, None, False
        self._budget.least_seconds = _SECONDS_FOR_A_CALL
        try:
            stuck = self._by_reservation(reserved=reserved) if self._reserves else None
            if stuck is None:
                self._reserves = False
                stuck = self._by_pages()
        except Bitrix24Error as error:
            done.error = error
            done.detail = f"The offline queue is not empty yet: {error}."
        except OutOfTime:
            done.left = self._count()
            done.detail = "The offline queue is not empty yet; the next ping continues."
        else:
            done.left = stuck
            if stuck:
                rows = count(stuck, "row")
                done.detail = f"{rows} of the offline queue can be neither read nor removed."

    def _by_reservation(self, *, reserved: bool) -> int | None:
        """Reserve, store and clear; return how many rows could not be read.

        `None` if the portal's plan does not allow it.
        """
        stuck = 0
        while True:
            try:
                batch = self._call("event.offline.get", clear=0, limit=_PAGE, filter=_OURS)
            except Bitrix24Error as error:
                if error.code != "WRONG_LICENSE":
                    raise
                return None
            given, rows = _rows(_events(batch))
            if rows:
                self._store(rows)
                self._clear(batch.get("process_id"), rows)
            stuck += given - len(rows)
            if given < _PAGE:  # that was the last page
                break
            self._budget.least_seconds = _SECONDS_FOR_A_PAGE
        if reserved:
            self._clear_reserved()
        return stuck

    def _clear_reserved(self) -> None:
        found: dict[int, _Row] = {}
        while True:
            known = len(found)
            given, page = self._list(known)
            found |= {row.id: row for row in page}
            if given < _PAGE or len(found) == known:
                break
        by_process: dict[str, list[_Row]] = {}
        for row in found.values():
            if row.process_id:
                by_process.setdefault(row.process_id, []).append(row)
        for process_id, rows in by_process.items():
            self._store(rows)
            self._clear(process_id, rows)

    def _by_pages(self) -> int:
        """List, store and remove; return how many rows could be neither read nor removed."""
        passed = 0  # those rows, all at the front
        taken: set[int] = set()
        while True:
            given, rows = self._list(passed)
            fresh = [row for row in rows if row.id not in taken]
            asked = {row.id for row in fresh}
            gone: set[int] = set()
            if fresh:
                self._store(fresh)
                gone = self._remove(fresh, whole=len(rows) == given)
                taken |= asked
            passed += given - len(fresh)
            if given < _PAGE and asked <= gone:
                break
            self._budget.least_seconds = _SECONDS_FOR_A_PAGE
        return passed

    def _remove(self, rows: Sequence["_Row"], *, whole: bool) -> set[int]:
        """Remove stored rows, if possible with one request; return the ids confirmed by the portal.

        `whole`: every row between the first and the last of them was stored.
        """
        answers: Sequence[object] | None = None
        if self._batches:
            answers = self._remove_batch(rows)
            self._batches = answers is not None
        ids = list(dict.fromkeys(row.id for row in rows))
        if answers is None and not whole:
            answers = [self._call("event.offline.get", filter={"ID": one}) for one in ids]
        if answers is None:
            span = {">=ID": min(ids), "<=ID": max(ids), **_OURS}
            answers = [self._call("event.offline.get", filter=span)]
            self._store_unasked(set(ids), _events(answers[0]))
        given = [row for answer in answers for row in _rows(_events(answer))[1]]
        return {row.id for row in given}

    def _remove_batch(self, rows: Sequence["_Row"]) -> Sequence[object] | None:
        """Remove exactly these rows with a batch; return the answers, `None` if it is refused."""
        commands = {
            f"r{row.id}": f"event.offline.get?{urlencode({'filter[ID]': row.id})}" for row in rows
        }
        try:
            answer = self._call("batch", halt=0, cmd=commands)
        except Bitrix24Error as error:
            if error.code in _TRANSIENT:
                raise
            return None
        results = answer.get("result") if isinstance(answer, Mapping) else None
        return list(results.values()) if isinstance(results, Mapping) else None

    def _store_unasked(self, asked: set[int], events: object) -> None:
        """Store rows that were committed late, so that removing a range deleted them unread."""
        for one in events if isinstance(events, list) else ():
            _, rows = _rows([one])
            if rows and rows[0].id in asked:
                continue
            if rows:
                with suppress(Exception):  # on failure, it goes to the log instead
                    self._store(rows)
                    continue
            unknown = replace(
                self._ping, event=names.DELETION, via="offline", event_at=None, user_id=None
            )
            delivery = self._delivery(rows[0]) if rows else unknown
            data = one.get("EVENT_DATA", one) if isinstance(one, Mapping) else one
            dead_letter.log_event(self._log, delivery, data, self._recorder.connectors)

    def _list(self, start: int) -> "tuple[int, list[_Row]]":
        order = {"ID": "ASC"}
        return _rows(self._call("event.offline.list", filter=_OURS, order=order, start=start))

    def _clear(self, process_id: object, rows: Sequence["_Row"]) -> None:
        # Never without ids, which would clear the whole batch.
        ids = [row.id for row in rows]
        if self._call("event.offline.clear", process_id=process_id, id=ids) is not True:
            raise Bitrix24Error("event.offline.clear is not confirmed")

    def _count(self) -> int | str:
        """Count the remaining rows, if there is time."""
        self._budget.least_seconds = _SECONDS_FOR_A_CALL
        try:
            given, _ = self._list(0)
        except (Bitrix24Error, OutOfTime):
            return UNKNOWN
        return given if given < _PAGE else f"more than {_PAGE - 1}"

    def _store(self, rows: Sequence["_Row"]) -> None:
        seconds = min(self._page_seconds, self._deadline.remaining + _SECONDS_TO_STORE)
        deadline = Deadline(seconds)
        documents: list[Document] = []
        for row in rows:
            delivery = self._delivery(row)
            reading = self._recorder.read(delivery, row.data)
            documents += reading.documents
            self._done.left_out += reading.left_out
            if reading.invalid:
                name = self._recorder.quarantine(delivery, row.data, reading.invalid, deadline)
                self._done.quarantine_ids.append(name)
                self._done.quarantined += 1
        self._done.counts += self._recorder.record(documents, deadline)
        self._done.ids += [document.name for document in documents]

    def _delivery(self, row: "_Row") -> Delivery:
        user_id = row.additional.user_id if row.additional else None
        return replace(
            self._ping, event=row.event, via="offline", event_at=row.time, user_id=user_id
        )

    def _call(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 - it is JSON
        result = self._rest.call(method, **parameters)
        self._done.answered = True
        return result


class _Additional(Model):
    user_id: UserId = None


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:  # within a day of Python's first or last; no store accepts it
        raise ValueError from None


class _Row(Model):
    """A row of the queue. `EVENT_DATA` and `EVENT_ADDITIONAL` can be `false`."""

    id: Number = Field(alias="ID")
    event: str = Field(alias="EVENT_NAME")
    data: Any = Field(None, alias="EVENT_DATA")
    additional: Annotated[_Additional | None, OrNone] = Field(None, alias="EVENT_ADDITIONAL")
    time: Annotated[Annotated[AwareDatetime, AfterValidator(_in_utc)] | None, OrNone] = Field(
        None, alias="TIMESTAMP_X"
    )
    process_id: Annotated[Text | None, OrNone] = Field(None, alias="PROCESS_ID")


def _events(batch: object) -> object:
    return batch.get("events") if isinstance(batch, Mapping) else None


def _rows(listed: object) -> tuple[int, list[_Row]]:
    """Parse rows; return how many there were, and the valid deletions among them.

    Raises `Bitrix24Error` if it is not a list, which must not pass for an empty queue.
    """
    if not isinstance(listed, list):
        raise Bitrix24Error("the portal's answer is not valid")
    rows = []
    for one in listed:
        try:
            row = _Row.model_validate(one)
        except ValidationError:
            continue
        if row.event == names.DELETION:
            rows.append(row)
    return len(listed), rows
