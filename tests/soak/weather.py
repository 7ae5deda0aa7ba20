"""Faults of the store and ends of the function, one at a time for all portals."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Lock
from typing import Final, Self

from tests.doubles.bitrix24 import Bitrix24
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.function import Function
from tests.doubles.tcp_proxy import TcpProxy

STORE_DEADLINE_SECONDS: Final = 1.0
"""Short, so that faults bite soon."""

SECONDS: Final = (0.2, 1.5)
"""The shortest and longest fault of the store: a retry survives the first, no request the other."""

_SLOW_SECONDS: Final = 0.1


class Weather:
    """Faults of the store behind `proxy`, and ends of `function`; leaving the block ends them.

    `struck` counts the faults by kind and by what they interrupted. `killed` has the length of the
    function's log at each kill: a line may be missing there.
    """

    def __init__(self, bitrix: Bitrix24, function: Function, proxy: TcpProxy) -> None:
        self.struck: Counter[tuple[str, str]] = Counter()
        self.killed: list[int] = []
        self._function_is_up = Event()
        self._function_is_up.set()
        self._bitrix = bitrix
        self._function = function
        self._proxy = proxy
        self._one_at_a_time = Lock()
        self._pool = ThreadPoolExecutor()
        self._ends: list[Future[None]] = []
        self._faults: dict[str, Callable[[float], Callable[[], None]]] = {
            "the store is cut off": self._cut,
            "the store hangs": self._hang,
            "the store's answers are lost": self._swallow,
            "the store is slow": self._slow,
            "the function is killed": self._kill,
            "the function is stopped": self._stop,
        }

    @property
    def kinds(self) -> list[str]:
        """The names of the faults."""
        return list(self._faults)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bitrix.clear_faults()
        self._pool.shutdown()
        self._check()

    def wait_for_function(self) -> None:
        """Wait until the function is up; raises what went wrong when a fault ended."""
        self._function_is_up.wait()
        self._check()

    def _check(self) -> None:
        for end in self._ends:
            if end.done():
                end.result()

    def strike(self, kind: str, seconds: float) -> None:
        """Begin a fault once the previous one is over; it ends by itself after `seconds`."""
        self._one_at_a_time.acquire()
        self._begin(kind, seconds, "calm")

    def _begin(self, kind: str, seconds: float, middle: str) -> None:
        self.struck[kind, middle] += 1
        end = self._faults[kind](seconds)

        def ended() -> None:
            try:
                end()
            finally:
                self._function_is_up.set()
                self._one_at_a_time.release()

        self._ends.append(self._pool.submit(ended))

    def strike_in(
        self, middle: str, method: str, kind: str, seconds: float, *, after_effect: bool
    ) -> Event:
        """Let a fault strike one of the next calls of a method; the returned event says when."""
        struck = Event()

        def in_the_middle(exchange: Exchange, effect: Callable[[], Message]) -> None:
            if not self._one_at_a_time.acquire(blocking=False):  # which may wait for this very call
                self._bitrix.fault(method, in_the_middle)
                exchange.write(effect().encode())
                return
            if after_effect:
                message = effect()
                self._begin(kind, seconds, middle)
            else:
                self._begin(kind, seconds, middle)
                message = effect()
            struck.set()
            exchange.write(message.encode())

        self._bitrix.fault(method, in_the_middle)
        return struck

    @contextmanager
    def store_unavailable(self) -> Iterator[None]:
        """Cut the store off for the block, without any other fault."""
        with self._one_at_a_time:
            self._proxy.cut()
            try:
                yield
            finally:
                self._proxy.heal()

    # Each fault begins, and returns the function that ends it.

    def _cut(self, seconds: float) -> Callable[[], None]:
        self._proxy.cut()
        return self._healed_after(seconds)

    def _swallow(self, seconds: float) -> Callable[[], None]:
        self._proxy.swallow()
        return self._healed_after(seconds)

    def _slow(self, seconds: float) -> Callable[[], None]:
        self._proxy.delay(_SLOW_SECONDS)
        return self._healed_after(seconds)

    def _healed_after(self, seconds: float) -> Callable[[], None]:
        def end() -> None:
            time.sleep(seconds)
            self._proxy.heal()

        return end

    def _hang(self, seconds: float) -> Callable[[], None]:
        self._proxy.freeze()

        def end() -> None:
            time.sleep(seconds)
            self._proxy.thaw()

        return end

    def _kill(self, _seconds: float) -> Callable[[], None]:
        self._function_is_up.clear()
        self._function.kill()
        self.killed.append(len(self._function.log))
        return self._function.start

    def _stop(self, _seconds: float) -> Callable[[], None]:
        self._function_is_up.clear()
        return self._stop_and_start  # it finishes its requests first: maybe the one that struck

    def _stop_and_start(self) -> None:
        self._function.stop()
        self._function.start()
