"""`python -m handler portals`, on the embedded store."""

import io
from pathlib import Path

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document
from handler.tokens import token_digest
from tests.commands.shell import MOMENT, Shell


class TestPortals:
    def test_add_accepts_a_token_and_stores_its_digest_only(self, shell: Shell) -> None:
        """The token itself is stored nowhere."""
        code, out, _ = shell("portals", "add", "--member-id", "M", "--token", "T")

        assert (0, "Portal M is accepted.\n") == (code, out)
        fields = shell.fields("portals/M")
        assert fields is not None
        assert {
            "member_id": "M",
            "token_digests": [token_digest("T")],
            "active": True,
            "installed_at": fields["installed_at"],
            "updated_at": fields["installed_at"],
        } == fields

    def test_add_keeps_the_token_before(self, shell: Shell) -> None:
        """A second token comes first; the former stays, and the one before that goes."""
        for token in ("first", "second", "third"):
            shell("portals", "add", "--member-id", "M", "--token", token)

        (portal,) = shell.json("portals", "list")
        assert [token_digest("third"), token_digest("second")] == portal["token_digests"]

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_add_takes_domain_and_endpoint(self, shell: Shell, slash: str) -> None:
        """With an endpoint, the offline queue can be drained too."""
        endpoint = "https://x.bitrix24.com/rest"
        where = ("--domain", "x.bitrix24.com", "--endpoint", endpoint + slash)

        (portal,) = shell.json("portals", "add", "--member-id", "M", "--token", "T", *where)

        assert ("x.bitrix24.com", endpoint + "/") == (portal["domain"], portal["client_endpoint"])

    def test_add_reads_the_token_from_standard_input(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that it need not stand in the shell's history."""
        monkeypatch.setattr("sys.stdin", io.StringIO("T\n"))

        assert 0 == shell("portals", "add", "--member-id", "M", "--token", "-")[0]
        (portal,) = shell.json("portals", "list")
        assert [token_digest("T")] == portal["token_digests"]

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (
                ["--token", ""],
                "The token is empty: copy auth[application_token] from the portal.",
            ),
            (
                ["--token", "T", "--endpoint", "http://x.com/"],
                "--endpoint: give https://…/rest/ (plain http to this machine only).",
            ),
        ],
    )
    def test_add_refuses_what_makes_no_sense(
        self, shell: Shell, arguments: list[str], complaint: str
    ) -> None:
        """Each complaint says what is wrong, and nothing is stored."""
        refused = shell("portals", "add", "--member-id", "M", *arguments)

        assert (1, "", f"{complaint}\n") == refused
        assert [] == shell.json("portals", "list")

    @pytest.mark.parametrize("absent", ["--member-id", "--token"])
    def test_add_needs_a_portal_and_its_token(self, shell: Shell, absent: str) -> None:
        """Which one is missing is told."""
        given = {"--member-id": "M", "--token": "T"}
        del given[absent]
        (present,) = given.items()

        told = shell.usage_error("portals", "add", *present)

        assert told.endswith(f"error: the following arguments are required: {absent}")

    def test_list_is_a_table_for_people(self, shell: Shell) -> None:
        """Also for documents that people wrote by hand."""
        shell.write(
            "portals/M",
            token_digests=["new", "old"],
            active=True,
            domain="x.bitrix24.com",
            updated_at=MOMENT,
        )
        shell.write("portals/by-hand", token_digests=["d"], active=False)
        table = (
            "MEMBER ID  DOMAIN          ACTIVE  TOKENS  UPDATED\n"
            "M          x.bitrix24.com  yes     2       2026-03-17 12:00:00\n"
            "by-hand    -               no      1       -\n"
        )

        assert (0, table, "") == shell("portals", "list")

    def test_list_leaves_no_portal_out(self, shell: Shell) -> None:
        """An application in the market has hundreds."""
        portals = [Document(f"portals/{number}", {"active": True}) for number in range(301)]
        shell.store.create(portals, "installed_at", Deadline(5))

        assert 301 == len(shell.json("portals", "list"))

    def test_remove_leaves_the_records(self, shell: Shell) -> None:
        """Nothing more is accepted; the records go with purge only."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        shell.record("M", "one")

        removed = (
            "Portal M is removed; functions that run accept it for at most TOKEN_CACHE_SECONDS"
            " longer. Its records stay until `portals purge`; to read them: deletions --portal M\n"
        )
        assert (0, removed, "") == shell("portals", "remove", "M")
        assert [] == shell.json("portals", "list")
        assert 1 == len(shell.records("--portal", "M"))

    @pytest.mark.parametrize("answer", ["y", "Yes"])
    def test_purge_deletes_all_that_is_kept_of_one_portal(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        """After asking: whoever answers anything else keeps everything."""
        for member_id in ("M", "other"):
            shell("portals", "add", "--member-id", member_id, "--token", "T")
            shell.record(member_id, "one", "two")
            shell.write(f"portals/{member_id}/quarantine/q", received_at=MOMENT)
        question = "Delete portal M and all its records? Type yes:\n"

        monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
        assert (1, question, "Nothing is deleted.\n") == shell("portals", "purge", "M")
        assert 2 == len(shell.records("--portal", "M"))

        monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
        done = f"{question}Portal M is deleted, with 3 records.\n"
        assert (0, done, "") == shell("portals", "purge", "M")
        gone = "There is no portal M. There are: other.\n"
        assert (1, "", gone) == shell("deletions", "--portal", "M")
        assert None is shell.fields("portals/M/quarantine/q")
        assert ["other"] == [portal["member_id"] for portal in shell.json("portals", "list")]
        assert 2 == len(shell.records())

        assert 0 == shell("portals", "purge", "other", "--yes")[0]
        gone = "There is no portal other, nor any other. Is this the right store?\n"
        assert (1, "", gone) == shell("deletions", "--portal", "other")

    def test_purge_of_a_portal_that_is_not_there_is_a_failure(self, shell: Shell) -> None:
        """A mistyped member_id has deleted nothing; what `remove` left is found, though."""
        shell.record("M", "one")
        shell.write("portals/empty", active=True)

        for member_id, result in (
            ("typo", (1, "", "There is no portal typo. There are: empty.\n")),
            ("M", (0, "Portal M is deleted, with 1 records.\n", "")),
            ("empty", (0, "Portal empty is deleted, with 0 records.\n", "")),
        ):
            assert result == shell("portals", "purge", member_id, "--yes")

    def test_purge_needs_an_answer(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where nobody can answer, nothing is deleted; the question has been seen, though."""
        shell("portals", "add", "--member-id", "M", "--token", "T")
        screen = tmp_path / "screen"
        seen = []

        class Nobody:
            def readline(self) -> str:
                seen.append(screen.read_text())
                return ""

        monkeypatch.setattr("sys.stdin", Nobody())
        with screen.open("w") as out, monkeypatch.context() as redirected:
            redirected.setattr("sys.stdout", out)
            code, _, err = shell("portals", "purge", "M")

        assert (1, "Nothing is deleted.\n") == (code, err)
        assert ["Delete portal M and all its records? Type yes:\n"] == seen
        assert shell.fields("portals/M")
