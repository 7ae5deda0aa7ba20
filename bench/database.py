"""The Firestores used for measuring, each with the sample's portal in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench import sample
from handler.deadline import Deadline
from handler.stores.firestore import Firestore
from handler.stores.interface import Document
from tests.doubles.emulator import Emulator, EmulatorMissing, find_jar
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.google_cloud import google_cloud

PROJECT: Final = "bench"
_SECONDS: Final = 30


@dataclass(frozen=True)
class Database:
    """A running database; `settings` are the function's environment variables for it."""

    name: str
    host: str
    settings: Mapping[str, str]

    def __post_init__(self) -> None:
        path = f"portals/{sample.MEMBER_ID}"
        self._store.create([Document(path, sample.portal())], "installed_at", Deadline(_SECONDS))

    def count_deletions(self) -> int:
        """Return the number of recorded deletions."""
        collection = f"portals/{sample.MEMBER_ID}/deletions"
        return self._store.count(collection, "recorded_at", Deadline(_SECONDS))

    @property
    def _store(self) -> Firestore:
        return Firestore.connect(PROJECT, "(default)", self.host, on_google_cloud=False)


def plain(name: str, host: str, way: str | None = None) -> Database:
    """Return a database without TLS, possibly reached by a `way` other than its address."""
    settings = {"FIRESTORE_EMULATOR_HOST": way or host, "GOOGLE_CLOUD_PROJECT": PROJECT}
    return Database(name, host, settings)


@contextmanager
def open_database() -> Iterator[Database]:
    """Run Google's emulator, or, with a notice, the double."""
    try:
        jar = find_jar()
    except EmulatorMissing as missing:
        print(f"{missing}. Its rows are measured with the double of the tests.\n")
        with FirestoreDouble() as double:
            yield plain("double", double.host)
    else:
        with Emulator(jar) as emulator:
            yield plain("emulator", emulator.host)


@contextmanager
def open_google_cloud() -> Iterator[Database]:
    """Run the stand-in for Google Cloud: the double over TLS, and a metadata server."""
    with FirestoreDouble() as double, google_cloud(double.host, PROJECT) as (way, _):
        settings = {**way, "GOOGLE_CLOUD_PROJECT": PROJECT}  # as deploy.sh sets it
        yield Database("over TLS, stand-in for Google Cloud", double.host, settings)
