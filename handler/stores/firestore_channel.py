"""Calls to Firestore over gRPC: retries, deadlines, and replacing a channel that went silent.

Google's `Client` is not used: it takes no channel options and no `wait_for_ready`, needs a third
more CPU per request, and its import takes most of a cold start.

Each call has one deadline, shared by its retries. If an attempt times out and nothing arrived on
its channel, the connection has probably died silently, as happens behind a NAT or a proxy; gRPC
would go on using it until a keepalive ping fails. So the retry gets a new channel.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import grpc

from handler.deadline import Deadline
from handler.stores import firestore_messages as messages
from handler.stores.access_token import AccessToken, Headers, TokenError
from handler.stores.firestore_messages import Message
from handler.stores.interface import StoreError, StoreUnavailable

Statuses: TypeAlias = frozenset[grpc.StatusCode]

_OPTIONS = (
    # After a lost connection, gRPC would wait up to two minutes before it reconnects: events would
    # fail long after Firestore is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # As Google's own client sets it.
    ("grpc.keepalive_time_ms", 30_000),
    # A new channel opens a new connection instead of sharing the old one's.
    ("grpc.use_local_subchannel_pool", 1),
    # The waiting thread reads the answers itself: grpc.experimental.ChannelOptions.
    ("SingleThreadedUnaryStream", 1),
)

# The statuses of a failed precondition: that a document is absent, unchanged or present. If the
# precondition was absence, FAILED_PRECONDITION means something else, such as a database in the
# wrong mode.
EXISTS: Statuses = frozenset({grpc.StatusCode.ALREADY_EXISTS})
CHANGED: Statuses = frozenset({grpc.StatusCode.FAILED_PRECONDITION})
MISSING: Statuses = frozenset({grpc.StatusCode.NOT_FOUND})

# Transient errors, retried. That is safe: every write is idempotent or has a precondition.
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
}
# Errors that need an operator (the database, permissions, the mode), reported at once.
_NEEDS_OPERATOR = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
}

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_SHORTEST_ATTEMPT_SECONDS = 1.0

# How many replaced channels may still have calls under way. If Firestore is merely slow, every
# attempt times out, and each would open another channel.
_MAX_REPLACED = 2

# The methods in use, each with its kind: one answer, or a stream of answers.
_METHODS = {
    "Commit": ("unary_unary", messages.CommitRequest, messages.CommitResponse),
    "BatchGetDocuments": (
        "unary_stream",
        messages.BatchGetDocumentsRequest,
        messages.BatchGetDocumentsResponse,
    ),
    "RunAggregationQuery": (
        "unary_stream",
        messages.RunAggregationQueryRequest,
        messages.RunAggregationQueryResponse,
    ),
    "RunQuery": ("unary_stream", messages.RunQueryRequest, messages.RunQueryResponse),
}


class Conflict(Exception):  # noqa: N818 - it names what happened
    """The precondition of a write failed."""


def open_to_emulator(host: str) -> grpc.Channel:
    """Open a channel to Google's emulator, never through a proxy."""
    return grpc.insecure_channel(host, (*_OPTIONS, ("grpc.enable_http_proxy", 0)))


def open_to_google() -> grpc.Channel:
    """Open a channel to Google's servers; the access token comes with each call."""
    target = "firestore.googleapis.com:443"
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(), _OPTIONS)


class FirestoreChannel:
    """Makes calls to Firestore; thread-safe.

    `open_channel` is called at once, and whenever a channel is replaced. `headers` and those of the
    token are sent with every call.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.Channel],
        headers: Headers,
        token: AccessToken | None = None,
    ) -> None:
        self._open_channel = open_channel
        self._headers = headers
        self._token = token
        self._lock = threading.Lock()
        self._current = _Channel(open_channel())
        self._replaced = 0

    def call(
        self,
        method: str,
        request: Message,
        deadline: Deadline,
        conflicts: Statuses = frozenset(),
    ) -> list[Message]:
        """Return the answers to a request.

        Raises `Conflict` for a status in `conflicts`, `StoreUnavailable` if the deadline passes or
        an operator is needed, and `StoreError` if Firestore would never accept the request.
        """
        pause = _FIRST_PAUSE_SECONDS
        problem = ""
        while deadline.remaining:
            try:
                return self._attempt(method, request, deadline)
            except TokenError as error:
                problem = str(error)
            except grpc.RpcError as error:
                code = error.code()
                if code in conflicts:
                    raise Conflict from None
                # A time-out says less than an answer that came before it.
                if code is not grpc.StatusCode.DEADLINE_EXCEEDED or not problem:
                    problem = f"{code.name}: {error.details()}"
                if code in _NEEDS_OPERATOR:
                    break
                if code not in _TRANSIENT:
                    raise StoreError(problem) from None
            time.sleep(min(random.uniform(0, pause), deadline.remaining))  # noqa: S311 - jitter
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise StoreUnavailable(f"Firestore: {problem or 'no time was left'}")

    def _attempt(self, method: str, request: Message, deadline: Deadline) -> list[Message]:
        """Send a request, and once more with a new token if the first is rejected."""
        if self._token is None:
            return self._send(method, request, self._headers, deadline)
        token = self._token.headers(_attempt_seconds(deadline))
        try:
            return self._send(method, request, self._headers + token, deadline)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
        self._token.drop(token)
        token = self._token.headers(_attempt_seconds(deadline))
        return self._send(method, request, self._headers + token, deadline)

    def _send(
        self, method: str, request: Message, headers: Headers, deadline: Deadline
    ) -> list[Message]:
        with self._lock:
            channel = self._current
            channel.calls += 1
            answers = channel.answers
        silent = False
        try:
            return channel.call(
                method, request, timeout=_attempt_seconds(deadline), metadata=headers
            )
        except grpc.RpcError as error:
            silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            raise
        finally:
            with self._lock:
                channel.calls -= 1
                channel.answers += not silent
                if silent and channel.answers == answers:
                    self._replace(channel)
                ended = channel is not self._current and not channel.calls
                self._replaced -= ended
            if ended:
                channel.close()

    def _replace(self, channel: "_Channel") -> None:
        """Open a channel for new attempts, unless another thread has already done so."""
        if channel is self._current and self._replaced < _MAX_REPLACED:
            self._current = _Channel(self._open_channel())
            self._replaced += 1


def _attempt_seconds(deadline: Deadline) -> float:
    """Return half the seconds left, for a retry if the attempt hangs; at least one, or all."""
    remaining = deadline.remaining
    return max(remaining / 2, min(remaining, _SHORTEST_ATTEMPT_SECONDS))


class _Channel:
    """A channel with its methods, its calls under way, and its answers so far."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.calls = 0
        self.answers = 0
        self.close = channel.close
        self._methods = {
            name: getattr(channel, kind)(
                f"/google.firestore.v1.Firestore/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            for name, (kind, request, response) in _METHODS.items()
        }

    def call(self, method: str, request: Message, **options: object) -> list[Message]:
        """Make a call that waits for the connection; raises `grpc.RpcError`."""
        answers = self._methods[method](request, wait_for_ready=True, **options)
        return [answers] if _METHODS[method][0] == "unary_unary" else list(answers)
