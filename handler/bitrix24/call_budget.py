"""The rate limit for the REST calls of drains, across all drains and instances."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from handler.deadline import Deadline

# A portal allows a burst of 50 calls and then 2 a second, shared by all callers at one IP address.
_BURST = 10
_SECONDS_PER_CALL = 1.0

# Reserved for the last seconds of a drain, in case more rows are announced.
_RESERVE = 4
_LAST_SECONDS = 2.0


class OutOfTime(Exception):  # noqa: N818 - it ends a drain, nothing went wrong
    """No time is left for another call."""


class Budget:
    """A burst of ten calls, then one per second.

    `paid_until` is when earlier drains' calls are paid off, at one per second; it is passed
    from drain to drain in the portal's document. `deadline` is the drain's.
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
        self._paid = clock() + min(max(debt, 0.0), _BURST * _SECONDS_PER_CALL)
        self.least_seconds = 0.0

    @property
    def paid_until(self) -> datetime | None:
        """When all calls so far will be paid off; `None` if they already are."""
        return self._now() + timedelta(seconds=self._debt) if self._debt else None

    def spend(self) -> None:
        """Wait until a call is allowed; raises `OutOfTime` unless `least_seconds` would be left."""
        wait = self._debt + 1 - _BURST
        if self._deadline.remaining > _LAST_SECONDS:
            with_reserve = self._deadline.remaining - _LAST_SECONDS
            wait = max(wait, min(wait + _RESERVE, with_reserve))
        wait = max(0.0, wait)
        if self._deadline.remaining - wait <= self.least_seconds:
            raise OutOfTime
        self._sleep(wait)
        self._paid = max(self._paid, self._clock()) + _SECONDS_PER_CALL

    @property
    def _debt(self) -> float:
        return max(0.0, self._paid - self._clock())
