"""`python -m handler messages`: one person's texts are erased, and nothing else."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from handler.commands.messages import erase
from handler.deadline import Deadline
from handler.stores.interface import Patch, Write
from handler.stores.sqlite import LocalStore
from tests.commands.shell import MOMENT, Shell

LATER = datetime(9000, 1, 1, tzinfo=UTC)
OUT_OF_REACH = (
    "Not erased: what this person writes from now on, texts whose author is unknown (an update of"
    " a message that was not kept when it was sent), the database's backups and its point-in-time"
    " recovery, exports and copies elsewhere.\n"
)
QUESTION = "To erase what user 27 of portal M wrote, type 27:\n"
NOTHING = (
    "No texts of user 27 in portal M were found. They are only kept with KEEP_TEXT_DAYS, for that"
    " many days. Is this the author's id, not the deleter's?\n"
)

TOLD: dict[str, Any] = {
    "text": "words",
    "text_cut": True,
    "text_outdated": True,
    "sent_at": MOMENT,
    "edited_at": MOMENT,
    "files": ["a.pdf"],
}
REST: dict[str, Any] = {"recorded_at": MOMENT, "user_id": 27, "connector": "c"}


def keep(shell: Shell) -> None:
    """Store messages and records of two people, in two portals."""
    for member_id in ("M", "other"):
        path = f"portals/{member_id}"
        shell.write(path, active=True, domain=f"{member_id}.bitrix24.com")
        for author in (27, 28):
            text = {**TOLD, "author_id": author, "versions": ["words"]}
            shell.write(f"{path}/openline_messages/{author}", **text, expires_at=LATER)
            shell.write(f"{path}/deletions/{author}", **TOLD, **REST, author_id=author)
        shell.write(f"{path}/deletions/none", **REST)


def purge(shell: Shell, *flags: str, portal: str = "M", user: str = "27") -> tuple[int, str, str]:
    """Run the command."""
    return shell("messages", "purge", "--portal", portal, "--user", user, *flags)


@pytest.mark.parametrize("portal", ["M", "m.bitrix24.com"])
def test_one_persons_texts_are_erased(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, portal: str
) -> None:
    """Once the number has been typed; records stay, without what the person wrote."""
    keep(shell)
    before = shell.fields("portals/M/deletions/28")
    monkeypatch.setattr("sys.stdin", io.StringIO("27\n"))

    done = "Erased 1 message, and the texts of 1 record.\n"
    assert (0, done, QUESTION + OUT_OF_REACH) == purge(shell, portal=portal)

    assert shell.fields("portals/M/openline_messages/27") is None
    assert REST == shell.fields("portals/M/deletions/27")
    assert REST == shell.fields("portals/M/deletions/none")
    assert before == shell.fields("portals/M/deletions/28")
    for path in ("M/openline_messages/28", "other/openline_messages/27", "other/deletions/27"):
        assert "words" == (shell.fields(f"portals/{path}") or {})["text"]
    again = (1, "Erased 0 messages, and the texts of 0 records.\n", OUT_OF_REACH + NOTHING)
    assert again == purge(shell, "--yes")


def test_another_answer_erases_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even yes."""
    keep(shell)
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))

    told = "Nothing was erased: that is not 27.\n"
    assert (1, "", QUESTION + told) == purge(shell)

    assert shell.fields("portals/M/openline_messages/27")


def test_many_are_erased(shell: Shell) -> None:
    """Page by page."""
    shell.write("portals/M", active=True)
    for number in range(301):
        shell.write(f"portals/M/deletions/{number}", **TOLD, **REST, author_id=27)

    code, out, _ = purge(shell, "--yes", "--json")

    assert (0, '{"messages": 0, "records": 301}\n') == (code, out)
    assert REST == shell.fields("portals/M/deletions/300")


class Expiring(LocalStore):
    """A store in which a record expires just before records are changed."""

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        if any(isinstance(write, Patch) for write in writes):
            self.delete(["portals/M/deletions/gone"], deadline)
        return super().commit(writes, deadline)


def test_expiring_record_does_not_prevent_erasing_others(shell: Shell) -> None:
    """The others are found again."""
    keep(shell)
    shell.write("portals/M/deletions/gone", **TOLD, **REST, author_id=27)

    assert (1, 2) == erase(Expiring(str(shell.path)), "M", 27)

    assert REST == shell.fields("portals/M/deletions/27")
    assert shell.fields("portals/M/deletions/gone") is None


@pytest.mark.parametrize("user", ["0", "x"])
def test_user_is_a_number(shell: Shell, user: str) -> None:
    """Bitrix24's user ids start at 1."""
    error = shell.usage_error("messages", "purge", "--portal", "M", "--user", user)

    assert "use a whole number from 1 to 9223372036854775807" in error
