"""`python -m handler send`, to a receiver and to the function."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple, Self
from urllib.parse import parse_qsl

import pytest

from tests import samples
from tests.commands.shell import Shell
from tests.doubles.function import FORM, Function, free_port

MEMBER_ID = "a223c6b3710f85df22e9377d6c4f7553"


class Request(NamedTuple):
    method: str
    path: str
    content_type: str | None
    body: bytes


class Receiver(HTTPServer):
    """Takes, in place of the function, whatever it is sent, for as long as a `with` block lasts."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = {"GET": 200, "POST": 200}
        self.answer = b"{}"
        self.requests: list[Request] = []

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=[0.01]).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Connection(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers["Content-Type"], body)
        self.server.requests.append(request)
        self.send_response(self.server.status[self.command])
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_GET  # noqa: N815 - what http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


SAMPLE = samples.form("documentation-sample")


class TestSend:
    @pytest.fixture
    def receiver(self) -> Iterator[Receiver]:
        """Run a receiver."""
        with Receiver() as receiver:
            yield receiver

    def test_a_sample_of_each_shape_is_recorded(self, shell: Shell, tmp_path: Path) -> None:
        """By the function itself, once it is up."""
        token = "51856fefc120afa4b628cc82d3935cce"
        shell("portals", "add", "--member-id", MEMBER_ID, "--token", token)
        with Function(
            tmp_path / "log", STORE="local", LOCAL_STORE_PATH=str(shell.path)
        ) as function:
            send = ("send", "--url", function.url, "--wait", "5")
            answers = shell.json(*send)
            answers += shell.json(*send, "--shape", "customer", "--message-id", "2")

        assert [{"status": "recorded", "recorded": 1, "duplicates": 0}] * 2 == answers
        records = shell.records()
        assert [("customer", "2"), ("portal", "2056")] == [
            (record["origin"], record["message_id"]) for record in records
        ]

    def test_the_documentations_sample_is_sent_by_default(
        self, shell: Shell, receiver: Receiver
    ) -> None:
        """Byte by byte, and nothing else."""
        done = shell("send", "--url", receiver.url)

        assert (0, f"{receiver.url} answers 200: {{}}\n", "") == done
        assert [("POST", "/", FORM, SAMPLE)] == receiver.requests

    @pytest.mark.parametrize(
        ("shape", "data"),
        [
            (
                "portal",
                {
                    "data[CONNECTOR]": "C",
                    "data[LINE]": "7",
                    "data[DATA][0][im][chat_id]": "1024",
                    "data[DATA][0][im][message_id]": "2056",
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
                    "data[DATA][message][id]": "№ 1",
                    "data[DATA][chat][id]": "a=b&c",
                },
            ),
        ],
    )
    def test_what_tells_events_apart_can_be_chosen(
        self, shell: Shell, receiver: Receiver, shape: str, data: dict[str, str]
    ) -> None:
        """The rest stays as it is in the documentation."""
        where = ("--url", f"{receiver.url}/hook", "--shape", shape)
        whose = ("--member-id", "M", "--token", "T", "--domain", "x.bitrix24.com")
        what = ("--connector", "C", "--line", "7", "--chat-id", "a=b&c", "--message-id", "№ 1")

        assert [{}] == shell.json("send", *where, *whose, *what)

        (request,) = receiver.requests
        assert "/hook" == request.path
        sample = parse_qsl(SAMPLE.decode())
        assert dict(parse_qsl(request.body.decode())) == {
            **{name: value for name, value in sample if not name.startswith("data")},
            **data,
            "auth[domain]": "x.bitrix24.com",
            "auth[client_endpoint]": "https://x.bitrix24.com/rest/",
            "auth[member_id]": "M",
            "auth[application_token]": "T",
        }

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (202, 1), (403, 1)])
    def test_the_answer_is_shown_whatever_it_is(
        self, shell: Shell, receiver: Receiver, status: int, code: int
    ) -> None:
        """Anything but a plain success is a failure; what is no text does no harm."""
        receiver.status["POST"] = status
        receiver.answer = b"\xff!"

        line = f"{receiver.url} answers {status}: \ufffd!\n"
        assert (code, line, "") == shell("send", "--url", receiver.url)
        assert (code, "\ufffd!\n", "") == shell("send", "--url", receiver.url, "--json")

    @pytest.mark.parametrize("status", [200, 404])
    def test_it_waits_no_longer_than_until_there_is_an_answer(
        self, shell: Shell, receiver: Receiver, status: int
    ) -> None:
        """Events are taken on any path, but GET only on two."""
        receiver.status["GET"] = status

        assert 0 == shell("send", "--url", receiver.url, "--wait", "20")[0]
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    def test_it_waits_for_a_function_that_starts_late(
        self, shell: Shell, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As long as it may."""
        receivers = []
        with ExitStack() as stack:

            def start(_seconds: float) -> None:
                receivers.append(stack.enter_context(Receiver(port)))

            port = free_port()
            monkeypatch.setattr("time.sleep", start)  # meanwhile, it starts
            assert 0 == shell("send", "--url", f"http://127.0.0.1:{port}", "--wait", "20")[0]

        (receiver,) = receivers
        assert ["GET", "POST"] == [request.method for request in receiver.requests]

    @pytest.mark.parametrize("wait", [[], ["--wait", "0.05"]])
    def test_nobody_there_is_said_plainly(self, shell: Shell, wait: list[str]) -> None:
        """Also after waiting."""
        reason = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
        for url, why in (
            (f"http://127.0.0.1:{free_port()}", f"<urlopen error {reason}>"),
            (f"https://127.0.0.1:{free_port()}", f"<urlopen error {reason}>"),
            ("http://[::1", "Invalid IPv6 URL"),
        ):
            told = f"{url} does not answer: {why}. Is the function running?\n"
            assert (1, "", told) == shell("send", "--url", url, *wait)

    def test_an_address_is_one_of_the_web(self, shell: Shell) -> None:
        """No file is taken for a function's answer."""
        told = "python -m handler send: error: argument --url: give the function's http(s) address"

        assert told == shell.usage_error("send", "--url", "file:///etc/passwd")
