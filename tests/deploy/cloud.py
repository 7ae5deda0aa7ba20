"""A Google Cloud project as deploy.sh sees it, and the script that works on it."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.doubles.function import ROOT
from tests.doubles.gcloud import FakeCloud

SCRIPT = ROOT / "deploy.sh"
READS = {"version", "info", "list", "describe", "list-configs", "get-iam-policy", "read"}
READS |= {"print-access-token", "--help"}
# The programs that deploy.sh needs apart from gcloud and curl; the tests provide no others.
TOOLS = [
    *("awk", "bash", "cat", "cksum", "cut", "dirname", "env", "grep", "head", "mktemp", "rm"),
    *("sed", "tee", "tr"),
]
SERVICE = "bitrix24-deletions"
HOST = f"{SERVICE}-123456789012.europe-west1.run.app"
RUN = f"serviceAccount:{SERVICE}-run@my-project.iam.gserviceaccount.com"
FIRST = ("--project=my-project", "--portal=mycompany.bitrix24.com")
ALL = (*FIRST, "--alert-email=ops@example.com", "--uptime-check", "--backups", "--pitr")
# To test with another bash: DEPLOY_TEST_BASH=/path/to/bash-3.2/bash
BASH = os.environ.get("DEPLOY_TEST_BASH", "bash")


class Cloud(FakeCloud):
    """A Google Cloud project, and the script that works on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            version="528.0.0",
            account="me@example.com",
            billing="True",
            projects={"my-project": "123456789012"},
            people={
                "user:me@example.com": ["roles/owner"],
                "group:support@example.com": ["roles/logging.viewer", "roles/datastore.viewer"],
                "group:developers@example.com": ["roles/run.developer", "roles/logging.logWriter"],
            },
            health=["200"],
            check=[(0, "")],
        )
        self.bin = folder
        for tool in TOOLS:
            (folder / tool).symlink_to(shutil.which(BASH if tool == "bash" else tool) or tool)

    @property
    def service(self) -> dict[str, Any]:
        service: dict[str, Any] = self.state["services"][SERVICE]
        return service

    def run(self, *options: str, typed: str = "") -> str:
        """Run the script, which must succeed."""
        code, output = self.attempt(*options, typed=typed)
        assert code == 0, output
        return output

    def attempt(self, *options: str, typed: str = "") -> tuple[int, str]:
        """Run the script; `calls` then has this run's calls."""
        self.calls.clear()
        self.inputs.clear()
        done = subprocess.run(
            [SCRIPT, *options],
            env={"PATH": str(self.bin)},
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def changes(self) -> list[list[str]]:
        gcloud = [call for call in self.calls if call[0] == "gcloud"]
        return [call for call in gcloud if not READS.intersection(call)]

    @property
    def changed(self) -> list[str]:
        """Each changing command as words, without flags."""
        return [
            " ".join(word for word in call[1:] if not word.startswith("--"))
            for call in self.changes
        ]

    def settings(self) -> dict[str, str]:
        """Return the environment variables that this run's deployment set."""
        (deploy,) = [call for call in self.changes if call[1:3] == ["run", "deploy"]]
        (flag,) = [word for word in deploy if word.startswith("--update-env-vars=^@^")]
        pairs = flag.removeprefix("--update-env-vars=^@^").split("@")
        return dict(pair.split("=", 1) for pair in pairs)


def printed(output: str) -> list[list[str]]:
    """Parse the commands that a run printed, like a shell; of a pipe, only the gcloud command."""
    joined = re.sub(r" \\\n +", " ", output)
    lines = [line.strip() for line in joined.splitlines()]
    words = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]
    return [each[each.index("|") + 1 :] if "|" in each else each for each in words]


@contextmanager
def served(folder: Path) -> Iterator[Cloud]:
    """Provide an empty project, on its own PATH."""
    folder.mkdir()
    cloud = Cloud(folder)
    with cloud.serve(folder, "gcloud", "curl", "sleep") as server:
        yield cloud
        server.shutdown()
