"""Bitrix24, and the function in this process, for the tests of installs and pings."""

import time
from collections.abc import Iterator

import pytest

from tests.doubles.app import App, Stage
from tests.doubles.bitrix24 import Installation, Portal
from tests.function.life import Life


@pytest.fixture(scope="module")
def lasting_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Run one Bitrix24 for all tests of a module."""
    with Stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(lasting_stage: Stage) -> Stage:
    """Return the stage without faults or calls, and with an empty store."""
    lasting_stage.clear()
    return lasting_stage


@pytest.fixture
def portal(stage: Stage) -> Portal:
    """Add the portal that most tests use."""
    return stage.bitrix.add_portal("ours.bitrix24.com")


@pytest.fixture
def app(stage: Stage) -> App:
    """Start a function that accepts installs of that portal."""
    return stage.start(ALLOWED_PORTALS="ours.bitrix24.com")


@pytest.fixture
def installation(portal: Portal, app: App) -> Installation:
    """Install the application, so that its offline queue fills."""
    installation = portal.install("local.ours")
    body = installation.install_event(installation.token())
    assert app.post(body).json == {"status": "installed", "subscribed": True}
    return installation


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the second that a ping waits for rows that the portal may not announce.

    In these tests, nothing is deleted meanwhile.
    """
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def life(stage: Stage, app: App, installation: Installation) -> Life:
    """Install the application, a moment ago."""
    stage.bitrix.calls.clear()
    return Life(stage, app, installation)
