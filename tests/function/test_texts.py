"""Messages' texts get into their records, and nowhere else: requests in, documents out."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from handler.answers import Answer
from handler.deadline import Deadline
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.records.replay import Replay, read_letters
from handler.settings import Settings
from handler.stores.interface import Document, Fields, Store, StoreUnavailable
from handler.stores.sqlite import LocalStore
from handler.tokens import token_digest
from tests.conftest import firestore_at
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import ROOT, environment
from tests.samples import form, typed

MEMBER_ID = "bac1cd5c8940947a75e0d71b1a84e348"
TOKEN = "831c76b092f9f135d9b6b36c3a720757"
NOW = datetime(2026, 3, 17, 16, tzinfo=UTC)

SECRET = "sécret [b]words[/b] 😀"


class Function:
    """A function on a store, with the portal of the samples and its own clock."""

    def __init__(self, store: Store, **settings: Any) -> None:  # noqa: ANN401
        self.store: Store | None = store
        self.kept = store
        self.now = NOW
        self.out = io.StringIO()
        self.settings = Settings(**{"keep_text_days": 30, **settings})
        self.receiver = Receiver(self.settings, self.open, Log(self.out), lambda: self.now)
        portal: Fields = {"token_digests": [token_digest(TOKEN)], "active": True}
        store.put(Document(f"portals/{MEMBER_ID}", portal), Deadline(5))

    def open(self) -> Store:
        """Open the store, unless it is unavailable."""
        if self.store is None:
            raise StoreUnavailable("It is away.")
        return self.store

    def send(self, event: Mapping[str, Any], **changes: object) -> Answer:
        """Send an event as JSON."""
        body = json.dumps({**event, **changes}).encode()
        return self._post(body, "application/json")

    def send_form(self, name: str) -> Answer:
        """Send a sample like Bitrix24."""
        return self._post(form(name), "application/x-www-form-urlencoded")

    def _post(self, body: bytes, content_type: str) -> Answer:
        return self.receiver.receive(
            Request(method="POST", path="/", content_type=content_type, read_body=lambda: body)
        )

    def documents(self, collection: str) -> list[Fields]:
        """Return the documents of a collection."""
        folder = f"portals/{MEMBER_ID}/{collection}"
        names = self.kept.names(folder, Deadline(5), limit=99)
        found = self.kept.get_all([f"{folder}/{name}" for name in names], Deadline(5))
        return [document.fields for document in found if document]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    @property
    def texts(self) -> list[object]:
        """The texts of the records."""
        return [fields.get("text") for fields in self.documents("deletions")]


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """Open an embedded store in which nothing expires by the current time."""
    return LocalStore(str(tmp_path / "store.sqlite3"), lambda: NOW)


@pytest.fixture(params=["embedded", "firestore"])
def function(request: pytest.FixtureRequest, local: Store) -> Iterator[Function]:
    """Run on each kind of store."""
    if request.param == "embedded":
        yield Function(local)
        return
    with FirestoreDouble() as double:
        yield Function(firestore_at(double.host, "texts"))


def said(text: object) -> dict[str, Any]:
    """Return the operator's message of the samples, with another text."""
    event = typed("message-add-operator")
    event["data"]["DATA"]["message"]["text"] = text
    return event


DELETED = typed("portal-one-message")


class TestKept:
    """With the setting."""

    def test_record_has_the_last_text(self, function: Function) -> None:
        """Sent, changed and deleted, as in the samples."""
        for name in ("message-add-operator", "message-update-operator"):
            assert Answer(200, {"status": "kept", "kept": 1}) == function.send_form(name)
        answer = function.send_form("portal-one-message")
        assert 200 == answer.status
        assert {"status": "recorded", "recorded": 1, "duplicates": 0} == answer.body

        (record,) = function.documents("deletions")
        assert "[b]Operator:[/b] [br] The parcel comes on Friday." == record["text"]
        assert (27, ["label.pdf"]) == (record["author_id"], record["files"])
        sent = datetime(2026, 3, 17, 15, 16, 17, tzinfo=UTC)
        assert sent == record["sent_at"] == record["edited_at"]

    def test_event_without_a_time_is_dated_on_receipt(self, function: Function) -> None:
        """An update without `ts` is dated by the clock, like its deletion."""
        function.send(said("one"), ts=None)
        function.now += timedelta(seconds=1)
        function.send(DELETED, ts=None)
        function.now += timedelta(seconds=1)
        function.send(typed("message-update-operator"), ts=None)

        assert ["one"] == function.texts
        (record,) = function.documents("deletions")
        assert NOW == record["sent_at"]

    def test_several_messages_of_one_event_are_counted(self, function: Function) -> None:
        """Those whose text is then known."""
        event = typed("message-add-customer")
        one = event["data"]["DATA"]
        other = {**one, "message": {"id": "without text"}}
        event["data"]["DATA"] = [one, other]

        assert Answer(200, {"status": "kept", "kept": 1}) == function.send(event)

    def test_other_routes_look_up_the_text_too(self, function: Function) -> None:
        """For records from the log, the queue and the quarantine."""
        function.send(said(SECRET))
        function.store = None
        assert 503 == function.send(DELETED).status
        function.store = function.kept
        letters, damaged = read_letters(function.out.getvalue())
        assert ([], 1) == (damaged, len(letters))
        recorder = Recorder(function.open, function.settings, lambda: NOW)
        replay = Replay(function.kept, recorder, lambda: Deadline(5))

        replay.take(letters[0])

        assert [SECRET] == function.texts
        function.kept.delete(
            [f"portals/{MEMBER_ID}/deletions/{name}" for name in _names(function)], Deadline(5)
        )
        delivery = Delivery(member_id=MEMBER_ID, event=DELETED["event"], via="offline")
        documents = recorder.read(delivery, DELETED["data"]).documents
        recorder.record(documents, Deadline(5))
        assert [SECRET] == function.texts


