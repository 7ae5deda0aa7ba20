"""`python -m handler portals purge`: nothing is left, and nothing comes back."""

import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document
from tests import samples
from tests.commands.shell import MOMENT, Shell
from tests.doubles.app import App

OUT_OF_REACH = (
    "Not deleted, if they exist: the dead letters (log lines about deletions that could not be"
    " stored; replay now refuses them), the database's backups and its point-in-time recovery,"
    " exports and copies elsewhere, and the portal's own offline queue, which ends when the"
    " application is deleted in Bitrix24.\n"
)
QUESTION = "To delete all of it permanently, type its member_id, M:\n"


LATER = datetime(9000, 1, 1, tzinfo=UTC)


def waits(seconds: str = "68") -> str:
    """Return the message before the wait."""
    return (
        f"Its events are no longer accepted. Waiting {seconds} s until every instance of the"
        " function knows (TOKEN_CACHE_SECONDS plus STORE_DEADLINE_SECONDS) ...\n"
    )


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip waits; return how long they would have been."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def soon() -> Deadline:
    """Return a deadline that is never reached."""
    return Deadline(5)


def keep(shell: Shell, member_id: str) -> None:
    """Store a document of every kind."""
    shell("portals", "add", "--member-id", member_id, "--token", "T")
    shell.record(member_id, "one", "two")
    shell.write(f"portals/{member_id}/quarantine/q", received_at=MOMENT)
    shell.write(f"portals/{member_id}/openline_messages/m", expires_at=LATER)


def test_everything_stored_for_a_portal_is_deleted(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, waited: list[float]
) -> None:
    """After its member_id has been typed, once nothing more can arrive."""
    keep(shell, "M")
    keep(shell, "other")
    monkeypatch.setattr("sys.stdin", io.StringIO("M\n"))

    code, out, err = shell("portals", "purge", "M")

    has = "Portal M has 2 recorded deletions, 1 event in quarantine and 1 message kept.\n"
    done = "Portal M is deleted, with 4 documents: nothing is left.\n"
    assert (0, has + QUESTION + waits() + done + OUT_OF_REACH, "") == (code, out, err)
    assert [68] == waited
    for path in ("", "/quarantine/q", "/openline_messages/m"):
        assert None is shell.fields(f"portals/M{path}")
        assert shell.fields(f"portals/other{path}")
    gone = "There is no portal M. The portals are: other.\n"
    assert (1, "", gone) == shell("deletions", "--portal", "M")
    assert 2 == len(shell.records())


@pytest.mark.parametrize("answer", ["yes\n", "\n", "", "m\n"])
def test_another_answer_keeps_everything(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, waited: list[float], answer: str
) -> None:
    """Habitually typing `yes` deletes nothing; nor does a closed standard input."""
    keep(shell, "M")
    before = shell.fields("portals/M")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))

    code, out, err = shell("portals", "purge", "M")

    told = "Nothing was deleted: that is not the portal's member_id.\n"
    assert (1, True, told) == (code, out.endswith(QUESTION), err)
    assert before == shell.fields("portals/M")
    assert [] == waited


