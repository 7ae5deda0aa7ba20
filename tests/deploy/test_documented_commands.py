"""The documents' commands, checked by real gcloud and by deploy.sh's help."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.test_script import gcloud_output, offline_gcloud
from tests.doubles.function import ROOT

DOCUMENTS = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "README.md"]
TUTORIAL = ROOT / "deploy/tutorial.md"
FILLED_IN = {
    "gs://ID": "gs://my-project",
    "projects/ID": "projects/my-project",
    "=ID": "=my-project",
    "@ID": "@my-project",
    "NUMBER": "123456789012",
    "BACKUP": "4f1d",
    "LOCATION": "europe-west1",
}


def gcloud_commands() -> Iterator[list[str]]:
    """Return each gcloud command, in a block or in the text, without what follows it."""
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        found = re.findall(r"^ *(gcloud .*)$", text, re.MULTILINE)
        found += re.findall(r"`(gcloud [^`]*)`", text)
        for command in found:
            filled = command
            for name, value in FILLED_IN.items():
                filled = filled.replace(name, value)
            words = shlex.split(filled, comments=True)[1:]
            yield words[: words.index(">")] if ">" in words else words


def test_real_gcloud_accepts_every_command_of_the_documents(tmp_path: Path) -> None:
    """For restore, replay, roll-back, removal, Workload Identity: exactly as written."""
    commands = [words for words in gcloud_commands() if words[0] not in ("auth", "components")]

    said = gcloud_output(offline_gcloud(tmp_path), commands)
    assert len(commands) > 25
    wrong = zip(commands, said, strict=True)
    assert [each for each in wrong if "active account" not in each[1]] == []


def test_the_tutorial_uses_options_that_exist() -> None:
    """Cloud Shell shows it next to a terminal; the console fills in the project."""
    blocks = re.findall(r"```sh\n(.*?)\n```", TUTORIAL.read_text(), re.DOTALL)
    options = {word for block in blocks for word in block.split() if word.startswith("--")}
    known = (ROOT / "deploy/help.txt").read_text()

    assert len(blocks) == 3
    assert options == {"--project", "--portal", "--dry-run", "--status"}
    assert [option for option in options if f"  {option} " not in known] == []
