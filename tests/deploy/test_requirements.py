"""The deployed dependencies: pinned, with hashes, and working on each Python that Google offers."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.doubles.function import ROOT, environment

UV = str(Path(sys.executable).parent / "uv")
ALONE = """
import main
from handler.stores import firestore, sqlite
from handler.receiver import Request

request = Request(method="GET", path="/health", content_type="", read_body=lambda: b"")
assert main._receiver.receive(request).status == 200
"""


def uv(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run uv, with the machine's settings for its index."""
    return run([UV, *arguments], {**os.environ, **variables})


def run(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_deployed_requirements_are_sufficient(version: str, tmp_path: Path) -> None:
    """With nothing else installed, it imports and answers on every Python from 3.11 on."""
    # pyenv hides all versions except the chosen one.
    chosen = {"PYENV_VERSION": version}
    found = uv("python", "find", "--no-python-downloads", "--system", version, **chosen)
    if found.returncode:
        pytest.skip(f"There is no Python {version} on this machine.")
    python = str(tmp_path / "bin" / "python")
    made = uv("venv", "--quiet", "--python", found.stdout.strip(), str(tmp_path))
    assert (0, "") == (made.returncode, made.stderr)
    where = ("--python", python, "--requirement", "requirements.txt")
    installed = uv("pip", "install", "--quiet", "--require-hashes", *where)
    assert (0, "") == (installed.returncode, installed.stderr)

    done = run([python, "-c", ALONE], environment(STORE="local"))

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    """From any index that the machine is configured for."""
    text = (ROOT / name).read_text()
    entries = re.split(r"(?m)^(?=[a-z])", text)[1:]

    assert len(entries) > 20
    assert all(re.match(r"[a-z0-9-]+(\[\w+\])?==\S+ ", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_tests_run_with_the_deployed_versions() -> None:
    """With the same hashes."""
    pins = re.compile(r"(?m)^([a-z0-9-]+)(?:\[\w+\])?==([^ ;]+)")
    deployed = dict(pins.findall((ROOT / "requirements.txt").read_text()))
    tested = dict(pins.findall((ROOT / "requirements-dev.txt").read_text()))

    assert deployed == {name: tested[name] for name in deployed}


def test_an_update_of_the_dependencies_is_tested(tmp_path: Path) -> None:
    """A pull request that GITHUB_TOKEN opens starts no tests, so the workflow starts them."""
    workflows = ROOT / ".github/workflows"
    update = (workflows / "update.yml").read_text()
    script = textwrap.dedent(update.rpartition("        run: |\n")[2])
    for name in ("git", "gh"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n[ "$2" != --quiet ]\n')
        (tmp_path / name).chmod(0o755)
    command = [shutil.which("bash") or "bash", "-e", "-c", script]
    done = subprocess.run(
        command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )

    pushed, tested, proposed = done.stdout.splitlines()[-3:]
    assert pushed == "git push --force origin update-dependencies"
    assert tested == "gh workflow run test.yml --ref update-dependencies"
    assert proposed.startswith("gh pr create ")
    assert "\npermissions:\n  actions: write\n" in update
    assert "\n  workflow_dispatch:\n" in (workflows / "test.yml").read_text()
