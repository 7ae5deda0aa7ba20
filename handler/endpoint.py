"""The only module that knows the HTTP framework: its request in, its response out."""

import io
import json
from collections.abc import Callable

import flask
from werkzeug.exceptions import HTTPException

from handler.answers import Answer, Refused, malformed_body
from handler.dispatch import Request

_CHUNK_BYTES = 65_536

# A client that is cut off in the middle of its body may never see the answer, so what is too
# long is read and thrown away: up to what Cloud Run lets through at the most.
_MAX_DISCARDED_BYTES = 33_554_432


def respond(
    request: flask.Request, receive: Callable[[Request], Answer], max_body_bytes: int
) -> flask.Response:
    """Answer a request of the framework's with what `receive` makes of it."""
    answer = receive(
        Request(
            method=request.method,
            path=request.path,
            content_type=request.headers.get("Content-Type", ""),
            read_body=lambda: _read_body(request, max_body_bytes),
            url=_public_url(request),
            trace=request.headers.get("X-Cloud-Trace-Context")
            or request.headers.get("traceparent", ""),
        )
    )
    # functions-framework reads what is left of a body into memory before it answers.
    request.stream = io.BytesIO()
    return flask.Response(
        json.dumps(answer.body),
        answer.status,
        headers=dict(answer.headers),
        content_type="application/json",
    )


def _read_body(request: flask.Request, most: int) -> bytes:
    """Read at most so many bytes; raises `Refused` when there are more, or fewer than announced."""
    body = bytearray()
    try:
        if (request.content_length or 0) <= most:
            while len(body) <= most and (chunk := request.stream.read(_CHUNK_BYTES)):
                body += chunk
            if len(body) <= most:
                return bytes(body)
        discarded = 0
        while discarded < _MAX_DISCARDED_BYTES and (chunk := request.stream.read(_CHUNK_BYTES)):
            discarded += len(chunk)
    except (OSError, HTTPException):
        raise malformed_body("The body ended before it was complete.") from None
    raise Refused(413, "body_too_large", f"The body is longer than {most} bytes.")


def _public_url(request: flask.Request) -> str:
    """Return the address that was called, as the caller saw it: Cloud Run ends TLS."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return f"{scheme}://{request.host}{request.path}"
