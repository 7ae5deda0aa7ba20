"""What is made once is made once, however many ask."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

from handler.once import Once


def test_many_threads_get_the_one_that_was_made() -> None:
    """The first makes it, and the others wait for it."""
    threads = 16
    made: list[object] = []
    asking = Barrier(threads)
    others_had_their_chance = Event()

    def make() -> object:
        made.append(object())
        others_had_their_chance.wait(0.1)
        return made[-1]

    once = Once(make)

    def ask(_: int) -> object:
        asking.wait()
        return once()

    with ThreadPoolExecutor(threads) as pool:
        got = list(pool.map(ask, range(threads)))

    assert made * threads == got
