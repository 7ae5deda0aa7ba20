"""Firestore unavailable, slow or losing answers, a bug, a stop: what happens to one event."""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handler.answers import Answer
from handler.commands import main
from handler.deadline import Deadline
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.stores.firestore import Firestore
from handler.stores.interface import Document, Fields, Store, StoreUnavailable
from handler.stores.opening import LazyStore
from handler.tokens import token_digest
from tests.conftest import firestore_at
from tests.doubles.bitrix24 import Bitrix24, Installation
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import FORM, Function, Response
from tests.samples import in_portal
from tests.stopwatch import Stopwatch

MEMBER_ID = "bac1cd5c8940947a75e0d71b1a84e348"
TOKEN = "831c76b092f9f135d9b6b36c3a720757"
JSON = "application/json"
DEADLINE_SECONDS = 0.5
DEADLINE_OF_PROCESS = 5
RECORDS = f"portals/{MEMBER_ID}/deletions"
ALWAYS = 1_000

# The fixed part of the 503 answer; its `detail` is for people.
UNAVAILABLE = (503, "store_unavailable")


def deletion(number: int = 1, token: str = TOKEN, **auth: object) -> dict[str, Any]:
    """Return a deletion inside Bitrix24, with a secret that must never be shown."""
    return {
        "event": "ONOPENLINEMESSAGEDELETE",
        "data": in_portal(f"ext-{number}", im_message_id=number),
        "ts": 1773763177,
        "auth": {
            "member_id": MEMBER_ID,
            "application_token": token,
            "access_token": "access-secret",
            "refresh_token": "refresh-secret",
            "domain": "some-domain.bitrix24.com",
            "user_id": 27,
            **auth,
        },
    }


def misfit() -> dict[str, Any]:
    """Return an invalid deletion event."""
    return {**deletion(), "data": {"CONNECTOR": "myconnector", "LINE": "a line", "DATA": []}}


LETTER = {
    "severity": "CRITICAL",
    "message": "1 deletion could not be stored; replay this line when Firestore is back.",
    "outcome": "not_recorded",
    "event": "ONOPENLINEMESSAGEDELETE",
    "member_id": MEMBER_ID,
}
RECORD = {
    "origin": "portal",
    "member_id": MEMBER_ID,
    "domain": "some-domain.bitrix24.com",
    "event": "ONOPENLINEMESSAGEDELETE",
    "connector": "myconnector",
    "line_id": 107,
    "message_id": "ext-1",
    "chat_id": "channel-123",
    "im_message_id": 1,
    "im_chat_id": 1807,
    "user_id": 27,
}
KEPT = {**RECORD, "event_at": "2026-03-17T15:59:37+00:00", "via": "online"}


def enter(store: Store, member_id: str = MEMBER_ID, token: str = TOKEN) -> None:
    """Add a portal by hand."""
    fields: Fields = {"token_digests": [token_digest(token)], "active": True}
    store.put(Document(f"portals/{member_id}", fields), Deadline(20))


