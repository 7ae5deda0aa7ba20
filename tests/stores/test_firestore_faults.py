"""Failures of Firestore or the network: what is retried, reported, and how soon."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import TypeAlias, TypeVar

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc import StatusCode
from grpc.experimental import ChannelOptions

from handler.deadline import Deadline
from handler.settings import Settings
from handler.stores.access_token import TokenError, find_credentials
from handler.stores.firestore import Firestore
from handler.stores.firestore_channel import FirestoreChannel
from handler.stores.interface import Document, Put, Store, StoreError, StoreUnavailable
from handler.stores.opening import open_store
from tests.conftest import firestore_at
from tests.doubles.emulator import Emulator
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import free_port
from tests.doubles.google_cloud import MetadataServer
from tests.doubles.tcp_proxy import TcpProxy
from tests.stopwatch import Stopwatch
from tests.stores.calls import CALLS, RECORD, STAMP, Call, soon

T = TypeVar("T")
Options: TypeAlias = Sequence[tuple[str, int]]

PASSING = [
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
    StatusCode.INTERNAL,
    StatusCode.UNKNOWN,
    StatusCode.CANCELLED,
]
MENDABLE = [
    StatusCode.NOT_FOUND,
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
    StatusCode.FAILED_PRECONDITION,
]
FAULTS_OF_OURS = [
    StatusCode.INVALID_ARGUMENT,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNIMPLEMENTED,
    StatusCode.DATA_LOSS,
]

each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@contextmanager
def unavailable_after(seconds: float, message: str | None = None) -> Iterator[Deadline]:
    """Expect `StoreUnavailable` at the deadline, at most a second late.

    A stalled machine can pass it before the call that should fail.
    """
    deadline = Deadline(seconds)
    expected = message and f"{message}|no time was left"
    with Stopwatch() as watch, pytest.raises(StoreUnavailable, match=expected):
        yield deadline
    assert deadline.remaining <= seconds * 0.1
    assert watch.seconds < seconds + 1


@pytest.fixture
def store(double_store: Store) -> Store:
    """Open an empty database in the double."""
    return double_store


class TestCalls:
    """The number of calls if nothing fails."""

    def test_a_record_is_one_commit(self, double: FirestoreDouble, store: Store) -> None:
        """Nothing is read before it is written; if it is known, the commit itself shows that."""
        assert store.create([RECORD], STAMP, soon()) == 1
        assert store.create([RECORD], STAMP, soon()) == 0

        assert double.calls == {"Commit": 2}

    def test_many_new_records_are_one_commit(self, double: FirestoreDouble, store: Store) -> None:
        """A bulk deletion is written together."""
        assert store.create([Document(f"a/{n}", {}) for n in range(50)], STAMP, soon()) == 50

        assert double.calls == {"Commit": 1}

    def test_known_and_new_records_are_two_commits_and_one_read(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """After a commit that meets a known record, only the missing ones are committed."""
        store.create([Document("a/1", {})], STAMP, soon())
        double.calls.clear()

        assert store.create([Document(f"a/{n}", {}) for n in range(3)], STAMP, soon()) == 2

        assert double.calls == {"Commit": 2, "BatchGetDocuments": 1}

    def test_known_records_are_one_commit_and_one_read(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """A repeated bulk deletion ends once all are known to exist."""
        documents = [Document(f"a/{n}", {}) for n in range(3)]
        store.create(documents, STAMP, soon())
        double.calls.clear()

        assert store.create(documents, STAMP, soon()) == 0

        assert double.calls == {"Commit": 1, "BatchGetDocuments": 1}

    def test_records_that_appear_between_read_and_commit_are_not_counted(
        self, double: FirestoreDouble, store: Store, project: str
    ) -> None:
        """A concurrent creation costs one more round."""
        other = firestore_at(double.host, project)
        store.create([Document("a/1", {})], STAMP, soon())
        double.delay("Commit", 0)  # the first commit meets a/1 and is rejected
        double.interrupt("Commit", lambda: other.create([Document("a/2", {})], STAMP, soon()))

        assert store.create([Document(f"a/{n}", {}) for n in range(4)], STAMP, soon()) == 2

        assert set(store.names("a", soon(), limit=9)) == {"0", "1", "2", "3"}

    def test_nothing_to_do_needs_no_firestore(self, double: FirestoreDouble, store: Store) -> None:
        """Creating or deleting nothing makes no call."""
        store.create([], STAMP, soon())
        store.delete([], soon())

        assert not double.calls

    def test_large_purge_is_several_commits(self, double: FirestoreDouble, store: Store) -> None:
        """Each is below Firestore's limit."""
        store.delete([f"a/{n}" for n in range(301)], soon())

        assert double.calls == {"Commit": 2}


