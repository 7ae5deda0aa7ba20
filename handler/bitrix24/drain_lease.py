"""One drain per portal at a time, across all instances: a lease in the portal's document.

A lease lasts 12 seconds and is never renewed, so it expires if its instance is killed; the work
under it ends after 10. If another event of the same user arrives, it notes in the lease that more
rows were announced, and is done. In the last seconds, one such event waits for the lease instead.
An event of another user always waits: its token may be the only one that can read the queue. An
install waits for two leases if necessary, because nobody repeats it.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum, auto
from secrets import token_hex
from typing import Final

from handler.deadline import Deadline
from handler.portal import Lease, Portal, change_portal, read_portal
from handler.stores.interface import Store

LEASE_SECONDS: Final = 12
WORK_SECONDS: Final = 10

# With less left, the holder might end before it sees a note.
_LAST_SECONDS = 3

_POLL_SECONDS = 0.2

# For an install, two leases; while pings arrive every second, another event may take the first.
_PATIENCE_SECONDS = 2 * LEASE_SECONDS


class NotTaken(Enum):
    """Why the lease was not taken."""

    POSTPONED = auto()
    """The same user's drain is under way, and will read the new rows."""
    UNAVAILABLE = auto()
    """The event waited, but another took the lease first; or the portal is no longer active."""


class Held:
    """A lease that this event holds.

    `portal` is as it was when the lease was taken. `overdue`: an earlier holder never released it,
    so rows may still be reserved. `deadline` is for the work.
    """

    def __init__(self, leases: "Leases", portal: Portal, nonce: str, *, overdue: bool) -> None:
        self.portal = portal
        self.overdue = overdue
        self.deadline = Deadline(WORK_SECONDS)
        self._leases = leases
        self._nonce = nonce
        self._seen: tuple[Portal, Portal] | None = None

    def finish(
        self,
        change: Callable[[Portal], Portal],
        *,
        may_continue: bool,
        deadline: Deadline | None = None,
    ) -> tuple[Portal, Portal] | None:
        """End the lease and change the portal; return it before and after.

        With `may_continue`, if more rows were announced and no other event waits for them, the note
        is removed instead, the lease continues, and `None` is returned. Raises `StoreUnavailable`.
        """
        continues = False

        def end(stored: Portal | None) -> Portal | None:
            nonlocal continues
            lease = stored.drain if stored else None
            if not stored or not lease or lease.nonce != self._nonce:
                # Already ended by this event, perhaps in an earlier call whose answer was lost, or
                # expired.
                self._seen = self._seen or (self.portal, self.portal)
                return None
            # The note may be gone because an earlier attempt removed it and its answer was lost.
            continues = may_continue and not lease.follows and (lease.again or continues)
            if continues:
                self._seen = None
                noted = lease.model_copy(update={"again": False})
                return stored.model_copy(update={"drain": noted})
            changed = change(stored) if stored.active else stored
            self._seen = stored, changed.model_copy(update={"drain": None})
            return self._seen[1]

        self._leases.change(end, deadline)
        return self._seen


class Leases:
    """The lease of one portal, for one event of one user."""

    def __init__(
        self, store: Store, member_id: str, now: Callable[[], datetime], store_seconds: float
    ) -> None:
        self._store = store
        self._member_id = member_id
        self._now = now
        self._store_seconds = store_seconds

    def take(self, user: int, *, postponable: bool = True) -> Held | NotTaken:
        """Take the lease, now or when the current one ends; raises `StoreUnavailable`.

        An event that is not `postponable` always waits, and for the next lease as well if another
        event takes that first.
        """
        patience = Deadline(_PATIENCE_SECONDS, lambda: self._now().timestamp())
        taken = self._compete(user, postponable=postponable, may_wait=True)
        while isinstance(taken, Lease):
            self._wait_for_end_of(taken, patience)
            taken = self._compete(user, postponable=postponable, may_wait=False)
            if postponable or not patience.remaining:
                break
        return NotTaken.UNAVAILABLE if isinstance(taken, Lease) else taken

    def change(
        self, change: Callable[[Portal | None], Portal | None], deadline: Deadline | None = None
    ) -> None:
        """Change the portal, by compare-and-set."""
        deadline = deadline or Deadline(self._store_seconds)
        change_portal(self._store, self._member_id, change, deadline)

    def _compete(self, user: int, *, postponable: bool, may_wait: bool) -> Held | NotTaken | Lease:
        """Take the lease if it is free; otherwise return the one to wait for."""
        nonce = token_hex(8)
        outcome: Held | NotTaken | Lease = NotTaken.UNAVAILABLE

        def attempt(stored: Portal | None) -> Portal | None:
            nonlocal outcome
            if stored is None or not stored.active:
                outcome = NotTaken.UNAVAILABLE
                return None
            lease = stored.drain
            # The answer to this event's own write was lost.
            if lease and nonce in (lease.nonce, lease.follower):
                return None
            left = self._seconds_left(lease)
            if lease and left:
                outcome, note = _meet(
                    lease, left, user, nonce, postponable=postponable, waits=may_wait
                )
                return stored.model_copy(update={"drain": note}) if note else None
            outcome = Held(self, stored, nonce, overdue=lease is not None)
            until = self._now() + timedelta(seconds=LEASE_SECONDS)
            taken = Lease(until=until, nonce=nonce, user=user)
            return stored.model_copy(update={"drain": taken})

        self.change(attempt)
        return outcome

    def _seconds_left(self, lease: Lease | None) -> float:
        """Return the seconds left of a lease; one that would last too long is invalid."""
        left = (lease.until - self._now()).total_seconds() if lease else 0.0
        return left if 0 < left < 2 * LEASE_SECONDS else 0.0

    def _wait_for_end_of(self, lease: Lease, patience: Deadline) -> None:
        deadline = Deadline(min(self._seconds_left(lease), patience.remaining))
        while deadline.remaining:
            time.sleep(min(_POLL_SECONDS, deadline.remaining))
            portal = read_portal(self._store, self._member_id, Deadline(self._store_seconds))
            if not portal or not portal.drain or portal.drain.nonce != lease.nonce:
                return


def _meet(
    lease: Lease, left: float, user: int, nonce: str, *, postponable: bool, waits: bool
) -> tuple[NotTaken | Lease, Lease | None]:
    """Decide whether an event waits or is postponed, and what it notes in the lease."""
    if lease.user != user or not postponable:
        return lease, None
    if left >= _LAST_SECONDS:
        note: Mapping[str, object] = {"again": True}
        return NotTaken.POSTPONED, None if lease.again else lease.model_copy(update=note)
    if lease.follows:
        return NotTaken.POSTPONED, None
    follower = {"follows": True, "follower": nonce}
    return lease, lease.model_copy(update=follower) if waits else None
