"""What is made when it is first needed, and then kept."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Makes something for whichever thread asks first; whatever `make` raises, the next tries."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return it, the same one each time."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
