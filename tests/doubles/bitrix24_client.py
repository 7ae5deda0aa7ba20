"""An independent client of the stand-in for Bitrix24, and a handler for its events."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import Installation, Value, parse_str

DELETE = "ONOPENLINEMESSAGEDELETE"
Reply = tuple[int, dict[str, Any]]


def post(url: str, body: str, content_type: str) -> tuple[int, str, bytes]:
    """Post a body; return the answer's status, content type and body."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.netloc, timeout=5)
    with closing(connection):
        connection.request("POST", target.path, body, {"Content-Type": content_type})
        with closing(connection.getresponse()) as response:
            return response.status, response.headers["Content-Type"], response.read()


def call(url: str, params: Mapping[str, Value]) -> Reply:
    """Call a method with JSON parameters and a JSON answer."""
    status, content_type, body = post(url, json.dumps(params), "application/json")
    assert content_type == "application/json; charset=utf-8"
    return status, json.loads(body)


def rest(app: Installation, method: str, user: int = 1, **params: Value) -> Reply:
    """Call a portal's method with a user's new token (1 is an administrator)."""
    auth = app.token(user).access_token
    return call(app.portal.client_endpoint + method, {**params, "auth": auth})


def result(app: Installation, method: str, **params: Value) -> Any:  # noqa: ANN401 - JSON
    """Return the result of a call that must succeed."""
    status, answer = rest(app, method, 1, **params)
    assert status == 200, answer
    return answer["result"]


def error(reply: Reply) -> tuple[int, str]:
    """Return the parts of an error that tests compare."""
    return reply[0], reply[1]["error"]


class Handler:
    """Takes the function's place: records every request, answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.raw: list[bytes] = []
        self.received: list[tuple[str | None, dict[str, Any]]] = []
        outer = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.raw.append(body)
                outer.received.append((self.headers["User-Agent"], parse_str(body.decode())))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_args: object) -> None: ...

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

        self.server = Server(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.received]
