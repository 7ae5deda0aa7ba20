"""Replaying dead letters: from every format of a saved log, once, and verified."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handler.commands import main
from handler.deadline import Deadline
from handler.events.deletion import parse_deletions
from handler.log import Log
from handler.records import dead_letter
from handler.records.documents import Delivery, deletion_document
from handler.records.replay import read_letters
from handler.stores.interface import Document, Store
from handler.stores.sqlite import LocalStore
from handler.tokens import token_digest
from tests.samples import in_portal, typed
from tests.stopwatch import Stopwatch

DELIVERY = Delivery(
    member_id="M",
    event="ONOPENLINEMESSAGEDELETE",
    via="online",
    domain="some-domain.bitrix24.com",
    event_at=datetime(2026, 3, 17, 15, 16, 17, tzinfo=UTC),
    user_id=27,
)


def records(*message_ids: str, im_message_id: int = 86501) -> list[Document]:
    """Return the records of a deletion inside Bitrix24."""
    data = in_portal(*message_ids, im_message_id=im_message_id)
    found = parse_deletions(DELIVERY.event, data, 27)
    return [deletion_document(deletion, DELIVERY, None) for deletion in found.deletions]


def customers() -> list[Document]:
    """Return the record of a deletion by a customer."""
    connector = {"connector_id": "myconnector", "line_id": 107, "user_id": 1985}
    message = {"connector": connector, "message": {"id": "m"}, "chat": {"id": "c"}}
    found = parse_deletions(DELIVERY.event, {"DATA": message}, 27)
    return [deletion_document(deletion, DELIVERY, None) for deletion in found.deletions]


def lines(documents: list[Document], digest: str | None = None) -> list[str]:
    """Return the log lines with these records."""
    stream = io.StringIO()
    dead_letter.log_records(Log(stream), documents, unverified_digest=digest)
    return stream.getvalue().splitlines()


def event_lines(
    payload: object, delivery: Delivery = DELIVERY, connectors: Sequence[str] = ()
) -> list[str]:
    """Return the log lines with an event."""
    stream = io.StringIO()
    dead_letter.log_event(Log(stream), delivery, payload, connectors)
    return stream.getvalue().splitlines()


class Replay:
    """Replays a saved log into an embedded store."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store: Store = LocalStore(str(folder / "store.sqlite3"))
        self.portal(active=True)
        self._file = folder / "saved.log"
        self._capsys = capsys

    def __call__(self, *saved: str) -> tuple[int, dict[str, Any]]:
        """Replay these lines; return the exit code and the result."""
        self._file.write_text("\n".join(saved))
        code = main(["replay", str(self._file), "--json"])
        printed = self._capsys.readouterr()
        result: dict[str, Any] = json.loads(printed.out)
        store, *complaints = printed.err.splitlines()
        assert f"Store: {self.store.name}" == store
        assert [*result["problems"], *result["notes"]] == complaints
        assert self.store.name == result.pop("store")
        return code, result

    def portal(self, **fields: Any) -> None:  # noqa: ANN401
        """Set portal M to these fields and no others."""
        path = "portals/M"
        found = self.store.get(path, Deadline(5))
        assert self.store.put(Document(path, fields, found and found.version), Deadline(5))

    def stored(self) -> dict[str, Mapping[str, object]]:
        """Return all records by path, without the fields that storing adds."""
        found = self.store.newest("portals/M/deletions", "recorded_at", Deadline(5))
        return {
            document.path: {
                name: value for name, value in document.fields.items() if name != "recorded_at"
            }
            for document in found
        }


@pytest.fixture
def replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Replay:
    """Use an empty embedded store for the command."""
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(tmp_path / "store.sqlite3"))
    return Replay(tmp_path, capsys)


def replayed(documents: list[Document]) -> dict[str, Mapping[str, object]]:
    """Return the records that a replay should store."""
    return {document.path: {**document.fields, "via": "replay"} for document in documents}


def result(recorded: int = 0, duplicates: int = 0, **more: object) -> dict[str, object]:
    """Return a replay's output."""
    counts = {"recorded": recorded, "duplicates": duplicates}
    nothing = {"quarantined": 0, "forged": 0, "unknown": 0, "problems": [], "notes": []}
    return {"found": recorded + duplicates, **counts, **nothing, **more}


