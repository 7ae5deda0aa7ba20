"""Handles the application's own events: install, ping, uninstall."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from handler.answers import Answer
from handler.bitrix24.drain_lease import Held, Leases, NotTaken
from handler.bitrix24.install import NotProven, prove, refused
from handler.bitrix24.offline_queue import Drained
from handler.bitrix24.portal_upkeep import Upkeep
from handler.bitrix24.portal_visit import Visit
from handler.bitrix24.rest import OUTGOING_SECONDS
from handler.deadline import Deadline
from handler.events.envelope import Event
from handler.log import Log
from handler.portal import Portal, change_portal, log_problem, read_portal
from handler.records.documents import Delivery
from handler.records.recorder import Recorder, name_connectors, name_documents
from handler.settings import Settings
from handler.stores.interface import Store

_TRUE = ("1", 1, True)  # PHP's `true` in a form and in JSON

_WAIT_SECONDS = 2

_NOT_CHECKED = (
    "The bindings were not checked: another drain was under way, or the application was uninstalled"
    " in the meantime. Choose Reinstall again, or install it again."
)
_TAKEN_OVER = (
    "Another application of the portal has taken over; the previous one's token stays accepted"
    " until its uninstall. If that was not intended, delete the new one in Bitrix24, run `python -m"
    " handler portals remove`, and choose Reinstall for the right one."
)
_UNINSTALLED = (
    "The application was uninstalled: nothing from the portal is recorded any more. If that was not"
    " intended, choose Reinstall for the application in Bitrix24, or add it again if it is gone."
)
_NOT_READ = "The offline queue was not read; the next ping continues."


class Application:
    """Answers the events about the application itself. Each method may raise `StoreUnavailable`.

    `proofs` limits how many installs are verified at the same time, `waiting` how many more wait.
    `clock` is for the deadline of an install's outgoing calls.
    """

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], Store],
        recorder: Recorder,
        *,
        proofs: threading.Semaphore,
        waiting: threading.Semaphore,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._recorder = recorder
        self._proofs = proofs
        self._waiting = waiting
        self._now = now
        self._clock = clock

    def install(
        self, event: Event, digest: str, url: str, ping: Delivery, log: Log, *, known: bool
    ) -> Answer:
        """Accept a portal's token if the install is proven; raises `Refused` if it is not.

        With a known token (Reinstall), the answer says why instead, and only `updated_at` changes.
        """
        try:
            proven, administrator, seconds_left = self._prove(event)
        except NotProven as reason:
            if not known:
                raise refused(reason) from None
            self._change(event, self._touched)
            return _installed([str(reason)])
        now = self._now()
        before: Portal | None = None

        def accept(stored: Portal | None) -> Portal:
            nonlocal before
            before = before or stored  # a lost answer leads to another attempt
            confirmed = {name: getattr(proven, name) for name in proven.model_fields_set}
            known = stored or proven.model_copy(update={"allowed": False})
            # Until the bindings are checked, they may be missing.
            update = {**confirmed, "checked_at": None}
            return known.with_token(digest, now).model_copy(update=update)

        self._change(event, accept)
        warning = _TAKEN_OVER if _is_taken_over(before, proven) else ""
        held = self._leases(event).take(administrator or 0, postponable=False)
        if not isinstance(held, Held):
            return _installed([_NOT_CHECKED], warning=warning)
        held.deadline = Deadline(seconds_left)  # waiting for the lease does not count
        upkeep, visit = self._visit(event, held, url, ping, log)
        with visit.released():
            upkeep.bind(administrator)
            if upkeep.checked and (before or not upkeep.queue_is_new):
                visit.drain(announced=False)
            else:  # a new portal's queue is empty, if it could be bound
                visit.done.left = None if upkeep.details else 0
                visit.end()
        return _installed(upkeep.details, upkeep.other_hosts, warning=warning)

    def recover(self, event: Event, url: str, ping: Delivery, log: Log) -> Answer:
        """Drain the portal's offline queue with the ping's token."""
        held = self._leases(event).take(event.auth.user_id or 0)
        if held is NotTaken.POSTPONED:
            return Answer(200, {"status": "postponed"})
        if not isinstance(held, Held):
            return _recovered(Drained(detail=_NOT_READ), [], [])
        upkeep, visit = self._visit(event, held, url, ping, log)
        with visit.released():
            if upkeep.begin():
                visit.drain()
            else:
                visit.end()
        return _recovered(visit.done, upkeep.details, upkeep.other_hosts)

    def uninstall(self, event: Event, digest: str, log: Log, deadline: Deadline) -> Answer:
        """Stop accepting the event's token; the records stay, even if `CLEAN` is set."""
        clean = isinstance(event.data, Mapping) and event.data.get("CLEAN") in _TRUE
        now = self._now()
        before: Portal | None = None

        def give_up(stored: Portal | None) -> Portal | None:
            nonlocal before
            before = before or stored
            return stored and stored.without_token(digest, now, clean=clean)

        after = change_portal(self._open_store(), event.auth.member_id, give_up, deadline)
        warning = ""
        if before and before.active and after and not after.active:
            log_problem(log, before, after, event.name)
            warning = _UNINSTALLED
        return Answer(200, {"status": "uninstalled"}, warning=warning)

    def _prove(self, event: Event) -> tuple[Portal, int | None, float]:
        """Return the portal, the administrator's id, and the seconds left for further calls."""
        if not (self._proofs.acquire(blocking=False) or self._wait()):
            raise NotProven(
                "Too many installs at the same time.", "If it was yours, try again in a minute."
            )
        deadline = Deadline(OUTGOING_SECONDS, self._clock)
        try:
            proven, administrator = prove(
                event.auth,
                self._settings,
                lambda: read_portal(self._open_store(), event.auth.member_id, self._deadline()),
                deadline,
            )
        finally:
            self._proofs.release()
        return proven, administrator, deadline.remaining

    def _wait(self) -> bool:
        """Wait for a turn to verify an install; return whether it came in time."""
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._proofs.acquire(timeout=_WAIT_SECONDS)
        finally:
            self._waiting.release()

    def _touched(self, stored: Portal | None) -> Portal | None:
        return stored and stored.model_copy(update={"updated_at": self._now()})

    def _change(self, event: Event, change: Callable[[Portal | None], Portal | None]) -> None:
        change_portal(self._open_store(), event.auth.member_id, change, self._deadline())

    def _deadline(self) -> Deadline:
        return Deadline(self._settings.store_deadline_seconds)

    def _leases(self, event: Event) -> Leases:
        seconds = self._settings.store_deadline_seconds
        return Leases(self._open_store(), event.auth.member_id, self._now, seconds)

    def _visit(
        self, event: Event, held: Held, url: str, ping: Delivery, log: Log
    ) -> tuple[Upkeep, Visit]:
        upkeep = Upkeep(
            event.auth,
            held.portal,
            url=self._settings.function_url or url,
            settings=self._settings,
            deadline=held.deadline,
            now=self._now,
        )
        visit = Visit(
            event,
            held,
            upkeep,
            settings=self._settings,
            recorder=self._recorder,
            ping=ping,
            log=log,
            now=self._now,
        )
        return upkeep, visit


