"""HTTP: the requests and answers of a connection."""

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import urlsplit

from tests.doubles.bitrix24.faults import Fault
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.bitrix24.php import Value, parse_str
from tests.doubles.bitrix24.request import Answer
from tests.doubles.bitrix24.sockets import Sockets

IDLE_SECONDS = 60.0


class Site(Protocol):
    """What the connections need from the stand-in."""

    sockets: Sockets
    failures: list[BaseException]

    def receive(self, path: str, params: Mapping[str, Value]) -> Fault | None: ...

    def answer(self, path: str, params: Mapping[str, Value]) -> tuple[Message, Answer]: ...


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, bitrix: Site) -> None:
        self.bitrix = bitrix
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: Server

    def handle(self) -> None:
        bitrix = self.server.bitrix
        with bitrix.sockets.holding(self.connection):
            try:
                super().handle()
            except OSError:
                pass  # the caller hung up, or this side did
            except Exception as error:  # noqa: BLE001 - shown when the stand-in closes
                bitrix.failures.append(error)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        bitrix = self.server.bitrix
        url = urlsplit(self.path)
        params = {**parse_str(url.query), **self._body()}
        fault = bitrix.receive(url.path, params)
        answer = Answer(None)

        def effect() -> Message:
            nonlocal answer
            message, answer = bitrix.answer(url.path, params)
            return message

        try:
            if fault:
                self.close_connection = True
                fault(self, effect)
            else:
                self.write(effect().encode())
        finally:
            if answer.afterwards:
                answer.afterwards()

    def _body(self) -> dict[str, Value]:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get_content_type() != "application/json":
            return parse_str(raw.decode(errors="replace"))
        try:
            params = json.loads(raw)
        except ValueError:
            return {}  # PHP then finds no parameters, and so no `auth`
        return params if isinstance(params, dict) else {}

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def pause(self, seconds: float) -> bool:
        return not self.server.bitrix.sockets.closing.wait(seconds)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: `calls` has everything."""
