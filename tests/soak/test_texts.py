"""A record ends with its message's last text, in any order and after any crash."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handler.stores.interface import Store
from handler.stores.sqlite import LocalStore
from tests.conftest import firestore_at
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.memory_store import MemoryStore
from tests.soak.texts import Clock, explore

INTERLEAVINGS = int(os.environ.get("TEXT_INTERLEAVINGS", "300"))
SEED = int(os.environ.get("TEXT_SEED", "0"))


@contextmanager
def opened(kind: str, folder: Path, clock: Clock) -> Iterator[Store]:
    """Open one kind of store."""
    if kind == "memory":
        yield MemoryStore()
    elif kind == "embedded":
        yield LocalStore(str(folder / "store.sqlite3"), clock)
    else:
        with FirestoreDouble() as double:
            yield firestore_at(double.host, "texts")


@pytest.mark.parametrize(
    ("kind", "share"), [("memory", 1.0), ("embedded", 0.1), ("firestore", 0.1)]
)
def test_record_ends_with_the_last_text(kind: str, share: float, tmp_path: Path) -> None:
    """Each seed gives one interleaving of events, instances, conflicts and crashes."""
    seeds = range(SEED, SEED + int(INTERLEAVINGS * share))
    for start in range(0, len(seeds), 100):
        clock = Clock()
        with opened(kind, tmp_path, clock) as store:
            for seed in seeds[start : start + 100]:
                explore(store, clock, seed)