class Site:
    """The function's core in this process, on a Firestore that can fail."""

    def __init__(self, settings: Settings, store: Store, file: Path) -> None:
        self.stream = io.StringIO()
        self.store = store
        self.settings = settings
        self._file = file
        self.start()

    def start(
        self,
        open_store: Callable[[], Store] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        **changes: Any,  # noqa: ANN401
    ) -> None:
        """Start the function, with other settings if given."""
        self.settings = replace(self.settings, **changes)
        opened = open_store or LazyStore(self.settings)
        self.receiver = Receiver(self.settings, opened, Log(self.stream), now)

    def send(self, event: dict[str, Any]) -> Answer:
        """Send an event."""
        return self.post(json.dumps(event).encode(), JSON)

    def post(self, body: bytes, content_type: str = FORM) -> Answer:
        """Post a body."""
        request = Request(
            method="POST",
            path="/",
            content_type=content_type,
            read_body=lambda: body,
            url="http://127.0.0.1:9/",
        )
        return self.receiver.receive(request)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def letters(self) -> list[dict[str, Any]]:
        """The dead letters in the log."""
        return [line for line in self.lines if line["outcome"] == "not_recorded"]

    def stored(self, collection: str = "deletions", stamp: str = "recorded_at") -> list[Fields]:
        """Return the portal's documents, without the time at which they were stored."""
        documents = self.store.newest(f"portals/{MEMBER_ID}/{collection}", stamp, Deadline(20))
        return [
            {name: value for name, value in document.fields.items() if name != stamp}
            for document in documents
        ]

    def replay(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        """Replay the log; return the command's output. Problems may only be unknown portals."""
        self._file.write_text(self.stream.getvalue())
        capsys.readouterr()
        code = main(["replay", str(self._file), "--json"])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert (bool(told["unknown"]), told["unknown"]) == (code, len(told["problems"]))
        return {name: told[name] for name in ("recorded", "duplicates", "quarantined", "forged")}


def told(recorded: int = 0, duplicates: int = 0, quarantined: int = 0, forged: int = 0) -> object:
    """Return a replay's output."""
    counts = {"recorded": recorded, "duplicates": duplicates}
    return {**counts, "quarantined": quarantined, "forged": forged}


def outcome(answer: Answer) -> tuple[int, object]:
    """Return an answer's status and code."""
    return answer.status, answer.body.get("error") or answer.body.get("status")


@pytest.fixture
def site(
    double: FirestoreDouble, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """Run the core on the double, with one portal; commands use the same database."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", double.host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    settings = Settings(
        project=project, emulator_host=double.host, store_deadline_seconds=DEADLINE_SECONDS
    )
    site = Site(settings, firestore_at(double.host, project), tmp_path / "saved.log")
    enter(site.store)
    return site


def make_trusted(site: Site) -> None:
    """Let the instance verify the portal's token, as with any first event.

    A stalled machine can miss a deadline this short; then, it starts anew.
    """
    give_up = time.monotonic() + 60
    while UNAVAILABLE == outcome(site.send(deletion(0))):
        assert time.monotonic() < give_up
    site.stream.seek(0)
    site.stream.truncate()


class TestAway:
    """Firestore cannot be reached, or does not answer."""

    def test_unstored_records_are_logged_completely_until_a_replay(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """With a cached token, they are verified records, even without Firestore.

        The answer is 503 with Retry-After; a second replay changes nothing.
        """
        make_trusted(site)
        before = site.stored()
        double.stop()

        answer = site.send(deletion())

        assert UNAVAILABLE == outcome(answer)
        assert int(answer.headers["Retry-After"]) > 0
        assert [{**LETTER, "records": [KEPT]}] == site.letters
        double.start()
        assert before == site.stored()
        assert told(recorded=1) == site.replay(capsys)
        assert told(duplicates=1) == site.replay(capsys)
        (record,) = [fields for fields in site.stored() if fields not in before]
        assert {**RECORD, "via": "replay"} == {
            name: value for name, value in record.items() if name != "event_at"
        }

    def test_unverified_records_are_marked(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The log has the token's digest and no token; the replay verifies and records them."""
        double.stop()

        assert UNAVAILABLE == outcome(site.send(deletion()))

        unverified = {"verified": False, "token_digest": token_digest(TOKEN)}
        assert [{**LETTER, **unverified, "records": [KEPT]}] == site.letters
        for secret in (TOKEN, "access-secret", "refresh-secret"):
            assert secret not in site.stream.getvalue()
        double.start()
        assert told(recorded=1) == site.replay(capsys)
        assert told(duplicates=1) == site.replay(capsys)
        assert ["ext-1"] == [record["message_id"] for record in site.stored()]

    def test_a_replay_skips_what_was_forged_during_an_outage(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A wrong token gets the same 503, but is never recorded."""
        double.stop()
        assert UNAVAILABLE == outcome(site.send(deletion(1, token="forged")))
        assert UNAVAILABLE == outcome(site.send(deletion(2, member_id="of-nobody")))
        double.start()

        assert told(forged=1) == site.replay(capsys)

        assert [] == site.stored()
        assert [] == site.store.names("portals/of-nobody/deletions", Deadline(20), limit=1)

    def test_strangers_names_are_cut(self, site: Site, double: FirestoreDouble) -> None:
        """The answer's log line is short, however long the names in the event are."""
        double.stop()

        answer = site.send({**deletion(member_id="m" * 1_400), "event": "e" * 100})

        assert UNAVAILABLE == outcome(answer)
        (line,) = site.lines
        assert "m" * 100 == line["member_id"]
        assert len(json.dumps(line)) < 1_000

    def test_event_that_cannot_be_quarantined_is_logged_until_a_replay(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The replay quarantines it, in one document with a repeat."""
        make_trusted(site)
        double.stop()

        assert UNAVAILABLE == outcome(site.send(misfit()))

        (letter,) = site.letters
        (record,) = letter["records"]
        assert misfit()["data"] == json.loads(record["payload"])
        double.start()
        assert told(quarantined=1) == site.replay(capsys)
        site.start(store_deadline_seconds=20)
        assert (422, "unprocessable_event") == outcome(site.send(misfit()))
        (quarantined,) = site.stored("quarantine", "received_at")
        assert misfit()["data"] == json.loads(str(quarantined["payload"]))
        assert "access-secret" not in site.stream.getvalue()

    def test_partly_valid_event_is_logged_completely_until_a_replay(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The replay records the valid part and quarantines the event; a retry finds duplicates."""
        make_trusted(site)
        event = deletion()
        event["data"]["DATA"].append({"im": "?"})
        double.stop()

        assert UNAVAILABLE == outcome(site.send(event))

        (letter,) = site.letters
        (record,) = letter["records"]
        assert event["data"] == json.loads(record["payload"])
        double.start()
        assert told(recorded=1, quarantined=1) == site.replay(capsys)
        assert "ext-1" in {stored["message_id"] for stored in site.stored()}
        assert main(["quarantine", "retry"]) == 1
        assert "0 recorded, 1 already recorded, 1 left." in capsys.readouterr().out
        assert 1 == len(site.stored("quarantine", "received_at"))

    def test_only_the_valid_part_of_an_unverified_event_is_logged(
        self, site: Site, double: FirestoreDouble, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A stranger may have sent the rest."""
        event = deletion()
        event["data"]["DATA"].append({"im": "a stranger's"})
        double.stop()

        assert UNAVAILABLE == outcome(site.send(event))

        (letter,) = site.letters
        assert (False, [KEPT]) == (letter["verified"], letter["records"])
        assert "a stranger's" not in site.stream.getvalue()
        double.start()
        enter(site.store)
        assert told(recorded=1) == site.replay(capsys)


class TestBug:
    """The function itself has a bug."""

    @pytest.mark.parametrize("method", ["create", "get"])
    def test_event_after_a_bug_is_logged_until_a_replay(
        self, site: Site, method: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The log has the bug's type and place, but not its text; then the event.

        A bug before the token is verified leaves an unverified letter.
        """
        use_store(site, BrokenAtCreate if method == "create" else BrokenAtGet)

        answer = site.send(deletion())

        assert (500, "internal_error") == outcome(answer)
        last = site.lines[-1]
        assert "RuntimeError" == last["bug"]
        assert last["where"][-1].endswith(f"in {method}")
        for secret in (TOKEN, "access-secret", "refresh-secret"):
            assert secret not in site.stream.getvalue() + json.dumps(answer.body)
        (letter,) = site.letters
        assert (None if method == "create" else False) is letter.get("verified")
        assert told(recorded=1) == site.replay(capsys)
        assert told(duplicates=1) == site.replay(capsys)
        assert ["ext-1"] == [record["message_id"] for record in site.stored()]

    @pytest.mark.parametrize("event", [misfit(), {**deletion(), "event": "ONAPPTEST"}])
    def test_a_bug_does_not_let_strangers_fill_the_log(
        self, site: Site, event: dict[str, Any]
    ) -> None:
        """Here, too, unverified events are logged only if they parse as a deletion."""
        use_store(site, BrokenAtGet)

        assert (500, "internal_error") == outcome(site.send(event))

        assert ["internal_error"] == [line["outcome"] for line in site.lines]

    def test_second_bug_is_answered_and_logged(self, site: Site) -> None:
        """A bug while the event is being logged costs neither the answer nor its line."""

        def broken_clock() -> datetime:
            raise RuntimeError(TOKEN)

        use_store(site, BrokenAtGet, broken_clock, retention_days=1)

        assert (500, "internal_error") == outcome(site.send(deletion()))

        assert ["internal_error"] == [line["outcome"] for line in site.lines]


class BrokenAtGet(Firestore):
    def get(self, path: str, _deadline: Deadline) -> Document | None:
        raise RuntimeError(f"{path}: a bug that tells {TOKEN} and access-secret")


class BrokenAtCreate(Firestore):
    def create(self, _documents: Sequence[Document], _stamp: str, _deadline: Deadline) -> int:
        raise RuntimeError(f"a bug that tells {TOKEN} and access-secret")


class UnavailableAtCreate(Firestore):
    def create(self, _documents: Sequence[Document], _stamp: str, _deadline: Deadline) -> int:
        raise StoreUnavailable("unavailable, said a test")


def use_store(
    site: Site,
    kind: type[Firestore],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    **changes: Any,  # noqa: ANN401
) -> None:
    """Let the function use a store of this kind."""
    project, host = site.settings.project, site.settings.emulator_host
    opened = kind.connect(project, "(default)", host, on_google_cloud=False)
    site.start(lambda: opened, now, **changes)


class TestHang:
    """Firestore accepts a call, and never answers."""

    @pytest.mark.parametrize("method", ["BatchGetDocuments", "Commit"])
    def test_no_request_takes_longer_than_the_deadline_and_a_second(
        self, site: Site, double: FirestoreDouble, method: str
    ) -> None:
        """Many at once, while reads or writes hang: each ends in time, and each is logged."""
        double.hang(method, times=ALWAYS)

        def timed(number: int) -> tuple[Answer, float]:
            started = watch.seconds
            return site.send(deletion(number)), watch.seconds - started

        with Stopwatch() as watch, ThreadPoolExecutor(24) as senders:
            done = list(senders.map(timed, range(72)))

        double.heal()
        assert {UNAVAILABLE} == {outcome(answer) for answer, _ in done}
        assert max(seconds for _, seconds in done) < DEADLINE_SECONDS + 1
        kept = [record["message_id"] for letter in site.letters for record in letter["records"]]
        assert sorted(f"ext-{number}" for number in range(72)) == sorted(kept)

    @pytest.mark.parametrize(
        ("event", "status", "calls"),
        [
            ("ONOPENLINEMESSAGEDELETE", "recorded", ["get", "create"]),
            ("ONAPPUNINSTALL", "uninstalled", ["get", "get", "put"]),
        ],
    )
    def test_verification_and_recording_share_one_deadline(
        self, site: Site, event: str, status: str, calls: list[str]
    ) -> None:
        """A slow read leaves less time to a hanging write."""
        deadlines: list[tuple[str, Deadline]] = []

        class Watched(Firestore):
            def get(self, path: str, deadline: Deadline) -> Document | None:
                deadlines.append(("get", deadline))
                return super().get(path, deadline)

            def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
                deadlines.append(("create", deadline))
                return super().create(documents, stamp, deadline)

            def put(self, document: Document, deadline: Deadline) -> bool:
                deadlines.append(("put", deadline))
                return super().put(document, deadline)

        use_store(site, Watched, store_deadline_seconds=20)
        assert (200, status) == outcome(site.send({**deletion(), "event": event}))

        assert [call for call, _ in deadlines] == calls
        assert len({id(deadline) for _, deadline in deadlines}) == 1

    def test_an_event_that_cannot_be_stored_does_not_remind_of_a_problem(self, site: Site) -> None:
        """That would take even longer; a later event reminds."""
        path = f"portals/{MEMBER_ID}"
        found = site.store.get(path, Deadline(20))
        assert found
        assert site.store.put(
            replace(found, fields={**found.fields, "problem": "Any."}), Deadline(20)
        )
        use_store(site, UnavailableAtCreate, store_deadline_seconds=20)
        assert outcome(site.send(deletion())) == UNAVAILABLE
        assert [line["outcome"] for line in site.lines] == ["not_recorded", "store_unavailable"]
        site.start()
        site.send(deletion())
        assert site.lines[-2]["outcome"] == "portal_problem"


class TestLife:
    """The application's own events while Firestore is unavailable."""

    def test_install_fails_and_can_be_repeated(
        self, bitrix: Bitrix24, site: Site, double: FirestoreDouble
    ) -> None:
        """Nothing is bound before the portal is stored; later, the same install is accepted."""
        app = local_application(bitrix, site)
        double.stop()

        assert UNAVAILABLE == outcome(site.post(app.install_event(app.token())))

        assert [] == app.bindings
        double.start()
        assert None is site.store.get(portal_path(app), Deadline(20))
        site.start(store_deadline_seconds=20)
        assert (200, "installed") == outcome(site.post(app.install_event(app.token())))
        assert 4 == len(app.bindings)

    def test_an_install_whose_answer_is_lost_can_be_repeated(
        self, bitrix: Bitrix24, site: Site, double: FirestoreDouble
    ) -> None:
        """The portal may be stored despite the 503; the second time is an update."""
        app = local_application(bitrix, site)
        double.hang("Commit", times=ALWAYS, after_applying=True)
        assert UNAVAILABLE == outcome(site.post(app.install_event(app.token())))
        double.heal()
        assert [] == app.bindings

        site.start(store_deadline_seconds=20)
        assert (200, "installed") == outcome(site.post(app.install_event(app.token())))

        assert 4 == len(app.bindings)
        stored = site.store.get(portal_path(app), Deadline(20))
        assert stored
        assert [token_digest(app.application_token)] == stored.fields["token_digests"]

    @pytest.mark.parametrize("fault", ["away", "no writes"])
    def test_failed_ping_leaves_the_queue_to_the_next_one(
        self, bitrix: Bitrix24, site: Site, double: FirestoreDouble, fault: str
    ) -> None:
        """No row is removed that is not stored; the next ping records them all, once."""
        app = local_application(bitrix, site)
        site.start(store_deadline_seconds=20)
        assert (200, "installed") == outcome(site.post(app.install_event(app.token())))
        site.start(store_deadline_seconds=DEADLINE_SECONDS)
        for number in range(3):
            app.portal.delete_message(f"ext-{number}", deliver=False)
        if fault == "away":
            double.stop()
        else:
            double.hang("Commit", times=ALWAYS)

        assert UNAVAILABLE == outcome(site.post(app.offline_ping(app.token())))

        assert [] == site.letters
        assert 3 == len(app.portal.queue(app))
        if fault == "away":
            double.start()
        double.heal()
        site.start(store_deadline_seconds=20)
        answer = site.post(app.offline_ping(app.token()))
        counts = {"recorded": 3, "duplicates": 0, "quarantined": 0, "ignored": 0}
        assert {"status": "recovered", **counts} == answer.body
        assert [] == app.portal.queue(app)


def local_application(bitrix: Bitrix24, site: Site) -> Installation:
    """Add a local application at a portal whose installs the function accepts."""
    portal = bitrix.add_portal("ours.bitrix24.com")
    site.start(
        allowed_portals=frozenset({"ours.bitrix24.com"}),
        oauth_servers=tuple(bitrix.oauth_servers.split(",")),
    )
    return portal.install()


def portal_path(app: Installation) -> str:
    """Return the path of an application's portal."""
    return f"portals/{app.portal.member_id}"


@pytest.fixture
def served(double: FirestoreDouble, project: str, tmp_path: Path) -> Iterator[Function]:
    """Run the function as a process on the double, with one portal."""
    enter(firestore_at(double.host, project))
    with Function(tmp_path / "log", **settings_of(double.host, project)) as function:
        warm_up(function)
        yield function


def settings_of(host: str, project: str) -> dict[str, str]:
    """Return settings for a function with a short deadline and many threads."""
    return {
        "FIRESTORE_EMULATOR_HOST": host,
        "GOOGLE_CLOUD_PROJECT": project,
        "STORE_DEADLINE_SECONDS": str(DEADLINE_OF_PROCESS),
        "THREADS": "16",
    }


def warm_up(function: Function) -> None:
    """Wait until it answers in time: just after its start, it may miss a deadline this short."""
    give_up = time.monotonic() + 60
    while post(function, {**deletion(), "event": "ONAPPTEST"}).status != 200:
        assert time.monotonic() < give_up


def post(function: Function, event: dict[str, Any]) -> Response:
    """Post an event to a process."""
    return function.post(json.dumps(event).encode(), JSON)


class TestProcess:
    """The function as a process."""

    def test_records_are_in_the_log_before_the_answer(
        self, served: Function, double: FirestoreDouble
    ) -> None:
        """A reader of the process's log at that moment finds all of them."""
        double.stop()

        answer = post(served, deletion())
        letters = [line for line in served.log_lines if line.get("outcome") == "not_recorded"]

        assert (503, "store_unavailable") == (answer.status, answer.json["error"])
        assert [[KEPT]] == [letter["records"] for letter in letters]

    def test_requests_in_flight_finish_after_sigterm(
        self, served: Function, double: FirestoreDouble
    ) -> None:
        """While Firestore is slow, each request that has started is answered 200, and stored."""
        double.calls.clear()
        double.delay("Commit", 0.7, times=8)
        with ThreadPoolExecutor(8) as senders:
            answers = [senders.submit(post, served, deletion(number)) for number in range(1, 9)]
            give_up = time.monotonic() + 60
            while double.calls["Commit"] < 8:
                assert time.monotonic() < give_up
                time.sleep(0.01)

            served.stop()

            assert [200] * 8 == [answer.result().status for answer in answers]
