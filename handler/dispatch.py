"""From an event to its answer: the token, and then what the event is."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from handler.answers import Answer, Refused
from handler.deadline import Deadline
from handler.events.deletion import DELETION_EVENTS, Unfit
from handler.events.envelope import SENSIBLE_LENGTH, Event
from handler.log import Log
from handler.portal import Portal, read_portal
from handler.records import dead_letter
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Store, StoreUnavailable
from handler.tokens import TrustedTokens, accepts, token_digest

if TYPE_CHECKING:
    from handler.bitrix24.application import Lifecycle

# Bitrix24 does not send again, whatever it is told; people and their tools may.
_RETRY_AFTER_SECONDS = "10"

# They change which tokens a portal accepts, so the store is asked, not this instance's memory.
_CHANGE_TOKENS = ("ONAPPINSTALL", "ONAPPUNINSTALL")


class Instance:
    """What all events of one instance of the function share, in any number of threads at once.

    `open_store` may raise `StoreUnavailable`; it is asked for each event.
    """

    def __init__(
        self, settings: Settings, open_store: Callable[[], Store], now: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.open_store = open_store
        self.recorder = Recorder(open_store, settings, now)
        self.trusted = TrustedTokens(settings.token_cache_seconds)
        self._now = now

    @property
    def lifecycle(self) -> "Lifecycle":
        """What answers the events about the application itself."""
        # It imports what only installs need, for some 12 ms; deletions should not pay for that.
        from handler.bitrix24.application import Lifecycle  # noqa: PLC0415

        return Lifecycle(self.settings, self.open_store, self._now)


class Incoming:
    """One event on its way, sent to `url`. It remembers whether it was verified."""

    def __init__(self, instance: Instance, event: Event, url: str, log: Log) -> None:
        self._instance = instance
        self._event = event
        self._url = url
        self._log = log
        self._verified: bool | None = None  # nobody knows yet

    @property
    def name(self) -> str:
        """The event's name."""
        return self._event.name

    @property
    def member_id(self) -> str:
        """The portal that it claims to come from, cut to what anybody may write to the log."""
        return self._event.auth.member_id[:SENSIBLE_LENGTH]

    def answer(self) -> Answer:
        """Do what the event asks for; raises `Refused`."""
        event = self._event
        self._deadline = Deadline(self._instance.settings.store_deadline_seconds)
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
            self._instance.trusted.forget(event.auth.member_id)
        return answer

    def keep(self) -> None:
        """Write to the log what a bug of ours would lose: a deletion that is not forged."""
        event = self._event
        if self._verified and event.name in DELETION_EVENTS:
            dead_letter.keep_event(self._log, _delivery(event, None), event.data)
        elif self._verified is None:
            digest = token_digest(event.auth.application_token.get_secret_value())
            self._keep_unverified(event, digest)

    def _other_event(self, event: Event, portal: Portal | None, digest: str) -> Answer:
        instance, url = self._instance, self._url
        if portal is None:
            if event.name == "ONAPPINSTALL":
                return instance.lifecycle.install(event, digest, url, self._deadline)
            raise Refused(403, "forbidden", "No active portal has this application token.")
        match event.name:
            case "ONAPPTEST":
                return Answer(200, {"status": "ok", "event": event.name})
            case "ONAPPINSTALL":
                return instance.lifecycle.update(event, portal, url, self._deadline)
            case "ONAPPUNINSTALL":
                return instance.lifecycle.uninstall(event, digest, self._deadline)
            case "ONOFFLINEEVENT":
                ping = _delivery(event, portal.domain)
                return instance.lifecycle.recover(
                    event, portal, instance.recorder, ping, self._deadline
                )
        return Answer(200, {"status": "ignored", "event": event.name})

    def _verify(self, event: Event, digest: str) -> Portal | None:
        """Return the event's portal if it accepts the token with this digest."""
        member_id = event.auth.member_id
        portal = self._instance.trusted.get(member_id, digest)
        if portal and event.name not in _CHANGE_TOKENS:
            return portal
        try:
            portal = read_portal(self._instance.open_store(), member_id, self._deadline)
        except StoreUnavailable as problem:
            self._keep_unverified(event, digest)
            raise _unavailable(problem) from None
        if portal is None or not accepts(portal, digest):
            return None
        self._instance.trusted.trust(portal, digest)
        return portal

    def _take_deletions(self, event: Event, portal: Portal) -> Answer:
        recorder = self._instance.recorder
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
            name = self._instance.recorder.quarantine(delivery, event.data, unfit, self._deadline)
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
            documents = self._instance.recorder.documents(_delivery(event, None), event.data)
        except Unfit:
            return
        dead_letter.keep_records(self._log, documents, unverified_digest=digest)


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
