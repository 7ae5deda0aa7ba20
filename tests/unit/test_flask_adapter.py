"""The edge to Flask: what is read from its request, and what it gets back."""

import io
from typing import Any

import flask
import functions_framework
import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from handler.answers import Answer, Refused
from handler.flask_adapter import respond
from handler.receiver import Request
from tests.doubles.function import FORM, ROOT

MOST = 131_072
TOO_LARGE = Answer(
    413, {"error": "body_too_large", "detail": "The body is longer than 131072 bytes."}
)


class Stream(io.BytesIO):
    """A body that counts how much of it was read; `broken` ends it with an error."""

    def __init__(self, body: bytes, *, broken: bool = False) -> None:
        super().__init__(body)
        self.broken = broken
        self.largest_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "everything at once"
        self.largest_read = max(self.largest_read, size)
        chunk = super().read(size)
        if self.broken and not chunk:
            raise RuntimeError("a server's own kind of error")
        return chunk


def call(
    stream: Stream, length: int | None, target: str | None = None, **headers: str
) -> tuple[Request, bytes | Answer, flask.Request]:
    """Call the endpoint; return what the core saw, the body it read, and the request."""
    environ = EnvironBuilder("/path?query", method="POST", headers=Headers(headers)).get_environ()
    environ |= {"wsgi.input": stream, "wsgi.input_terminated": True}
    if target is not None:
        environ |= {"RAW_URI": target, "PATH_INFO": "/a b"}
    if length is not None:
        environ["CONTENT_LENGTH"] = str(length)
    request = flask.Request(environ)
    seen: list[Any] = []

    def receive(core: Request) -> Answer:
        seen.append(core)
        try:
            seen.append(core.read_body())
        except Refused as refused:
            seen.append(refused.answer)
        return Answer(200, {"status": "up"}, headers={"Allow": "POST"})

    response = respond(request, receive, MOST)
    assert (200, "application/json", "POST") == (
        response.status_code,
        response.headers["Content-Type"],
        response.headers["Allow"],
    )
    assert b'{"status": "up"}\n' == response.get_data()
    return seen[0], seen[1], request


@pytest.mark.parametrize("body", [b"", bytes(range(256)) * (MOST // 256)])
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_up_to_the_limit_is_read_whole(body: bytes, announced: bool) -> None:  # noqa: FBT001
    """With a `Content-Length` or in chunks."""
    _, read, _ = call(Stream(body), len(body) if announced else None)

    assert body == read


@pytest.mark.parametrize("length", [MOST + 1, None])
def test_one_byte_more_is_refused(length: int | None) -> None:
    """With or without a `Content-Length`."""
    _, answer, _ = call(Stream(b"x" * (MOST + 1)), length)

    assert TOO_LARGE == answer


@pytest.mark.parametrize("length", [10 * MOST, None])
def test_longer_body_is_discarded_in_chunks(length: int | None) -> None:
    """All of it is read, so that the client sees the answer, but nothing is kept."""
    stream = Stream(b"x" * 10 * MOST)

    _, answer, request = call(stream, length)

    assert TOO_LARGE == answer
    assert 10 * MOST == stream.tell()
    assert stream.largest_read <= 65_536
    assert b"" == request.get_data(), "the framework reads what is left before it answers"


def test_endless_body_is_abandoned() -> None:
    """At Cloud Run's own limit."""

    class Endless(Stream):
        def read(self, size: int | None = -1, /) -> bytes:
            self.total = getattr(self, "total", 0) + (size or 0)
            return b"x" * (size or 0)

    stream = Endless(b"")

    _, answer, _ = call(stream, None)

    assert TOO_LARGE == answer
    assert 33_554_432 <= stream.total <= 33_554_432 + MOST + 65_536


@pytest.mark.parametrize(
    ("stream", "length"),
    [
        (Stream(b"event=x", broken=True), 100),
        (Stream(b"event=x", broken=True), None),
        (Stream(b"event=x"), 100),
        (Stream(b"x" * 2 * MOST, broken=True), None),
    ],
)
def test_incomplete_body_is_malformed(stream: Stream, length: int | None) -> None:
    """Each server has its own errors for that; none escapes."""
    _, answer, _ = call(stream, length)

    detail = "The body ended before it was complete."
    assert Answer(400, {"error": "malformed_body", "detail": detail}) == answer


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [({"Content-Type": FORM}, FORM), ({"Content-Type": "Other"}, "Other"), ({}, "")],
)
def test_the_method_the_path_and_the_type_are_those_of_the_request(
    headers: dict[str, str], content_type: str
) -> None:
    """The path has no query; a request without a type has an empty one."""
    request, _, _ = call(Stream(b""), None, **headers)

    seen = request.method, request.path, request.content_type
    assert ("POST", "/path", content_type) == seen


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"Host": "f.run.app"}, "http://f.run.app/path?query"),
        ({"Host": "f.run.app", "X-Forwarded-Proto": "https"}, "https://f.run.app/path?query"),
        ({"Host": "f.run.app", "X-Forwarded-Proto": "file"}, "http://f.run.app/path?query"),
    ],
)
def test_url_is_the_callers(headers: dict[str, str], url: str) -> None:
    """Cloud Run terminates TLS before the function, and says so; the query is part of the URL."""
    request, _, _ = call(Stream(b""), None, **headers)

    assert url == request.url


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("/a%20b", "http://f.run.app/a%20b"),
        ("/a%20b/%2Fc/?d=%20&e", "http://f.run.app/a%20b/%2Fc/?d=%20&e"),
        ("http://elsewhere/a%20b", "http://f.run.app/a%20b"),
    ],
)
def test_url_is_as_sent(target: str, url: str) -> None:
    """Bitrix24 stores bindings byte by byte, so another spelling would be another binding."""
    request, _, _ = call(Stream(b""), None, target, Host="f.run.app")

    assert url == request.url


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({"X-Cloud-Trace-Context": "a/1", "traceparent": "b"}, "a/1"),
        ({"traceparent": "b"}, "b"),
        ({}, ""),
    ],
)
def test_the_trace_is_googles_or_the_standards(headers: dict[str, str], trace: str) -> None:
    """Cloud Run sends both."""
    request, _, _ = call(Stream(b""), None, **headers)

    assert trace == request.trace


def test_invalid_setting_stops_the_function_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a message that names it, and no traceback."""
    monkeypatch.setenv("TOKEN_CACHE_SECONDS", "a while")

    with pytest.raises(SystemExit) as stopped:
        functions_framework.create_app("handle", str(ROOT / "main.py"))  # type: ignore[no-untyped-call] # no types

    assert str(stopped.value.code).startswith(
        "The function does not start: TOKEN_CACHE_SECONDS='a while' is not valid"
    )
