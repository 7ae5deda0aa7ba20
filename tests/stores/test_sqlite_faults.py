"""Unusable files of the embedded store, and opening any store."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from handler.deadline import Deadline
from handler.settings import Settings
from handler.stores.firestore import Firestore
from handler.stores.interface import Document, Store, StoreUnavailable
from handler.stores.opening import LazyStore, open_store
from handler.stores.sqlite import LocalStore
from tests.doubles.firestore import FirestoreDouble
from tests.stopwatch import Stopwatch
from tests.stores.calls import CALLS, COMMIT, RECORD, STAMP, Call, soon

each_call = pytest.mark.parametrize("call", [*CALLS.values(), COMMIT], ids=[*CALLS, "commit"])


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Lock the file against everyone else, including readers."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as file:
        file.execute("BEGIN EXCLUSIVE")
        yield file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path for the store, in a directory that does not exist yet."""
    return tmp_path / "new" / "directory" / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Store:
    """Create an empty store."""
    return LocalStore(str(path))


class TestFile:
    """The file of the embedded store."""

    def test_the_documents_outlive_the_store(self, path: Path) -> None:
        """Opening the file again finds them, and creates nothing."""
        LocalStore(str(path)).create([RECORD], STAMP, soon())

        again = LocalStore(str(path))

        assert again.create([RECORD], STAMP, soon()) == 0
        assert again.get(RECORD.path, soon())

    def test_path_below_a_file_is_an_error(self, tmp_path: Path) -> None:
        """The message names the setting and its value."""
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "store.sqlite3"

        with pytest.raises(StoreUnavailable, match=f"LOCAL_STORE_PATH={path} cannot be created"):
            LocalStore(str(path))

    def test_a_directory_is_not_a_store(self, tmp_path: Path) -> None:
        """The message names the setting."""
        with pytest.raises(StoreUnavailable, match=f"LOCAL_STORE_PATH={tmp_path}: unable to open"):
            LocalStore(str(tmp_path))

    def test_file_that_is_not_a_database_stays_unchanged(self, tmp_path: Path) -> None:
        """Someone's notes are neither used nor overwritten."""
        path = tmp_path / "notes.txt"
        path.write_text("not a database, " * 100)

        with pytest.raises(StoreUnavailable, match=f"LOCAL_STORE_PATH={path}: .*not a database"):
            LocalStore(str(path))

        assert path.read_text() == "not a database, " * 100

    @each_call
    def test_a_file_that_is_damaged_later_makes_the_store_unavailable(
        self, path: Path, store: Store, call: Call
    ) -> None:
        """No SQLite exception reaches the caller."""
        path.write_bytes(b"damaged " * 1_000)

        with pytest.raises(StoreUnavailable, match="LOCAL_STORE_PATH"):
            call.run(store, soon())

    def test_a_directory_that_is_gone_makes_the_store_unavailable(
        self, path: Path, store: Store
    ) -> None:
        """A directory removed while the function runs is not silently recreated."""
        path.unlink()
        path.parent.rmdir()

        with pytest.raises(StoreUnavailable, match="LOCAL_STORE_PATH"):
            store.create([RECORD], STAMP, soon())

    def test_invalid_value_changes_nothing(self, store: Store) -> None:
        """A document that cannot be stored fails the whole call."""
        unfit = Document("a/2", {"value": object()})  # type: ignore[dict-item]  # the point of the test

        with pytest.raises(TypeError, match="A document cannot hold object"):
            store.create([Document("a/1", {}), unfit], STAMP, soon())

        assert not store.names("a", soon(), limit=9)


class TestLock:
    """A file that is locked by another process."""

    @each_call
    def test_a_locked_file_is_waited_for_until_the_deadline(
        self, path: Path, store: Store, call: Call
    ) -> None:
        """The wait is not cut short, and ends in time."""
        deadline = Deadline(0.3)
        with locked(path), Stopwatch() as watch, pytest.raises(StoreUnavailable, match="locked"):
            call.run(store, deadline)

        assert deadline.remaining < 0.05
        assert watch.seconds < 1.3

    @each_call
    def test_a_file_that_is_free_in_time_is_used(
        self, path: Path, store: Store, call: Call
    ) -> None:
        """As soon as the lock is released."""
        with ThreadPoolExecutor(1) as pool, locked(path) as file:
            waiting = pool.submit(call.run, store, soon())
            time.sleep(0.1)
            assert not waiting.done()
            file.execute("ROLLBACK")
            waiting.result()

    def test_passed_deadline_does_not_wait(self, path: Path, store: Store) -> None:
        """A negative time-out would wait endlessly."""
        with locked(path), pytest.raises(StoreUnavailable, match="locked"):
            store.create([RECORD], STAMP, Deadline(-1))

    def test_a_locked_file_is_unlocked_by_failure(self, store: Store) -> None:
        """A call that fails in its transaction releases the file."""
        unfit = Document("a/1", {"value": object()})  # type: ignore[dict-item]  # the point of the test
        for _ in range(3):
            with pytest.raises(TypeError):
                store.create([unfit], STAMP, soon())

        assert store.create([RECORD], STAMP, Deadline(0)) == 1


class TestOpening:
    """Opening the store that the settings name."""

    def test_the_settings_choose_the_embedded_store(self, path: Path) -> None:
        """`STORE=local` is a file at `LOCAL_STORE_PATH`."""
        store = open_store(Settings(store="local", local_store_path=str(path)))

        assert isinstance(store, LocalStore)
        assert path.is_file()

    def test_the_settings_choose_firestores_project_and_database(
        self, double: FirestoreDouble, project: str
    ) -> None:
        """Each project, and each database in it, has separate documents."""

        def firestore(project: str, database: str) -> Store:
            return open_store(
                Settings(project=project, database=database, emulator_host=double.host)
            )

        store = firestore(project, "named")
        store.create([RECORD], STAMP, soon())

        assert isinstance(store, Firestore)
        assert firestore(project, "named").get(RECORD.path, soon())
        assert firestore(project, "(default)").get(RECORD.path, soon()) is None
        assert firestore("other-project", "named").get(RECORD.path, soon()) is None

    def test_nothing_is_opened_before_it_is_needed(self, path: Path) -> None:
        """A function that only answers /health creates no file."""
        LazyStore(Settings(store="local", local_store_path=str(path)))

        assert not path.exists()

    def test_many_threads_share_the_store_that_the_first_opens(self, path: Path) -> None:
        """The others wait for it."""
        threads = 16
        asking = Barrier(threads)
        lazy = LazyStore(Settings(store="local", local_store_path=str(path)))

        def ask(_: int) -> Store:
            asking.wait()
            return lazy()

        with ThreadPoolExecutor(threads) as pool:
            opened = list(pool.map(ask, range(threads)))

        assert opened == [lazy()] * threads

    def test_what_could_not_be_opened_is_tried_again(self, tmp_path: Path) -> None:
        """Once the obstacle is removed, the same function works."""
        obstacle = tmp_path / "obstacle"
        obstacle.touch()
        lazy = LazyStore(Settings(store="local", local_store_path=str(obstacle / "store.sqlite3")))
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                lazy()
        obstacle.unlink()

        assert lazy().create([RECORD], STAMP, soon()) == 1