def _is_taken_over(before: Portal | None, proven: Portal) -> bool:
    """Return whether another application was installed at an active portal before."""
    if before is None or not before.active or before.client_id is None:
        return False
    return before.client_id != proven.client_id


def _installed(
    details: Sequence[str], other_hosts: Sequence[str] = (), *, warning: str = ""
) -> Answer:
    detail = {"detail": " ".join(details)} if details else {}
    body = {"status": "installed", "subscribed": not details, **detail}
    return Answer(200, body, log=_hosts(other_hosts), warning=warning)


def _recovered(done: Drained, details: Sequence[str], other_hosts: Sequence[str]) -> Answer:
    sentences = [*details, *([done.detail] if done.detail else [])]
    counts = {"quarantined": done.quarantined, "ignored": len(done.left_out)}
    detail = {"detail": " ".join(sentences)} if sentences else {}
    body = {"status": "recovered", **vars(done.counts), **counts, **detail}
    documents = name_documents(ids=done.ids, quarantine_ids=done.quarantine_ids)
    left_out = name_connectors(done.left_out)
    return Answer(200, body, log={**documents, **left_out, **_hosts(other_hosts)})


def _hosts(other_hosts: Sequence[str]) -> Mapping[str, object]:
    return {"other_hosts": other_hosts} if other_hosts else {}