def test_records_are_restored_completely(replay: Replay) -> None:
    """Of both shapes, with every field and the same ids; `via` is a replay."""
    documents = (
        records("a", "Ünïcode \x00 \ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"))
        + customers()
    )

    assert (0, result(recorded=3)) == replay(*lines(documents))
    assert replayed(documents) == replay.stored()


def test_replaying_twice_changes_nothing(replay: Replay) -> None:
    """Existing records are counted as such."""
    documents = records("a", "b")
    replay(*lines(documents[:1]))

    assert (0, result(recorded=1, duplicates=1)) == replay(*lines(documents))
    assert (0, result(duplicates=2)) == replay(*lines(documents))
    assert replayed(documents) == replay.stored()


def test_letters_are_found_among_other_lines(replay: Replay) -> None:
    """Lines of the function and of gunicorn, a container's prefix, empty lines."""
    first, second = lines(records("a")), lines(records("b"))
    noise = '{"severity":"INFO","message":"recorded","outcome":"recorded","recorded":1}'
    saved = [noise, "[2026] [INFO] Booting {worker}", "", *first, f"web-1 | {second[0]} trailing"]

    assert (0, result(recorded=2)) == replay(*saved)


@pytest.mark.parametrize("indent", [None, 2])
def test_gclouds_output_is_understood(replay: Replay, indent: int | None) -> None:
    """`gcloud logging read --format=json`: an array of entries, whose numbers were doubles."""
    documents = records("a") + records("b", im_message_id=2**60 + 1) + customers()
    payloads = [json.loads(line, parse_int=float) for line in lines(documents[:2])]
    payloads += [json.loads(line) for line in lines(documents[2:])]
    for payload in payloads:
        payload.pop("severity")  # Cloud Logging moves it
    entries: list[dict[str, object]] = [
        {"insertId": "1", "severity": "CRITICAL", "jsonPayload": payload} for payload in payloads
    ]
    entries.insert(1, {"insertId": "2", "textPayload": "Booting worker {with} braces"})
    entries.insert(1, {"insertId": "3", "jsonPayload": {"message": "recorded"}})
    entries.insert(1, {"insertId": "4", "jsonPayload": None})

    assert (0, result(recorded=3)) == replay(json.dumps(entries, indent=indent))
    assert replayed(documents) == replay.stored()


def test_line_in_text_payload_is_understood(replay: Replay) -> None:
    """An entry's textPayload may contain the whole line."""
    (line,) = lines(records("a"))

    assert (0, result(recorded=1)) == replay(json.dumps([{"textPayload": line}]))


