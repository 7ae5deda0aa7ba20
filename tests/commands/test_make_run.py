"""`make run`: trying the function on a machine without any configuration."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.settings import Settings
from tests.doubles.function import ROOT, environment, free_port

INSTALLED = ".venv/.installed"

pytestmark = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("curl") and (ROOT / INSTALLED).exists()),
    reason="needs make, curl, and the environment that `make` makes",
)


@pytest.fixture
def port() -> Iterator[int]:
    """Choose a port, and remove its store from `make run` afterwards."""
    port = free_port()
    yield port
    for path in (ROOT / ".data").glob(f"try-{port}.sqlite3*"):
        path.unlink()


def make_run(port: int | str) -> subprocess.Popen[str]:
    """Start it in its own process group, like a terminal; it must not install anything again.

    A background job of a shell ignores SIGINT, and so would all that it starts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [
                "/usr/bin/env",
                "make",
                "--no-print-directory",
                "-o",
                INSTALLED,
                "run",
                f"PORT={port}",
            ],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def readme_output() -> str:
    """Return what the README shows of the output of `make run`."""
    readme = (ROOT / "README.md").read_text()
    return readme.partition("```sh\nmake run\n```\n\n```\n")[2].partition("```")[0]


def test_the_sample_is_new_each_time_and_the_command_deletes_another_message(port: int) -> None:
    """An earlier run's store is removed; the README shows what is printed."""
    (ROOT / ".data").mkdir(exist_ok=True)
    (ROOT / f".data/try-{port}.sqlite3").write_text("left by an earlier run")
    with make_run(port) as running:
        assert running.stdout
        try:
            said = []
            for line in running.stdout:
                said.append(line)
                if line.startswith("curl "):
                    break
            assert any('"recorded": 1, "duplicates": 0' in line for line in said), said
            shown = [re.escape(line.strip()) for line in readme_output().splitlines() if line]
            assert len(shown) == 4, "the README shows no output"
            for line in shown:
                pattern = line.replace("…", ".*").replace("8080", str(port))
                assert any(re.fullmatch(pattern, one.strip()) for one in said), line
            (record,) = [json.loads(line) for line in said if line.startswith('{"id":')]
            assert ("livechat", "2056") == (record["connector"], record["message_id"])
            for _ in range(2):
                answer = subprocess.run(
                    ["/bin/sh", "-c", said[-1]], capture_output=True, text=True, check=True
                ).stdout
                assert {"status": "recorded", "recorded": 1, "duplicates": 0} == json.loads(answer)
        finally:
            os.killpg(running.pid, signal.SIGINT)
            running.stdout.read()  # to its end, so that the port is free again


@pytest.mark.parametrize("port", ["abc", "0", "65536", ""])
def test_invalid_port_is_distinguished_from_a_taken_one(port: str) -> None:
    """With what would be valid."""
    with make_run(port) as running:
        said, _ = running.communicate()

    told = f"PORT={port} is not valid: use a number from 1 to 65535, as in make run PORT=8081"
    assert told in said
    assert running.returncode != 0


def test_cleaning_keeps_the_records_of_an_embedded_store(tmp_path: Path) -> None:
    """It removes the stores of `make run` only, not the one that STORE=local uses by default."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    store = tmp_path / Settings().local_store_path
    tried = store.with_name("try-8080.sqlite3")
    store.parent.mkdir()
    store.touch()
    tried.touch()

    subprocess.run(["/usr/bin/env", "make", "clean"], cwd=tmp_path, env=environment(), check=True)

    assert [True, False] == [store.exists(), tried.exists()]
