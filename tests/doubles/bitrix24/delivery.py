"""One POST of an event to a handler, as Bitrix24's queue server makes it: exactly once."""

import http.client
from contextlib import closing
from dataclasses import dataclass, field
from threading import Timer
from urllib.parse import urlsplit

from tests.doubles.bitrix24.sockets import Sockets, hang_up

USER_AGENT = "Bitrix24 Webhook Engine"
DEADLINE_SECONDS = 15.0
"""For connecting, sending and reading together; Bitrix24 names no number."""


@dataclass(frozen=True)
class Delivery:
    """What was posted where, and the result: a status, or a description of the failure."""

    event: str
    url: str
    body: bytes = field(repr=False)
    status: int | None = None
    answer: bytes = b""
    failure: str = ""


def post(event: str, url: str, body: bytes, sockets: Sockets) -> Delivery:
    """Post an event; never raises, never retries, never follows a redirect."""
    target = urlsplit(url)
    connection_type = (
        http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    )
    connection = connection_type(target.netloc, timeout=DEADLINE_SECONDS)
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/x-www-form-urlencoded"}
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    try:
        with closing(connection):
            connection.connect()
            timer = Timer(DEADLINE_SECONDS, hang_up, [connection.sock])
            timer.start()
            with sockets.holding(connection.sock):
                try:
                    connection.request("POST", path, body, headers)
                    with closing(connection.getresponse()) as response:
                        return Delivery(event, url, body, response.status, response.read())
                finally:
                    timer.cancel()
                    timer.join()
    except (OSError, http.client.HTTPException) as fault:
        return Delivery(event, url, body, failure=f"{type(fault).__name__}: {fault}")
