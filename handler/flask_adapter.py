"""The only module that knows the HTTP framework: its request in, its response out."""

import io
import json
from collections.abc import Callable
from typing import IO
from urllib.parse import quote

import flask

from handler.answers import Answer, Refused, malformed_body
from handler.events.body import MAX_REQUEST_BYTES
from handler.receiver import Request

_CHUNK_BYTES = 65_536


def respond(
    request: flask.Request, receive: Callable[[Request], Answer], max_body_bytes: int
) -> flask.Response:
    """Answer a request of the framework's with what `receive` makes of it."""
    answer = receive(
        Request(
            method=request.method,
            path=request.path,
            content_type=request.content_type or "",
            read_body=lambda: _read_body(request, max_body_bytes),
            url=_public_url(request),
            trace=request.headers.get("X-Cloud-Trace-Context")
            or request.headers.get("traceparent", ""),
        )
    )
    # functions-framework reads what is left of a body into memory before it answers.
    request.stream = io.BytesIO()
    return flask.Response(
        json.dumps(answer.body) + "\n",
        answer.status,
        headers=dict(answer.headers),
        content_type="application/json",
    )


def _read_body(request: flask.Request, most: int) -> bytes:
    """Return the body; raises `Refused` when it is longer than `most`, or breaks off."""
    announced = request.content_length or 0
    try:
        body = b"" if announced > most else _read(request.stream, most)
        too_long = max(announced, len(body)) > most
        if too_long:
            _discard(request.stream)
    except Exception:  # noqa: BLE001 - each server has its own errors for a broken transfer
        raise _broken_off() from None
    if too_long:
        raise Refused(413, "body_too_large", f"The body is longer than {most} bytes.")
    if len(body) < announced:
        raise _broken_off()
    return body


def _read(stream: IO[bytes], most: int) -> bytes:
    """Return all that comes, or a little more than `most` bytes of it."""
    body = bytearray()
    while len(body) <= most and (chunk := stream.read(_CHUNK_BYTES)):
        body += chunk
    return bytes(body)


def _discard(stream: IO[bytes]) -> None:
    """Read what is left: a client that is cut off in its body may never see the answer."""
    discarded = 0
    while discarded < MAX_REQUEST_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
        discarded += len(chunk)


def _broken_off() -> Refused:
    return malformed_body("The body ended before it was complete.")


def _public_url(request: flask.Request) -> str:
    """Return the address that was called, as the caller saw it: Cloud Run ends TLS."""
    secure = request.headers.get("X-Forwarded-Proto") == "https"
    scheme = "https" if secure else request.scheme
    # As it was spelled, with its query: `request.path` is decoded, and might lead elsewhere.
    target = str(request.environ.get("RAW_URI", ""))
    if not target.startswith("/"):  # a proxy may be asked for a whole address
        target = quote(request.path)
    return f"{scheme}://{request.host}{target}"
