"""The access token: fetched once for all threads, in time, from a server that may fail."""

import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from handler.stores.access_token import AccessToken, Headers, Token, TokenError, ask_metadata_server
from handler.stores.interface import StoreUnavailable
from tests.doubles.function import free_port
from tests.doubles.google_cloud import MetadataServer

PATH = "instance/service-accounts/default/token"
SOON = 30.0


def bearer(token: str) -> Headers:
    """Return the header with a token."""
    return (("authorization", f"Bearer {token}"),)


class Source:
    """Returns the given tokens, one per fetch, as they come; raises errors."""

    def __init__(self) -> None:
        self.answers: defaultdict[int, SimpleQueue[Token | Exception]] = defaultdict(SimpleQueue)
        self.given = 0
        self.count = 0

    def __call__(self) -> Token:
        self.count += 1
        answer = self.answers[self.count].get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def give(self, answer: str | Exception, to: int | None = None) -> None:
        self.given += 1
        token = Token(bearer(answer), 3_600) if isinstance(answer, str) else answer
        self.answers[to or self.given].put(token)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return self.now


@pytest.fixture
def source() -> Source:
    """Return a source without tokens yet."""
    return Source()


@pytest.fixture
def clock() -> Clock:
    """Return a clock that only the test moves."""
    return Clock()


@pytest.fixture
def token(source: Source, clock: Clock) -> AccessToken:
    """Return a token that has not been fetched yet."""
    return AccessToken(source, clock)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    give_up = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


class TestToken:
    """When a token is fetched, and who waits."""

    def test_many_threads_wait_for_one_fetch(self, token: AccessToken, source: Source) -> None:
        """An instance's first calls fetch once."""
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(token.headers, SOON) for _ in range(8)]
            eventually(lambda: source.count == 1)
            source.give("a")
            assert [bearer("a")] * 8 == [headers.result() for headers in waiting]

        assert 1 == source.count

    def test_a_token_that_another_thread_has_replaced_is_not_fetched_again(
        self, token: AccessToken, source: Source, clock: Clock
    ) -> None:
        """Between a thread's look at the old token and its request for the next one."""
        source.give("a")
        token.headers(SOON)
        clock.now += 3_600
        source.give("b")
        clock.meanwhile = lambda: token.headers(SOON)

        assert bearer("b") == token.headers(SOON)
        assert 2 == source.count

    def test_a_valid_token_is_not_fetched_again(
        self, token: AccessToken, source: Source, clock: Clock
    ) -> None:
        """Until less than 225 s are left."""
        source.give("a")
        token.headers(SOON)
        clock.now += 3_600 - 226

        assert bearer("a") == token.headers(0)
        assert 1 == source.count

    def test_expiring_token_is_replaced_in_the_background(
        self, token: AccessToken, source: Source, clock: Clock
    ) -> None:
        """No call waits for the next token while the current one is valid."""
        source.give("a")
        token.headers(SOON)
        clock.now += 3_600 - 225

        assert [bearer("a")] * 3 == [token.headers(0) for _ in range(3)]
        source.give("b")

        eventually(lambda: bearer("b") == token.headers(0))
        assert 2 == source.count

    def test_expired_token_is_not_used(
        self, token: AccessToken, source: Source, clock: Clock
    ) -> None:
        """Calls then wait for the next one."""
        source.give("a")
        token.headers(SOON)
        clock.now += 3_600
        source.give("b")

        assert bearer("b") == token.headers(SOON)

    def test_waiting_ends_in_time_and_the_next_call_fetches_again(
        self, token: AccessToken, source: Source
    ) -> None:
        """A hanging fetch delays neither calls beyond their time nor the end of the process."""
        before = {*threading.enumerate()}
        with pytest.raises(TokenError, match=r"^no access token in time$"):
            token.headers(0)
        assert [True] == [thread.daemon for thread in {*threading.enumerate()} - before]
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(token.headers, SOON)
            eventually(lambda: source.count == 2)
            source.give("late", to=1)  # no one waits for it any longer
            source.give("b", to=2)
            assert bearer("b") == second.result()

    def test_every_waiting_caller_gets_the_error(self, token: AccessToken, source: Source) -> None:
        """And the next one tries again."""
        for error in (TokenError("not now"), StoreUnavailable("never")):
            source.give(error)
            with pytest.raises(type(error), match=str(error)):
                token.headers(SOON)
        source.give("a")

        assert bearer("a") == token.headers(SOON)

    def test_failed_refresh_is_retried_in_the_background(
        self, token: AccessToken, source: Source, clock: Clock
    ) -> None:
        """As long as the current token is valid."""
        source.give("a")
        token.headers(SOON)
        clock.now += 3_599
        source.give(TokenError("not now"))
        assert bearer("a") == token.headers(0)
        eventually(lambda: source.count == 2)
        source.give("b")

        eventually(lambda: bearer("b") == token.headers(0))

    def test_a_rejected_token_is_dropped(self, token: AccessToken, source: Source) -> None:
        """But not the one that has already replaced it."""
        source.give("a")
        first = token.headers(SOON)
        token.drop(first)
        source.give("b")
        second = token.headers(SOON)
        token.drop(first)

        assert bearer("b") == second == token.headers(0)


