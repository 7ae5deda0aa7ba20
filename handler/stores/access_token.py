"""The access token that every call to Firestore sends as a header.

gRPC's call credentials would fetch it, too, but in another thread for each call: over TLS, that
takes a sixth of a request's CPU time.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, TypeAlias

from handler.stores.interface import StoreUnavailable

Headers: TypeAlias = tuple[tuple[str, str], ...]

# As in Google's libraries. The metadata server issues a new token from 5 minutes before the old one
# expires.
_REFRESH_SECONDS: Final = 225.0

# For each network operation of a fetch. Callers set their own time limit.
_FETCH_SECONDS: Final = 5.0

# As requested by Google's own client.
_SCOPES: Final = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/datastore",
)
_LONGEST_SECONDS: Final = 86_400
_OK: Final = 200
_MAX_ANSWER_BYTES: Final = 65_536


class TokenError(Exception):
    """No token could be fetched; a later attempt may succeed."""


@dataclass(frozen=True)
class Token:
    """A token as headers, and for how many seconds it is valid."""

    headers: Headers
    seconds: float


class AccessToken:
    """Fetches a token once for all threads, and the next one before it expires.

    `fetch` raises `TokenError`, or `StoreUnavailable` if an operator is needed.
    """

    def __init__(
        self, fetch: Callable[[], Token], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[Headers, float] = ((), 0.0)  # and when it expires
        self._fetching: Future[Headers] | None = None

    def headers(self, seconds: float) -> Headers:
        """Return the token's headers; wait at most `seconds` for a new token.

        Raises what `fetch` raises, and `TokenError` after a time-out.
        """
        known = headers, end = self._known
        left = end - self._clock()
        if left > _REFRESH_SECONDS:
            return headers
        fetching = self._fetch_in_background(known)
        return headers if left > 0 else self._wait(fetching, seconds)

    def drop(self, headers: Headers) -> None:
        """Drop a token that Firestore has rejected."""
        with self._lock:
            if self._known[0] is headers:
                self._known = ((), 0.0)

    def _fetch_in_background(self, known: tuple[Headers, float]) -> "Future[Headers]":
        """Fetch a token to replace `known`, unless that has happened or is under way."""
        with self._lock:
            if self._fetching is None:
                fetching: Future[Headers] = Future()
                if self._known is not known and self._known[0]:
                    fetching.set_result(self._known[0])
                    return fetching
                self._fetching = fetching
                threading.Thread(target=self._run, args=(self._fetching,), daemon=True).start()
            return self._fetching

    def _run(self, fetching: "Future[Headers]") -> None:
        try:
            token = self._fetch()
        except Exception as error:  # noqa: BLE001 - it is raised by the waiting threads
            self._end(fetching)
            fetching.set_exception(error)
        else:
            self._known = token.headers, self._clock() + token.seconds
            self._end(fetching)
            fetching.set_result(token.headers)

    def _end(self, fetching: "Future[Headers]") -> None:
        with self._lock:
            if self._fetching is fetching:
                self._fetching = None

    def _wait(self, fetching: "Future[Headers]", seconds: float) -> Headers:
        try:
            return fetching.result(seconds)
        except TimeoutError:
            self._end(fetching)  # it may hang: the next attempt fetches again
            raise TokenError("no access token in time") from None


def ask_metadata_server() -> Token:
    """Fetch the token of the function's own service account; raises `TokenError`.

    https://cloud.google.com/run/docs/securing/service-identity#access_tokens: google.auth does the
    same with two requests, and its import takes a fifth of a cold start.
    """
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"  # as google.auth does
    connection = HTTPConnection(host, timeout=_FETCH_SECONDS)
    path = "/computeMetadata/v1/instance/service-accounts/default/token"
    try:
        connection.request("GET", path, headers={"Metadata-Flavor": "Google"})
        with connection.getresponse() as answer:
            if answer.status != _OK:
                raise TokenError(f"the metadata server answered {answer.status}")
            found = json.loads(answer.read(_MAX_ANSWER_BYTES))
        token, seconds = found["access_token"], found["expires_in"]
        if not (token.isascii() and token.isprintable() and isinstance(seconds, int)):
            raise TokenError("the metadata server's answer is not a token")
        return Token((("authorization", f"Bearer {token}"),), min(seconds, _LONGEST_SECONDS))
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TokenError(f"no token from the metadata server: {type(error).__name__}") from None
    finally:
        connection.close()


def find_credentials() -> tuple[Callable[[], Token], str | None]:
    """Return a function that fetches a token, as Google's own clients do, and the project found.

    Raises `StoreUnavailable` if there are no credentials.
    """
    import google.auth  # noqa: PLC0415 - takes a fifth of a cold start, and is rarely needed
    from google.auth.exceptions import GoogleAuthError, TransportError  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415

    credentials: Any
    try:
        credentials, project = google.auth.default(scopes=_SCOPES)
    except Exception as error:  # noqa: BLE001 - the file may contain anything
        raise _no_credentials(error) from None

    def fetch() -> Token:
        try:
            credentials.refresh(partial(Request(), timeout=_FETCH_SECONDS))
        except GoogleAuthError as error:
            if error.retryable or isinstance(error, TransportError):
                raise TokenError(f"no access token: {type(error).__name__}") from None
            raise _no_credentials(error) from None
        headers: dict[str, str] = {}
        credentials.apply(headers)
        now = datetime.now(UTC).replace(tzinfo=None)
        end = credentials.expiry or now + timedelta(hours=1)
        lower = ((name.lower(), value) for name, value in headers.items())
        return Token(tuple(lower), (end - now).total_seconds())

    return fetch, project


def _no_credentials(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"No Google credentials ({type(error).__name__}): run `gcloud auth application-default"
        " login`, or set STORE=local to try it without Google Cloud."
    )
