"""Faults between Bitrix24's servers and their callers.

A fault answers instead of the method. Where noted, the method takes effect first.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from tests.doubles.bitrix24.http_message import Message

MORE_THAN_A_MIB = 3 << 19


class Exchange(Protocol):
    """The connection of one call."""

    def write(self, data: bytes) -> None:
        """Send bytes immediately; raises OSError if the caller has gone."""

    def pause(self, seconds: float) -> bool:
        """Wait; return false once the stand-in is closing."""


class Fault(Protocol):
    """Answers a call; the connection is then closed. `effect` runs the method."""

    def __call__(self, exchange: Exchange, effect: Callable[[], Message], /) -> None: ...


@dataclass(frozen=True)
class Refusal:
    """An error in JSON; the method has no effect."""

    status: int
    error: str
    description: str = ""

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        body = {"error": self.error, "error_description": self.description}
        _say_last(exchange, Message.json(self.status, body))


@dataclass(frozen=True)
class Html:
    """A page of a proxy or of maintenance instead of JSON; no effect."""

    status: int = 200
    page: str = "<!DOCTYPE html><title>Bitrix24</title><h1>We will be back soon</h1>"

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        headers = {"Content-Type": "text/html; charset=UTF-8"}
        _say_last(exchange, Message(self.status, headers, self.page.encode()))


@dataclass(frozen=True)
class Redirect:
    """A redirect, as from a renamed portal; no effect."""

    location: str
    status: int = 302

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        _say_last(exchange, Message(self.status, {"Location": self.location}, b""))


@dataclass(frozen=True)
class Silence:
    """Accepted, and never answered; no effect."""

    seconds: float = 60.0

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        exchange.pause(self.seconds)


@dataclass(frozen=True)
class Disconnect:
    """Closed before any answer; no effect."""

    def __call__(self, _exchange: Exchange, _effect: Callable[[], Message]) -> None:
        """Do nothing: the connection closes."""


@dataclass(frozen=True)
class LostAnswer:
    """Closed before any answer, although the method took effect."""

    def __call__(self, _exchange: Exchange, effect: Callable[[], Message]) -> None:
        effect()


@dataclass(frozen=True)
class HeaderDrip:
    """Endless headers, one at a time; no effect."""

    interval: float = 0.02
    seconds: float = 60.0

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        exchange.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        _drip(exchange, b".", self.interval, self.seconds)


@dataclass(frozen=True)
class BodyDrip:
    """An endless body, a space at a time; the method took effect."""

    interval: float = 0.02
    seconds: float = 60.0

    def __call__(self, exchange: Exchange, effect: Callable[[], Message]) -> None:
        message = effect()
        head = {**message.headers, "Transfer-Encoding": "chunked"}
        exchange.write(Message(message.status, head, b"").head())
        _drip(exchange, b"1\r\n \r\n", self.interval, self.seconds)


@dataclass(frozen=True)
class HugeBody:
    """The right answer, padded beyond 1 MiB with white space; the method took effect."""

    size: int = MORE_THAN_A_MIB

    def __call__(self, exchange: Exchange, effect: Callable[[], Message]) -> None:
        message = effect()
        padded = message.body[:-1] + b" " * self.size + message.body[-1:]
        _say_last(exchange, Message(message.status, message.headers, padded))


@dataclass(frozen=True)
class TruncatedBody:
    """Half of the body that Content-Length promises; the method took effect."""

    def __call__(self, exchange: Exchange, effect: Callable[[], Message]) -> None:
        message = effect()
        exchange.write(message.encode()[: -len(message.body) // 2])


@dataclass(frozen=True)
class WrongContentType:
    """The right answer under another type; the method took effect."""

    content_type: str = "text/html; charset=UTF-8"

    def __call__(self, exchange: Exchange, effect: Callable[[], Message]) -> None:
        message = effect()
        headers = {**message.headers, "Content-Type": self.content_type}
        _say_last(exchange, Message(message.status, headers, message.body))


@dataclass(frozen=True)
class OtherResult:
    """JSON, status 200, but an impossible result; no effect."""

    body: object = None

    def __call__(self, exchange: Exchange, _effect: Callable[[], Message]) -> None:
        raw = json.dumps(self.body).encode()
        _say_last(exchange, Message(200, {"Content-Type": "application/json"}, raw))


def _say_last(exchange: Exchange, message: Message) -> None:
    """Send a complete answer and `Connection: close`, for callers that keep connections alive."""
    headers = {**message.headers, "Connection": "close"}
    exchange.write(Message(message.status, headers, message.body).encode())


def _drip(exchange: Exchange, drop: bytes, interval: float, seconds: float) -> None:
    end = monotonic() + seconds
    while monotonic() < end and exchange.pause(interval):
        exchange.write(drop)
