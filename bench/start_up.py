"""The time from a new process to its first answer."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from bench import client, sample
from bench.database import Database
from bench.server import FUNCTION, HELLO, SMALLEST, Server
from bench.table import Row, milliseconds, times
from bench.timing import interleave

_ROUNDS: Final = 15
_RECORDED_AT_MOST: Final = 0.75
_REFUSED_AT_MOST: Final = 1.5

# Each request with the expected status.
_REFUSALS: Final = {
    "bad body": (client.post(b"x[a]=1"), 400),
    "405": (client.bare("PUT"), 405),
    "`/health`": (client.bare("GET", "/health"), 200),
}


def first_recorded(sources: Path, database: Database) -> Iterator[Row]:
    """Compare the first recorded deletion with that of the smallest function."""
    numbers = count()

    def start(source: str) -> Callable[[], float]:
        def measure() -> float:
            request = client.post(sample.body(f"{source}-{next(numbers)}"))
            return _first_answer(sources, source, request, 200, **database.settings)

        return measure

    ours, reference = interleave(start(FUNCTION), start(SMALLEST), rounds=_ROUNDS)
    yield Row(
        f"new process to the first recorded deletion ({database.name})",
        f"{milliseconds(reference)}: smallest function with the same packages",
        f"{milliseconds(ours)}: {times(ours / reference)}",
        f"at most {times(_RECORDED_AT_MOST)}",
        kept=ours / reference <= _RECORDED_AT_MOST,
    )


def first_refusals(sources: Path) -> Iterator[Row]:
    """Compare the first refusals with the first answer of a hello world."""

    def start(source: str, request: bytes, status: int) -> Callable[[], float]:
        return lambda: _first_answer(sources, source, request, status)

    *all_ours, reference = interleave(
        *(start(FUNCTION, *refusal) for refusal in _REFUSALS.values()),
        start(HELLO, client.bare("GET"), 200),
        rounds=_ROUNDS,
    )
    for name, ours in zip(_REFUSALS, all_ours, strict=True):
        yield Row(
            f"new process to the first refusal: {name}",
            f"{milliseconds(reference)}: hello world",
            f"{milliseconds(ours)}: {times(ours / reference)}",
            f"at most {times(_REFUSED_AT_MOST)}",
            kept=ours / reference <= _REFUSED_AT_MOST,
        )


def _first_answer(
    sources: Path, source: str, request: bytes, expected: int, **settings: str
) -> float:
    with Server(sources, source, **settings) as server, server.connect() as connection:
        status, body = connection.send(request)
        seconds = server.age
    if status != expected:
        raise RuntimeError(f"{source} answered {status}: {body!r}")
    return seconds
