"""Firestore answers the queries of the reading commands with the declared indexes alone.

Google's emulator asks for no index; the double refuses a query whose index is not declared.
"""

from pathlib import Path

import pytest

from handler.commands import main
from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
from tests.commands.shell import MOMENT
from tests.conftest import firestore_at
from tests.doubles.emulator import Emulator
from tests.doubles.firestore import FirestoreDouble

RANGE = ("--since", "2026-03-01", "--until", "2026-03-31")

COMMANDS = (
    ("deletions", "--json"),
    ("deletions", "--json", *RANGE, "--portal", "x.example"),
    ("deletions", "--json", *RANGE, "--by", "customer", "--connector", "WhatsApp", "--limit", "1"),
    ("deletions", "--csv", *RANGE, "--all"),
    ("quarantine", "--json"),
    ("portals", "list", "--json"),
)


@pytest.fixture(params=["emulator", "double"])
def firestore(
    request: pytest.FixtureRequest, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use a database with a portal, two records, and a quarantined event."""
    server: Emulator | FirestoreDouble = request.getfixturevalue(request.param)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    monkeypatch.delenv("STORE", raising=False)
    store = firestore_at(server.host, project)
    kept: Fields = {"event": "E", "reasons": ["R"], "payload": "{}", "received_at": MOMENT}
    portal: Fields = {"active": True, "domain": "x.example"}
    assert store.put(Document("portals/M", portal), Deadline(30))
    assert store.put(Document("portals/M/quarantine/1", kept), Deadline(30))
    old: Fields = {"origin": "customer", "connector": "whatsapp", "line_id": 1}
    timed: Fields = {**old, "event_at": MOMENT}
    records = [
        Document(f"portals/M/deletions/{number}", fields)
        for number, fields in enumerate([timed, timed, old])
    ]
    assert 3 == store.create(records, "recorded_at", Deadline(30))


@pytest.mark.usefixtures("firestore")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_finds_its_indexes(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """And its results."""
    assert main(arguments) == 0

    out = capsys.readouterr().out
    assert out.strip()


@pytest.mark.usefixtures("firestore")
@pytest.mark.parametrize(("since", "shown"), [("2026-03-01", 3), ("2100-01-01", 0)])
def test_follow_finds_its_indexes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], since: str, shown: int
) -> None:
    """The records were created just now."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)

    assert main(["deletions", "--follow", "--since", since]) == 0

    out, err = capsys.readouterr()
    assert shown == len(out.splitlines())
    assert ("No records match --since" in err) is (shown == 0)


@pytest.mark.usefixtures("firestore")
def test_a_report_finds_its_indexes(tmp_path: Path) -> None:
    """It includes old records without a time of their own, by when they were recorded."""
    page = tmp_path / "report.html"

    assert main(["report", "--since=2026-03-01", f"--output={page}"]) == 0

    html = page.read_text()
    assert "<dd>3</dd>" in html
    assert "1 event has invalid data and is in quarantine" in html
    assert "For 1 of the records, the time of the deletion" in html