def _names(function: Function) -> list[str]:
    return list(function.kept.names(f"portals/{MEMBER_ID}/deletions", Deadline(5), limit=9))


class TestRefused:
    """What is not kept."""

    def test_forged_message(self, local: Store) -> None:
        """Like every event without a valid token."""
        function = Function(local)
        event = said(SECRET)
        event["auth"]["application_token"] = "forged"

        assert 403 == function.send(event).status
        assert [] == function.documents("openline_messages")

    def test_unreadable_message_is_not_quarantined(self, local: Store) -> None:
        """No deletion would be lost; the fields are named, the text is not."""
        function = Function(local)

        answer = function.send(said([SECRET]))

        assert 422 == answer.status
        assert {
            "error": "unprocessable_event",
            "detail": "The data is not valid for the event; messages that cannot be read are not"
            " kept.",
            "fields": ["data.DATA.message.text"],
        } == answer.body
        assert [] == function.documents("quarantine")
        (line,) = function.lines
        assert ("WARNING", "unprocessable_event") == (line["severity"], line["outcome"])

    def test_a_text_or_token_in_a_deletion_is_neither_quarantined_nor_logged(
        self, local: Store
    ) -> None:
        """If a deletion's valid part is recorded, and the event quarantined or logged for the rest.

        The replay of what was logged records the same, in the same documents.
        """
        function = Function(local)
        event = {**DELETED, "data": {**DELETED["data"], "access_token": "sécret"}}
        wrong = {"message": {"text": SECRET, "files": [SECRET]}, "auth": {"refresh_token": SECRET}}
        event["data"]["DATA"] = [*event["data"]["DATA"], wrong]
        assert 422 == function.send(event).status
        stored = [*function.documents("quarantine"), *function.documents("deletions")]
        function.store = None
        assert 503 == function.send(event).status
        assert "cret" not in f"{stored} {function.out.getvalue()}"

        (letter,), _ = read_letters(function.out.getvalue())
        recorder = Recorder(lambda: local, function.settings, lambda: NOW)
        replay = Replay(local, recorder, lambda: Deadline(5))
        replay.take(letter)

        done = replay.finish()
        assert (1, 1, []) == (done.counts.duplicates, done.quarantined, done.problems)
        assert stored == [*function.documents("quarantine"), *function.documents("deletions")]

    def test_unwanted_connector_is_ignored(self, local: Store) -> None:
        """And named in the log, as for deletions."""
        function = Function(local, connectors=frozenset({"other"}))

        answer = function.send(said(SECRET))

        assert 200 == answer.status
        assert {"status": "ignored", "event": "ONOPENLINEMESSAGEADD"} == answer.body
        (line,) = function.lines
        assert ("myconnector", 1) == (line["connector"], line["ignored"])
        assert [] == function.documents("openline_messages")

    @pytest.mark.parametrize(
        ("connector", "told"),
        [("other", (200, "kept")), ({"odd": 1}, (422, "unprocessable_event"))],
    )
    def test_unwanted_connector_is_ignored_next_to_others(
        self, local: Store, connector: object, told: tuple[int, str]
    ) -> None:
        """And named in the log, whether the others are valid or not."""
        function = Function(local, connectors=frozenset({"other"}))
        event = typed("message-add-customer-in-list")
        (element,) = event["data"]["DATA"]
        other = {**element, "connector": {**element["connector"], "connector_id": connector}}
        event["data"]["DATA"] = [element, other]

        answer = function.send(event)

        (line,) = function.lines
        assert told == (answer.status, line["outcome"])
        assert ("myconnector", 1) == (line["connector"], line["ignored"])

    def test_text_is_not_worth_a_dead_letter(self, local: Store) -> None:
        """Neither before its token is verified nor after."""
        function = Function(local)
        function.store = None
        assert 503 == function.send(said(SECRET)).status
        function.store = function.kept
        function.send(typed("message-add-customer"))
        function.store = None

        assert 503 == function.send(said(SECRET)).status
        assert ["store_unavailable", "kept", "store_unavailable"] == [
            line["outcome"] for line in function.lines
        ]

    def test_expired_text_is_gone_from_the_file_with_the_next_write(self, tmp_path: Path) -> None:
        """In the embedded store, with any write; Firestore has its TTL policy."""
        later = LocalStore(str(tmp_path / "store.sqlite3"), lambda: NOW + timedelta(days=30))
        function = Function(LocalStore(str(tmp_path / "store.sqlite3"), lambda: NOW))
        function.send(said(SECRET))
        function.now += timedelta(days=30)
        function.store = later

        function.send(DELETED)

        assert [None] == function.texts
        texts = [fields.get("text") for fields in function.documents("openline_messages")]
        assert [None, None] == texts


