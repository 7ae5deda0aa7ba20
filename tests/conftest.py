"""Shared by test modules: Google's emulator, the double, and every kind of store."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from handler.stores.firestore import Firestore
from handler.stores.interface import Store
from handler.stores.sqlite import LocalStore
from tests.doubles.bitrix24 import Bitrix24
from tests.doubles.emulator import Emulator, EmulatorMissing, find_jar
from tests.doubles.firestore import FirestoreDouble

# A time zone other than UTC, so that tests notice a local time.
os.environ["TZ"] = "JST-9"
time.tzset()

# The same examples each time in CI, without time limits: `too_slow` is one, too.
settings.register_profile(
    "project",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=75,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need Google's emulator if there is none; the summary says why."""
    in_need = [item for item in items if isinstance(item, pytest.Function) and needs_emulator(item)]
    if not in_need:
        return
    try:
        find_jar()
    except EmulatorMissing as missing:
        for item in in_need:
            item.add_marker(pytest.mark.skip(reason=str(missing)))


def needs_emulator(item: pytest.Function) -> bool:
    """Return whether a test uses the emulator, by a fixture or a parameter."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return "emulator_jar" in item.fixturenames or "emulator" in parameters


@pytest.fixture(scope="session")
def emulator_jar() -> Path:
    """Find Google's emulator, for tests that stop their own."""
    return find_jar()


@pytest.fixture(scope="session")
def emulator(emulator_jar: Path) -> Iterator[Emulator]:
    """Run one emulator for all tests; separate projects keep their documents apart."""
    with Emulator(emulator_jar) as emulator:
        yield emulator


@pytest.fixture
def double() -> Iterator[FirestoreDouble]:
    """Run a separate double, which may fail."""
    with FirestoreDouble() as double:
        yield double


@pytest.fixture
def bitrix() -> Iterator[Bitrix24]:
    """Run a Bitrix24."""
    with Bitrix24() as bitrix:
        yield bitrix


@pytest.fixture
def project() -> str:
    """Return a project that no other test uses."""
    return f"test-{uuid4().hex[:20]}"


@pytest.fixture
def emulator_store(emulator: Emulator, project: str) -> Store:
    """Open an empty database in Google's emulator."""
    return firestore_at(emulator.host, project)


@pytest.fixture
def double_store(double: FirestoreDouble, project: str) -> Store:
    """Open an empty database in the double."""
    return firestore_at(double.host, project)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """Open an empty embedded store."""
    return LocalStore(str(tmp_path / "store.sqlite3"))


@pytest.fixture(params=["emulator", "double", "local"])
def store(request: pytest.FixtureRequest) -> Store:
    """Open each kind of store in turn, empty."""
    opened: Store = request.getfixturevalue(f"{request.param}_store")
    return opened


def firestore_at(host: str, project: str) -> Firestore:
    """Open a database where the emulator or its double listens."""
    return Firestore.connect(project, "(default)", host, on_google_cloud=False)
