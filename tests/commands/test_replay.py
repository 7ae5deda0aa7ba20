"""`python -m handler replay`: what a file contains, where it goes, and errors."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from handler.deadline import Deadline
from handler.events.message import Message
from handler.log import Log
from handler.records.dead_letter import log_event, log_records
from handler.records.documents import Delivery
from handler.records.messages import Messages
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.tokens import token_digest
from tests.commands.shell import FITS, MOMENT, Shell
from tests.samples import in_portal

EXPORT = (
    "Export the log with: gcloud logging read 'jsonPayload.outcome=\"not_recorded\"' --project=ID"
    " --bucket=bitrix24-deletions-dead-letters --location=europe-west1 --view=_AllLogs"
    " --freshness=400d --format=json (docs/operate.md, Replay)\n"
)

_MESSAGES = "portals/M/openline_messages"


def letters(*payloads: str) -> str:
    """Return the log lines of events."""
    delivery = Delivery(member_id="M", event="ONOPENLINEMESSAGEDELETE", via="online")
    stream = io.StringIO()
    for payload in payloads:
        log_event(Log(stream), delivery, json.loads(payload))
    return stream.getvalue()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return the path of a saved log."""
    return tmp_path / "saved.log"


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8-sig", b""),
        ("utf-16", b""),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-16-be", b"\xfe\xff"),
    ],
)
def test_every_encoding_of_a_shell_is_read(
    shell: Shell, saved: Path, encoding: str, mark: bytes
) -> None:
    """PowerShell's `>` writes UTF-16; the end may be cut off."""
    shell.write("portals/M", active=True)
    text = json.dumps([json.loads(letters(FITS))])
    saved.write_bytes(mark + text.encode(encoding) + b"\xff")

    done = (
        f"1 lost record in 1 line of {saved}, for {shell.path}.\n"
        "1 recorded, 0 already recorded, 0 quarantined, 0 skipped as forged, 0 of unknown portals,"
        " 0 problems.\n"
    )
    assert (0, done, "") == shell("replay", str(saved))
    (record,) = shell.records()
    assert "event_at" in record  # when it was replayed: the event has no time


@pytest.mark.parametrize("rest", ["", ",", ',\n {"insertId": "x", "jsonPayl'])
def test_an_interrupted_export_is_a_problem(shell: Shell, saved: Path, rest: str) -> None:
    """What it has is recorded, but the letters after it are missing."""
    shell.write("portals/M", active=True)
    saved.write_text(f"[\n {letters(FITS)}{rest}")

    code, out, err = shell("replay", str(saved))

    told = f"{saved} ends within its list: the export was interrupted. Export it again.\n"
    assert (1, told) == (code, err)
    assert out.endswith(
        "1 recorded, 0 already recorded, 0 quarantined, 0 skipped as forged, 0 of"
        " unknown portals, 1 problem.\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty: nothing was found, or the command that wrote it failed."),
        (b" \n\n", "is empty: nothing was found, or the command that wrote it failed."),
        (
            b"\xef\xbb\xbf[]\n",
            (
                "is an empty list: no matching line was found. Check the project, the filter and"
                " the time range (gcloud searches one day back without --freshness)."
            ),
        ),
        (
            b"---\ninsertId: 1\njsonPayload:\n  outcome: not_recorded\n  records: []\n",
            "is YAML, gcloud's default format, which cannot be replayed.",
        ),
        (
            b"- insertId: 1\n",
            "is YAML, gcloud's default format, which cannot be replayed.",
        ),
        (
            b'insertId,jsonPayload.records\n1,"[{""outcome"": ""not_recorded""}]"\n',
            "is CSV, which does not contain complete records and cannot be replayed.",
        ),
        (
            b'"a.b","c d"\n1,"{""severity"":""CRITICAL""}"\n',
            "is CSV, which does not contain complete records and cannot be replayed.",
        ),
        (
            b'{"severity":"INFO","outcome":"recorded"}\n\xff\n',
            (
                "has no line whose outcome is not_recorded (2 lines read): nothing was lost in that"
                " time, or this is a different log."
            ),
        ),
        (
            b"Booting worker",
            (
                "has no line whose outcome is not_recorded (1 line read): nothing was lost in that"
                " time, or this is a different log."
            ),
        ),
    ],
)
def test_a_file_without_lost_records_is_an_error_that_says_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, saved: Path, content: bytes, told: str
) -> None:
    """The log expires, so replaying nothing must not look like a success."""
    saved.write_bytes(content)

    assert (1, "", f"{saved} {told} {EXPORT}") == shell("replay", str(saved))

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert (1, "", f"Standard input {told} {EXPORT}") == shell("replay", "-")


