"""A browser for all tests of the report, and reports to open in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.commands import main
from tests.browser import month
from tests.browser.chromium import Chromium, ChromiumMissing, find_chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a browser if there is none; the summary says what to install."""
    try:
        find_chromium()
    except ChromiumMissing as missing:
        for item in items:
            if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
                item.add_marker(pytest.mark.skip(reason=str(missing)))


@pytest.fixture(scope="session")
def running() -> Iterator[Chromium]:
    """Start a browser once."""
    with Chromium() as browser:
        yield browser


@pytest.fixture
def browser(running: Chromium) -> Chromium:
    """Return the browser with a desktop window, in light mode."""
    running.show(prefers_color_scheme="light")
    return running


@pytest.fixture(scope="session")
def a_month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the report of a made-up month."""
    folder = tmp_path_factory.mktemp("month")
    month.write_store(folder / "store.sqlite3")
    return make_report(folder / "store.sqlite3", "--since=2026-03-01", "--until=2026-03-31")


def make_report(store: Path, *flags: str) -> Path:
    """Create a report of an embedded store, next to it."""
    page = store.with_suffix(".html")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE", "local")
        patch.setenv("LOCAL_STORE_PATH", str(store))
        assert main(["report", *flags, f"--output={page}"]) == 0
    return page
