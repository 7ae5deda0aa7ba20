"""A time limit shared by several operations."""

import time
from collections.abc import Callable


class Deadline:
    """The moment at which the time limit ends."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self._end - self._clock())
