"""Firestore's messages are imported without their package's clients, which stay usable."""

import subprocess
import sys

import pytest
from google.cloud.firestore_v1 import types

from handler.stores import firestore_messages as messages
from tests.doubles.function import ROOT

OURS = "import handler.stores.firestore"
REAL = "import google.cloud.firestore_v1 as real"
SAME = """
import handler.stores.firestore_messages as ours
from google.cloud import firestore
from google.cloud.firestore_v1 import types
assert ours.Write is types.Write.pb()
assert firestore.Client is real.Client
print(real.types.CommitRequest.pb() is ours.CommitRequest)
"""


def run(*lines: str) -> str:
    """Run code in a new process; return its output."""
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_packages_clients_are_not_imported() -> None:
    """Nor google.auth: they took two thirds of the time to the first record."""
    heavy = ("google.cloud.firestore_v1.services", "google.api_core", "google.auth", "requests")

    loaded = run(OURS, "import sys", "print(*sys.modules, sep='\\n')").split()

    assert "google.cloud.firestore_v1.types.firestore" in loaded
    assert "google.cloud.firestore_v1" not in loaded
    assert [] == [name for name in loaded if name.startswith(heavy)]


@pytest.mark.parametrize("lines", [(OURS, REAL), (REAL, OURS)], ids=["after ours", "before ours"])
def test_the_package_can_still_be_imported(lines: tuple[str, str]) -> None:
    """Google's own client works in the same process, with the same messages."""
    assert run(*lines, SAME) == "True\n"


def test_messages_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is already imported or not; it stays so."""
    package = types.__package__.rpartition(".")[0]
    assert messages.import_messages() is types
    assert messages.CommitRequest is types.CommitRequest.pb()
    assert package in sys.modules

    monkeypatch.delitem(sys.modules, package)
    assert messages.import_messages() is types
    assert package not in sys.modules
