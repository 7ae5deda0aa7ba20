"""Firestore's messages come without the clients of their package, and do not harm them."""

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
    """Run lines in a new process; return what they print."""
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_packages_clients_are_not_imported() -> None:
    """Neither those nor google.auth: they took two thirds of the time to the first record."""
    heavy = ("google.cloud.firestore_v1.services", "google.api_core", "google.auth", "requests")

    loaded = run(OURS, "import sys", "print(*sys.modules, sep='\\n')").split()

    assert "google.cloud.firestore_v1.types.firestore" in loaded
    assert "google.cloud.firestore_v1" not in loaded
    assert [] == [name for name in loaded if name.startswith(heavy)]


@pytest.mark.parametrize("lines", [(OURS, REAL), (REAL, OURS)], ids=["after ours", "before ours"])
def test_the_package_can_be_imported_besides(lines: tuple[str, str]) -> None:
    """Google's own client still works in the same process, with the same messages."""
    assert run(*lines, SAME) == "True\n"


def test_the_messages_are_googles() -> None:
    """They are those of the package where it is imported already."""
    assert messages.import_messages() is types
    assert messages.CommitRequest is types.CommitRequest.pb()
