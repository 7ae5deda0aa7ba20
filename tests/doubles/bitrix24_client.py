"""An independent client of the stand-in for Bitrix24, and a handler for its events."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import Installation, Value, parse_str
from tests.doubles.loopback import Receiver

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


class Handler(Receiver):
    """Takes the function's place as a receiver of events."""

    def __init__(self) -> None:
        super().__init__()
        self.url += "/hook?x=1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [parse_str(request.body.decode()) for request in self.requests]
