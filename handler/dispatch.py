"""Answers an event: verifies its token, then routes it by name."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from handler.answers import Answer, Refused
from handler.deadline import Deadline
from handler.events import names
from handler.events.envelope import Event
from handler.instance import Instance
from handler.log import Log
from handler.portal import Portal, read_portal, remind_of_problem
from handler.records import dead_letter
from handler.records.documents import Delivery
from handler.records.recorder import name_connectors, name_documents
from handler.stores.interface import Document, StoreUnavailable
from handler.tokens import accepts, token_digest

if TYPE_CHECKING:
    from handler.records.messages import Messages

# These change which tokens a portal accepts, so they read the store, not this instance's cache.
_CHANGE_TOKENS = (names.INSTALL, names.UNINSTALL)

_REMIND_SECONDS = 2  # the event itself is done, and a later one can remind instead


def answer_event(instance: Instance, event: Event, url: str, log: Log) -> Answer:
    """Handle an event that was sent to `url`; raises `Refused` or `StoreUnavailable`."""
    deadline = Deadline(instance.settings.store_deadline_seconds)
    digest = token_digest(event.auth.application_token.get_secret_value())
    with _dead_letter_unless_verified(instance, event, digest, log):
        portal = _verify(instance, event, digest, deadline)
    reminded = portal if portal and portal.problem else None
    try:
        if event.name in names.DELETIONS and portal:
            return _take_deletions(instance, event, portal, log, deadline)
        if event.name in names.MESSAGES and portal and instance.recorder.messages:
            return _take_messages(instance, event, instance.recorder.messages, deadline)
        answer = _other_event(instance, event, portal, log, deadline, digest=digest, url=url)
    except StoreUnavailable:
        reminded = None  # that would fail, too, and take longer
        raise
    finally:
        if reminded:
            _remind(instance, event, reminded, log)
    if event.name in _CHANGE_TOKENS:
        instance.trusted.forget(event.auth.member_id)
    return answer


def _verify(instance: Instance, event: Event, digest: str, deadline: Deadline) -> Portal | None:
    """Return the event's portal, or `None` for an install whose token is not accepted yet.

    Raises `Refused` for any other event without an accepted token. Only the log says whether the
    portal is known: its token may have changed, or its events are being forged.
    """
    member_id = event.auth.member_id
    portal = instance.trusted.get(member_id, digest)
    if portal and event.name not in _CHANGE_TOKENS:
        return portal
    portal = read_portal(instance.open_store(), member_id, deadline)
    if portal and accepts(portal, digest):
        instance.trusted.trust(portal, digest)
        return portal
    if event.name == names.INSTALL:
        return None
    raise Refused(
        403,
        "forbidden",
        "No active portal has this application token.",
        log={"known": True} if portal else {},
    )


def _other_event(
    instance: Instance,
    event: Event,
    portal: Portal | None,
    log: Log,
    deadline: Deadline,
    *,
    digest: str,
    url: str,
) -> Answer:
    delivery = _delivery(instance, event, portal.domain if portal else None)
    match event.name:
        case names.TEST:
            return Answer(200, {"status": "ok", "event": event.name})
        case names.INSTALL:
            known = portal is not None
            return instance.application.install(event, digest, url, delivery, log, known=known)
        case names.UNINSTALL:
            return instance.application.uninstall(event, digest, log, deadline)
        case names.OFFLINE_PING:
            return instance.application.recover(event, url, delivery, log)
    return Answer(200, {"status": "ignored", "event": event.name})


def _remind(instance: Instance, event: Event, portal: Portal, log: Log) -> None:
    """Log a portal's problem once a day, even if the event was refused."""
    with suppress(StoreUnavailable):
        store, deadline = instance.open_store(), Deadline(_REMIND_SECONDS)
        if remind_of_problem(store, portal, event.name, log, now=instance.now(), deadline=deadline):
            instance.trusted.forget(portal.member_id)


def _take_deletions(
    instance: Instance, event: Event, portal: Portal, log: Log, deadline: Deadline
) -> Answer:
    delivery = _delivery(instance, event, portal.domain)
    complete: list[Document] = []
    with _dead_letter_unless_stored(instance, delivery, event.data, complete, log):
        reading = instance.recorder.read(delivery, event.data)
        if not reading.invalid:
            complete += reading.documents
        counts = instance.recorder.record(reading.documents, deadline)
        ids = [document.name for document in reading.documents]
        about = {**name_documents(ids=ids), **name_connectors(reading.left_out)}
        if reading.invalid:
            name = instance.recorder.quarantine(delivery, event.data, reading.invalid, deadline)
            raise Refused(
                422,
                "unprocessable_event",
                "Some of the data is invalid: the event is in quarantine, to be retried. The valid"
                " part is recorded.",
                log=about,
                **vars(counts),
                quarantine_id=name,
                fields=reading.invalid.fields,
            )
    if not reading.documents:
        return Answer(200, {"status": "ignored", "event": event.name}, log=about)
    return Answer(200, {"status": "recorded", **vars(counts)}, log=about)


def _take_messages(
    instance: Instance, event: Event, messages: "Messages", deadline: Deadline
) -> Answer:
    """Keep the texts of messages; on failure, there is neither dead letter nor quarantine."""
    from handler.events.message import parse_messages  # noqa: PLC0415 - only with the setting

    said = parse_messages(event.name, event.data, instance.settings.connectors)
    member_id, update = event.auth.member_id, event.name == names.MESSAGE_UPDATE
    at = event.sent_at or instance.now()
    kept = sum(
        messages.keep(member_id, one, deadline, update=update, at=at) for one in said.messages
    )
    left_out = name_connectors(said.left_out)
    if said.faults:
        raise Refused(
            422,
            "unprocessable_event",
            "The data is not valid for the event; messages that cannot be read are not kept.",
            log=left_out,
            fields=said.faults,
        )
    if not said.messages:
        return Answer(200, {"status": "ignored", "event": event.name}, log=left_out)
    return Answer(200, {"status": "kept", "kept": kept}, log=left_out)


@contextmanager
def _dead_letter_unless_verified(
    instance: Instance, event: Event, digest: str, log: Log
) -> Iterator[None]:
    """If the token cannot be checked, log what parses as a deletion, and nothing else.

    The event may be forged; replay checks the token by its digest.
    """
    try:
        yield
    except Refused:
        raise
    except Exception:
        if event.name in names.DELETIONS:
            with suppress(Exception):  # the same bug may raise again
                reading = instance.recorder.read(_delivery(instance, event, None), event.data)
                dead_letter.log_records(log, reading.documents, unverified_digest=digest)
        raise


@contextmanager
def _dead_letter_unless_stored(
    instance: Instance, delivery: Delivery, data: object, documents: list[Document], log: Log
) -> Iterator[None]:
    """If a verified event cannot be stored, log its `documents`, or all of its data."""
    try:
        yield
    except Refused:
        raise
    except Exception as fault:
        with suppress(Exception):  # the same bug may raise again
            if documents and isinstance(fault, StoreUnavailable):
                dead_letter.log_records(log, documents)
            else:
                dead_letter.log_event(log, delivery, data, instance.settings.connectors)
        raise


def _delivery(instance: Instance, event: Event, known_domain: str | None) -> Delivery:
    return Delivery(
        member_id=event.auth.member_id,
        event=event.name,
        via="online",
        domain=event.auth.domain or known_domain,
        event_at=event.sent_at or instance.now(),
        user_id=event.auth.user_id,
        expires_at=instance.recorder.expires_at(),
    )
