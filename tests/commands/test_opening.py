"""Which store a command uses, and what it says if that cannot be reached."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from grpc import StatusCode

from handler.commands import main
from handler.console.printing import CommandError
from handler.console.store_opening import StoreOpener
from handler.settings import Settings
from tests.commands.shell import Shell
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import ROOT, environment, free_port

GOOGLE_ADVICE = (
    "Check that GOOGLE_CLOUD_PROJECT and FIRESTORE_DATABASE name an existing database, that your"
    " credentials are valid and may read it (`gcloud auth application-default login`, role"
    " roles/datastore.user), and that this machine can reach firestore.googleapis.com."
)


WORD = "Waiting for the store to answer ...\n"


def settings(double: FirestoreDouble, database: str = "(default)") -> Settings:
    """Return settings for a double."""
    return Settings(project="p", database=database, emulator_host=double.host)


@pytest.mark.parametrize("line", ["portals list", "deletions", "quarantine", "portals purge M"])
def test_the_store_is_named_on_stderr(
    shell: Shell, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """An embedded one by its file."""
    main(line.split())

    assert f"Store: {shell.path}" == capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize("database", ["(default)", "named"])
def test_a_database_is_named_as_google_names_it(
    double: FirestoreDouble, capsys: pytest.CaptureFixture[str], database: str
) -> None:
    """With its project; once per command."""
    opener = StoreOpener(settings(double, database), notice_seconds=60)

    assert opener() is opener()

    assert f"Store: projects/p/databases/{database}\n" == capsys.readouterr().err
    assert 1 == double.calls["RunQuery"]


def test_reading_creates_neither_files_nor_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For a mistyped path, the error says so."""
    path = tmp_path / "new" / "store.sqlite3"
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(path))
    told = (
        f"LOCAL_STORE_PATH={path}: no such file. It is created by the function's first write"
        " or by `portals add`; check LOCAL_STORE_PATH.\n"
    )

    for line in ("portals list", "portals remove M", "deletions", "quarantine retry"):
        assert 1 == main(line.split())
        assert ("", told) == capsys.readouterr()
    assert [] == list(tmp_path.iterdir())

    assert 0 == main(["portals", "add", "--member-id", "M", "--token", "T"])
    assert path.is_file()


def test_another_file_is_not_taken_for_an_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor changed."""
    path = tmp_path / "empty"
    path.touch()
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(path))

    assert 1 == main(["deletions"])

    told = f"LOCAL_STORE_PATH={path}: this file is not a store of this program.\n"
    assert ("", told) == capsys.readouterr()
    assert b"" == path.read_bytes()


def test_slow_store_gets_a_notice_and_silent_store_an_error(
    double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    """Instead of a minute of silence."""
    double.hang("RunQuery", times=9)

    with pytest.raises(CommandError) as error:
        StoreOpener(settings(double), answer_seconds=0.3, notice_seconds=0)()

    said = ["Store: projects/p/databases/(default)", "Waiting for the store to answer ..."]
    assert said == sorted(capsys.readouterr().err.splitlines())
    advice = (
        f"Check that the emulator is running at FIRESTORE_EMULATOR_HOST={double.host}, or unset"
        " that variable."
    )
    assert f"Firestore: DEADLINE_EXCEEDED: Deadline Exceeded. {advice}" == str(error.value)


def test_an_answer_is_awaited_for_fifteen_seconds(double: FirestoreDouble) -> None:
    """For all attempts together; the first gets half."""
    StoreOpener(settings(double))()

    assert double.patience is not None
    assert 5 < double.patience < 7.6  # gRPC rounds its time-outs up


def test_the_stores_own_error_is_shown(double: FirestoreDouble) -> None:
    """For a missing database, the emulator is not blamed."""
    double.refuse("RunQuery", StatusCode.NOT_FOUND)

    with pytest.raises(CommandError, match=r"^Firestore: NOT_FOUND: refused by a test"):
        StoreOpener(settings(double))()


@pytest.fixture
def made_up(tmp_path: Path) -> dict[str, str]:
    """Create credentials of a made-up person; Google cannot be reached."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    path = tmp_path / "credentials.json"
    key = {"client_id": "i", "client_secret": "s", "refresh_token": "t", "token_uri": nowhere}
    path.write_text(json.dumps({"type": "authorized_user", **key}))
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(path),
        "GOOGLE_CLOUD_PROJECT": "p",
        "grpc_proxy": nowhere,
    }


def test_unusable_credentials_are_explained(made_up: dict[str, str]) -> None:
    """After a notice, without Python's warnings, with what to check."""
    hurried = """
from handler.console.printing import CommandError
from handler.console.store_opening import StoreOpener
from handler.settings import Settings
try:
    StoreOpener(Settings(project="p"), answer_seconds=1, notice_seconds=0)()
except CommandError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", hurried],
        cwd=ROOT,
        env=environment(**made_up),
        capture_output=True,
        text=True,
        check=False,
    )

    said = ["Store: projects/p/databases/(default)", "Waiting for the store to answer ..."]
    assert said == sorted(done.stderr.splitlines())
    assert done.stdout.startswith("Firestore: ")
    assert done.stdout.endswith(f". {GOOGLE_ADVICE}\n")


def test_google_cloud_error_says_what_to_check(
    made_up: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project, the database, the credentials, the role, and the network."""
    for name, value in made_up.items():
        monkeypatch.setenv(name, value)
    opener = StoreOpener(Settings(project="p"), answer_seconds=0.3)

    with pytest.raises(CommandError) as error:
        opener()

    assert str(error.value).startswith("Firestore: ")
    assert str(error.value).endswith(f". {GOOGLE_ADVICE}")


def test_missing_credentials_are_explained(tmp_path: Path) -> None:
    """Immediately."""
    done = subprocess.run(
        [sys.executable, "-m", "handler", "portals", "list"],
        cwd=ROOT,
        env={**environment(GOOGLE_CLOUD_PROJECT="p", NO_GCE_CHECK="true"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    told = (
        "No Google credentials (DefaultCredentialsError): run `gcloud auth application-default"
        " login`, or set STORE=local to try it without Google Cloud.\n"
    )
    assert (1, "") == (done.returncode, done.stdout)
    assert told == done.stderr.removeprefix(WORD)  # importing is slow on a busy machine
