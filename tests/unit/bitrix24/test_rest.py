"""Calls to Bitrix24: an answer or a plain error, in time, whatever comes back."""

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from threading import Thread
from threading import enumerate as threads
from time import monotonic, sleep

import pytest

from handler.bitrix24.rest import Bitrix24Error, RedirectError, Rest, UnansweredError
from handler.bitrix24.subscription import (
    Binding,
    administrator_id,
    bound_at,
    compare,
    subscribe,
    unsubscribe,
    wanted,
)
from handler.deadline import Deadline
from handler.settings import Settings
from tests.doubles.bitrix24 import (
    Bitrix24,
    BodyDrip,
    Disconnect,
    Fault,
    HeaderDrip,
    Html,
    HugeBody,
    Installation,
    LostAnswer,
    OtherResult,
    Redirect,
    Refusal,
    Silence,
    TruncatedBody,
    WrongContentType,
)
from tests.stopwatch import Stopwatch

URL = "https://function.example.com/"
BINDINGS = wanted(Settings())


@pytest.fixture(scope="module")
def bitrix() -> Iterator[Bitrix24]:
    """Run one Bitrix24 for all tests."""
    with Bitrix24() as bitrix:
        yield bitrix


@pytest.fixture
def installation(bitrix: Bitrix24) -> Iterator[Installation]:
    """Install an application at a new portal."""
    bitrix.calls.clear()
    yield bitrix.add_portal().install()
    bitrix.clear_faults()


def rest(installation: Installation, user: int = 1, seconds: float = 10) -> Rest:
    """Return a client with a user's token; user 1 is an administrator."""
    token = installation.token(user).access_token
    return Rest(installation.portal.client_endpoint, token, Deadline(seconds))


def failure(caller: Rest, method: str = "profile") -> Bitrix24Error:
    """Return the error that a call raises."""
    with pytest.raises(Bitrix24Error) as raised:
        caller.call(method)
    return raised.value


def calls_under_way() -> list[Thread]:
    """Return the threads of calls that may have been abandoned."""
    return [thread for thread in threads() if thread.name.endswith("(exchange)")]


def wait_for_all_calls() -> None:
    """Wait until no call is under way; abandoned ones end soon."""
    started = monotonic()
    while calls_under_way():
        assert monotonic() - started < 60
        sleep(0.01)