def test_no_text_is_logged_or_answered(local: Store) -> None:
    """For every outcome: kept, refused, late, or with a deletion that is not stored."""
    function = Function(local)
    answers = [function.send(said(SECRET)), function.send(said([SECRET]))]
    update = typed("message-update-operator")
    update["data"]["DATA"]["message"]["text"] = SECRET
    answers.append(function.send(update))
    function.store = None
    answers += [function.send(DELETED), function.send(update)]
    function.store = function.kept
    answers += [function.send(DELETED), function.send(update)]

    told = json.dumps([dict(answer.body) for answer in answers], ensure_ascii=False)
    assert SECRET in str(function.texts)
    for text in (told, function.out.getvalue()):
        assert "words" not in text
        assert "label.pdf" not in text


class TestWithoutTheSetting:
    """Nothing of a message is stored, and nothing costs more than before."""

    def test_messages_are_ignored(self, local: Store) -> None:
        """In every form, like events that are not for us."""
        function = Function(local, keep_text_days=None)

        for event in (said(SECRET), said([SECRET])):
            answer = function.send(event)
            assert {"status": "ignored", "event": "ONOPENLINEMESSAGEADD"} == answer.body
        function.send(DELETED)

        assert [] == function.documents("openline_messages")
        assert [None] == function.texts

    def test_no_event_costs_another_call(self) -> None:
        """A deletion is one commit; a message costs nothing once the token is cached."""
        with FirestoreDouble() as double:
            function = Function(firestore_at(double.host, "texts"), keep_text_days=None)
            function.send(said(SECRET))
            double.calls.clear()

            function.send(DELETED)
            function.send(said(SECRET))

            assert {"Commit": 1} == double.calls

    def test_nothing_is_imported_for_it(self, tmp_path: Path) -> None:
        """A cold start does not pay for a feature that is off."""
        code = (
            "import sys, main\n"
            "from handler.receiver import Request\n"
            f"bodies = [{form('message-add-operator')!r}, {form('portal-one-message')!r}]\n"
            "for body in bodies:\n"
            "    main._receiver.receive(Request(method='POST', path='/', read_body=lambda: body,\n"
            "        content_type='application/x-www-form-urlencoded'))\n"
            "print([name for name in sys.modules if 'message' in name and 'handler' in name])\n"
        )
        settings = {"STORE": "local", "LOCAL_STORE_PATH": str(tmp_path / "store.sqlite3")}
        Function(LocalStore(settings["LOCAL_STORE_PATH"]))

        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(**settings),
            capture_output=True,
            text=True,
            check=True,
        )

        *lines, imported = done.stdout.splitlines()
        assert ["ignored", "recorded"] == [json.loads(line)["outcome"] for line in lines]
        assert "[]" == imported


def test_the_setting_costs_one_call_per_deletion_and_two_per_message() -> None:
    """One read of several documents, and one commit."""
    with FirestoreDouble() as double:
        function = Function(firestore_at(double.host, "texts"))
        function.send(typed("message-add-customer"))
        for event in (said(SECRET), DELETED, typed("message-update-operator")):
            double.calls.clear()
            function.send(event)
            assert {"BatchGetDocuments": 1, "Commit": 1} == double.calls
