"""From a request to its answer: method, size, type, decoding, token, event."""

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from handler import dead_letter
from handler.answers import Answer, Refused
from handler.body import decode_body
from handler.deadline import Deadline
from handler.deletion import DELETION_EVENTS, Unfit
from handler.documents import Delivery
from handler.event import SENSIBLE_LENGTH, Event, parse_event
from handler.log import Log
from handler.portal import Portal, read_portal
from handler.record import Recorder
from handler.settings import Settings
from handler.store import Store, StoreUnavailable
from handler.tokens import TrustedTokens, accepts, token_digest

if TYPE_CHECKING:
    from handler.lifecycle import Lifecycle

_SERVER_ERROR = 500

# Bitrix24 does not send again, whatever it is told; people and their tools may.
_RETRY_AFTER_SECONDS = "10"

# They change which tokens a portal accepts, so the store is asked, not this instance's memory.
_CHANGE_TOKENS = ("ONAPPINSTALL", "ONAPPUNINSTALL")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the core sees of an HTTP request.

    `read_body` raises `Refused`: 413 for a body that is too long. `url` is the address that
    was called, `trace` the trace header.
    """

    method: str
    path: str
    content_type: str
    read_body: Callable[[], bytes]
    url: str = ""
    trace: str = ""


class Receiver:
    """Receives the events of all portals, in any number of threads at once.

    `open_store` may raise `StoreUnavailable`; it is asked for each event.
    """

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], Store],
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self.open_store = open_store
        self.log = log
        self.recorder = Recorder(open_store, settings, now)
        self._now = now
        self.trusted = TrustedTokens(settings.token_cache_seconds)

    @property
    def lifecycle(self) -> "Lifecycle":
        """What answers the events about the application itself."""
        # It imports what only installs need, for some 12 ms; deletions should not pay for that.
        from handler.lifecycle import Lifecycle  # noqa: PLC0415

        return Lifecycle(self.settings, self.open_store, self._now)

    def receive(self, request: Request) -> Answer:
        """Answer a request; every fault, ours included, becomes an answer."""
        if request.method == "GET" and request.path in ("/", "/health"):
            return Answer(200, {"status": "up"})
        return _Reception(self, request).answer()


class _Reception:
    """One request on its way. It remembers how far it came, for the log and the last resort."""

    def __init__(self, receiver: Receiver, request: Request) -> None:
        self._receiver = receiver
        self._request = request
        self._log = receiver.log.for_request(request.trace)
        self._event: Event | None = None
        self._verified: bool | None = None  # nobody knows yet

    def answer(self) -> Answer:
        started = time.perf_counter()
        try:
            answer = self._receive()
        except Refused as refused:
            answer = refused.answer
        except Exception as bug:  # noqa: BLE001 - the last resort: the event must not be lost
            answer = self._after_bug(bug)
        self._log_answer(answer, time.perf_counter() - started)
        return answer

    def _receive(self) -> Answer:
        request = self._request
        if request.method != "POST":
            allowed = "GET, POST" if request.path in ("/", "/health") else "POST"
            raise Refused(
                405,
                "method_not_allowed",
                "Bitrix24 sends events by POST; GET /health tells whether the function is up.",
                headers={"Allow": allowed},
            )
        body = request.read_body()
        event = self._event = parse_event(decode_body(request.content_type, body))
        self._deadline = Deadline(self._receiver.settings.store_deadline_seconds)
        digest = token_digest(event.auth.application_token.get_secret_value())
        portal = self._verify(event, digest)
        self._verified = portal is not None
        if event.name in DELETION_EVENTS and portal:
            return self._take_deletions(event, portal)
        try:
            answer = self._other_event(event, portal, digest)
        except StoreUnavailable as problem:
            raise _unavailable(problem) from None
        if event.name in _CHANGE_TOKENS:
            self._receiver.trusted.forget(event.auth.member_id)
        return answer

    def _other_event(self, event: Event, portal: Portal | None, digest: str) -> Answer:
        receiver, url = self._receiver, self._request.url
        if portal is None:
            if event.name == "ONAPPINSTALL":
                return receiver.lifecycle.install(event, digest, url, self._deadline)
            raise Refused(403, "forbidden", "No active portal has this application token.")
        match event.name:
            case "ONAPPTEST":
                return Answer(200, {"status": "ok", "event": event.name})
            case "ONAPPINSTALL":
                return receiver.lifecycle.update(event, portal, url, self._deadline)
            case "ONAPPUNINSTALL":
                return receiver.lifecycle.uninstall(event, digest, self._deadline)
            case "ONOFFLINEEVENT":
                ping = _delivery(event, portal.domain)
                return receiver.lifecycle.recover(
                    event, portal, receiver.recorder, ping, self._deadline
                )
        return Answer(200, {"status": "ignored", "event": event.name})

    def _verify(self, event: Event, digest: str) -> Portal | None:
        """Return the event's portal if it accepts the token with this digest."""
        member_id = event.auth.member_id
        portal = self._receiver.trusted.get(member_id, digest)
        if portal and event.name not in _CHANGE_TOKENS:
            return portal
        try:
            portal = read_portal(self._receiver.open_store(), member_id, self._deadline)
        except StoreUnavailable as problem:
            self._keep_unverified(event, digest)
            raise _unavailable(problem) from None
        if portal is None or not accepts(portal, digest):
            return None
        self._receiver.trusted.trust(portal, digest)
        return portal

    def _take_deletions(self, event: Event, portal: Portal) -> Answer:
        recorder = self._receiver.recorder
        delivery = _delivery(event, portal.domain)
        try:
            documents = recorder.documents(delivery, event.data)
        except Unfit as unfit:
            return self._quarantine(event, delivery, unfit)
        if not documents:
            return Answer(200, {"status": "ignored", "event": event.name})
        try:
            counts = recorder.record(documents, self._deadline)
        except StoreUnavailable as problem:
            dead_letter.keep_records(self._log, documents)
            raise _unavailable(problem) from None
        return Answer(200, {"status": "recorded", **vars(counts)})

    def _quarantine(self, event: Event, delivery: Delivery, unfit: Unfit) -> Answer:
        try:
            name = self._receiver.recorder.quarantine(delivery, event.data, unfit, self._deadline)
        except StoreUnavailable as problem:
            dead_letter.keep_event(self._log, delivery, event.data)
            raise _unavailable(problem) from None
        raise Refused(
            422,
            "unprocessable_event",
            "The data does not fit the event; it is kept in quarantine.",
            quarantine_id=name,
            fields=unfit.fields,
        )

    def _keep_unverified(self, event: Event, digest: str) -> None:
        """Keep what parses as a deletion, and nothing else that a stranger may have sent."""
        if event.name not in DELETION_EVENTS:
            return
        try:
            documents = self._receiver.recorder.documents(_delivery(event, None), event.data)
        except Unfit:
            return
        dead_letter.keep_records(self._log, documents, unverified_digest=digest)

    def _after_bug(self, bug: Exception) -> Answer:
        # Neither the error's text nor its variables: they may hold what nobody may log.
        frames = traceback.extract_tb(bug.__traceback__)
        where = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        event = self._event
        if event and self._verified and event.name in DELETION_EVENTS:
            dead_letter.keep_event(self._log, _delivery(event, None), event.data)
        elif event and self._verified is None:
            with suppress(Exception):  # that the bug strikes here again
                digest = token_digest(event.auth.application_token.get_secret_value())
                self._keep_unverified(event, digest)
        return Answer(
            500,
            {
                "error": "internal_error",
                "detail": "This is a fault of the function; its log tells more.",
            },
            log={"bug": type(bug).__name__, "where": where},
        )

    def _log_answer(self, answer: Answer, seconds: float) -> None:
        detail = answer.body.get("detail")  # in a success: something that somebody must mend
        event = self._event
        self._log(
            "ERROR" if answer.status >= _SERVER_ERROR else "WARNING" if detail else "INFO",
            str(detail or answer.outcome),
            outcome=answer.outcome,
            event=event and event.name,
            member_id=event and event.auth.member_id[:SENSIBLE_LENGTH],
            recorded=answer.body.get("recorded"),
            duplicates=answer.body.get("duplicates"),
            duration_ms=round(seconds * 1000, 1),
            **answer.log,
        )


def _delivery(event: Event, known_domain: str | None) -> Delivery:
    return Delivery(
        member_id=event.auth.member_id,
        event=event.name,
        via="online",
        domain=event.auth.domain or known_domain,
        event_at=event.sent_at,
        user_id=event.auth.user_id,
    )


def _unavailable(problem: StoreUnavailable) -> Refused:
    return Refused(
        503,
        "store_unavailable",
        "Firestore could not be reached in time; if this was a deletion, the log has kept it.",
        headers={"Retry-After": _RETRY_AFTER_SECONDS},
        log={"reason": str(problem)},
    )