def test_the_question_is_seen_before_the_answer_is_awaited(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even if standard output is not a terminal."""
    keep(shell, "M")
    screen = tmp_path / "screen"
    seen = []

    class Nobody:
        def readline(self) -> str:
            seen.append(screen.read_text())
            return ""

    monkeypatch.setattr("sys.stdin", Nobody())
    with screen.open("w") as out, monkeypatch.context() as redirected:
        redirected.setattr("sys.stdout", out)
        shell("portals", "purge", "M")

    assert [True] == [text.endswith(QUESTION) for text in seen]


@pytest.mark.parametrize(
    ("portal", "cache", "wait"), [("M", "0", "8"), ("x.bitrix24.com", "300", "308")]
)
def test_scripts_are_not_asked(
    shell: Shell, waited: list[float], portal: str, cache: str, wait: str
) -> None:
    """They can set the service's cache time, if it is not the default."""
    shell.write("portals/M", active=True, domain="x.bitrix24.com", token_digests=["d"])

    done = shell("portals", "purge", portal, "--yes", "--cache-seconds", cache)

    has = (
        "Portal M (x.bitrix24.com) has 0 recorded deletions, 0 events in quarantine and 0 messages"
        " kept.\n"
    )
    told = "Portal M is deleted, with 0 documents: nothing is left.\n"
    assert (0, has + waits(wait) + told + OUT_OF_REACH, "") == done
    assert [float(wait)] == waited


LEASE = {"drain": {"until": MOMENT, "nonce": "n", "user": 1}}


@pytest.mark.parametrize(
    ("fields", "cache", "wait"),
    [
        (LEASE, "0", 12),
        (LEASE, "5", 13),
        ({"removed_at": LATER}, "0", 12),  # which deleted the lease, if there was one
        ({"removed_at": MOMENT}, "0", 8),
    ],
)
def test_the_wait_lasts_until_a_drain_has_ended(
    shell: Shell, waited: list[float], fields: dict[str, Any], cache: str, wait: int
) -> None:
    """It continues to store deletions. The lease's own time is by another machine's clock."""
    shell.write("portals/M", active=True, **fields)

    code, out, _ = shell("portals", "purge", "M", "--yes", "--cache-seconds", cache)

    assert (0, [wait]) == (code, waited)
    until = "Waiting 12 s until a drain of its offline queue has ended ..."
    assert (until in out) is (wait == 12)


def test_the_services_settings_say_how_long_to_wait(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, waited: list[float]
) -> None:
    """If the shell has them."""
    monkeypatch.setenv("TOKEN_CACHE_SECONDS", "5")
    monkeypatch.setenv("STORE_DEADLINE_SECONDS", "2.5")
    shell.write("portals/M", active=True)

    assert 0 == shell("portals", "purge", "M", "--yes")[0]
    assert [7.5] == waited


@pytest.mark.parametrize("seconds", ["-1", "soon", "86401"])
def test_invalid_wait_is_an_error(shell: Shell, seconds: str) -> None:
    """With the setting's own message."""
    told = (
        "python -m handler portals purge: error: argument --cache-seconds: use a number of seconds"
        " from 0 to 86400"
    )

    assert told == shell.usage_error("portals", "purge", "M", "--cache-seconds", seconds)


def test_an_unknown_portal_is_a_failure(shell: Shell) -> None:
    """So a mistyped member_id does not look like a success."""
    shell.write("portals/M", active=True)

    told = "There is no portal typo. The portals are: M.\n"
    assert (1, "", told) == shell("portals", "purge", "typo", "--yes")


def test_records_without_a_portal_are_deleted_too(shell: Shell) -> None:
    """An earlier version's `remove` left them; no portal is created."""
    shell.record("M", "one")

    code, out, _ = shell("portals", "purge", "M", "--yes")

    assert 0 == code
    assert "Portal M is deleted, with 1 document: nothing is left.\n" in out
    assert None is shell.fields("portals/M")


def test_records_stored_during_the_wait_are_deleted_too(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance may trust the token for as long as the command waits, and no longer."""
    body = samples.form("portal-one-message")
    member_id = samples.typed("portal-one-message")["auth"]["member_id"]
    token = samples.typed("portal-one-message")["auth"]["application_token"]
    shell("portals", "add", "--member-id", member_id, "--token", token)
    app = App(shell.path, TOKEN_CACHE_SECONDS="60")
    assert 200 == app.post(body).status  # from now on the token is trusted
    late = samples.form("portal-two-external-ids")
    assert samples.typed("portal-two-external-ids")["auth"]["member_id"] == member_id
    meanwhile = []

    def wait(_seconds: float) -> None:
        fields = shell.fields(f"portals/{member_id}")
        assert fields
        stays = {"active", "allowed", "installed_at", "member_id", "removed_at", "updated_at"}
        assert stays == fields.keys()
        assert not fields["active"]
        meanwhile.append(app.post(late).status)

    monkeypatch.setattr("time.sleep", wait)

    code, out, _ = shell("portals", "purge", member_id, "--yes")

    assert ([200], 0) == (meanwhile, code)
    assert f"Portal {member_id} is deleted, with 3 documents: nothing is left.\n" in out
    assert [] == shell.store.names(f"portals/{member_id}/deletions", soon(), limit=9)
    assert 403 == App(shell.path).post(late).status


def test_record_stored_after_the_wait_is_deleted_too(shell: Shell) -> None:
    """By an instance that was slower than its deadline."""
    shell.write("portals/M", active=True)
    with closing(sqlite3.connect(shell.path)) as file:
        file.execute(
            "CREATE TRIGGER late AFTER DELETE ON documents WHEN OLD.collection = 'portals' BEGIN"
            " INSERT INTO documents (collection, name, fields)"
            " VALUES ('portals/M/deletions', 'late', '{}'); END"
        )

    _, out, _ = shell("portals", "purge", "M", "--yes")

    assert "Portal M is deleted, with 1 document: nothing is left.\n" in out
    assert None is shell.fields("portals/M/deletions/late")


def test_install_during_the_wait_is_reported(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal accepts events again, so the purge has failed."""
    shell("portals", "add", "--member-id", "M", "--token", "T")
    shell.record("M", "one")

    def install(_seconds: float) -> None:
        shell("portals", "add", "--member-id", "M", "--token", "T")

    monkeypatch.setattr("time.sleep", install)

    code, _, err = shell("portals", "purge", "M", "--yes")

    told = (
        "Portal M was installed again in between: its old data (1 document) is deleted, but new"
        " deletions are being recorded. Delete the application in Bitrix24, and purge again.\n"
    )
    assert (1, told) == (code, err)
    assert shell.fields("portals/M")


@pytest.mark.parametrize(("number", "kept"), [(1_000, "1000"), (1_001, "more than 1000")])
def test_many_messages_are_not_all_counted(shell: Shell, number: int, kept: str) -> None:
    """Each would have to be read."""
    messages = [
        Document(
            f"portals/M/openline_messages/{name}",
            {"expires_at": LATER},
        )
        for name in range(number)
    ]
    shell.store.create(messages, "sent_at", soon())

    code, out, _ = shell("portals", "purge", "M", "--yes")

    assert 0 == code
    assert f"0 events in quarantine and {kept} messages kept.\n" in out
    assert f"Portal M is deleted, with {number} documents: nothing is left.\n" in out
