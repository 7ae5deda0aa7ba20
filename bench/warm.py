"""The cost of a deletion in a process that has been running for a while."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import parse_qsl

from bench import client, sample
from bench.client import Connection
from bench.database import Database, plain
from bench.references.waiting import WAIT_SECONDS
from bench.server import FUNCTION, HELLO, WAITING, Server, Worker
from bench.table import Row, microseconds, milliseconds, times
from bench.timing import interleave
from handler.events.body import decode_body
from handler.events.deletion import parse_deletions
from handler.events.envelope import parse_event
from tests.doubles.firestore import FirestoreDouble

_ROUNDS: Final = 15
_REQUESTS: Final = 150

_DECODINGS: Final = 1_000
_DECODING_AT_MOST: Final = 2.5


def cpu(sources: Path, database: Database, at_most: float) -> Iterator[Row]:
    """Compare the worker's CPU for a recorded deletion with that for a hello world.

    Held to one CPU, as on Cloud Run: how much threads disturb each other depends on their number.
    What a thread costs after a wait depends on the machine, so a hello world that waits is measured
    too.
    """
    numbers = count()
    with ExitStack() as running:

        def measure(source: str, answer: bytes) -> Callable[[], float]:
            server = running.enter_context(Server(sources, source, **database.settings))
            with server.connect():
                worker = server.worker
            worker.hold_to_one_cpu()

            def round_of_requests() -> float:
                requests = [
                    client.post(sample.body(f"warm-{next(numbers)}")) for _ in range(_REQUESTS)
                ]
                with server.connect() as connection:
                    return _cpu(worker, connection, requests, answer)

            return round_of_requests

        ours, reference, waiting = interleave(
            measure(FUNCTION, b'"recorded": 1'),
            measure(HELLO, b"Hello"),
            measure(WAITING, b"Hello"),
            rounds=_ROUNDS,
        )
    yield Row(
        f"CPU of the worker for a recorded deletion, warm ({database.name})",
        f"{microseconds(reference)}: hello world;"
        f" {microseconds(waiting)}: one that waits {milliseconds(WAIT_SECONDS)}",
        f"{microseconds(ours)}: {times(ours / reference)}; {times(ours / waiting)}",
        f"at most {times(at_most)} hello world",
        kept=ours / reference <= at_most,
    )


def _cpu(worker: Worker, connection: Connection, requests: list[bytes], answer: bytes) -> float:
    before = worker.cpu_seconds
    for request in requests:
        status, body = connection.send(request)
        if status != 200 or answer not in body:  # noqa: PLR2004 - OK
            raise RuntimeError(f"It answered {status}: {body!r}")
    return (worker.cpu_seconds - before) / len(requests)


def calls(sources: Path) -> Iterator[Row]:
    """Count the calls to Firestore, with the double."""
    with FirestoreDouble() as double:
        server = Server(sources, FUNCTION, **plain("double", double.host).settings)
        with server, server.connect() as connection:
            counted = []
            for number in range(2):
                before = double.calls.total()
                connection.send(client.post(sample.body(f"call-{number}")))
                counted.append(double.calls.total() - before)
    unknown, known = counted
    yield Row(
        "calls to Firestore for an event, token known / unknown to the instance",
        "",
        f"{known} / {unknown}",
        "1 / 2",
        kept=(known, unknown) == (1, 2),
    )


def decoding() -> Iterator[Row]:
    """Compare decoding and validating with only splitting the form."""
    body = sample.body()

    def validate() -> None:
        event = parse_event(decode_body(sample.FORM, body))
        parse_deletions(event.name, event.data, event.auth.user_id)

    def split() -> None:
        parse_qsl(body)

    ours, reference = interleave(_repeat(validate), _repeat(split), rounds=_ROUNDS)
    yield Row(
        f"decoding and validating a typical body ({len(body)} bytes)",
        f"{microseconds(reference)}: `urllib.parse.parse_qsl` alone",
        f"{microseconds(ours)}: {times(ours / reference)}",
        f"at most {times(_DECODING_AT_MOST)}",
        kept=ours / reference <= _DECODING_AT_MOST,
    )


def _repeat(work: Callable[[], None]) -> Callable[[], float]:
    def measure() -> float:
        started = perf_counter()
        for _ in range(_DECODINGS):
            work()
        return (perf_counter() - started) / _DECODINGS

    return measure
