"""Flask's request in, its response out; the only module that knows Flask."""

import io
import json
from collections.abc import Callable
from typing import IO
from urllib.parse import quote

import flask

from handler.answers import Answer, Refused, malformed_body
from handler.receiver import Request
from handler.settings import MAX_REQUEST_BYTES

_CHUNK_BYTES = 65_536


def respond(
    request: flask.Request, receive: Callable[[Request], Answer], max_body_bytes: int
) -> flask.Response:
    """Translate a Flask request for `receive`, and its answer back."""
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
    # functions-framework would read the rest of the body into memory before it answers.
    request.stream = io.BytesIO()
    return flask.Response(
        json.dumps(answer.body) + "\n",
        answer.status,
        headers=dict(answer.headers),
        content_type="application/json",
    )


def _read_body(request: flask.Request, limit: int) -> bytes:
    """Return the body; raises `Refused` if it is longer than `limit` or incomplete."""
    announced = request.content_length or 0
    try:
        body = b"" if announced > limit else _read(request.stream, limit)
        too_long = max(announced, len(body)) > limit
        if too_long:
            _discard(request.stream)
    except Exception:  # noqa: BLE001 - each server has its own errors for a broken transfer
        raise _incomplete() from None
    if too_long:
        raise Refused(413, "body_too_large", f"The body is longer than {limit} bytes.")
    if len(body) < announced:
        raise _incomplete()
    return body


def _read(stream: IO[bytes], limit: int) -> bytes:
    """Return the whole body, or slightly more than `limit` bytes of it."""
    body = bytearray()
    while len(body) <= limit and (chunk := stream.read(_CHUNK_BYTES)):
        body += chunk
    return bytes(body)


def _discard(stream: IO[bytes]) -> None:
    """Read the rest: a client that is cut off while sending may never see the answer."""
    discarded = 0
    while discarded < MAX_REQUEST_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
        discarded += len(chunk)


def _incomplete() -> Refused:
    return malformed_body("The body ended before it was complete.")


def _public_url(request: flask.Request) -> str:
    """Return the URL as the caller sees it: Cloud Run terminates TLS."""
    secure = request.headers.get("X-Forwarded-Proto") == "https"
    scheme = "https" if secure else request.scheme
    # As sent, with its query: `request.path` is decoded, and might lead elsewhere.
    target = str(request.environ.get("RAW_URI", ""))
    if not target.startswith("/"):  # a proxy's client sends an absolute URL
        target = quote(request.path)
    return f"{scheme}://{request.host}{target}"
