"""The Firestore that is measured with: Google's emulator, or its double where there is none."""

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

PROJECT: Final = "bench"
_SECONDS: Final = 30


@dataclass(frozen=True)
class Database:
    """A running database that has the sample's portal in it."""

    name: str
    host: str

    def __post_init__(self) -> None:
        path = f"portals/{sample.MEMBER_ID}"
        self._store.create([Document(path, sample.portal())], "installed_at", Deadline(_SECONDS))

    @property
    def settings(self) -> Mapping[str, str]:
        """The environment variables that lead a function to it."""
        return {"FIRESTORE_EMULATOR_HOST": self.host, "GOOGLE_CLOUD_PROJECT": PROJECT}

    def count_deletions(self) -> int:
        """Tell how many deletions are recorded."""
        collection = f"portals/{sample.MEMBER_ID}/deletions"
        return len(self._store.names(collection, Deadline(_SECONDS), limit=1_000_000))

    @property
    def _store(self) -> Firestore:
        return Firestore.connect(PROJECT, "(default)", self.host, on_google_cloud=False)


@contextmanager
def open_database() -> Iterator[Database]:
    """Run Google's emulator; where it is missing, say so and run the double."""
    try:
        jar = find_jar()
    except EmulatorMissing as missing:
        print(f"{missing}. Its rows are measured with the double of the tests.\n")
        with FirestoreDouble() as double:
            yield Database("double", double.host)
    else:
        with Emulator(jar) as emulator:
            yield Database("emulator", emulator.host)
