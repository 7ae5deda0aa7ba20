"""A shell for every test of a command."""

from pathlib import Path

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Point the commands to an empty embedded store."""
    path = tmp_path / "store.sqlite3"
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(path))
    return Shell(path, capsys)