class TestAnswers:
    """A call succeeds only with status 200 and a result."""

    def test_a_result_is_returned(self, bitrix: Bitrix24, installation: Installation) -> None:
        """Parameters go as JSON, with the token as `auth`."""
        assert rest(installation).call("event.bind", event="ONAPPTEST", handler=URL) is True
        (call,) = bitrix.calls_to("event.bind")
        assert call.params == {"event": "ONAPPTEST", "handler": URL}

    @pytest.mark.parametrize("result", [None, False, 0, "", []])
    def test_an_empty_result_is_a_result(
        self, bitrix: Bitrix24, installation: Installation, result: object
    ) -> None:
        """Its presence counts, not its truth value."""
        bitrix.fault("profile", OtherResult({"result": result, "error": None}))
        assert rest(installation).call("profile") == result

    def test_the_content_type_does_not_matter(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """JSON is JSON, even if a proxy mislabels it."""
        bitrix.fault("profile", WrongContentType())
        assert rest(installation).call("profile")["ADMIN"] is True

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (Html(), "profile: the answer is not JSON (HTTP 200)"),
            (Html(503), "profile: the answer is not JSON (HTTP 503)"),
            (Html(page="[" * 100_000), "profile: the answer is not JSON (HTTP 200)"),
            (Html(page="9" * 10_000), "profile: the answer is not JSON (HTTP 200)"),
            (Html(page='"\\ud800'), "profile: the answer is not JSON (HTTP 200)"),
            (Html(page="", status=204), "profile: the answer is not JSON (HTTP 204)"),
            (OtherResult([1]), "profile: the answer is not a JSON object (HTTP 200)"),
            (OtherResult(None), "profile: the answer is not a JSON object (HTTP 200)"),
            (OtherResult({}), "profile was refused (HTTP 200)"),
            (OtherResult({"error": "", "result": 1}), "profile was refused (HTTP 200)"),
            (OtherResult({"error": 5}), "profile was refused (HTTP 200)"),
            (OtherResult({"error": "E5"}), "profile was refused (HTTP 200)"),
            (OtherResult({"error": "x" * 61}), "profile was refused (HTTP 200)"),
            (OtherResult({"error": "No_Words"}), "profile was refused (HTTP 200) (No_Words)"),
            (Html(page='{"result": 1}', status=201), "profile was refused (HTTP 201)"),
            (Redirect(URL, 307), "profile was answered with a redirect (HTTP 307)"),
            (HugeBody(), "127.0.0.1 answered more than 1048576 bytes"),
            (TruncatedBody(), "profile: the answer is not JSON (HTTP 200)"),
            (Disconnect(), "127.0.0.1 cannot be reached: it closed the connection"),
            (LostAnswer(), "127.0.0.1 cannot be reached: it closed the connection"),
            (
                Refusal(403, "ERROR_EVENT_NOT_FOUND"),
                "the application lacks the permission imopenlines (ERROR_EVENT_NOT_FOUND)",
            ),
            (
                Refusal(401, "insufficient_scope"),
                "the application lacks the permission imopenlines (insufficient_scope)",
            ),
            (
                Refusal(403, "ACCESS_DENIED"),
                "the token's user is not an administrator (ACCESS_DENIED)",
            ),
            (
                Refusal(200, "WRONG_CLIENT"),
                "the portal does not know the application (WRONG_CLIENT)",
            ),
            (
                Refusal(401, "wrong_client"),
                "the portal does not know the application (wrong_client)",
            ),
            (
                Refusal(429, "OPERATION_TIME_LIMIT"),
                "the portal allows this call again in a few minutes (OPERATION_TIME_LIMIT)",
            ),
            (Refusal(401, "expired_token"), "the access token has expired (expired_token)"),
            (Refusal(401, "invalid_token"), "the access token is not valid (invalid_token)"),
            (Refusal(401, "NO_AUTH_FOUND"), "the access token is not valid (NO_AUTH_FOUND)"),
            (Refusal(401, "NOT_INSTALLED"), "the application is not installed (NOT_INSTALLED)"),
            (
                Refusal(403, "WRONG_LICENSE"),
                "the portal's plan does not include it (WRONG_LICENSE)",
            ),
        ],
    )
    def test_every_other_answer_is_a_plain_error(
        self, bitrix: Bitrix24, installation: Installation, fault: Fault, message: str
    ) -> None:
        """The error quotes nothing of the answer, except a code that cannot be a token."""
        bitrix.fault("profile", fault)
        error = failure(rest(installation))
        assert (str(error), error.description) == (message, "")

    @pytest.mark.parametrize(
        ("description", "meaning"),
        [
            ("", "the token's user is not an administrator"),
            (
                "Access denied! Event binding with AUTH_TYPE requires administrator access rights",
                "the token's user is not an administrator",
            ),
            (
                "REST is available only on commercial plans.",
                "the portal's plan does not include REST",
            ),
            ("Unable to authorize user", "the token's user cannot be authorised"),
        ],
    )
    def test_denials_are_distinguished_by_description(
        self, bitrix: Bitrix24, installation: Installation, description: str, meaning: str
    ) -> None:
        """ACCESS_DENIED has three meanings; the description is not quoted."""
        bitrix.fault("profile", Refusal(403, "ACCESS_DENIED", description))
        error = failure(rest(installation))
        assert (f"{meaning} (ACCESS_DENIED)", meaning) == (str(error), error.reason)

    @pytest.mark.parametrize(
        ("fault", "kind", "seconds"),
        [
            (Redirect(URL), RedirectError, 10),
            (Disconnect(), UnansweredError, 10),
            (Silence(), UnansweredError, 0.4),
            (Html(503), Bitrix24Error, 10),
        ],
    )
    def test_unanswered_calls_have_their_own_error(
        self,
        bitrix: Bitrix24,
        installation: Installation,
        fault: Fault,
        kind: type[Bitrix24Error],
        seconds: float,
    ) -> None:
        """A renamed portal's old address redirects or does not answer."""
        bitrix.fault("profile", fault, times=None)
        assert type(failure(rest(installation, seconds=seconds))) is kind

    def test_calls_identify_themselves(self) -> None:
        """The documentation asks for `User-Agent` and `Accept`."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            endpoint = f"http://127.0.0.1:{server.getsockname()[1]}/rest/"
            thread = Thread(target=failure, args=[Rest(endpoint, "t", Deadline(5))])
            thread.start()
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as received:
                head = list(iter(received.readline, b"\r\n"))
            thread.join()
        assert head[0] == b"POST /rest/profile HTTP/1.1\r\n"
        assert {
            b"Accept: application/json\r\n",
            b"User-Agent: bitrix24-openline-deletions\r\n",
        } <= set(head)

    def test_each_request_is_paced(self, bitrix: Bitrix24, installation: Installation) -> None:
        """Including a retry after QUERY_LIMIT_EXCEEDED."""
        paced: list[int] = []
        bitrix.fault("profile", Refusal(503, "QUERY_LIMIT_EXCEEDED"))
        token = installation.token().access_token
        endpoint = installation.portal.client_endpoint
        Rest(endpoint, token, Deadline(10), pace=lambda: paced.append(1)).call("profile")
        assert len(paced) == len(bitrix.calls_to("profile")) == 2

    def test_rate_limited_call_is_retried(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """After 503 QUERY_LIMIT_EXCEEDED, a portal allows two calls a second."""
        bitrix.fault("profile", Refusal(503, "QUERY_LIMIT_EXCEEDED"), times=2)
        assert rest(installation).call("profile")["ADMIN"] is True
        assert len(bitrix.calls_to("profile")) == 3

    def test_rate_limited_call_is_given_up_at_the_deadline(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """With a plain error."""
        bitrix.fault("profile", Refusal(503, "QUERY_LIMIT_EXCEEDED"), times=None)
        token = installation.token().access_token

        def clock() -> float:
            return 10.0 * len(bitrix.calls_to("profile"))

        hurried = Rest(installation.portal.client_endpoint, token, Deadline(20, clock))
        error = failure(hurried)
        assert str(error) == (
            "the portal has a rate limit; try again in a minute (QUERY_LIMIT_EXCEEDED)"
        )
        assert type(error) is Bitrix24Error  # a busy portal has not moved
        assert len(bitrix.calls_to("profile")) == 2

    def test_an_answer_of_a_mebibyte_is_read(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """The limit is exactly 1,048,576 bytes."""
        frame = len('{"result": ""}')
        bitrix.fault("profile", Html(page=f'{{"result": "{"x" * (1_048_576 - frame)}"}}'))
        assert len(rest(installation).call("profile")) == 1_048_576 - frame
        bitrix.fault("profile", Html(page=f'{{"result": "{"x" * (1_048_577 - frame)}"}}'))
        assert "more than" in str(failure(rest(installation)))

    def test_description_is_not_in_the_message(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """It is only compared: the answering host could put the token there."""
        bitrix.fault("profile", Refusal(400, "ERROR_CORE", "the token is 123"))
        error = failure(rest(installation))
        assert (error.code, error.description) == ("ERROR_CORE", "the token is 123")
        assert str(error) == "profile was refused (HTTP 400) (ERROR_CORE)"

    def test_code_with_the_token_in_it_is_not_shown(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """Even if a token has only letters."""
        bitrix.fault("profile", Refusal(401, "ERROR_lettersonly"))
        caller = Rest(installation.portal.client_endpoint, "lettersonly", Deadline(10))
        error = failure(caller)
        assert (error.code, str(error)) == ("", "profile was refused (HTTP 401)")


class TestTime:
    """All calls of one request share a deadline, which nothing exceeds."""

    @pytest.mark.parametrize(
        "fault",
        [Silence(), HeaderDrip(), BodyDrip(), BodyDrip(interval=0.3), HeaderDrip(interval=0.3)],
    )
    def test_endless_answer_is_abandoned(
        self, bitrix: Bitrix24, installation: Installation, fault: Fault
    ) -> None:
        """Each byte would renew a socket's time-out; the deadline is for the whole call."""
        bitrix.fault("profile", fault)
        caller = rest(installation, seconds=0.4)
        with Stopwatch() as watch:
            assert str(failure(caller)) == "127.0.0.1 did not answer in time"
        assert caller.remaining < 0.05
        assert watch.seconds < 1.5
        wait_for_all_calls()

    def test_hanging_call_does_not_keep_the_process_alive(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """Python waits for threads that are not daemons."""
        seen: list[bool] = []

        def look(_exchange: object, _effect: object) -> None:
            seen.extend(thread.daemon for thread in calls_under_way())

        bitrix.fault("profile", look)
        failure(rest(installation))
        assert set(seen) == {True}

    def test_a_call_after_the_deadline_is_not_made(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """Otherwise, an abandoned event.bind could still take effect."""
        caller = rest(installation, seconds=0)
        assert caller.remaining == 0
        assert str(failure(caller)) == "no time was left to ask 127.0.0.1"
        assert bitrix.calls == []

    def test_connection_that_is_not_accepted_is_abandoned(self) -> None:
        """If the backlog is full, connecting counts against the deadline as well."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            port = server.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)  # noqa: FBT003 - that is its parameter
                one.connect_ex(("127.0.0.1", port))
            with Stopwatch() as watch:
                error = failure(Rest(f"http://127.0.0.1:{port}/rest/", "t", Deadline(0.3)))
            wait_for_all_calls()
            for one in waiting:
                one.close()
        assert "127.0.0.1 " in str(error)
        assert watch.seconds < 1.5

    def test_calls_share_one_deadline(self, bitrix: Bitrix24, installation: Installation) -> None:
        """The second call has the time that the first one left."""
        caller = rest(installation, seconds=2)
        bitrix.fault("profile", Silence(0.4))
        failure(caller)
        assert caller.remaining < 1.65
        bitrix.fault("profile", Silence())
        with Stopwatch() as watch:
            assert "in time" in str(failure(caller))
        assert watch.seconds < 1.9


class TestEndpoints:
    """An endpoint must be https, or http to localhost."""

    @pytest.mark.parametrize(
        "endpoint",
        [
            "http://portal.example.com/rest/",
            "ftp://127.0.0.1/",
            "http://a@127.0.0.1/",
            "/rest/",
            "",
        ],
    )
    def test_what_is_not_https_is_not_called(self, endpoint: str) -> None:
        """Documents may have been edited by hand."""
        error = failure(Rest(endpoint, "t", Deadline(10)))
        assert str(error) == "the endpoint must be https"

    def test_https_is_never_downgraded(self, bitrix: Bitrix24) -> None:
        """The token is not sent to a server without TLS."""
        bitrix.calls.clear()
        endpoint = bitrix.url.replace("http://", "https://")
        error = failure(Rest(f"{endpoint}/rest/", "t", Deadline(10)))
        assert str(error) == "127.0.0.1 cannot be reached: it does not speak https"
        assert bitrix.calls == []

    def test_closed_port_is_reported(self) -> None:
        """By the kind of error, without its text."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        error = failure(Rest(f"http://127.0.0.1:{port}/rest/", "t", Deadline(10)))
        assert str(error) == f"127.0.0.1 cannot be reached: {os.strerror(errno.ECONNREFUSED)}"

    def test_unknown_host_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In words that do not depend on the operating system."""

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "as the system calls it")

        monkeypatch.setattr("socket.getaddrinfo", unknown)
        error = failure(Rest("https://portal.invalid/rest/", "t", Deadline(10)))
        assert str(error) == "portal.invalid cannot be reached: no server has this name"

    def test_invalid_certificate_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Unlike a server without TLS."""

        def refuse(_connection: object) -> None:
            raise ssl.SSLCertVerificationError

        monkeypatch.setattr("http.client.HTTPSConnection.connect", refuse)
        error = failure(Rest("https://portal.invalid/rest/", "t", Deadline(10)))
        told = "portal.invalid cannot be reached: its certificate is not valid"
        assert str(error) == told

    @pytest.mark.parametrize("path", ["/a b/", "/\x00/", "/é/", "/\u2028/"])
    def test_invalid_path_is_reported(self, bitrix: Bitrix24, path: str) -> None:
        """It cannot smuggle in a header or a second request."""
        bitrix.calls.clear()
        error = failure(Rest(f"{bitrix.url}{path}", "t", Deadline(10)))
        why = "it does not speak HTTP, or the URL is not valid"
        assert f"127.0.0.1 cannot be reached: {why}" == str(error)
        assert bitrix.calls == []


def missing(caller: Rest, administrator: int = 1) -> list[Binding]:
    """Return the missing bindings."""
    return list(compare(bound_at(caller), BINDINGS, URL, administrator).missing)


class TestSubscription:
    """Existing and missing bindings."""

    def test_offline_binding_is_not_an_online_one(
        self, bitrix: Bitrix24, installation: Installation
    ) -> None:
        """event.get returns `offline` as a number; event names are case-insensitive."""
        name = "onopenlinemessagedelete"
        offline = {"event": name, "offline": "1", "handler": URL}
        bitrix.fault("event.get", OtherResult({"result": [offline]}))
        assert missing(rest(installation)) == [one for one in BINDINGS if not one.offline]
        bitrix.fault(
            "event.get", OtherResult({"result": [{"event": name, "offline": 0, "handler": URL}]})
        )
        assert Binding("ONOPENLINEMESSAGEDELETE") not in missing(rest(installation))

    @pytest.mark.parametrize("profile", [{"ADMIN": True}, {"ADMIN": True, "ID": "many"}])
    def test_profile_may_lack_its_id(
        self, bitrix: Bitrix24, installation: Installation, profile: object
    ) -> None:
        """app.info has the id, too; without either, bindings have no administrator."""
        bitrix.fault("profile", OtherResult({"result": profile}), times=2)
        assert administrator_id(rest(installation), 42) == 42
        assert administrator_id(rest(installation), None) is None
        assert subscribe(rest(installation), BINDINGS, URL, None).problems == []
        assert {one.user_id for one in installation.bindings} == {0}

    @pytest.mark.parametrize("result", [None, [], {}, {"count": "2"}, {"count": None}, True])
    def test_invalid_count_counts_as_zero(
        self, bitrix: Bitrix24, installation: Installation, result: object
    ) -> None:
        """event.unbind returns a count; any other answer is not our error."""
        subscribe(rest(installation), BINDINGS, URL, 1)
        bitrix.fault("event.unbind", OtherResult({"result": result}))
        assert unsubscribe(rest(installation), BINDINGS, URL) == 3