def test_damaged_line_is_reported_and_the_rest_replayed(replay: Replay) -> None:
    """With its number, so that it can be examined."""
    (one,), (two,) = lines(records("a")), lines(records("b"))

    code, done = replay(one, two[: len(two) // 2], "", two.replace('"origin"', '"orig'), two)

    assert (1, 2) == (code, done["recorded"])
    assert ["Line 2: damaged.", "Line 4: damaged."] == done["problems"]
    for mark in ('"CRITICAL"', '"not_recorded"'):
        cut = two[two.index(mark) :][: len(mark)]
        assert (1, result(problems=["Line 1: damaged."])) == replay(cut)


def test_a_letter_is_found_behind_a_brace(replay: Replay) -> None:
    """Whatever precedes it on its line."""
    (line,) = lines(records("a"))

    assert (0, result(recorded=1)) == replay("{" + line)


def test_invalid_record_is_reported_and_the_rest_replayed(replay: Replay) -> None:
    """The file may have been edited."""
    (line,) = lines(records("a", "b"))
    letter = json.loads(line)
    letter["records"][0]["line_id"] = 1.5
    letter["records"] += ["text", {**letter["records"][1], "member_id": "a/b"}]
    letter["records"] += [{**letter["records"][1], "event": "ONAPPTEST"}]
    other = {**letter, "records": "text"}

    code, done = replay(json.dumps(other), json.dumps(letter))

    assert (1, 1) == (code, done["recorded"])
    problems = ["Line 1: damaged.", *["Line 2: a record is damaged."] * 4]
    assert problems == done["problems"]


FORGED = (
    "4 records of portal M skipped as forged: the portal does not accept the token. If it has"
    " changed since, enter the old one with `portals add`, and replay again."
)


class TestPortals:
    def test_genuine_unverified_record_is_stored(self, replay: Replay) -> None:
        """The token is checked by its digest when Firestore is available again."""
        digest = token_digest("T")
        replay.portal(active=True, token_digests=[digest])

        assert (0, result(recorded=1)) == replay(*lines(records("a"), digest))

    @pytest.mark.parametrize(
        "portal",
        [
            {"active": True, "token_digests": [token_digest("other")]},
            {"active": False, "token_digests": [token_digest("T")]},
            {"active": True, "token_digests": [""]},
        ],
    )
    def test_forged_unverified_record_is_skipped_and_reported(
        self, replay: Replay, portal: dict[str, Any]
    ) -> None:
        """Anyone may have sent it while the token could not be checked."""
        replay.portal(**portal)

        digests = [token_digest("T"), ""]
        saved = [line for digest in digests for line in lines(records("a", "b"), digest)]

        assert (0, result(found=4, forged=4, notes=[FORGED])) == replay(*saved)
        assert {} == replay.stored()

    @pytest.mark.parametrize("digest", [None, token_digest("T")])
    def test_wrong_database_is_not_taken_for_a_forgery(
        self, replay: Replay, digest: str | None
    ) -> None:
        """Nor does it get any records, which nobody would find there."""
        replay.store.delete(["portals/M"], Deadline(5))
        told = (
            f"3 records of portal M not written: there is no such portal in {replay.store.name}. Is"
            " that the service's own database? If so, and the portal was not purged, enter it with"
            " `portals add`, and replay again."
        )

        saved = [*lines(records("a", "b"), digest), *lines(records("c"), digest)]

        assert (1, result(found=3, unknown=3, problems=[told])) == replay(*saved)
        assert {} == replay.stored()

    def test_removed_portal_gets_its_verified_records(self, replay: Replay) -> None:
        """Its document still exists."""
        replay.portal(active=False, removed_at=DELIVERY.event_at)

        assert (0, result(recorded=1)) == replay(*lines(records("a")))


class TestDecisions:
    """An operator's shell does not override what the service decided."""

    EXPIRES_AT = datetime(2027, 3, 17, 15, 16, 17, tzinfo=UTC)

    @pytest.fixture(autouse=True)
    def _other_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the shell different settings."""
        monkeypatch.setenv("CONNECTORS", "another")
        monkeypatch.setenv("RETENTION_DAYS", "1")

    @pytest.mark.parametrize("expires_at", [None, EXPIRES_AT])
    def test_replayed_record_keeps_its_expiry(
        self, replay: Replay, expires_at: datetime | None
    ) -> None:
        """Or none; and its connector was to be recorded."""
        found = parse_deletions(DELIVERY.event, in_portal("a"), 27).deletions
        documents = [deletion_document(one, DELIVERY, expires_at) for one in found]

        assert (0, result(recorded=1)) == replay(*lines(documents))
        assert replayed(documents) == replay.stored()

    @pytest.mark.parametrize("expires_at", [None, EXPIRES_AT])
    def test_replayed_event_keeps_its_expiry(
        self, replay: Replay, expires_at: datetime | None
    ) -> None:
        """Recorded or quarantined."""
        delivery = replace(DELIVERY, expires_at=expires_at)
        saved = [*event_lines(in_portal("a"), delivery), *event_lines({"LINE": "x"}, delivery)]

        assert (0, result(found=2, recorded=1, quarantined=1)) == replay(*saved)

        (name,) = replay.store.names("portals/M/quarantine", Deadline(5), limit=9)
        kept = replay.store.get(f"portals/M/quarantine/{name}", Deadline(5))
        (record,) = replay.stored().values()
        assert kept
        assert [expires_at] * 2 == [found.get("expires_at") for found in (kept.fields, record)]

    def test_event_has_its_connectors_setting(self, replay: Replay) -> None:
        """It was not parsed before it was logged, so its letter has the setting."""
        saved = [
            *event_lines(in_portal("a"), connectors=["myconnector", "z"]),
            *event_lines(in_portal("b"), connectors=["z"]),
        ]

        assert (0, result(found=2, recorded=1)) == replay(*saved)
        assert ["a"] == [fields["message_id"] for fields in replay.stored().values()]

    @pytest.mark.parametrize(("connectors", "kept"), [(["z", "a"], ["a", "z"]), ([], None)])
    def test_quarantined_event_keeps_its_connectors_setting(
        self, replay: Replay, connectors: list[str], kept: list[str] | None
    ) -> None:
        """Or none, for its retry."""
        saved = event_lines({"LINE": "x"}, connectors=connectors)

        assert (0, result(found=1, quarantined=1)) == replay(*saved)

        (document,) = replay.store.newest("portals/M/quarantine", "received_at", Deadline(5))
        assert kept == document.fields.get("connectors")


class TestEvents:
    def test_event_after_a_bug_is_recorded(self, replay: Replay) -> None:
        """Its data is JSON text, which no log changes."""
        documents = records("a", "b")

        saved = [*event_lines(in_portal("a")), *event_lines(in_portal("b"))]
        assert (0, result(recorded=2)) == replay(*saved)
        assert replayed(documents) == replay.stored()

    def test_the_twin_event_has_its_own_shape(self, replay: Replay) -> None:
        """With MESSAGES instead of DATA."""
        delivery = replace(DELIVERY, event="ONIMCONNECTORMESSAGEDELETE")

        saved = event_lines(typed("connector-twin")["data"], delivery)
        assert (0, result(recorded=1)) == replay(*saved)

    def test_a_large_event_comes_in_parts_in_any_order(self, replay: Replay) -> None:
        """No line is longer than 100 kB; Cloud Logging prints the newest first."""
        saved = event_lines({**in_portal("a"), "more": '"\\\x00' * 60_000})

        assert len(saved) > 1
        assert max(map(len, saved)) < 100_000
        some, all_ = len(saved) - 1, len(saved)
        assert (0, result(found=all_, recorded=1)) == replay(*reversed(saved))
        problem = (
            f"Only {some} of the {all_} parts of an event were found: replay all of their"
            " lines together."
        )
        assert (1, result(found=some, problems=[problem])) == replay(*saved[1:])

    def test_a_damaged_part_is_reported(self, replay: Replay) -> None:
        """Its payload is no longer JSON."""
        (line,) = event_lines(in_portal("a"))
        letter = json.loads(line)
        letter["records"][0]["payload"] = "{"

        assert (1, result(found=1, problems=["Line 1: a record is damaged."])) == replay(
            json.dumps(letter)
        )


def test_a_log_without_letters_is_no_problem() -> None:
    """Nor is one full of braces."""
    assert ([], []) == read_letters("")
    assert ([], []) == read_letters("{" * 5_000 + '{"outcome":"not recorded"}')


def test_the_letters_of_a_long_outage_are_read_in_seconds() -> None:
    """The time is linear in the log's length, not quadratic."""
    (line,) = lines(records("a"))
    with Stopwatch() as watch:
        letters, damaged = read_letters(f"{line}\n" * 10_000)

    assert ([], 10_000) == (damaged, letters[-1].line)
    assert watch.seconds < 10


def test_standard_input_is_read(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gcloud's output can be piped; people get sentences."""
    saved = "\n".join(lines(records("a"))).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(saved)))

    assert 0 == main(["replay", "-"])
    assert "1 recorded, 0 already recorded" in capsys.readouterr().out
    assert 1 == len(replay.stored())


def test_missing_file_is_reported(replay: Replay, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback."""
    assert {} == replay.stored()
    assert 1 == main(["replay", "/no/such/file"])
    assert "/no/such/file cannot be read: No such file or directory." in capsys.readouterr().err


def test_a_record_keeps_its_id_through_the_log() -> None:
    """The path is computed again from the same facts, so no letter can name another document."""
    (line,) = lines(records("a"))
    assert "portals/" not in line
