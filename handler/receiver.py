"""Answers every request, and logs all but health checks; errors become answers, too."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from handler import VERSION
from handler.answers import Answer, Refused
from handler.dispatch import answer_event
from handler.events.body import decode_body
from handler.events.envelope import SENSIBLE_LENGTH, Event, parse_event
from handler.instance import Instance
from handler.log import Log
from handler.settings import Settings
from handler.stores.interface import Store, StoreUnavailable

_SERVER_ERROR = 500

# Marks a log entry as an error for Error Reporting, which groups errors by location.
_ERROR_EVENT = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"

# Bitrix24 never retries; other clients may.
_RETRY_AFTER_SECONDS = "10"


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request, independent of the framework.

    `read_body` raises `Refused` for a body that is too long or incomplete. `url` is the requested
    URL, `trace` the trace header.
    """

    method: str
    path: str
    content_type: str
    read_body: Callable[[], bytes]
    url: str = ""
    trace: str = ""


class Receiver:
    """Receives the events of all portals; thread-safe.

    `open_store`, called for each event, may raise `StoreUnavailable`.
    """

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], Store],
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._instance = Instance(settings, open_store, now)

    def receive(self, request: Request) -> Answer:
        """Answer a request; every exception, bugs included, becomes an answer."""
        if request.method in ("GET", "HEAD") and request.path in ("/", "/health"):
            return Answer(200, {"status": "up", "version": VERSION})
        started = time.perf_counter()
        log = self._log.for_request(request.trace)
        event: Event | None = None
        try:
            event = parse_event(decode_body(request.content_type, _body(request)))
            answer = answer_event(self._instance, event, request.url, log)
        except Refused as refused:
            answer = refused.answer
        except StoreUnavailable as problem:
            answer = _unavailable(problem)
        except Exception as bug:  # noqa: BLE001 - the last resort: every request gets an answer
            answer = _internal_error(bug, self._instance.settings)
        _log_answer(log, answer, event, time.perf_counter() - started)
        return answer


def _body(request: Request) -> bytes:
    if request.method != "POST":
        allowed = "GET, HEAD, POST" if request.path in ("/", "/health") else "POST"
        raise Refused(
            405,
            "method_not_allowed",
            "Bitrix24 sends events by POST; GET /health shows whether the function is up.",
            headers={"Allow": allowed},
        )
    return request.read_body()


def _unavailable(problem: StoreUnavailable) -> Answer:
    return Answer(
        503,
        {
            "error": "store_unavailable",
            "detail": "Firestore could not be reached in time. If this was a deletion, it is in"
            " the log, to be replayed.",
        },
        headers={"Retry-After": _RETRY_AFTER_SECONDS},
        log={"reason": str(problem)},
    )


def _internal_error(bug: Exception, settings: Settings) -> Answer:
    # Without the error's text and variables, which may hold secrets.
    frames = traceback.extract_tb(bug.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    last = frames[-1]
    place = {"filePath": last.filename, "lineNumber": last.lineno, "functionName": last.name}
    return Answer(
        _SERVER_ERROR,
        {
            "error": "internal_error",
            "detail": "This is a bug in the function; its log has the details.",
        },
        log={
            "bug": type(bug).__name__,
            "where": where,
            "@type": _ERROR_EVENT,
            "serviceContext": {"service": settings.service, "version": settings.revision},
            "context": {"reportLocation": place},
        },
    )


def _log_answer(log: Log, answer: Answer, event: Event | None, seconds: float) -> None:
    # Even on a success, either is for an operator to read.
    said = " ".join(str(one) for one in (answer.warning, answer.body.get("detail")) if one)
    fields = {
        "outcome": answer.outcome,
        "event": event and event.name,
        "member_id": event and event.auth.member_id[:SENSIBLE_LENGTH],
        "recorded": answer.body.get("recorded"),
        "duplicates": answer.body.get("duplicates"),
        "quarantine_id": answer.body.get("quarantine_id"),
        "duration_ms": round(seconds * 1000, 1),
        **answer.log,
    }
    log(
        "ERROR" if answer.status >= _SERVER_ERROR else "WARNING" if said else "INFO",
        said or answer.outcome,
        **fields,
    )
