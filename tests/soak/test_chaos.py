"""No deletion is lost: thousands of them through every fault at once."""

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Store
from tests.conftest import firestore_at
from tests.doubles.bitrix24 import Bitrix24
from tests.doubles.emulator import Emulator, EmulatorMissing, find_jar
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import Function
from tests.doubles.tcp_proxy import TcpProxy
from tests.soak.chaos import (
    KINDS,
    STORE_DEADLINE_SECONDS,
    Backend,
    Chaos,
    Identity,
    Kept,
    read_kept,
    record_identity,
    replay,
)

DELETIONS = int(os.environ.get("CHAOS_DELETIONS", "1000"))
SEED = int(os.environ.get("CHAOS_SEED", "4"))

# How often each fault strikes; with more deletions, more often.
ROUNDS_OF_EACH = max(1, DELETIONS // 2_500)
LIMIT_SECONDS = max(900, DELETIONS / 10)  # on a busy machine


class FrozenByProxy:
    """Freezes the double for everyone who connects through the proxy."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy

    def pause(self) -> None:
        self._proxy.freeze()

    def resume(self) -> None:
        self._proxy.thaw()


@contextmanager
def backend() -> Iterator[tuple[str, str, Backend, TcpProxy]]:
    """Run Google's emulator if there is one, otherwise the double, behind a proxy."""
    try:
        jar = find_jar()
    except EmulatorMissing:
        with FirestoreDouble() as double, TcpProxy(double.host) as proxy:
            yield "the double", double.host, FrozenByProxy(proxy), proxy
        return
    with Emulator(jar) as emulator, TcpProxy(emulator.host) as proxy:
        yield "Google's emulator", emulator.host, emulator, proxy


def test_every_deletion_is_recorded_exactly_once(
    tmp_path: Path, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At least 1,000 deletions go through all faults, and after a replay and a drain all are there.

    Before that, each is in Firestore, in the log or in the portal's queue; what was answered with
    success is in Firestore, and what was answered with 503 in the log, whatever the queue has.
    """
    started = time.monotonic()
    with Bitrix24() as bitrix, backend() as (name, host, firestore, proxy):
        settings = {
            "FIRESTORE_EMULATOR_HOST": proxy.host,
            "GOOGLE_CLOUD_PROJECT": project,
            "STORE_DEADLINE_SECONDS": str(STORE_DEADLINE_SECONDS),
            "TOKEN_CACHE_SECONDS": "1",  # so that tokens are verified all the time, or cannot be
            "ALLOWED_PORTALS": "main.bitrix24.com,plain.bitrix24.com,twins.bitrix24.com",
            "BITRIX24_OAUTH_SERVERS": bitrix.oauth_servers,
            "THREADS": "16",
        }
        store = firestore_at(host, project)
        # Just after its start, Firestore is slower than the deadline, which is not to be tested.
        store.create([Document("warm/up", {})], "at", Deadline(60))
        with Function(tmp_path / "log", **settings) as function:
            chaos = Chaos(
                bitrix=bitrix,
                function=function,
                backend=firestore,
                proxy=proxy,
                seed=SEED,
                until=started + LIMIT_SECONDS,
            )
            try:
                chaos.run(DELETIONS, ROUNDS_OF_EACH)
            finally:
                chaos.heal()
            sent = chaos.sent
            assert len(sent.deletions) >= DELETIONS

            kept = read_kept(function.log_lines)
            bursts = time.monotonic() - started
            records, misfits = stored(store, chaos)
            queue, queued_misfits = chaos.queued()
            before = (
                f"{len(records)} recorded, {len(kept.deletions)} in the log, {len(queue)} queued"
            )
            # Nothing was lost, and nothing appeared from nowhere.
            assert sent.deletions == records.keys() | kept.deletions | queue
            assert sent.misfits == misfits.keys() | kept.misfits | queued_misfits
            # Each answer is true even without the portal's queue.
            assert {200, 422, 503, None} >= {delivery.status for delivery in chaos.deliveries}
            assert chaos.answered(200)[0] <= records.keys()
            assert chaos.answered(422)[1] <= misfits.keys()
            assert chaos.answered(503)[0] <= kept.deletions

            replayed = replay(tmp_path / "log", host, project)
            pings = chaos.drain()

            assert chaos.queued() == (set(), set())
            assert stored(store, chaos) == (
                Counter(dict.fromkeys(sent.deletions, 1)),
                Counter(dict.fromkeys(sent.misfits, 1)),
            )
            again = replay(tmp_path / "log", host, project)
            assert again["recorded"] == 0
            assert (replayed["notes"], again["notes"]) == ([], [])
            assert stored(store, chaos)[0].total() == len(sent.deletions)

            log_hex = set(re.findall(r"[0-9a-f]{32,}", function.log))  # as all secrets are
            assert log_hex.isdisjoint(bitrix.secrets)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{summary(chaos, kept)}\n{before};\n"
            f"{replayed['recorded']} came back by the replay, the others by {pings} pings.\n"
            f"On {name}, seed {SEED}: {bursts:.0f} s of bursts,"
            f" {time.monotonic() - started:.0f} s in all.\n"
        )
    assert [] == [name for name, fault in chaos.injected.items() if not fault.effect]
    # Whether a misfit meets an outage is left to chance here; test_outages.py makes it happen.
    assert kept.unverified
    assert set(chaos.sent.counts) == set(KINDS)


def stored(store: Store, chaos: Chaos) -> tuple[Counter[Identity], Counter[str]]:
    """Count the records, and the quarantined events, by identity."""

    def all_of(collection: str, stamp: str) -> list[Document]:
        return [
            document
            for portal in chaos.portals
            for document in store.newest(
                f"portals/{portal.member_id}/{collection}", stamp, Deadline(60)
            )
        ]

    payloads: list[Any] = [
        json.loads(str(document.fields["payload"]))
        for document in all_of("quarantine", "received_at")
    ]
    return (
        Counter(
            record_identity(document.fields) for document in all_of("deletions", "recorded_at")
        ),
        Counter(payload["no"] for payload in payloads),
    )


def summary(chaos: Chaos, kept: Kept) -> str:
    """Summarise what was sent, how it was answered, and which faults struck."""
    answers = Counter(str(delivery.status or "none") for delivery in chaos.deliveries)
    sent = chaos.sent
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(sent.counts.items()))
    answered = ", ".join(f"{number} {answer}" for answer, number in sorted(answers.items()))
    faults = [
        f"  {fault.times} x {name}: told on {fault.effect}, in {fault.seconds:.0f} s"
        for name, fault in sorted(chaos.injected.items())
    ]
    return "\n".join(
        [
            f"{len(sent.deletions)} deletions and {len(sent.misfits)} misfits ({counts});",
            f"answers: {answered};",
            f"{kept.lines} letters in the log, {kept.unverified} of them unverified;",
            *faults,
        ]
    )
