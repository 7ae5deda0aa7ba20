"""HTTP servers on loopback, and one that records every request."""

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple, Self


class Loopback(ThreadingHTTPServer):
    """Serves in a thread, as long as a `with` block lasts."""

    request_queue_size = 64

    def __init__(self, handler: type[BaseHTTPRequestHandler], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"
        self._thread = Thread(target=self.serve_forever, args=[0.01], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class QuietHandler(BaseHTTPRequestHandler):
    """Logs nothing, and writes whole answers."""

    def log_message(self, *_: object) -> None: ...

    def respond(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Request(NamedTuple):
    """A request as it came; the names of its headers are lower-cased."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver(Loopback):
    """Records every request, and gives the same answer to each of a method."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(_AnyRequest, port)
        self.status = {"GET": 200, "POST": 200}
        self.answer = b""
        self.requests: list[Request] = []


class _AnyRequest(QuietHandler):
    server: Receiver

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.requests.append(Request(self.command, self.path, headers, body))
        elsewhere = f"{self.server.url}/elsewhere"  # for a redirect
        self.respond(self.server.status[self.command], self.server.answer, Location=elsewhere)

    do_GET = do_POST  # noqa: N815 - what http.server calls