class TestAnswers:
    """How Firestore's statuses are handled."""

    @each_call
    def test_transient_errors_are_retried(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
    ) -> None:
        """Every call survives two failures in a row, unnoticed."""
        double.refuse(call.method, StatusCode.UNAVAILABLE, times=2)

        call.run(store, soon())

        assert double.calls == {call.method: 3}

    @pytest.mark.parametrize("code", PASSING, ids=lambda code: code.name)
    def test_every_transient_status_is_retried(
        self, double: FirestoreDouble, store: Store, code: StatusCode
    ) -> None:
        """A record is stored once, although the first attempt failed."""
        double.refuse("Commit", code)

        assert store.create([RECORD], STAMP, soon()) == 1

        assert double.calls == {"Commit": 2}

    @each_call
    def test_lasting_transient_error_ends_at_the_deadline(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
    ) -> None:
        """Attempts end in time, are not too frequent, and the last problem is reported."""
        double.refuse(call.method, StatusCode.RESOURCE_EXHAUSTED, times=1_000)

        with unavailable_after(2, "RESOURCE_EXHAUSTED: refused by a test") as deadline:
            call.run(store, deadline)

        assert 2 <= double.calls[call.method] < 100

    @each_call
    @pytest.mark.parametrize("code", MENDABLE, ids=lambda code: code.name)
    def test_errors_that_need_an_operator_are_reported_immediately(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
        code: StatusCode,
    ) -> None:
        """They are neither retried, nor taken for success or a duplicate."""
        double.refuse(call.method, code, times=1_000)

        with pytest.raises(StoreUnavailable, match=code.name):
            call.run(store, soon())

        assert double.calls == {call.method: 1}

    def test_wrong_database_mode_is_not_a_version_conflict(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """Only a compare-and-set treats FAILED_PRECONDITION as a conflict, and may read again."""
        store.put(RECORD, soon())
        found = store.get(RECORD.path, soon())
        assert found
        double.refuse("Commit", StatusCode.FAILED_PRECONDITION)
        double.refuse("Commit", StatusCode.ALREADY_EXISTS)

        assert not store.put(found, soon())
        with pytest.raises(StoreError, match="ALREADY_EXISTS"):
            store.put(found, soon())

    @pytest.mark.parametrize(
        "code", [StatusCode.ALREADY_EXISTS, StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND]
    )
    def test_failed_precondition_of_a_commit_is_reported_immediately(
        self, double: FirestoreDouble, store: Store, code: StatusCode
    ) -> None:
        """Its caller reads again, which would reveal a missing database."""
        double.refuse("Commit", code)

        assert not store.commit([Put(RECORD)], soon())

        assert double.calls == {"Commit": 1}

    @each_call
    @pytest.mark.parametrize("code", FAULTS_OF_OURS, ids=lambda code: code.name)
    def test_request_that_firestore_always_rejects_is_not_an_outage(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
        code: StatusCode,
    ) -> None:
        """It is a bug in this program: an immediate `StoreError`, without advice to wait."""
        double.refuse(call.method, code, times=1_000)

        with pytest.raises(StoreError, match=code.name) as caught:
            call.run(store, soon())

        assert type(caught.value) is StoreError
        assert double.calls == {call.method: 1}

    def test_name_that_firestore_rejects_is_not_an_outage(self, store: Store) -> None:
        """Firestore's rejection is raised as the caller's error."""
        with pytest.raises(StoreError) as caught:
            store.get("portals/..", soon())

        assert type(caught.value) is StoreError


class TestLostAnswers:
    """A commit was applied, but its answer was lost."""

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_record_whose_answer_is_lost_is_a_duplicate(
        self, double: FirestoreDouble, store: Store, count: int
    ) -> None:
        """The second attempt finds the first one's documents and leaves them alone."""
        double.lose_answer("Commit")
        documents = [Document(f"a/{n}", {"n": n}) for n in range(count)]

        assert store.create(documents, STAMP, soon()) == 0

        stored = store.newest("a", STAMP, soon())
        assert {document.fields["n"] for document in stored} == set(range(count))
        assert double.calls["Commit"] == 2

    def test_a_record_whose_answer_never_comes_is_a_duplicate(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """A commit that hangs after it was applied is retried within the deadline."""
        double.hang("Commit", after_applying=True)

        assert store.create([RECORD], STAMP, Deadline(6)) == 0

        assert len(store.names("portals/m/deletions", soon(), limit=9)) == 1

    def test_new_portal_whose_answer_is_lost_is_reported_as_existing(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """The writer reads again, and finds its own write."""
        double.lose_answer("Commit")

        assert not store.put(RECORD, soon())

        found = store.get(RECORD.path, soon())
        assert found
        assert found.fields == RECORD.fields

    def test_a_changed_portal_whose_answer_is_lost_is_reported_as_changed(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """The same for a compare-and-set."""
        store.put(RECORD, soon())
        found = store.get(RECORD.path, soon())
        assert found
        double.lose_answer("Commit")

        assert not store.put(Document(RECORD.path, {"n": 2}, found.version), soon())

        changed = store.get(RECORD.path, soon())
        assert changed
        assert changed.fields == {"n": 2}

    def test_a_commit_whose_answer_is_lost_is_applied_once(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """The second attempt finds the new document; reading again shows the first one's write."""
        double.lose_answer("Commit")

        assert not store.commit([Put(RECORD), Put(Document("a/1", {"n": 1}))], soon())

        assert None not in store.get_all([RECORD.path, "a/1"], soon())

    def test_a_delete_whose_answer_is_lost_is_done(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """Deletes are idempotent."""
        store.put(RECORD, soon())
        double.lose_answer("Commit")

        store.delete([RECORD.path], soon())

        assert store.get(RECORD.path, soon()) is None

    def test_a_record_whose_deadline_passes_unanswered_is_still_one(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """A client that got an error may send it again; the record is found."""
        double.hang("Commit", after_applying=True)
        double.hang("Commit", times=1_000)
        with unavailable_after(0.5, "DEADLINE_EXCEEDED") as deadline:
            store.create([RECORD], STAMP, deadline)
        double.heal()

        assert store.create([RECORD], STAMP, soon()) == 0
        assert len(store.names("portals/m/deletions", soon(), limit=9)) == 1


class TestDeadlines:
    """No call exceeds its deadline by more than a second."""

    @each_call
    def test_a_server_that_hangs_is_given_up(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
    ) -> None:
        """Every call ends, although none is answered."""
        double.hang(call.method, times=1_000)

        with unavailable_after(0.5, "DEADLINE_EXCEEDED") as deadline:
            call.run(store, deadline)

    def test_an_earlier_answer_says_more_than_a_time_out(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """If the last attempt times out, the reason of the one before it is reported."""
        double.refuse("Commit", StatusCode.RESOURCE_EXHAUSTED)
        double.hang("Commit", times=1_000)

        with unavailable_after(1.5, "RESOURCE_EXHAUSTED: refused by a test") as deadline:
            store.create([RECORD], STAMP, deadline)

    def test_refused_connection_is_retried_until_the_deadline(self) -> None:
        """And not beyond."""
        store = firestore_at(f"127.0.0.1:{free_port()}", "p")

        with unavailable_after(1.5, "^Firestore: DEADLINE_EXCEEDED") as deadline:
            store.create([RECORD], STAMP, deadline)

    def test_a_server_that_accepts_and_stays_silent_is_given_up(self) -> None:
        """A connection on which nothing arrives blocks no one."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            store = firestore_at(f"127.0.0.1:{silent.getsockname()[1]}", "p")

            with unavailable_after(0.5) as deadline:
                store.get("a/1", deadline)

    def test_several_steps_share_one_deadline(self, double: FirestoreDouble, store: Store) -> None:
        """Commit, read and commit again have one deadline, not three."""
        store.create([Document("a/1", {})], STAMP, soon())
        double.delay("Commit", 0.8)
        double.hang("BatchGetDocuments", times=1_000)

        with unavailable_after(1.5, "DEADLINE_EXCEEDED") as deadline:
            store.create([Document(f"a/{n}", {}) for n in range(2)], STAMP, deadline)

    @each_call
    def test_no_call_is_made_after_the_deadline(
        self,
        double: FirestoreDouble,
        store: Store,
        call: Call,
    ) -> None:
        """Nobody is waiting for it."""
        with pytest.raises(StoreUnavailable, match=r"^Firestore: no time was left$"):
            call.run(store, Deadline(-1))

        assert double.calls[call.method] == 0

    def test_attempt_gets_half_of_the_remaining_time(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """So that a hanging one can be retried."""
        store.create([RECORD], STAMP, Deadline(60))

        assert pytest.approx(30, abs=5) == double.patience

    def test_a_slow_answer_within_the_deadline_is_an_answer(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """It is waited for, without a retry."""
        double.delay("Commit", 0.3)

        assert store.create([RECORD], STAMP, soon()) == 1

        assert double.calls == {"Commit": 1}


class TestOutages:
    """The same store works again after an outage."""

    def test_after_an_outage_the_same_store_works_again(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """After six seconds, gRPC's own backoff would already be too long."""
        store.create([RECORD], STAMP, soon())
        double.stop()
        with unavailable_after(6) as deadline:
            store.get(RECORD.path, deadline)
        double.start()

        with Stopwatch() as watch:
            assert store.get(RECORD.path, soon())
        assert watch.seconds < 2

    def test_a_store_that_was_opened_during_an_outage_works_after_it(self, project: str) -> None:
        """A first connection that failed is like one that was lost."""
        double = FirestoreDouble()
        double.start()
        double.stop()
        store = firestore_at(double.host, project)
        with unavailable_after(0.5) as deadline:
            store.get(RECORD.path, deadline)
        with double:
            assert store.create([RECORD], STAMP, soon()) == 1

    def test_waiting_call_succeeds_when_the_server_is_back(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """A short outage is a delay, not an error."""
        double.stop()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.create, [RECORD], STAMP, soon())
            time.sleep(0.5)
            double.start()
            assert waiting.result() == 1

    def test_dropped_connections_are_not_noticed(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """The next call reopens an idle connection that was cut."""
        store.create([RECORD], STAMP, soon())
        for _ in range(3):
            double.drop_connections()

            assert store.create([RECORD], STAMP, soon()) == 0

    def test_call_is_retried_if_its_connection_is_dropped(
        self, double: FirestoreDouble, store: Store
    ) -> None:
        """On a new connection."""
        double.hang("Commit", after_applying=True)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.create, [RECORD], STAMP, soon())
            while not double.calls["Commit"]:
                time.sleep(0.01)
            double.drop_connections()
            assert waiting.result() == 0

        assert len(store.names("portals/m/deletions", soon(), limit=9)) == 1

    def test_googles_own_server_is_given_up_and_found_again_too(
        self, emulator: Emulator, emulator_store: Store
    ) -> None:
        """The emulator is stopped by a signal, given up at the deadline, and used afterwards."""
        assert emulator_store.create([RECORD], STAMP, soon()) == 1
        emulator.pause()
        try:
            with unavailable_after(0.5, "DEADLINE_EXCEEDED") as deadline:
                emulator_store.get(RECORD.path, deadline)
        finally:
            emulator.resume()

        assert emulator_store.create([RECORD], STAMP, soon()) == 0


class TestSilence:
    """A connection that dies silently, and one that is merely slow."""

    @pytest.fixture
    def proxy(self, double: FirestoreDouble) -> Iterator[TcpProxy]:
        """Put a proxy in front of the double."""
        with TcpProxy(double.host) as proxy:
            yield proxy

    def test_calls_that_meet_a_dead_connection_succeed(self, proxy: TcpProxy, project: str) -> None:
        """Reads, queries and writes of many threads at once: one new connection serves them all."""
        store = firestore_at(proxy.host, project)
        assert store.create([RECORD], STAMP, soon()) == 1
        proxy.kill_silently()

        calls = [*CALLS.values()] * 4
        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(lambda call: call.run(store, Deadline(8)), calls))

        assert 2 == proxy.accepted
        give_up = soon()
        while proxy.open_connections > 1:
            assert give_up.remaining
            time.sleep(0.01)

    def test_a_call_that_gives_up_leaves_no_dead_connection_behind(
        self, proxy: TcpProxy, project: str
    ) -> None:
        """Even without time for a retry, it replaces the connection for the next call."""
        store = firestore_at(proxy.host, project)
        assert store.create([RECORD], STAMP, soon()) == 1
        proxy.kill_silently()
        with unavailable_after(0.5, "DEADLINE_EXCEEDED") as deadline:
            store.get(RECORD.path, deadline)

        assert store.get(RECORD.path, soon())

        assert 2 == proxy.accepted

    def test_a_connection_that_answers_others_is_kept(
        self, double: FirestoreDouble, proxy: TcpProxy, project: str
    ) -> None:
        """One hanging call is not the connection's fault if another one is answered."""
        store = firestore_at(proxy.host, project)
        double.hang("Commit", times=1)
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(store.create, [RECORD], STAMP, Deadline(8))
            while not double.calls["Commit"]:
                time.sleep(0.01)
            assert store.get("a/1", soon()) is None

            assert hanging.result() == 1

        assert 1 == proxy.accepted

    def test_a_slow_firestore_does_not_pile_up_connections(self) -> None:
        """At most two replaced channels wait for their calls to end, and then close."""
        opened: list[SlowChannel] = []

        def open_channel() -> SlowChannel:
            opened.append(SlowChannel())
            return opened[-1]

        channel = FirestoreChannel(open_channel, ())

        def attempt() -> None:
            times = iter([0.0, 0.0])
            with pytest.raises(StoreUnavailable, match="timed out"):
                channel.call("Commit", None, Deadline(1, lambda: next(times, 1.0)))

        with ThreadPoolExecutor(3) as pool:
            waiting = []
            for number in range(3):
                waiting.append(pool.submit(attempt))
                assert True is opened[number].called.get()
                opened[number].patient = False
                attempt()

            assert [False] * 3 == [slow.closed for slow in opened]
            for slow, call in zip(opened[:3], waiting, strict=True):
                slow.time_out.set()
                call.result()

        assert [True, True, True, False] == [slow.closed for slow in opened]


class SlowChannel:
    """A gRPC channel whose calls all time out: immediately, or when told to."""

    def __init__(self) -> None:
        self.patient = True
        self.called: SimpleQueue[object] = SimpleQueue()
        self.time_out = Event()
        self.closed = False

    def unary_unary(self, _method: str, **_codec: object) -> Callable[..., object]:
        return self.call

    unary_stream = unary_unary

    def call(self, _request: object, **options: object) -> object:
        self.called.put(options.get("wait_for_ready"))
        if self.patient:
            self.time_out.wait(30)
        raise TimedOut

    def close(self) -> None:
        self.closed = True


class TimedOut(grpc.RpcError):  # type: ignore[misc]
    def code(self) -> StatusCode:
        return StatusCode.DEADLINE_EXCEEDED

    def details(self) -> str:
        return "timed out"


class TestConnecting:
    """What a store needs before it can be opened."""

    @pytest.fixture(autouse=True)
    def _no_google(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Remove everything that Google's client could find on this machine or the network."""
        for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{free_port()}")

    @pytest.fixture
    def user_credentials(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Use credentials of a user without permissions or a project."""
        path = tmp_path / "credentials.json"
        key = {"client_id": "i", "client_secret": "s", "refresh_token": "t"}
        path.write_text(json.dumps({"type": "authorized_user", **key}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    @pytest.fixture
    def google(
        self, monkeypatch: pytest.MonkeyPatch, double: FirestoreDouble
    ) -> list[tuple[str, Options]]:
        """Put the double in place of Google's Firestore; return how it is reached."""
        reached = []

        def secure_channel(target: str, _tls: object, options: Options) -> grpc.Channel:
            reached.append((target, options))
            return grpc.insecure_channel(double.host, (*options, ("grpc.enable_http_proxy", 0)))

        monkeypatch.setattr(grpc, "secure_channel", secure_channel)
        return reached

    @pytest.fixture
    def metadata(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
        """Run a metadata server."""
        with MetadataServer() as metadata:
            monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
            yield metadata

    @pytest.fixture
    def service_account(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: MetadataServer
    ) -> MetadataServer:
        """Provide a service account's key with a project; return the server of its tokens."""
        key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        account = {
            "client_email": "a@localhost",
            "project_id": "found",
            "private_key": pem.decode(),
        }
        path = tmp_path / "key.json"
        token_uri = f"http://{metadata.host}/token"
        path.write_text(json.dumps({"type": "service_account", **account, "token_uri": token_uri}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
        return metadata

    @pytest.mark.parametrize("project", [None, "p"])
    def test_missing_credentials_are_explained(self, project: str | None) -> None:
        """The message names both options, for a first try on a bare machine."""
        with pytest.raises(StoreUnavailable) as caught:
            Firestore.connect(project, "(default)", None, on_google_cloud=False)

        assert (
            "No Google credentials (DefaultCredentialsError): run `gcloud auth application-default"
            " login`, or set STORE=local to try it without Google Cloud." == str(caught.value)
        )

    @pytest.mark.parametrize(
        "content", [None, "", "{", "{}", "[]", '{"type": "other"}', "\xff", "/"]
    )
    def test_unusable_credentials_count_as_missing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
    ) -> None:
        """A missing file, one without credentials, or a directory has the same message."""
        path = tmp_path / "credentials.json"
        if content == "/":
            path.mkdir()
        elif content is not None:
            path.write_text(content, encoding="latin-1")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

        with pytest.raises(StoreUnavailable, match="gcloud auth application-default login"):
            Firestore.connect("p", "(default)", None, on_google_cloud=False)

    @pytest.mark.usefixtures("user_credentials")
    def test_without_a_project_the_setting_is_named(self) -> None:
        """Credentials without a project do not say where the database is."""
        with pytest.raises(StoreUnavailable, match=r"^No project: set GOOGLE_CLOUD_PROJECT\.$"):
            Firestore.connect(None, "(default)", None, on_google_cloud=False)

    @pytest.mark.usefixtures("google")
    def test_the_credentials_project_is_used_where_none_is_set(
        self, double: FirestoreDouble, service_account: MetadataServer
    ) -> None:
        """The project that Google's client finds is enough; the quota project is sent, too."""
        store = Firestore.connect(None, "named", None, on_google_cloud=False)

        assert [1, 0] == [store.create([RECORD], STAMP, soon()) for _ in range(2)]
        headers = {"authorization": "Bearer owner", "x-goog-user-project": "payer"}
        assert {**routing("found"), **headers} == double.headers
        assert ["/token"] == service_account.questions

    @pytest.mark.usefixtures("google")
    def test_credentials_that_are_revoked_are_reported_at_once(
        self, double: FirestoreDouble, service_account: MetadataServer
    ) -> None:
        """Only a new login helps, so the message is the same as without credentials."""
        service_account.faults.append((400, '{"error": "invalid_grant"}'))
        store = Firestore.connect(None, "named", None, on_google_cloud=False)

        with pytest.raises(StoreUnavailable, match=r"^No Google credentials \(RefreshError\): run"):
            store.get("a/1", soon())

        assert not double.calls

    def test_when_google_cannot_be_reached_the_deadline_holds(
        self, service_account: MetadataServer
    ) -> None:
        """With credentials, but without a connection to Google, calls end in time."""
        service_account.__exit__()
        fetch, _ = find_credentials()
        store = Firestore.connect(None, "(default)", None, on_google_cloud=False)

        with pytest.raises(TokenError, match=r"^no access token: TransportError$"):
            fetch()
        with unavailable_after(0.5) as deadline:
            store.get("a/1", deadline)

    @pytest.mark.parametrize(("expires_in", "seconds"), [(1_800, 1_800), (None, 3_600)])
    def test_lifetime_of_a_found_token_is_an_hour_if_not_given(
        self, service_account: MetadataServer, expires_in: int | None, seconds: int
    ) -> None:
        """Whatever the machine's time zone."""
        service_account.seconds = expires_in
        fetch, _ = find_credentials()

        assert pytest.approx(seconds, abs=60) == fetch().seconds

    def test_on_google_cloud_opening_makes_no_request(self, metadata: MetadataServer) -> None:
        """The metadata server is needed only for the first call."""
        store = open_store(Settings(project="p", on_google_cloud=True))
        assert [] == metadata.questions

        with unavailable_after(0.5) as deadline:
            store.get("a/1", deadline)

    def test_on_google_cloud_the_functions_own_account_is_used(
        self, double: FirestoreDouble, google: list[tuple[str, Options]], metadata: MetadataServer
    ) -> None:
        """Each call has the token; headers for the emulator are not sent."""
        store = Firestore.connect("p", "named", None, on_google_cloud=True)
        metadata.token = "a"

        for count in (1, 0):
            assert store.create([RECORD], STAMP, soon()) == count
            assert {**routing("p"), "authorization": "Bearer a"} == double.headers
        assert 1 == len(metadata.questions)
        ((target, options),) = google
        assert "firestore.googleapis.com:443" == target
        assert dict(options)["grpc.max_reconnect_backoff_ms"] <= 1_000
        assert dict(options)["grpc.keepalive_time_ms"] == 30_000
        assert dict(options)[ChannelOptions.SingleThreadedUnaryStream] == 1

    @pytest.mark.usefixtures("google")
    @each_call
    def test_token_that_firestore_rejects_is_replaced(
        self,
        double: FirestoreDouble,
        metadata: MetadataServer,
        call: Call,
    ) -> None:
        """Once, with a new one from the metadata server."""
        store = Firestore.connect("p", "(default)", None, on_google_cloud=True)
        store.get("a/1", soon())
        double.calls.clear()
        double.refuse(call.method, StatusCode.UNAUTHENTICATED)
        metadata.token = "b"

        call.run(store, soon())

        assert {call.method: 2} == double.calls
        assert "Bearer b" == double.headers["authorization"]
        assert 2 == len(metadata.questions)

    @pytest.mark.usefixtures("google")
    @pytest.mark.parametrize("code", [StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED])
    def test_account_that_firestore_rejects_is_reported_immediately(
        self, double: FirestoreDouble, metadata: MetadataServer, code: StatusCode
    ) -> None:
        """A second token is fetched if that may help, but not a third."""
        store = Firestore.connect("p", "(default)", None, on_google_cloud=True)
        double.refuse("Commit", code, times=1_000)

        with pytest.raises(StoreUnavailable, match=code.name):
            store.create([RECORD], STAMP, soon())

        tries = 2 if code is StatusCode.UNAUTHENTICATED else 1
        assert {"Commit": tries} == double.calls
        assert tries == len(metadata.questions)

    @pytest.mark.usefixtures("google")
    def test_failures_of_the_metadata_server_are_transient(self, metadata: MetadataServer) -> None:
        """Whether it is unavailable or answers nonsense."""
        metadata.faults.extend([(503, ""), (200, "{}"), (404, "")])
        store = Firestore.connect("p", "(default)", None, on_google_cloud=True)

        assert store.create([RECORD], STAMP, soon()) == 1

    @pytest.mark.usefixtures("google")
    @pytest.mark.parametrize("fault", ["hangs", "is absent", "is wrong"])
    def test_without_a_token_calls_end_in_time(
        self, double: FirestoreDouble, metadata: MetadataServer, fault: str
    ) -> None:
        """However the metadata server fails, and for each of many threads."""
        store = Firestore.connect("p", "(default)", None, on_google_cloud=True)
        hanging = Event()
        if fault == "hangs":
            metadata.faults.extend([hanging] * 1_000)
        elif fault == "is absent":
            metadata.__exit__()
        else:
            metadata.faults.extend([(404, "")] * 1_000)

        def get(_: int) -> None:
            with unavailable_after(0.5, "no access token|metadata server") as deadline:
                store.get("a/1", deadline)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(get, range(8)))
        hanging.set()

        assert not double.calls

    def test_on_google_cloud_without_a_project_credentials_are_searched(self) -> None:
        """Only Google's own search can find the project then."""
        with pytest.raises(StoreUnavailable, match="credentials"):
            Firestore.connect(None, "(default)", None, on_google_cloud=True)

    def test_emulator_is_reached_without_a_proxy(
        self, monkeypatch: pytest.MonkeyPatch, double: FirestoreDouble
    ) -> None:
        """A proxy to the internet does not lead to a local server."""
        for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)

        assert firestore_at(double.host, "p").create([RECORD], STAMP, soon()) == 1

    def test_the_emulator_needs_neither_credentials_nor_a_project(
        self, double: FirestoreDouble
    ) -> None:
        """To try it, an address is enough; a named database is separate."""
        first = Firestore.connect(None, "(default)", double.host, on_google_cloud=False)
        second = Firestore.connect(None, "other", double.host, on_google_cloud=True)

        assert first.create([RECORD], STAMP, soon()) == 1
        project = "google-cloud-firestore-emulator"
        assert double.headers == {
            "google-cloud-resource-prefix": f"projects/{project}/databases/(default)",
            "x-goog-request-params": f"database=projects%2F{project}%2Fdatabases%2F%28default%29",
            "authorization": "Bearer owner",
        }

        assert second.get(RECORD.path, soon()) is None


def routing(project: str) -> dict[str, str]:
    """Return the headers that route to the database `named`."""
    return {
        "google-cloud-resource-prefix": f"projects/{project}/databases/named",
        "x-goog-request-params": f"database=projects%2F{project}%2Fdatabases%2Fnamed",
    }