class TestMetadataServer:
    """Answers of Google Cloud's metadata server."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataServer]:
        """Run one, named in the environment as Google's libraries expect."""
        with MetadataServer() as server:
            monkeypatch.setenv("GCE_METADATA_HOST", server.host)
            yield server

    def test_token_and_lifetime_take_one_request(self, server: MetadataServer) -> None:
        """For the function's own account; the server requires its header."""
        assert Token(bearer("owner"), 3_600) == ask_metadata_server()
        assert [PATH] == server.questions

    @pytest.mark.parametrize(
        "answer",
        [
            (404, ""),
            (500, "{}"),
            (302, ""),
            *[(200, body) for body in ("", "{", "[]", "{}", "null", "<html>", "é")],
            *[
                (200, json.dumps({"access_token": token, "expires_in": seconds}))
                for token, seconds in (
                    (1, 3_600),
                    (None, 3_600),
                    ("é", 3_600),
                    ("a\r\nb: c", 3_600),
                    ("a", "3600"),
                    ("a", None),
                    ("a", 1.5),
                    ("a" * 65_536, 3_600),
                )
            ],
        ],
        ids=lambda answer: str(answer)[:60],
    )
    def test_what_is_not_a_token_is_an_error(
        self, server: MetadataServer, answer: tuple[int, str]
    ) -> None:
        """The error quotes nothing of the answer."""
        server.faults.append(answer)

        with pytest.raises(TokenError, match=r"^(no token from )?the metadata server"):
            ask_metadata_server()

    def test_no_server_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing listens there; or its name is unknown, as outside Google Cloud."""
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{free_port()}")

        with pytest.raises(
            TokenError, match="no token from the metadata server: ConnectionRefusedError"
        ):
            ask_metadata_server()

        def look_up(name: str, *_: object) -> None:
            raise socket.gaierror(name)

        monkeypatch.delenv("GCE_METADATA_HOST")
        monkeypatch.setattr("socket.getaddrinfo", look_up)
        with pytest.raises(TokenError, match=r": gaierror$") as raised:
            ask_metadata_server()
        assert "metadata.google.internal" == str(raised.value.__context__)

    def test_slow_server_is_asked_again(self, server: MetadataServer) -> None:
        """The second request is answered although the first still hangs."""
        hanging = threading.Event()
        server.faults.append(hanging)
        token = AccessToken(ask_metadata_server)
        try:
            with pytest.raises(TokenError, match="in time"):
                token.headers(0.05)
            eventually(lambda: server.questions == [PATH])

            assert bearer("owner") == token.headers(SOON)
        finally:
            hanging.set()

    def test_lifetime_is_at_most_a_day(self, server: MetadataServer) -> None:
        """A number that no clock can hold causes no error."""
        server.seconds = 10**400

        assert 86_400 == ask_metadata_server().seconds
