"""The script itself: its help, its dialect, its commands in real gcloud, its uploads."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.cloud import ALL, FIRST, SCRIPT, Cloud
from tests.doubles.function import ROOT


def test_help_lists_every_option() -> None:
    """Exactly those that the parser accepts."""
    shown = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    table = (ROOT / "deploy/options.txt").read_text()
    with_values = re.findall(r"^([a-z-]+) \|", table, re.MULTILINE)
    (switches,) = re.findall(r'^SWITCHES="([^"]*)"', SCRIPT.read_text(), re.MULTILINE)

    options = {*with_values, *switches.split()}
    assert len(options) == 23
    assert options == set(re.findall(r"^  --([a-z-]+)", shown, re.MULTILINE)) - {"help"}


def test_script_is_clean_and_runs_on_old_bash() -> None:
    """Shellcheck and shfmt have no complaints, and nothing is newer than bash 3.2."""
    tools = Path(sys.executable).parent
    scripts = [SCRIPT, *(ROOT / "examples").rglob("*.sh")]
    subprocess.run([tools / "shellcheck", *scripts], check=True)
    subprocess.run([tools / "shfmt", "--diff", *scripts], check=True)

    newer = r"declare -[An]|local -[An]|mapfile|readarray|\$\{\w+(,|\^|@)|&>>|\|&|coproc"
    assert [re.findall(newer, script.read_text()) for script in scripts] == [[] for _ in scripts]


def test_the_script_has_not_grown() -> None:
    """Data belongs in files under deploy/."""
    assert len(SCRIPT.read_text().splitlines()) <= 792


def test_every_declared_index_is_created() -> None:
    """The script parses fields without an index and fields that expire, one per line."""
    text = (ROOT / "deploy/indexes.json").read_text()
    declared = json.loads(text)

    assert declared["indexes"] == []
    assert [entry["indexes"] for entry in declared["fieldOverrides"] if entry["indexes"]] == []
    read = re.findall(
        r'^    \{"collectionGroup": "(\w+)", "fieldPath": "(\w+)", ', text, re.MULTILINE
    )
    assert read == [
        (each["collectionGroup"], each["fieldPath"]) for each in declared["fieldOverrides"]
    ]


def offline_gcloud(folder: Path) -> dict[str, str]:
    """Return an environment in which real gcloud parses, finds no account, and has no network."""
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed: its own parser cannot check the commands")
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLOUDSDK_CONFIG": str(folder),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }


def gcloud(environment: dict[str, str], *arguments: str) -> str:
    """Run the real gcloud."""
    program = shutil.which("gcloud") or "gcloud"
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout


def run_by_gcloud(
    environment: dict[str, str], script: str, *arguments: str, given: str = ""
) -> str:
    """Run a script of this folder with gcloud's Python; its first argument is where gcloud is."""
    where = "value(installation.sdk_root,basic.python_location)"
    root, python = gcloud(environment, "info", f"--format={where}").split()
    return subprocess.run(
        [python, Path(__file__).with_name(script), root, *arguments],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def gcloud_output(environment: dict[str, str], commands: list[list[str]]) -> list[str]:
    """Let real gcloud parse commands, and return its message for each."""
    parsed = run_by_gcloud(environment, "parse_with_gcloud.py", given=json.dumps(commands))
    said: list[str] = json.loads(parsed)
    return said


def test_google_knows_every_field_of_the_json_files(tmp_path: Path) -> None:
    """Only the server would reject a misspelt one."""
    environment = offline_gcloud(tmp_path)
    files = [path for path in (ROOT / "deploy").rglob("*.json") if path.stem != "indexes"]
    wrong = tmp_path / "alerts/wrong.json"
    wrong.parent.mkdir()
    wrong.write_text('{"displayName": "a", "combinerr": "OR"}')

    assert len(files) == 10
    unknown = run_by_gcloud(environment, "read_with_gcloud.py", *map(str, (*files, wrong)))
    assert unknown == "wrong.json: () ['combinerr']\n"


def test_the_example_for_github_is_lint_free(tmp_path: Path) -> None:
    """Zizmor only suggests pinning actions by hash, which is up to the reader."""
    policy = tmp_path / "zizmor.yml"
    policy.write_text('rules: {unpinned-uses: {config: {policies: {"*": ref-pin}}}}')
    command = ["--offline", "--no-progress", "--quiet", f"--config={policy}"]
    example = ROOT / "examples/github-actions/deploy.yml"
    done = subprocess.run(
        [Path(sys.executable).parent / "zizmor", *command, example],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr)
    options = re.findall(r"(--[a-z-]+)", example.read_text())
    assert [each for each in options if each not in (ROOT / "deploy/help.txt").read_text()] == []


def test_real_gcloud_accepts_every_command(deployed: Cloud, old: Cloud, tmp_path: Path) -> None:
    """Each command line, reading or changing, gets as far as "no active account"."""
    environment = offline_gcloud(tmp_path)
    collected: dict[str, list[str]] = {}
    finished = copy.deepcopy(deployed.state)

    def collect(cloud: Cloud, *options: str) -> None:
        cloud.attempt(*options)
        for call, given in zip(cloud.calls, cloud.inputs, strict=True):
            # Here, files replace standard input.
            file = tmp_path / f"{len(collected)}.json"
            file.write_text(given)
            command = [word.replace("-file=-", f"-file={file}") for word in call[1:]]
            if call[0] == "gcloud":
                collected[shlex.join(command)] = command

    deployed.state.update(portals={"(default)": 1}, letters={})
    collect(deployed, "--project=my-project", "--status")
    collect(
        deployed, *FIRST, "--alert-email=second@example.com", "--backups=9", "--dead-letter-days=9"
    )
    collect(deployed, *FIRST, "--database=other", "--yes")
    for _ in range(2):  # with the service, and without it
        collect(deployed, "--project=my-project", "--destroy", "--yes")
    collect(old, *ALL)
    old.state.update({kind: {} for kind in finished if isinstance(finished[kind], dict)})
    old.state.update(projects=finished["projects"])
    collect(old, *ALL, "--connectors=a,b", "--database=another")

    bad = ["run", "deploy", "--no-such-flag"]
    *said, said_of_bad = gcloud_output(environment, [*collected.values(), bad])
    assert said_of_bad.startswith("exit code 2: ")
    assert len(said) > 90
    local = {"version", "info", "auth"}
    wrong = [
        (command, answer)
        for command, answer in zip(collected, said, strict=True)
        if "--help" not in command
        and not ("active account" in answer or (command.split()[0] in local and " 0: " in answer))
    ]
    assert wrong == []


def test_only_what_runs_is_uploaded(tmp_path: Path) -> None:
    """Gcloud's own list for .gcloudignore: main.py, requirements.txt and handler, nothing else."""
    environment = offline_gcloud(tmp_path / "config")
    source = tmp_path / "source"
    wanted = ["handler/__init__.py", "handler/commands/send.py", "main.py", "requirements.txt"]
    unwanted = [
        *("deploy.sh", "README.md", "pyproject.toml", "requirements-dev.txt", "tests/main.py"),
        *("handler/__pycache__/a.cpython-313.pyc", "handler/commands/__pycache__/b.pyc"),
        *(".venv/lib/main.py", ".git/config", ".data/records.json", "tests/handler/x.py"),
        *("deploy/help.txt", "examples/on-deletion/main.py", "docs/deploy.md"),
    ]
    for name in (*wanted, *unwanted):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shutil.copy(ROOT / ".gcloudignore", source)

    listed = gcloud(environment, "meta", "list-files-for-upload", str(source))
    assert sorted(listed.split()) == wanted
