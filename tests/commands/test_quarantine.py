"""`python -m handler quarantine`, on the embedded store."""

import json

import pytest

from tests.commands.shell import FITS, MOMENT, Shell


class TestQuarantine:
    def keep(self, shell: Shell, name: str, payload: str, **fields: object) -> None:
        """Keep an event in quarantine."""
        shell.write(
            f"portals/M/quarantine/{name}",
            event="ONOPENLINEMESSAGEDELETE",
            reasons=["data.LINE: should be a whole number", "data.DATA: Field required"],
            payload=payload,
            received_at=MOMENT,
            **fields,
        )

    def test_lists_what_did_not_fit_and_why(self, shell: Shell) -> None:
        """A table for people, JSON lines for programs."""
        shell.write("portals/M", active=True)
        self.keep(shell, "p", "{}", domain="x.bitrix24.com")
        self.keep(shell, "q", "{}")
        reasons = "data.LINE: should be a whole number; data.DATA: Field required"
        row = f"2026-03-17 12:00:00  {{:14}}  ONOPENLINEMESSAGEDELETE  {reasons}  {{}}\n"
        table = (
            f"RECEIVED (UTC)       PORTAL          EVENT                    {'REASONS':62}  ID\n"
            + row.format("M", "q")
            + row.format("x.bitrix24.com", "p")
        )

        assert (0, table, "") == shell("quarantine")
        lines = shell.json("quarantine", "--portal", "M")
        assert [("q", "{}"), ("p", "{}")] == [(line["id"], line["payload"]) for line in lines]
        shell.write("portals/N", active=True)
        assert [] == shell.json("quarantine", "--portal", "N")

    def test_retry_records_what_fits_by_now_and_takes_it_out(self, shell: Shell) -> None:
        """What still does not fit stays, and the command says so."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS, event_at=MOMENT, user_id=27, domain="d")
        self.keep(shell, "good-too", FITS.replace('"a"', '"other"'))
        self.keep(shell, "bad", '{"LINE": "x"}')
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry")

        cut, bad, result = out.splitlines()
        assert (1, "") == (code, err)
        assert cut.startswith("cut still does not fit: ")
        assert bad.startswith("bad still does not fit: data.CONNECTOR: is missing")
        assert "2 recorded, 0 known already, 2 left." == result
        assert ["bad", "cut"] == sorted(kept["id"] for kept in shell.json("quarantine"))
        records = {record["message_id"]: record for record in shell.records()}
        assert ["a", "other"] == sorted(records)
        assert ("replay", "ONOPENLINEMESSAGEDELETE", MOMENT.isoformat(), 27, "d") == tuple(
            records["a"][name] for name in ("via", "event", "event_at", "user_id", "domain")
        )
        assert records["other"]["event_at"] == MOMENT.isoformat()  # when it was received

    def test_programs_read_what_a_retry_has_done(self, shell: Shell) -> None:
        """And people read sentences."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        self.keep(shell, "cut", '{"LINE": "x')

        code, out, err = shell("quarantine", "retry", "--json")

        done = json.loads(out)
        (problem,) = done.pop("problems")
        assert {"recorded": 1, "duplicates": 0, "left": 1} == done
        assert problem.startswith("cut still does not fit")
        assert (1, "") == (code, err)

    def test_retry_succeeds_when_nothing_is_left(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is known already is a success, and what nobody wants any more too."""
        shell.write("portals/M", active=True)
        self.keep(shell, "good", FITS)
        assert 0 == shell("quarantine", "retry")[0]
        self.keep(shell, "good", FITS)
        assert (0, "0 recorded, 1 known already, 0 left.\n", "") == shell("quarantine", "retry")
        self.keep(shell, "unwanted", FITS)
        monkeypatch.setenv("CONNECTORS", "another")

        assert (0, "0 recorded, 0 known already, 0 left.\n", "") == shell("quarantine", "retry")
        assert [] == shell.json("quarantine")
