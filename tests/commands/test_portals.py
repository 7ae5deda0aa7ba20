"""`python -m handler portals`, on the embedded store."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
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

    def test_add_keeps_the_previous_token(self, shell: Shell) -> None:
        """A second token comes first; the first stays until a third one comes."""
        for token in ("first", "second", "third"):
            shell("portals", "add", "--member-id", "M", "--token", token)

        (portal,) = shell.json("portals", "list")
        assert [token_digest("third"), token_digest("second")] == portal["token_digests"]

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_add_takes_domain_and_endpoint(self, shell: Shell, slash: str) -> None:
        """The domain as copied from a browser; with an endpoint, the queue can be drained, too."""
        endpoint = "https://x.bitrix24.com/rest"
        where = ("--domain", "https://x.bitrix24.com/crm/", "--endpoint", endpoint + slash)

        (portal,) = shell.json("portals", "add", "--member-id", "M", "--token", "T", *where)

        assert ("x.bitrix24.com", endpoint + "/") == (portal["domain"], portal["client_endpoint"])

    def test_add_reads_the_token_from_standard_input(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To keep it out of the shell's history."""
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
                "--endpoint: use https://…/rest/ (plain http for localhost only).",
            ),
        ],
    )
    def test_add_rejects_invalid_arguments(
        self, shell: Shell, arguments: list[str], complaint: str
    ) -> None:
        """Each error says what is wrong, and nothing is stored."""
        refused = shell("portals", "add", "--member-id", "M", *arguments)

        assert (1, "", f"{complaint}\n") == refused
        assert [] == shell.json("portals", "list")

    @pytest.mark.parametrize("absent", ["--member-id", "--token"])
    def test_add_needs_a_portal_and_its_token(self, shell: Shell, absent: str) -> None:
        """The error names the missing one."""
        given = {"--member-id": "M", "--token": "T"}
        del given[absent]
        (present,) = given.items()

        told = shell.usage_error("portals", "add", *present)

        assert told.endswith(f"error: the following arguments are required: {absent}")

    @pytest.mark.parametrize(
        ("option", "value", "complaint"),
        [
            ("--member-id", "a/b", "'a/b' cannot be a portal's member_id"),
            (
                "--domain",
                "my portal",
                "'my portal' is not a domain: use one such as mycompany.bitrix24.com",
            ),
        ],
    )
    def test_add_rejects_invalid_ids_and_domains(
        self, shell: Shell, option: str, value: str, complaint: str
    ) -> None:
        """With a plain error after the usage."""
        told = shell.usage_error("portals", "add", "--token", "T", option, value)

        assert f"python -m handler portals add: error: argument {option}: {complaint}" == told

    def test_list_is_a_table_for_people(self, shell: Shell) -> None:
        """Even for documents edited by hand, with each portal's state."""
        problem = "The queue cannot be read: reinstall."
        now = {"active": True, "token_digests": ["d"], "drained_at": MOMENT}
        shell.write("portals/a", **now, domain="x.bitrix24.com", problem=problem)
        shell.write("portals/a/deletions/1", recorded_at=MOMENT - timedelta(days=1))
        shell.write("portals/a/deletions/2", recorded_at=MOMENT)
        shell.write("portals/b", active=True, drained_at="soon")
        shell.write("portals/c", active=False, token_digests=["d"], installed_at=MOMENT)
        shell.write("portals/d", active=False, removed_at=MOMENT, installed_at=MOMENT)
        shell.write("portals/e", token_digests=["d"])
        table = f"""\
MEMBER ID  DOMAIN          STATE        LAST DELETION (UTC)  QUEUE LAST EMPTY (UTC)  PROBLEM
a          x.bitrix24.com  active       2026-03-17 12:00:00  2026-03-17 12:00:00     {problem}
b          -               no token     -                    -                       -
c          -               uninstalled  -                    -                       -
d          -               removed      -                    -                       -
e          -               not active   -                    -                       -
"""

        assert (0, table, "") == shell("portals", "list")

    def test_programs_get_the_last_deletion_too(self, shell: Shell) -> None:
        """In addition to all fields of the portal's document."""
        shell.write("portals/a", active=True)
        shell.write("portals/a/deletions/1", recorded_at=MOMENT)
        shell.write("portals/b", active=True)

        assert [
            {"id": "a", "active": True, "last_deletion_at": "2026-03-17T12:00:00+00:00"},
            {"id": "b", "active": True},
        ] == shell.json("portals", "list")

    def test_empty_list_is_explained(self, shell: Shell) -> None:
        """With what to do."""
        told = (
            "There are no portals in this store: install the application in a portal, or enter one"
            " with `portals add`.\n"
        )

        assert (0, "", told) == shell("portals", "list")

    def test_list_shows_every_portal(self, shell: Shell) -> None:
        """An application from the market has hundreds."""
        portals = [Document(f"portals/{number}", {"active": True}) for number in range(301)]
        shell.store.create(portals, "installed_at", Deadline(5))

        assert 301 == len(shell.json("portals", "list"))

    def test_remove_leaves_the_records(self, shell: Shell) -> None:
        """Nothing more is accepted; the records stay, and the portal stays listed."""
        shell("portals", "add", "--member-id", "M", "--token", "T", "--domain", "x.bitrix24.com")
        shell.record("M", "one")
        portal = shell.store.get("portals/M", Deadline(5))
        assert portal
        unfinished: Fields = {"problem": "p", "queue_left": {"rows": 1, "at": MOMENT}}
        shell.store.put(replace(portal, fields={**portal.fields, **unfinished}), Deadline(5))

        removed = (
            "Portal M is removed; running instances accept it for at most TOKEN_CACHE_SECONDS"
            " longer. Its records and its entry in the list stay until `portals purge`. To read the"
            " records: deletions --portal M\n"
        )
        assert (0, removed, "") == shell("portals", "remove", "x.bitrix24.com")
        fields = shell.fields("portals/M")
        assert fields
        assert {
            "member_id": "M",
            "domain": "x.bitrix24.com",
            "active": False,
            "allowed": False,
            "installed_at": portal.fields["installed_at"],
            "updated_at": fields["removed_at"],
            "removed_at": fields["removed_at"],
        } == fields
        assert 1 == len(shell.records())

        assert (0, removed, "") == shell("portals", "remove", "M")
        again = shell.fields("portals/M")
        assert again
        assert fields["removed_at"] == again["removed_at"]

    def test_remove_lists_a_portal_with_only_records_left(self, shell: Shell) -> None:
        """An earlier version deleted its document."""
        shell.record("M", "one")

        assert 0 == shell("portals", "remove", "M")[0]

        assert ["M"] == [portal["id"] for portal in shell.json("portals", "list")]
        assert 1 == len(shell.records())

    def test_remove_of_an_unknown_portal_is_a_failure(self, shell: Shell) -> None:
        """And creates none."""
        told = "Portal M not found: this store has no portals. Is it the right store?\n"

        assert (1, "", told) == shell("portals", "remove", "M")
        assert None is shell.fields("portals/M")
