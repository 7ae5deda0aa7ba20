"""`python -m handler quarantine`, on the embedded store."""

import json
from datetime import timedelta

import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document
from tests.commands.shell import FITS, MOMENT, Shell


class TestQuarantine:
    def keep(self, shell: Shell, name: str, payload: str, **fields: object) -> None:
        """Quarantine an event."""
        shell.write(
            f"portals/M/quarantine/{name}",
            event="ONOPENLINEMESSAGEDELETE",
            reasons=["data.LINE: should be a whole number", "data.DATA: is missing"],
            payload=payload,
            received_at=MOMENT,
            **fields,
        )

    def test_lists_events_with_their_faults(self, shell: Shell) -> None:
        """A table for people, JSON lines for programs."""
        shell.write("portals/M", active=True)
        self.keep(shell, "p", "{}", domain="x.bitrix24.com")
        self.keep(shell, "q", "{}")
        reasons = "data.LINE: should be a whole number; data.DATA: is missing"
        row = f"2026-03-17 12:00:00  {{:14}}  ONOPENLINEMESSAGEDELETE  {reasons}  {{}}\n"
        table = (
            f"RECEIVED (UTC)       PORTAL          EVENT                    {'REASONS':58}  ID\n"
            + row.format("M", "q")
            + row.format("x.bitrix24.com", "p")
        )

        assert (0, table, "") == shell("quarantine")
        lines = shell.json("quarantine", "--portal", "M")
        assert [("q", "{}"), ("p", "{}")] == [(line["id"], line["payload"]) for line in lines]
        shell.write("portals/N", active=True)
        assert (0, "") == shell("quarantine", "--portal", "N")[:2]

    def test_empty_list_is_explained(self, shell: Shell) -> None:
        """It does not mean that events were recorded."""
        shell.write("portals/M", active=True)
        nothing = "The quarantine is empty: no event is waiting to be retried.\n"

        assert (0, "", nothing) == shell("quarantine")
        assert (0, "", nothing) == shell("quarantine", "--json", "--portal", "M")
        done = "0 recorded, 0 already recorded, 0 left.\n"
        assert (0, done, nothing) == shell("quarantine", "retry")

    @pytest.mark.parametrize(
        ("flags", "shown", "rest"),
        [
            ([], 20, "2 more are not shown: use a larger --limit.\n"),
            (["--limit", "21"], 21, "1 more is not shown: use a larger --limit.\n"),
            (["--limit", "22"], 22, ""),
        ],
    )
    def test_omitted_events_are_counted(
        self, shell: Shell, flags: list[str], shown: int, rest: str
    ) -> None:
        """The newest come first."""
        shell.write("portals/M", active=True)
        for number in range(22):
            self.keep(shell, f"{number:02}", "{}")

        code, out, err = shell("quarantine", "--json", *flags)

        assert (0, shown, rest) == (code, len(out.splitlines()), err)

    def test_show_shows_one_with_its_data(self, shell: Shell) -> None:
        """Of any portal, even if it was edited by hand."""
        shell.write("portals/L", active=True)
        shell.write("portals/M", active=True)
        more = {"domain": "x.bitrix24.com", "event_at": MOMENT, "user_id": 27, "expires_at": MOMENT}
        self.keep(shell, "q", '{"LINE": "\\u044f\\u001b", "DATA": []}', **more)

        shown = (
            "event: ONOPENLINEMESSAGEDELETE\n"
            "received_at: 2026-03-17 12:00:00\n"
            "event_at: 2026-03-17 12:00:00\n"
            "domain: x.bitrix24.com\n"
            "user_id: 27\n"
            "expires_at: 2026-03-17 12:00:00\n"
            "portal: M\n"
            "reasons:\n"
            "  - data.LINE: should be a whole number\n"
            "  - data.DATA: is missing\n"
            'data: {\n  "LINE": "я\\u001b",\n  "DATA": []\n}\n'
        )
        assert (0, shown, "") == shell("quarantine", "show", "q")
        code, line, err = shell("quarantine", "show", "q", "--json")
        assert (0, "q", "") == (code, json.loads(line)["id"], err)
        assert (0, line, "") == shell("quarantine", "--json", "--portal", "M", "show", "q")

    def test_show_searches_every_portal(self, shell: Shell) -> None:
        """An application from the market has hundreds."""
        portals = [Document(f"portals/{number:03}", {"active": True}) for number in range(601)]
        shell.store.create(portals, "installed_at", Deadline(5))
        shell.write("portals/600/quarantine/q", payload="{}", received_at=MOMENT)

        (line,) = shell.json("quarantine", "show", "q")
        assert "q" == line["id"]

    def test_incomplete_data_is_shown_as_stored(self, shell: Shell) -> None:
        """Cut, or edited by hand."""
        shell.write("portals/M", active=True)
        shell.write("portals/M/quarantine/cut", payload='{"LINE": "\x1b', received_at=MOMENT)

        shown = 'received_at: 2026-03-17 12:00:00\nportal: M\nreasons:\ndata: {"LINE": "\\x1b\n'
        assert (0, shown, "") == shell("quarantine", "show", "cut")
        assert "2026-03-17 12:00:00  M       -               cut" in shell("quarantine")[1]

    def test_drop_deletes_one(self, shell: Shell) -> None:
        """Events that never become valid must not make `retry` fail permanently."""
        shell.write("portals/M", active=True)
        self.keep(shell, "p", "{}")
        self.keep(shell, "q", "{}")

        lost = "Any of its deletions that were not recorded are lost."
        dropped = f"Event q of portal M is deleted. {lost}\n"
        assert (0, dropped, "") == shell("quarantine", "drop", "q")
        assert ["p"] == [line["id"] for line in shell.json("quarantine")]

    @pytest.mark.parametrize("change", [["retry"], ["drop", "q"]])
    def test_a_domain_of_several_portals_is_not_changed(
        self, shell: Shell, change: list[str]
    ) -> None:
        """Reading takes all of them; without `--portal`, so does retry."""
        for member_id in "LM":
            shell.write(f"portals/{member_id}", active=True, domain="x.bitrix24.com")
        self.keep(shell, "q", FITS)
        told = "2 portals have the domain x.bitrix24.com: L, M. Use a member_id.\n"

        assert (1, "", told) == shell("quarantine", *change, "--portal", "x.bitrix24.com")
        assert ["q"] == [
            one["id"] for one in shell.json("quarantine", "--portal", "x.bitrix24.com")
        ]
        assert 0 == shell("quarantine", "show", "q", "--portal", "x.bitrix24.com")[0]
        assert 0 == shell("quarantine", *change)[0]
        assert (0, "") == shell("quarantine", "--json")[:2]

    @pytest.mark.parametrize("action", ["show", "drop"])
    def test_an_unknown_id_is_an_error(self, shell: Shell, action: str) -> None:
        """Which says where it was searched."""
        shell.write("portals/M", active=True)
        shell.write("portals/N", active=True)
        self.keep(shell, "q", "{}")

        told = "Event r is not in quarantine (2 portals searched); see `quarantine`.\n"
        assert (1, "", told) == shell("quarantine", action, "r")
        told = "Event q is not in quarantine (1 portal searched); see `quarantine`.\n"
        assert (1, "", told) == shell("quarantine", action, "q", "--portal", "N")
        assert (1, "", told) == shell("quarantine", "--portal", "N", action, "q")
        told = f"python -m handler quarantine {action}: error: argument ID: 'a/b' is not an id"
        assert f"{told} from the list" == shell.usage_error("quarantine", action, "a/b")
        assert shell.fields("portals/M/quarantine/q")

    def test_retry_records_events_that_have_become_valid(self, shell: Shell) -> None:
        """Others stay, and the command says so."""
        shell.write("portals/M", active=True)
        sent = MOMENT - timedelta(seconds=1)
        self.keep(shell, "good", FITS, event_at=sent, user_id=27, domain="d")
        self.keep(shell, "good-too", FITS.replace('"a"', '"other"'))
        self.keep(shell, "bad", '{"LINE": "x"}')
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry")

        told = (
            "cut cannot be read: its data is incomplete. `quarantine show cut` shows the rest;"
            " `quarantine drop cut` deletes it.\n"
            "bad is still not valid: data.CONNECTOR: is missing; data.LINE: should be a whole"
            " number; data.DATA: should be a list of one element or more. Retry after an update,"
            " or delete it: `quarantine drop bad`.\n"
            "2 recorded, 0 already recorded, 2 left.\n"
        )
        assert (1, told, "") == (code, out, err)
        assert ["bad", "cut"] == sorted(kept["id"] for kept in shell.json("quarantine"))
        records = {record["message_id"]: record for record in shell.records()}
        assert ["a", "other"] == sorted(records)
        assert ("replay", "ONOPENLINEMESSAGEDELETE", sent.isoformat(), 27, "d") == tuple(
            records["a"][name] for name in ("via", "event", "event_at", "user_id", "domain")
        )
        assert records["other"]["event_at"] == MOMENT.isoformat()  # when it was received

    def test_retry_has_json_output(self, shell: Shell) -> None:
        """And sentences for people."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry", "--json")

        done = json.loads(out)
        (problem,) = done.pop("problems")
        assert {"recorded": 1, "duplicates": 0, "left": 1} == done
        assert problem.startswith("cut cannot be read: ")
        assert (1, "") == (code, err)

    def test_retry_succeeds_when_nothing_is_left(self, shell: Shell) -> None:
        """A duplicate is a success, too."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        assert 0 == shell("quarantine", "retry")[0]
        self.keep(shell, "good", FITS)

        assert (0, "0 recorded, 1 already recorded, 0 left.\n", "") == shell("quarantine", "retry")
        assert None is shell.fields("portals/M/quarantine/good")

    @pytest.mark.parametrize("line", ["--limit 1 retry", "retry --limit 1"])
    def test_retry_may_take_the_newest_only(self, shell: Shell, line: str) -> None:
        """The rest is counted, and not a success."""
        shell.write("portals/M", active=True)
        self.keep(shell, "a", FITS)
        self.keep(shell, "b", FITS)

        done = "1 recorded, 0 already recorded, 1 left.\n"
        assert (1, done, "") == shell("quarantine", *line.split())

    def test_other_events_are_left_alone(self, shell: Shell) -> None:
        """They were added by hand."""
        shell.write("portals/M", active=True)
        shell.write("portals/M/quarantine/q", payload=FITS, received_at=MOMENT, event="ONAPPTEST")

        code, out, _ = shell("quarantine", "retry")

        assert (1, True) == (code, out.startswith("q cannot be read: its data is incomplete."))

    @pytest.mark.parametrize(
        ("connectors", "recorded"), [(["other"], 0), (["other", "MyConnector"], 1)]
    )
    def test_retry_records_only_the_connectors_of_the_service(
        self, shell: Shell, connectors: list[str], recorded: int
    ) -> None:
        """The data is the whole event, in which CONNECTORS may have excluded valid deletions."""
        shell.write("portals/M", active=True)
        self.keep(shell, "q", FITS, connectors=connectors)

        told = f"{recorded} recorded, 0 already recorded, 0 left.\n"
        assert (0, told, "") == shell("quarantine", "retry")

        assert recorded == len(shell.store.names("portals/M/deletions", Deadline(5), limit=9))

    def test_damaged_connectors_are_not_taken_for_all(self, shell: Shell) -> None:
        """Someone may have edited the document."""
        shell.write("portals/M", active=True)
        self.keep(shell, "q", FITS, connectors="other")

        code, out, _ = shell("quarantine", "retry")

        assert (1, True) == (code, out.startswith("q cannot be read: "))
        assert [] == list(shell.store.names("portals/M/deletions", Deadline(5), limit=9))

    @pytest.mark.parametrize(
        "edited", [{"event_at": "then"}, {"user_id": "x"}, {"domain": True}, {"expires_at": 5}]
    )
    def test_an_event_edited_by_hand_is_not_recorded_as_it_is(
        self, shell: Shell, edited: dict[str, object]
    ) -> None:
        """A record must not have a time that is none; other events are still retried."""
        shell.write("portals/M", active=True)
        self.keep(shell, "q", FITS, **edited)
        self.keep(shell, "good", FITS.replace('"a"', '"other"'))

        code, out, err = shell("quarantine", "retry")

        assert (1, "") == (code, err)
        assert out.startswith("q cannot be read: its data is incomplete.")
        assert out.endswith("\n1 recorded, 0 already recorded, 1 left.\n")
        assert ["other"] == [record["message_id"] for record in shell.records()]

    @pytest.mark.parametrize("expires", [{}, {"expires_at": MOMENT}])
    def test_shells_settings_are_ignored(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, expires: dict[str, object]
    ) -> None:
        """A record expires with its quarantined event, and its connector was wanted."""
        monkeypatch.setenv("RETENTION_DAYS", "30")
        monkeypatch.setenv("CONNECTORS", "another")
        shell.write("portals/M", active=True)
        self.keep(shell, "q", FITS, **expires)

        assert (0, "1 recorded, 0 already recorded, 0 left.\n", "") == shell("quarantine", "retry")

        (record,) = shell.records()
        shown = MOMENT.isoformat() if expires else None
        assert shown == record.get("expires_at")
