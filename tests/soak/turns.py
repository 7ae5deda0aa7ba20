"""Threads that take turns at a store: every order of their calls, and a crash at any of them."""

import threading
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal, TypeAlias

from handler.stores.interface import Store, StoreUnavailable

Fault: TypeAlias = Literal[
    "none",
    "killed before",
    "killed after",
    "lost answer",
    "unavailable before",
    "unavailable after",
]
FAULTS: Sequence[Fault] = (
    "killed before",
    "killed after",
    "lost answer",
    "unavailable before",
    "unavailable after",
)


class Killed(BaseException):
    """The instance is gone in the middle of an event; nothing may catch this."""


class Task:
    """Something that a thread does, from one call of the store to the next.

    `started` and `ended` are the turns in which it did; `result` is `None` if it was killed.
    """

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.fault: Fault = "none"
        self.go = threading.Semaphore(0)
        self.started: int | None = None
        self.ended: int | None = None
        self.result: Any = None
        self.error: BaseException | None = None


class Turns:
    """Lets one task run at a time, up to its next call of the store; a seed repeats the order."""

    def __init__(self, random: Random, fault_share: float) -> None:
        self._random = random
        self._fault_share = fault_share
        self._paused = threading.Semaphore(0)
        self._current = threading.local()
        self._turn = 0

    def run(self, tasks: Sequence[Task]) -> None:
        """Run all tasks to their ends."""
        waiting = list(tasks)
        task = Task(lambda: None)
        while waiting:
            # Often the same one goes on, so that orders without overlap occur as well.
            if task not in waiting or self._random.random() < 0.5:
                task = self._random.choice(waiting)
            faulty = task.started is not None and self._random.random() < self._fault_share
            task.fault = self._random.choice(FAULTS) if faulty else "none"
            self._turn += 1
            if task.started is None:
                task.started = self._turn
                threading.Thread(target=self._perform, args=(task,), daemon=True).start()
            else:
                task.go.release()
            self._paused.acquire()
            if task.ended is not None:
                waiting.remove(task)
                if task.error:
                    raise task.error

    def _perform(self, task: Task) -> None:
        self._current.task = task
        try:
            task.result = task.action()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - `run` raises it
            task.error = error
        task.ended = self._turn
        self._paused.release()

    def call(self, apply: Callable[[], Any]) -> Any:  # noqa: ANN401 - it is the store's
        """Call the store when it is this task's turn, with the fault that was planned for it."""
        task: Task | None = getattr(self._current, "task", None)
        if task is None:
            return apply()
        self._paused.release()
        task.go.acquire()
        if task.fault == "killed before":
            raise Killed
        if task.fault == "unavailable before":
            raise StoreUnavailable("away, said a test")
        answer = apply()
        if task.fault == "killed after":
            raise Killed
        if task.fault == "unavailable after":
            raise StoreUnavailable("gone, said a test")
        if task.fault == "lost answer" and isinstance(answer, bool):
            return False  # like a repeated commit, which meets its own writes
        return answer


class SteppedStore:
    """A store whose calls wait for their turn."""

    def __init__(self, store: Store, turns: Turns) -> None:
        self._store = store
        self._turns = turns

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        return lambda *given, **named: self._turns.call(lambda: method(*given, **named))
