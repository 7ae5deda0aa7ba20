"""Calls to Bitrix24's REST API, each with a deadline; the only module that makes them."""

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from handler.deadline import Deadline
from handler.urls import is_secure_url

# For all outgoing calls of one request together.
OUTGOING_SECONDS: Final = 10

_MAX_ANSWER_BYTES = 1_048_576

# After QUERY_LIMIT_EXCEEDED, a portal allows two calls a second.
_PAUSE_SECONDS = 0.5

# The documentation asks clients to send both `Accept` and `User-Agent`.
_HEADERS: Final = {
    "Accept": "application/json",
    "Content-Type": "application/json",
    "User-Agent": "bitrix24-openline-deletions",
}

_REDIRECTS = (301, 302, 303, 307, 308)

# A socket waits this much longer than the call, so that the time-out is always the call's own.
_GRACE_SECONDS = 1

# Bitrix24's codes are words. A token has digits, and the answering host could put one there.
_ERROR_CODE = re.compile(r"[A-Za-z_]{1,60}")

# ACCESS_DENIED has three meanings, which only its description distinguishes.
NO_ADMINISTRATOR: Final = "the token's user is not an administrator"
NO_PLAN: Final = "the portal's plan does not include REST"
NO_USER: Final = "the token's user cannot be authorised"

NO_PERMISSION: Final = "the application lacks the permission imopenlines"

# Explanations of errors that an operator can act on.
_REASONS: Mapping[str, str] = {
    "ERROR_EVENT_NOT_FOUND": NO_PERMISSION,
    "insufficient_scope": NO_PERMISSION,
    "expired_token": "the access token has expired",
    "invalid_token": "the access token is not valid",
    "NO_AUTH_FOUND": "the access token is not valid",
    "NOT_INSTALLED": "the application is not installed",
    "WRONG_CLIENT": "the portal does not know the application",
    "wrong_client": "the portal does not know the application",  # as in the official SDK
    "QUERY_LIMIT_EXCEEDED": "the portal has a rate limit; try again in a minute",
    "OPERATION_TIME_LIMIT": "the portal allows this call again in a few minutes",
    "WRONG_LICENSE": "the portal's plan does not include it",
}


class Bitrix24Error(Exception):
    """Bitrix24 refused a call, could not be reached, or sent an invalid answer.

    `code` is Bitrix24's own, if any, `reason` what it means. The message quotes nothing of the
    answer: the answering host could put the token there.
    """

    def __init__(self, reason: str, code: str = "", description: str = "") -> None:
        denied = code == "ACCESS_DENIED"
        self.reason = _denial(description) if denied else _REASONS.get(code, reason)
        super().__init__(f"{self.reason} ({code})" if code else self.reason)
        self.code = code
        self.description = description


class UnansweredError(Bitrix24Error):
    """The host could not be reached, or did not answer in time."""


class RedirectError(UnansweredError):
    """The host answered with a redirect: the portal was renamed, or its licence has ended."""


class Rest:
    """The REST methods below one endpoint, called with one OAuth access token.

    `endpoint` ends with a slash and is confirmed: it never comes from a request. `pace` is called
    before each request; it may wait, or raise an exception to end the work. No single request takes
    longer than `longest` seconds. `call` raises `Bitrix24Error`.
    """

    def __init__(
        self,
        endpoint: str,
        access_token: str,
        deadline: Deadline,
        *,
        longest: float = OUTGOING_SECONDS,
        pace: Callable[[], object] = lambda: None,
    ) -> None:
        self._endpoint = endpoint
        self._access_token = access_token
        self._deadline = deadline
        self._longest = longest
        self._pace = pace

    @property
    def remaining(self) -> float:
        """Seconds left for further calls."""
        return self._deadline.remaining

    def quotes_token(self, text: str) -> bool:
        """Return whether a text contains the access token, in upper or lower case."""
        return self._access_token.lower() in text.lower()

    def call(self, method: str, **parameters: object) -> Any:  # noqa: ANN401 - it is JSON
        """Return the `result` of a method; retry after QUERY_LIMIT_EXCEEDED while there is time."""
        while True:
            try:
                return self._call_once(method, parameters)
            except Bitrix24Error as error:
                if error.code != "QUERY_LIMIT_EXCEEDED" or self.remaining < 2 * _PAUSE_SECONDS:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _call_once(self, method: str, parameters: Mapping[str, object]) -> Any:  # noqa: ANN401
        self._pace()
        body = json.dumps({**parameters, "auth": self._access_token}).encode()
        deadline = Deadline(min(self.remaining, self._longest))
        status, answer = _post(self._endpoint + method, body, deadline)
        if status in _REDIRECTS:
            raise RedirectError(f"{method} was answered with a redirect (HTTP {status})")
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError):
            raise Bitrix24Error(f"{method}: the answer is not JSON (HTTP {status})") from None
        if not isinstance(decoded, dict):
            raise Bitrix24Error(f"{method}: the answer is not a JSON object (HTTP {status})")
        error = decoded.get("error")
        if error is None and "result" in decoded and status == http.HTTPStatus.OK:
            return decoded["result"]
        reason = f"{method} was refused (HTTP {status})"
        code = error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else ""
        if self.quotes_token(code):
            code = ""
        raise Bitrix24Error(reason, code, str(decoded.get("error_description", "")))


def _denial(description: str) -> str:
    if not description or description.startswith("Access denied!"):
        return NO_ADMINISTRATOR
    return NO_PLAN if "commercial plan" in description else NO_USER


def describe_failure(error: object) -> str:
    """Describe a connection error by its type; its own text may hold anything."""
    match error:
        case socket.gaierror():
            return "no server has this name"
        case ssl.SSLCertVerificationError():
            return "its certificate is not valid"
        case ssl.SSLError():
            return "it does not speak https"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case ConnectionResetError() | http.client.IncompleteRead():
            return "it closed the connection"
    return "it does not speak HTTP, or the URL is not valid"


def _post(url: str, body: bytes, deadline: Deadline) -> tuple[int, bytes]:
    """POST once, following no redirects; return by the deadline, even if the other side hangs.

    A socket's time-out limits each wait only, and a DNS look-up has no time-out at all. So the
    whole exchange runs in another thread, which is abandoned after the deadline.
    """
    if not is_secure_url(url):
        raise Bitrix24Error("the endpoint must be https")
    parts = urlsplit(url)
    seconds = deadline.remaining
    if not seconds:
        raise Bitrix24Error(f"no time was left to ask {parts.hostname}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    sockets: list[socket.socket] = []
    outcome: list[tuple[int, bytes] | Exception] = []

    def exchange() -> None:
        try:
            connection = kind(parts.netloc, timeout=seconds + _GRACE_SECONDS)
            with contextlib.closing(connection):
                connection.connect()
                sockets.append(connection.sock)
                connection.request("POST", parts.path, body, _HEADERS)
                response = connection.getresponse()
                outcome.append((response.status, response.read(_MAX_ANSWER_BYTES + 1)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            outcome.append(error)

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    thread.join(deadline.remaining)
    if not outcome:
        for open_socket in sockets:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        raise UnansweredError(f"{parts.hostname} did not answer in time")
    result = outcome[0]
    if isinstance(result, Exception):
        raise UnansweredError(f"{parts.hostname} cannot be reached: {describe_failure(result)}")
    if len(result[1]) > _MAX_ANSWER_BYTES:
        raise Bitrix24Error(f"{parts.hostname} answered more than {_MAX_ANSWER_BYTES} bytes")
    return result
