"""How often a portal is called while its queue is drained, over all drains and instances."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from handler.deadline import Deadline

# A portal allows 50 calls at once and then 2 a second, for all that call it from one address.
_AT_ONCE = 10
_SECONDS_A_CALL = 1.0

# Kept back until the last seconds of a drain: rows may be announced then, and must be fetched.
_RESERVE = 4
_LAST_SECONDS = 2.0


class OutOfTime(Exception):  # noqa: N818 - it ends a drain, nothing went wrong
    """There is no time left for another call."""


class Budget:
    """At most ten calls at once, and one a second beyond that.

    `paid_until` is when the calls of earlier drains will have been paid for, at one a second; the
    portal's document carries it from drain to drain. `deadline` is the drain's.
    """

    def __init__(
        self,
        paid_until: datetime | None,
        now: Callable[[], datetime],
        deadline: Deadline,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        debt = (paid_until - now()).total_seconds() if paid_until else 0.0
        self._now = now
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._paid = clock() + min(max(debt, 0.0), _AT_ONCE * _SECONDS_A_CALL)
        self.least_seconds = 0.0

    @property
    def paid_until(self) -> datetime | None:
        """When all calls so far will have been paid for, if they are not yet."""
        return self._now() + timedelta(seconds=self._debt) if self._debt else None

    def spend(self) -> None:
        """Wait until a call may be made; raises `OutOfTime` without `least_seconds` left then."""
        wait = self._debt + 1 - _AT_ONCE
        if self._deadline.remaining > _LAST_SECONDS:
            with_reserve = self._deadline.remaining - _LAST_SECONDS
            wait = max(wait, min(wait + _RESERVE, with_reserve))
        wait = max(0.0, wait)
        if self._deadline.remaining - wait <= self.least_seconds:
            raise OutOfTime
        self._sleep(wait)
        self._paid = max(self._paid, self._clock()) + _SECONDS_A_CALL

    @property
    def _debt(self) -> float:
        return max(0.0, self._paid - self._clock())
