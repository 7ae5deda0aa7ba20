"""What all commands of `python -m handler` have in common."""

import json
import os
import runpy
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from handler.commands import main
from handler.console.printing import print_json
from handler.stores.interface import Document
from tests.commands.shell import MOMENT, Shell
from tests.doubles.function import ROOT, environment

HELP: dict[str, list[str]] = {}
"""What each command line says of itself, word by word."""

for part in (ROOT / "tests/samples/help.txt").read_text().split("$ python -m handler")[1:]:
    line, _, text = part.partition("\n")
    HELP[line.strip()] = text.split()


@pytest.mark.parametrize("line", HELP)
def test_every_command_explains_itself(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Each has --help, which succeeds."""
    monkeypatch.setenv("COLUMNS", "1000")  # breaks no word

    code, out, err = shell(*line.split())

    assert (0, HELP[line], "") == (code, out.split(), err)


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ([], "COMMAND"),
        (["portals"], "ACTION"),
        (["messages"], "ACTION"),
        (["subscription"], "ACTION"),
    ],
)
def test_incomplete_command_line_is_a_usage_error(
    shell: Shell, line: list[str], absent: str
) -> None:
    """Like all others."""
    program = " ".join(["python -m handler", *line])

    told = f"{program}: error: the following arguments are required: {absent}"
    assert told == shell.usage_error(*line)


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        (["deletions", "--portal"], "--portal"),
        (["quarantine", "--portal"], "--portal"),
        (["portals", "remove"], "M"),
        (["portals", "purge", "--yes"], "M"),
        (["messages", "purge", "--user", "27", "--portal"], "--portal"),
    ],
)
def test_a_portal_is_a_member_id_or_a_domain(shell: Shell, line: list[str], argument: str) -> None:
    """Anything else is a plain error."""
    told = shell.usage_error(*line, "a/b")

    problem = "'a/b' is neither a portal's member_id nor its domain"
    assert told.endswith(f"error: argument {argument}: {problem}")


def test_the_module_runs_as_a_program() -> None:
    """`python -m handler`, as in the README."""
    done = subprocess.run(
        [sys.executable, "-m", "handler", "portals", "list", "--json"],
        cwd=ROOT,
        env=environment(STORE="local", LOCAL_STORE_PATH="/proc/no/such/place"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, "") == (done.returncode, done.stdout)
    assert "LOCAL_STORE_PATH=/proc/no/such/place" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_exit_code_is_the_commands(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 only on success."""
    assert (0, "") == shell("portals", "list", "--json")[:2]
    monkeypatch.setattr("sys.argv", ["handler", "portals", "remove", "nobody"])

    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("handler", run_name="__main__")

    assert 1 == exit_.value.code


def test_the_version_is_that_of_the_project(shell: Shell) -> None:
    """It is stored twice, since the function is deployed without pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (0, f"{project['version']}\n", "") == shell("--version")


def test_warnings_are_shown_if_python_enables_them(shell: Shell) -> None:
    """As pytest and -W do; only the default is to ignore them."""
    assert 0 == shell("--version")[0]

    with pytest.raises(UserWarning, match="shown"):
        warnings.warn("shown", stacklevel=1)


@pytest.mark.parametrize("absent", ["pydantic", "handler.commands", "handler.stores.firestore"])
def test_a_python_without_the_dependencies_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    """Wherever the import fails: a system's Python may have some of the packages."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "handler":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)  # as if it could not be imported
    monkeypatch.setattr("sys.argv", ["handler", "portals", "list"])
    monkeypatch.setattr("os.environ", environment())

    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("handler", run_name="__main__")

    told = (
        f"import of {absent} halted; None in sys.modules: run the commands in the environment that"
        " `make run` creates; activate it with `. .venv/bin/activate`."
    )
    assert told == exit_.value.code


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_reader_may_close_the_pipe_early(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    """Like `head`: no traceback follows, not even when the program ends."""
    shell.write("portals/M", active=True)
    shell.record("M", "one", "two")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert 1 == main(["deletions", *flags])


@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv"]])
def test_output_that_cannot_be_written_is_an_error(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
) -> None:
    """On a full disk: no traceback follows, not even when the program ends."""
    shell.write("portals/M", active=True)
    shell.record("M", "one")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert 1 == main(["deletions", *flags])

    told = capsys.readouterr().err.splitlines()[-1]
    assert "Input or output failed: [Errno 28] No space left on device" == told


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_texts_are_shown_in_any_encoding(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    """Windows writes a redirected output in a code page without most of Unicode."""
    shell.write("portals/M", active=True)
    shell.write("portals/M/deletions/1", recorded_at=MOMENT, event_at=MOMENT, text="привет")
    output = tmp_path / "output"
    with output.open("w", encoding=encoding) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert 0 == main(["deletions"])

    assert r"\u043f\u0440\u0438\u0432\u0435\u0442" in output.read_text(encoding)


def test_an_interrupted_command_is_not_a_success(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 plus the signal's number, as in shells."""

    class Interrupted:
        def readline(self) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())

    shell.write("portals/M", active=True)

    assert 130 == shell("portals", "purge", "M")[0]


def test_json_shows_values_set_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """A map or a null in a portal's document is not a `Value`, and stays Firestore's own type."""
    fields: Any = {"active": True, "note": types.Value.pb()(null_value=0)}

    print_json(Document("portals/M", fields))

    shown = json.loads(capsys.readouterr().out)
    assert {"id": "M", "active": True, "note": "null_value: NULL_VALUE\n"} == shown


def test_invalid_setting_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands read the same settings as the function."""
    monkeypatch.setenv("RETENTION_DAYS", "soon")

    code, _, err = shell("portals", "list")

    assert 1 == code
    assert "RETENTION_DAYS='soon' is not valid" in err
