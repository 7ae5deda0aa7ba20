"""One instance under load."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final

from bench import client, sample
from bench.client import Connection
from bench.database import Database, plain
from bench.latency import far_away
from bench.server import FUNCTION, THREADS, Server
from bench.table import Row, megabytes, milliseconds, times
from bench.timing import interleave

_OK: Final = 200
_TOO_LARGE: Final = 413

# About the real distance, and that of a slow day. The greater it is, the more the deletions per
# second depend on the number of threads, and the less on the machine's CPUs.
_AWAY_MS: Final = 10
_FAR_AWAY_MS: Final = 50
_FEWER_THREADS: Final = 16
_ROUNDS: Final = 15
_DELETIONS_A_ROUND: Final = 400
_FASTER_AT_LEAST: Final = 1.6

_DELETIONS: Final = 1_000
_UNLOADED: Final = 50
_BURST_MEMORY: Final = 30_000_000
_SLOWER_AT_MOST: Final = 5

_LARGE_BODIES: Final = 16
_LARGE_BODY: Final = 32 * 1_048_576
_CHUNK: Final = bytes(65_536)
_LARGE_MEMORY: Final = 64_000_000

_numbers = count()


def bursts(sources: Path, database: Database) -> Iterator[Row]:
    """Send as many concurrent deletions as deploy.sh lets Cloud Run send to an instance."""
    for milliseconds_away in (_AWAY_MS, _FAR_AWAY_MS):
        with far_away(database.host, milliseconds_away / 1000) as way:
            settings = plain(database.name, database.host, way).settings
            yield _throughput(sources, settings, milliseconds_away)
    with far_away(database.host, _AWAY_MS / 1000) as way:
        yield _burst(sources, database, plain(database.name, database.host, way).settings)


def _throughput(sources: Path, settings: Mapping[str, str], milliseconds_away: int) -> Row:
    with ExitStack() as running:

        def measure(threads: int) -> Callable[[], float]:
            own = {**settings, "THREADS": str(threads)}
            server = running.enter_context(Server(sources, FUNCTION, **own))
            with server.connect():  # as soon as it listens
                pass

            def seconds_for_each() -> float:
                started = perf_counter()
                answers = asyncio.run(_send_all(server.port, threads, _DELETIONS_A_ROUND))
                if {status for status, _ in answers} != {_OK}:
                    raise RuntimeError("Some failed.")
                return (perf_counter() - started) / _DELETIONS_A_ROUND

            return seconds_for_each

        ours, reference = interleave(measure(THREADS), measure(_FEWER_THREADS), rounds=_ROUNDS)
    return Row(
        f"deletions a second, as deploy.sh sets it up, Firestore {milliseconds_away} ms each way",
        f"{1 / reference:,.0f}: the same with {_FEWER_THREADS} threads",
        f"{1 / ours:,.0f}: {times(reference / ours)}",
        f"at least {times(_FASTER_AT_LEAST)}",
        kept=reference / ours >= _FASTER_AT_LEAST,
    )


def _burst(sources: Path, database: Database, settings: Mapping[str, str]) -> Row:
    with Server(sources, FUNCTION, **settings) as server, server.connect() as connection:
        unloaded = median(_seconds(connection) for _ in range(_UNLOADED))
        recorded_before = database.count_deletions()
        worker = server.worker
        idle = worker.memory
        worker.forget_peak()
        used, started = worker.cpu_seconds, perf_counter()
        answers = asyncio.run(_send_all(server.port, THREADS, _DELETIONS))
        busy = (worker.cpu_seconds - used) / (perf_counter() - started)
        memory = worker.peak_memory - idle
        lost = _DELETIONS - (database.count_deletions() - recorded_before)
    failed = sum(status != _OK for status, _ in answers)
    p99 = quantiles((seconds for _, seconds in answers), n=100)[-1]
    return Row(
        f"burst of {_DELETIONS:,} deletions, {THREADS} at a time, Firestore {_AWAY_MS} ms each way",
        f"unloaded p50 {milliseconds(unloaded)}; idle {megabytes(idle)}",
        f"{lost} lost, {failed} failed; {megabytes(memory)} more;"
        f" {busy:.0%} of a CPU; p99 {milliseconds(p99)}: {times(p99 / unloaded)}",
        f"none lost, none failed; at most {megabytes(_BURST_MEMORY)} more;"
        f" p99 below {_SLOWER_AT_MOST} times",
        kept=not lost
        and not failed
        and memory <= _BURST_MEMORY
        and p99 < _SLOWER_AT_MOST * unloaded,
    )


def _seconds(connection: Connection) -> float:
    request = client.post(sample.body(f"unloaded-{next(_numbers)}"))
    started = perf_counter()
    status, body = connection.send(request)
    if status != _OK:
        raise RuntimeError(f"It answered {status}: {body!r}")
    return perf_counter() - started


async def _send_all(port: int, at_a_time: int, deletions: int) -> list[tuple[int, float]]:
    """Return the status and the duration of each request."""
    requests = iter([client.post(sample.body(f"burst-{next(_numbers)}")) for _ in range(deletions)])
    answers = []

    async def send_one_after_the_other() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            started = perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(client.content_length(head))
            answers.append((client.status(head), perf_counter() - started))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(send_one_after_the_other() for _ in range(at_a_time)))
    return answers


def large_bodies(sources: Path) -> Iterator[Row]:
    """Send several bodies of Cloud Run's maximum size at the same time."""
    with Server(sources, FUNCTION) as server:
        with server.connect() as connection:
            connection.send(client.bare("GET", "/health"))
        worker = server.worker
        idle = worker.memory
        worker.forget_peak()
        with ThreadPoolExecutor(_LARGE_BODIES) as threads:
            statuses = list(threads.map(_send_large_body, [server.port] * _LARGE_BODIES))
        memory = worker.peak_memory - idle
    refused = statuses.count(_TOO_LARGE)
    yield Row(
        f"{_LARGE_BODIES} parallel bodies of {_LARGE_BODY // 1_048_576} MiB",
        f"idle {megabytes(idle)}",
        f"{refused} refused; {megabytes(memory)} more",
        f"all refused; at most {megabytes(_LARGE_MEMORY)} more",
        kept=refused == _LARGE_BODIES and memory <= _LARGE_MEMORY,
    )


def _send_large_body(port: int) -> int:
    chunks = [_CHUNK] * (_LARGE_BODY // len(_CHUNK))
    with Connection(port) as connection:
        status, _ = connection.send(client.announce(_LARGE_BODY), *chunks)
    return status
