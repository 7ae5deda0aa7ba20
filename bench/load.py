"""What happens to one instance when much comes at once."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final
from uuid import uuid4

from bench import client, sample
from bench.client import Connection
from bench.database import Database
from bench.server import FUNCTION, HELLO, THREADS, Server
from bench.table import Row, megabytes, milliseconds, times

_OK: Final = 200
_TOO_LARGE: Final = 413

_DELETIONS: Final = 1_000
_AT_A_TIME: Final = 64
_UNLOADED: Final = 200
_BURST_MEMORY: Final = 30_000_000
_SLOWER_AT_MOST: Final = 20

_LARGE_BODIES: Final = 16
_LARGE_BODY: Final = 32 * 1_048_576
_CHUNK: Final = bytes(65_536)
_LARGE_MEMORY: Final = 64_000_000


def bursts(sources: Path, database: Database) -> Iterator[Row]:
    """Send many deletions at a time to an instance that was idle, and to a hello world.

    Once 64 at a time, once as many as deploy.sh lets Cloud Run send to an instance.
    """
    for at_a_time in (_AT_A_TIME, THREADS):
        yield _burst(sources, database, at_a_time)


def _burst(sources: Path, database: Database, at_a_time: int) -> Row:
    with Server(sources, HELLO) as hello, hello.connect() as connection:
        hello_unloaded = _unloaded(connection)
        hello_p99 = _p99(asyncio.run(_send_all(hello.port, at_a_time)))
    server = Server(sources, FUNCTION, **database.settings)
    with server, server.connect() as connection:
        unloaded = _unloaded(connection)
        recorded_before = database.count_deletions()
        worker = server.worker
        idle = worker.memory
        worker.forget_peak()
        answers = asyncio.run(_send_all(server.port, at_a_time))
        memory = worker.peak_memory - idle
        lost = _DELETIONS - (database.count_deletions() - recorded_before)
    failed = sum(status != _OK for status, _ in answers)
    p99 = _p99(answers)
    return Row(
        f"burst of {_DELETIONS:,} deletions, {at_a_time} at a time ({database.name})",
        f"unloaded p50 {milliseconds(unloaded)}; idle {megabytes(idle)};"
        f" hello world: p99 {times(hello_p99 / hello_unloaded)}",
        f"{lost} lost, {failed} failed; {megabytes(memory)} more;"
        f" p99 {milliseconds(p99)}: {times(p99 / unloaded)}",
        f"none lost, none failed; at most {megabytes(_BURST_MEMORY)} more;"
        f" p99 below {_SLOWER_AT_MOST} times",
        kept=not lost
        and not failed
        and memory <= _BURST_MEMORY
        and p99 < _SLOWER_AT_MOST * unloaded,
    )


def _unloaded(connection: Connection) -> float:
    return median(_seconds(connection) for _ in range(_UNLOADED))


def _p99(answers: list[tuple[int, float]]) -> float:
    return quantiles((seconds for _, seconds in answers), n=100)[-1]


def _seconds(connection: Connection) -> float:
    request = client.post(sample.body(uuid4().hex))
    started = perf_counter()
    status, body = connection.send(request)
    if status != _OK:
        raise RuntimeError(f"It answered {status}: {body!r}")
    return perf_counter() - started


async def _send_all(port: int, at_a_time: int) -> list[tuple[int, float]]:
    """Return the status and the duration of each request."""
    ids = (f"burst-{at_a_time}-{number}" for number in range(_DELETIONS))
    requests = iter([client.post(sample.body(message_id)) for message_id in ids])
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
    """Send bodies at the same time that are as large as Cloud Run lets through."""
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
