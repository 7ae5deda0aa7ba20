"""A shell for every test of a command."""

from pathlib import Path

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Use an empty embedded store for the commands."""
    path = tmp_path / "store.sqlite3"
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(path))
    return Shell(path, capsys)
