"""A client with little overhead: requests as bytes, over connections that stay open."""

import socket
from typing import Final, Self

from bench.sample import FORM

_TIMEOUT_SECONDS: Final = 60.0


def post(body: bytes, content_type: str = FORM) -> bytes:
    """Return the bytes of a request that sends an event."""
    return _request("POST", "/", f"Content-Type: {content_type}", len(body)) + body


def announce(length: int) -> bytes:
    """Return the head of a request whose body follows."""
    return _request("POST", "/", f"Content-Type: {FORM}", length)


def bare(method: str, path: str = "/") -> bytes:
    """Return the bytes of a request without a body."""
    return _request(method, path, "Accept: */*", 0)


def _request(method: str, path: str, header: str, length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", header, f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """A connection to a server on loopback, for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes) -> tuple[int, bytes]:
        """Send a request; return the answer's status and body."""
        for part in parts:
            self._socket.sendall(part)
        return self.receive()

    def receive(self) -> tuple[int, bytes]:
        """Return the next answer's status and body."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        while len(body) < content_length(head):
            body += self._more()
        return status(head), body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        chunk = self._socket.recv(65_536)
        if not chunk:
            raise ConnectionError("The server closed the connection.")
        return chunk


def status(head: bytes) -> int:
    """Return the status of an answer."""
    return int(head.split(maxsplit=2)[1])


def content_length(head: bytes) -> int:
    """Return the length of an answer's body."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
