"""One event's work at its portal under the lease: upkeep, draining the queue, saving the result."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from handler.bitrix24.call_budget import Budget
from handler.bitrix24.drain_lease import Held
from handler.bitrix24.offline_queue import UNKNOWN, Drained, Queue
from handler.bitrix24.portal_upkeep import Upkeep
from handler.bitrix24.rest import UnansweredError
from handler.deadline import Deadline
from handler.events.envelope import Event
from handler.log import Log
from handler.portal import Portal, QueueLeft, log_problem
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import StoreUnavailable

# How long the uncounted calls of an interrupted drain may take to be paid off, at one a second: at
# most 20 calls in its 10 seconds of work, less the 12 seconds of its lease.
_UNKNOWN_DEBT = timedelta(seconds=8)

# After a ping, a portal sends no other for a second (Bitrix24's source code), so rows added in
# that second are not announced: the queue is read once it has passed.
_UNANNOUNCED_SECONDS = 1.05

# A lease that cannot be released expires soon, so there is no need to wait longer.
_RELEASE_SECONDS = 1

# With less left, another drain would not reach its second call.
_SECONDS_FOR_A_DRAIN = 0.6

_MORE = "More rows were added to the offline queue while the drain ended; the next ping reads them."


class Visit:
    """One visit; `done` is the result of its drains. Each method may raise `StoreUnavailable`."""

    def __init__(
        self,
        event: Event,
        held: Held,
        upkeep: Upkeep,
        *,
        settings: Settings,
        recorder: Recorder,
        ping: Delivery,
        log: Log,
        now: Callable[[], datetime],
    ) -> None:
        portal = held.portal
        self.done = Drained()
        self._event = event
        self._held = held
        self._upkeep = upkeep
        self._settings = settings
        self._recorder = recorder
        self._ping = ping
        self._log = log
        self._now = now
        paid_until = now() + _UNKNOWN_DEBT if held.overdue else portal.calls_until
        self._budget = Budget(paid_until, now, held.deadline)
        self._queue: Queue | None = None
        self._announced = time.monotonic()
        # Unless the last drain emptied the queue, rows may still be reserved.
        self._reserved = held.overdue or portal.drained_at is None or portal.queue_left is not None

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release the lease on any exception, if possible."""
        try:
            yield
        except BaseException:
            with suppress(StoreUnavailable):
                self._release(may_continue=False, deadline=Deadline(_RELEASE_SECONDS))
            raise

    def drain(self, *, announced: bool = True) -> None:
        """Drain the queue, and again for as long as more rows are announced."""
        if not announced:
            self._announced -= _UNANNOUNCED_SECONDS
        self._drain_once()
        while not self.end(may_continue=True):
            self._announced = time.monotonic()
            self._drain_once()

    def end(self, *, may_continue: bool = False) -> bool:
        """Release the lease and save the result; `False` if more rows were announced."""
        time_is_left = self._held.deadline.remaining > _SECONDS_FOR_A_DRAIN
        may_continue = may_continue and time_is_left and self.done.error is None
        return self._release(may_continue=may_continue)

    def _release(self, *, may_continue: bool, deadline: Deadline | None = None) -> bool:
        seen = self._held.finish(self._noted, may_continue=may_continue, deadline=deadline)
        if seen is None:
            return False
        log_problem(self._log, *seen, self._event.name)
        return True

    def _drain_once(self) -> None:
        waits = self._announced + _UNANNOUNCED_SECONDS - time.monotonic()
        waited = max(0.0, min(waits, self._held.deadline.remaining - _SECONDS_FOR_A_DRAIN))
        time.sleep(waited)
        reserved = self._reserved or self._upkeep.checked
        self._queue = self._queue or self._open_queue()
        self._queue.drain(reserved=reserved)
        self._reserved = self.done.left != 0
        silent = isinstance(self.done.error, UnansweredError) and not self.done.answered
        if silent and self._upkeep.has_moved():
            self._queue = self._open_queue()
            self._queue.drain(reserved=True)
        self._upkeep.note(self.done.error)
        if self.done.left == 0 and waited < waits:
            self.done.left, self.done.detail = UNKNOWN, _MORE

    def _open_queue(self) -> Queue:
        return Queue(
            self._upkeep.rest(self._budget),
            self._recorder,
            self._ping,
            self._budget,
            self._log,
            done=self.done,
            deadline=self._held.deadline,
            page_seconds=self._settings.store_deadline_seconds,
        )

    def _noted(self, stored: Portal) -> Portal:
        """Return the portal with the results of this visit."""
        now, left = self._now(), self.done.left
        announced = stored.drain and stored.drain.again and not stored.drain.follows
        if not left and announced:
            left = UNKNOWN
            self.done.detail = _MORE
        update = {**self._upkeep.update, "calls_until": self._budget.paid_until}
        if stored.client_id != self._held.portal.client_id:  # an application came or went meanwhile
            update["client_id"] = stored.client_id
        if left == 0:
            update |= {"drained_at": now, "queue_left": None}
        elif left is not None:
            update |= {"queue_left": QueueLeft(rows=left, at=now)}
        return stored.model_copy(update=update).with_problem(self._upkeep.problem, now)