def test_skipped_records_are_reported(shell: Shell, saved: Path) -> None:
    """One sentence each on stderr, and a count of each kind."""
    shell.write("portals/M", active=True)
    lost = letters(FITS, "{}", FITS)
    unknown = letters(FITS).replace('"member_id":"M"', '"member_id":"N"')
    saved.write_text(f"{lost}{unknown}{lost[:-40]}")

    code, out, err = shell("replay", str(saved))

    assert 1 == code
    assert out == (
        f"6 lost records in 6 lines of {saved}, for {shell.path}.\n"
        "1 recorded, 2 already recorded, 2 quarantined, 0 skipped as forged, 1 of unknown portals,"
        " 2 problems.\n"
    )
    assert err == (
        "Line 7: damaged.\n"
        f"1 record of portal N not written: there is no such portal in {shell.path}. Is that the"
        " service's own database? If so, and the portal was not purged, enter it with `portals"
        " add`, and replay again.\n"
    )


@pytest.mark.parametrize("route", ["record", "event", "quarantine"])
def test_kept_texts_are_joined_without_the_services_settings(
    shell: Shell, saved: Path, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    """The documented commands do not set KEEP_TEXT_DAYS; the message expires as it would have."""
    monkeypatch.delenv("KEEP_TEXT_DAYS", raising=False)
    shell.write("portals/M", active=True)
    now = datetime.now(UTC)
    message = Message(
        author="operator", connector="myconnector", line_id=107, im_message_id=86501, text="one"
    )
    messages = Messages(lambda: shell.store, 366, lambda: now)
    assert messages.keep("M", message, Deadline(5), update=False, at=MOMENT)
    saved.write_text(letters(FITS))
    if route == "record":
        stream = io.StringIO()
        delivery = Delivery(member_id="M", event="ONOPENLINEMESSAGEDELETE", via="online")
        recorder = Recorder(lambda: shell.store, Settings(), lambda: MOMENT)
        log_records(Log(stream), recorder.read(delivery, in_portal("a")).documents)
        saved.write_text(stream.getvalue())
    if route == "quarantine":
        event = {"event": "ONOPENLINEMESSAGEDELETE", "payload": FITS, "received_at": MOMENT}
        shell.write("portals/M/quarantine/q", **event)

    command = ["quarantine", "retry"] if route == "quarantine" else ["replay", str(saved)]
    assert (0, "") == shell(*command)[::2]

    assert ["one"] == [record.get("text") for record in shell.records()]
    (name,) = shell.store.names(_MESSAGES, Deadline(5), limit=9)
    fields = shell.fields(f"{_MESSAGES}/{name}") or {}
    assert now + timedelta(days=366) == fields["expires_at"]


@pytest.mark.parametrize(("setting", "documents"), [("", 0), ("30", 2)])
def test_texts_that_come_after_a_replay_need_the_setting(
    shell: Shell, saved: Path, monkeypatch: pytest.MonkeyPatch, setting: str, documents: int
) -> None:
    """They find the record by a document for each of its keys, which needs an expiry."""
    monkeypatch.setenv("KEEP_TEXT_DAYS", setting)
    shell.write("portals/M", active=True)
    saved.write_text(letters(FITS))

    assert 0 == shell("replay", str(saved))[0]

    assert documents == len(shell.store.names(_MESSAGES, Deadline(5), limit=9))


@pytest.mark.parametrize("known", [True, False])
def test_what_was_skipped_is_recorded_after_portals_add(
    shell: Shell, saved: Path, *, known: bool
) -> None:
    """The remedy for a token that has changed, and for a portal that the store does not know."""
    if known:
        shell.write("portals/M", active=True, token_digests=[token_digest("new")])
    delivery = Delivery(member_id="M", event="ONOPENLINEMESSAGEDELETE", via="online")
    recorder = Recorder(lambda: shell.store, Settings(), lambda: MOMENT)
    stream = io.StringIO()
    documents = recorder.read(delivery, in_portal("a")).documents
    log_records(Log(stream), documents, unverified_digest=token_digest("old"))
    saved.write_text(stream.getvalue())

    code, _, err = shell("replay", str(saved))
    assert (0 if known else 1) == code
    assert "with `portals add`, and replay again." in err
    assert [] == list(shell.store.names("portals/M/deletions", Deadline(5), limit=1))

    assert 0 == shell("portals", "add", "--member-id", "M", "--token", "old")[0]
    assert (0, "") == shell("replay", str(saved))[::2]
    assert 1 == len(shell.records())
