"""`python -m handler replay`, on the embedded store."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from handler.log import Log
from handler.records.dead_letter import keep_event
from handler.records.documents import Delivery
from handler.stores.interface import Fields
from tests.commands.shell import FITS, MOMENT, Shell


class TestReplay:
    def test_what_is_no_text_is_no_problem(self, shell: Shell, tmp_path: Path) -> None:
        """A log holds the lines of others too."""
        saved = tmp_path / "saved.log"
        saved.write_bytes(b"\xff\n")
        done = "0 recorded, 0 known already, 0 quarantined, 0 skipped as forged, 0 problems.\n"

        assert (0, done, "") == shell("replay", str(saved))

    def test_what_is_recorded_late_expires_like_the_rest(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Counted from then on, by a retry of the quarantine as by a replay."""
        monkeypatch.setenv("RETENTION_DAYS", "30")
        delivery = Delivery(member_id="M", event="ONOPENLINEMESSAGEDELETE", via="online")
        saved = tmp_path / "saved.log"
        with saved.open("w") as log:
            keep_event(Log(log), delivery, json.loads(FITS))
        fields: Fields = {
            "event": "ONOPENLINEMESSAGEDELETE",
            "payload": FITS.replace('"a"', '"other"'),
            "received_at": MOMENT,
        }
        shell.write("portals/M", active=True)
        shell.write("portals/M/quarantine/q", **fields)
        before = datetime.now(UTC)

        assert (0, 0) == (shell("replay", str(saved))[0], shell("quarantine", "retry")[0])

        expiries = [record["expires_at"] for record in shell.records()]
        assert 2 == len(expiries)
        for expiry in map(datetime.fromisoformat, expiries):
            assert before <= expiry - timedelta(days=30) <= datetime.now(UTC)
