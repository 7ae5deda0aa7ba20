"""`python -m handler send`, to a receiver and to the function."""

import errno
import io
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from email.message import Message
from http.client import BadStatusLine
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl

import pytest
from b24pysdk.credentials.oauth_event_data import OAuthEventData

from handler.console import sample_event
from handler.console.posting import wait, why
from handler.console.sample_event import MEMBER_ID, SHAPES
from handler.events.body import decode_body
from handler.events.deletion import parse_deletions
from handler.events.envelope import parse_event
from tests import samples
from tests.commands.shell import Shell
from tests.doubles.function import FORM, Function, free_port
from tests.doubles.loopback import Receiver

SAMPLE = samples.form("documentation-sample")


class TestSend:
    @pytest.fixture
    def receiver(self) -> Iterator[Receiver]:
        """Run a receiver."""
        with Receiver() as receiver:
            receiver.answer = b"{}"
            yield receiver

    def test_a_sample_of_each_shape_is_recorded(self, shell: Shell, tmp_path: Path) -> None:
        """By the function itself, once it is up; each sample is new."""
        shell("portals", "add", "--member-id", MEMBER_ID, "--token", sample_event.TOKEN)
        with Function(
            tmp_path / "log", STORE="local", LOCAL_STORE_PATH=str(shell.path)
        ) as function:
            send = ("send", "--url", function.url, "--wait", "5", "--shape")
            answers = [shell.json(*send, shape) for shape in (*SHAPES, *SHAPES)]

        assert [[{"status": "recorded", "recorded": 1, "duplicates": 0}]] * 6 == answers
        records = shell.records()
        origins = sorted(record["origin"] for record in records)
        assert ["customer"] * 2 + ["portal"] * 4 == origins
        assert 6 == len({record["message_id"] for record in records})

    def test_the_documentations_sample_is_sent_byte_by_byte(
        self, shell: Shell, receiver: Receiver
    ) -> None:
        """With its own id, and nothing else."""
        ids = ("--shape", "documentation", "--message-id", sample_event.MESSAGE_ID)

        done = shell("send", "--url", receiver.url, *ids)

        assert (0, f"{receiver.url} answers 200: {{}}\n", "") == done
        (request,) = receiver.requests
        sent = (request.method, request.path, request.headers["content-type"], request.body)
        assert ("POST", "/", FORM, SAMPLE) == sent

    @pytest.mark.parametrize(
        ("shape", "name"), [("portal", "portal-one-message"), ("customer", "customer")]
    )
    def test_today_is_the_default(
        self, shell: Shell, receiver: Receiver, shape: str, name: str
    ) -> None:
        """The fields of what a portal sends, in their order; for a connector that has such events.

        The official SDK reads it.
        """
        shell("send", "--url", receiver.url, *(("--shape", shape) if shape != "portal" else ()))

        (request,) = receiver.requests
        sent = parse_qsl(request.body.decode())
        real = parse_qsl(samples.form(name).decode())
        extra = {"data[DATA][chat][name]"}
        assert [field for field, _ in real if field not in extra] == [field for field, _ in sent]
        chosen = ("ts", "auth[expires]", "auth[member_id]", "auth[application_token]")
        same = [one for one in real if one[0] not in chosen and "data" not in one[0]]
        assert dict(same).items() <= dict(sent).items()
        assert int(dict(sent)["auth[expires]"]) - int(dict(sent)["ts"]) == 3_600
        assert "livechat" not in request.body.decode()
        read = OAuthEventData.from_dict(dict(sent))
        assert (MEMBER_ID, False) == (read.auth.member_id, read.is_system)

    @pytest.mark.parametrize(
        ("shape", "data"),
        [
            (
                "portal",
                {
                    "data[CONNECTOR]": "C",
                    "data[LINE]": "7",
                    "data[DATA][0][im][chat_id]": "1807",
                    "data[DATA][0][im][message_id]": "3418989076",
                    "data[DATA][0][message][id]": "№ 1",
                    "data[DATA][0][chat][id]": "a=b&c",
                },
            ),
            (
                "customer",
                {
                    "data[DATA][connector][connector_id]": "C",
                    "data[DATA][connector][line_id]": "7",
                    "data[DATA][connector][chat_id]": "a=b&c",
                    "data[DATA][connector][user_id]": "1985",
                    "data[DATA][chat][id]": "a=b&c",
                    "data[DATA][message][id]": "№ 1",
                    "data[DATA][message][user_id]": "1985",
                },
            ),
        ],
    )
    def test_identifying_fields_can_be_chosen(
        self, shell: Shell, receiver: Receiver, shape: str, data: dict[str, str]
    ) -> None:
        """The same id is the same message, inside Bitrix24, too."""
        where = ("--url", f"{receiver.url}/hook", "--shape", shape)
        whose = ("--member-id", "M", "--token", "T", "--domain", "https://x.bitrix24.com/")
        what = ("--connector", "C", "--line", "7", "--chat-id", "a=b&c", "--message-id", "№ 1")

        assert [{}] == shell.json("send", *where, *whose, *what)

        (request,) = receiver.requests
        assert "/hook" == request.path
        sent = dict(parse_qsl(request.body.decode()))
        assert data == {name: value for name, value in sent.items() if name.startswith("data")}
        auth = {
            "auth[domain]": "x.bitrix24.com",
            "auth[client_endpoint]": "https://x.bitrix24.com/rest/",
            "auth[member_id]": "M",
            "auth[application_token]": "T",
        }
        assert auth.items() <= sent.items()

    def test_the_ids_of_the_documentation_are_one_number(
        self, shell: Shell, receiver: Receiver
    ) -> None:
        """It types external ids as numbers, equal to Bitrix24's own."""
        documentation = ("send", "--url", receiver.url, "--shape", "documentation")
        assert 0 == shell(*documentation, "--message-id", "7")[0]
        sent = dict(parse_qsl(receiver.requests[0].body.decode()))
        ids = ("data[DATA][0][im][message_id]", "data[DATA][0][message][id]")
        assert ["7", "7"] == [sent[name] for name in ids]

        told = "--message-id: use a number with the documentation's shape.\n"
        assert (1, "", told) == shell(*documentation, "--message-id", "ext-msg-1")

    def test_the_body_can_be_seen_without_the_token(self, shell: Shell, receiver: Receiver) -> None:
        """On the terminal, not in the answer; nothing in it can control the terminal."""
        chosen = ("--message-id", "a\x1b[b", "--token", "secret-token")

        code, out, err = shell("send", "--url", receiver.url, "--verbose", "--json", *chosen)

        assert (0, "{}\n") == (code, out)
        assert "data[DATA][0][message][id]=a\\x1b[b\n" in err
        assert "auth[application_token]=(not shown)\n" in err
        assert "secret-token" not in err
        assert len(parse_qsl(receiver.requests[0].body.decode())) == err.count("\n")

    def test_the_token_can_be_read_from_standard_input(
        self, shell: Shell, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To keep it out of the shell's history."""
        monkeypatch.setattr("sys.stdin", io.StringIO("secret-token\n"))

        assert 0 == shell("send", "--url", receiver.url, "--token", "-")[0]

        sent = dict(parse_qsl(receiver.requests[0].body.decode()))
        assert "secret-token" == sent["auth[application_token]"]
        monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
        code, _, err = shell("send", "--url", receiver.url, "--token", "-")
        assert (1, "The token is empty") == (code, err.partition(":")[0])

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_curl_command_sends_another_deletion_each_time(
        self, shell: Shell, receiver: Receiver, shape: str
    ) -> None:
        """For machines without Python."""
        code, command, err = shell("send", "--url", receiver.url, "--shape", shape, "--curl")
        assert (0, "") == (code, err)
        assert [] == receiver.requests

        # A fake curl that prints its arguments, in two shells. The ids differ within a second, too,
        # except in the documentation's shape, where they are only the time.
        times = (1714649632, 1714649632 + (shape == "documentation"))
        show = 'curl() { printf %s "$3"; }; date() { printf %s '
        bodies = [
            subprocess.run(
                ["/bin/sh", "-c", f"{show}{now}; }}; {command}"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for now in times
        ]

        for body in bodies:
            event = parse_event(decode_body(FORM, body.encode()))
            (deletion,) = parse_deletions(event.name, event.data, None).deletions
            assert (MEMBER_ID, sample_event.TOKEN) == (
                event.auth.member_id,
                event.auth.application_token.get_secret_value(),
            )
            assert deletion.message_id.removeprefix("ext-msg-").isdigit()
        assert bodies[0] != bodies[1]

    def test_a_curl_command_keeps_the_id_that_is_given(self, shell: Shell) -> None:
        """And quotes special characters."""
        given = ("--message-id", "it's $1", "--url", "http://127.0.0.1/a&b")

        _, command, _ = shell("send", "--curl", *given)

        assert command.startswith("curl 'http://127.0.0.1/a&b' -d 'event=ONOPENLINEMESSAGEDELETE&")
        assert "[message][id]=it%27s+%241&" in command

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (202, 1), (403, 1)])
    def test_the_answer_is_shown_whatever_it_is(
        self, shell: Shell, receiver: Receiver, status: int, code: int
    ) -> None:
        """Anything but 200 is a failure; binary data is harmless."""
        receiver.status["POST"] = status
        receiver.answer = b"\xff!\n"

        line = f"{receiver.url} answers {status}: \ufffd!\n"
        assert (code, line, "") == shell("send", "--url", receiver.url)
        assert (code, "\ufffd!\n", "") == shell("send", "--url", receiver.url, "--json")

    @pytest.mark.parametrize("status", [200, 404])
    def test_wait_ends_with_any_answer(self, shell: Shell, receiver: Receiver, status: int) -> None:
        """Events are accepted on any path, but GET on two only."""
        receiver.status["GET"] = status

        assert 0 == shell("send", "--url", receiver.url, "--wait", "20")[0]
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    def test_wait_allows_a_late_start(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        """Within its limit."""
        receivers = []
        with ExitStack() as stack:

            def start(_seconds: float) -> None:
                receivers.append(stack.enter_context(Receiver(port)))

            port = free_port()
            monkeypatch.setattr("time.sleep", start)  # it starts during the wait
            assert 0 == shell("send", "--url", f"http://127.0.0.1:{port}", "--wait", "20")[0]

        (receiver,) = receivers
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    @pytest.mark.parametrize(("seconds", "most"), [(20, 20), (float("inf"), 30)])
    def test_no_attempt_outlasts_the_wait(
        self, monkeypatch: pytest.MonkeyPatch, seconds: float, most: float
    ) -> None:
        """A server may accept the connection and never answer."""
        limits = []

        def answer(url: str, timeout: float) -> None:
            limits.append(timeout)
            raise HTTPError(url, 404, "", Message(), None)

        monkeypatch.setattr("urllib.request.urlopen", answer)
        wait("http://127.0.0.1", seconds)

        (limit,) = limits
        assert 0 < limit <= most

    def test_a_redirect_is_not_a_success(self, shell: Shell, receiver: Receiver) -> None:
        """Urllib would GET the other URL, which proves only that something answers there."""
        receiver.status["POST"] = 302

        assert 1 == shell("send", "--url", receiver.url)[0]
        assert ["POST"] == [request.method for request in receiver.requests]

    @pytest.mark.parametrize("wait", [[], ["--wait", "0.05"]])
    def test_no_server_is_a_plain_error(self, shell: Shell, wait: list[str]) -> None:
        """Even after waiting."""
        reason = os.strerror(errno.ECONNREFUSED)
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{free_port()}"
            told = f"{url} does not answer: {reason}. Is the function running there?\n"
            assert (1, "", told) == shell("send", "--url", url, *wait)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (URLError(socket.gaierror(-2, "x")), "no server has this name"),
            (URLError(OSError(errno.ENETUNREACH, "x")), os.strerror(errno.ENETUNREACH)),
            (TimeoutError("timed out"), "it timed out after 30 seconds"),
            (BadStatusLine("x"), "it does not speak HTTP, or the URL is not valid"),
        ],
    )
    def test_no_python_error_is_shown(self, error: Exception, reason: str) -> None:
        """Whether urllib wraps it or not."""
        assert reason == why(error)

    @pytest.mark.parametrize(
        ("sent", "reason"),
        [
            (b"SSH-2.0-x\r\n", "it does not speak HTTP, or the URL is not valid"),
            (b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nx", "it closed the connection"),
            (b"HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\nx", "it closed the connection"),
        ],
    )
    def test_incomplete_answer_is_reported(self, shell: Shell, sent: bytes, reason: str) -> None:
        """Another service may listen on the port, or the function may be stopped."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while not request.endswith(sample_event.TOKEN.encode()):
                        request += connection.recv(65_536)
                    connection.sendall(sent)

            thread = Thread(target=answer)
            thread.start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            done = shell("send", "--url", url)
            thread.join()

        told = f"{url} does not answer: {reason}. Is the function running there?\n"
        assert (1, "", told) == done

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "http://[::1", "http://", "https://a:0"])
    def test_url_must_be_http(self, shell: Shell, url: str) -> None:
        """A local file is not taken for an answer."""
        told = "python -m handler send: error: argument --url: use the function's http(s) URL"

        assert told == shell.usage_error("send", "--url", url)

    def test_domain_must_be_valid(self, shell: Shell) -> None:
        """Or a URL that has one."""
        told = (
            "python -m handler send: error: argument --domain: 'a b' is not a domain: use one such"
            " as mycompany.bitrix24.com"
        )

        assert told == shell.usage_error("send", "--domain", "a b")
