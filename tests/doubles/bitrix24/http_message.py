"""An HTTP answer as bytes, so that faults can cut it anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True)
class Message:
    """Status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def json(cls, status: int, content: object) -> "Message":
        """Return a message with the content type that the module `rest` sends."""
        body = json.dumps(content).encode()
        return cls(status, {"Content-Type": "application/json; charset=utf-8"}, body)

    def head(self) -> bytes:
        """Return the status line and the headers."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def encode(self) -> bytes:
        """Return the whole message, with Content-Length."""
        length = {**self.headers, "Content-Length": str(len(self.body))}
        return Message(self.status, length, b"").head() + self.body
