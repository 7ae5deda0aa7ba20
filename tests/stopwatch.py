"""Time limits that are valid on a busy machine, too."""

from threading import Event, Thread
from typing import Self

_TICK_SECONDS = 0.01


class Stopwatch:
    """Counts seconds in which this process could run, from the beginning of a `with` block.

    Its thread repeatedly sleeps for a hundredth of a second. On a busy machine, it is delayed as
    much as the code under test, so an upper limit judges the code, not the machine. A lower limit
    needs no such care: nothing ends early.
    """

    def __init__(self) -> None:
        self._ticks = 0
        self._stopped = Event()
        self._thread = Thread(target=self._tick, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """The seconds so far; once the block is left, those that it took."""
        return self._ticks * _TICK_SECONDS

    def _tick(self) -> None:
        while not self._stopped.wait(_TICK_SECONDS):
            self._ticks += 1
