"""The application's life at a portal: installed, updated, pinged, uninstalled."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from handler.answers import Answer
from handler.bitrix24.install import NotProven, prove, refused
from handler.bitrix24.offline_queue import Drained, drain
from handler.bitrix24.rest import OUTGOING_SECONDS, Bitrix24Error, Rest
from handler.bitrix24.subscription import administrator_id, subscribe
from handler.deadline import Deadline
from handler.events.envelope import Event
from handler.portal import Portal, change_portal
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Store

_TRUE = ("1", 1, True)  # PHP's `true`, in a form and in JSON

_WAIT_SECONDS = 2


class Application:
    """Answers the events about the application itself. Each method may raise `StoreUnavailable`.

    `proofs` limits how many installs are proven at once.
    """

    def __init__(
        self,
        settings: Settings,
        open_store: Callable[[], Store],
        recorder: Recorder,
        *,
        proofs: threading.Semaphore,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._recorder = recorder
        self._proofs = proofs
        self._now = now

    def install(self, event: Event, digest: str, url: str, deadline: Deadline) -> Answer:
        """Accept a portal's new token if the install is proven; raises `Refused` if it is not."""
        outgoing, seconds_left = Deadline(OUTGOING_SECONDS), deadline.remaining
        if not self._proofs.acquire(timeout=_WAIT_SECONDS):
            raise refused(
                NotProven("Too many installs at once.", "If it was yours, try again in a minute.")
            )
        try:
            proven, administrator = prove(event.auth, self._settings, outgoing)
        except NotProven as reason:
            raise refused(reason) from None
        finally:
            self._proofs.release()
        now = self._now()

        def accept(stored: Portal | None) -> Portal:
            known = {name: getattr(proven, name) for name in proven.model_fields_set}
            return (stored or proven).model_copy(update=known).with_token(digest, now)

        # The proof took its own time, not the store's.
        change_portal(self._open_store(), proven.member_id, accept, Deadline(seconds_left))
        return self._subscribed(event, proven, url, outgoing, administrator)

    def update(self, event: Event, portal: Portal, url: str, deadline: Deadline) -> Answer:
        """Subscribe again after an update of the application, whose token is known already."""
        now = self._now()

        def touch(stored: Portal | None) -> Portal | None:
            return stored and stored.model_copy(update={"updated_at": now})

        change_portal(self._open_store(), portal.member_id, touch, deadline)
        return self._subscribed(event, portal, url, Deadline(OUTGOING_SECONDS))

    def uninstall(self, event: Event, digest: str, deadline: Deadline) -> Answer:
        """Accept the event's token no longer; the records stay, even if it asks to clean up."""
        clean = isinstance(event.data, Mapping) and event.data.get("CLEAN") in _TRUE
        now = self._now()

        def give_up(stored: Portal | None) -> Portal | None:
            return stored and stored.without_token(digest, now, clean=clean)

        change_portal(self._open_store(), event.auth.member_id, give_up, deadline)
        return Answer(200, {"status": "uninstalled"})

    def recover(self, event: Event, portal: Portal, ping: Delivery, deadline: Deadline) -> Answer:
        """Drain the portal's offline queue with the token that the ping brought."""
        try:
            rest = _rest(event, portal, Deadline(min(OUTGOING_SECONDS, deadline.remaining)))
        except Bitrix24Error as error:
            done = Drained(problem=f"The offline queue was not read: {error}.")
        else:
            done = drain(rest, self._recorder, ping, deadline)
        quarantined = {"quarantined": done.quarantined}
        detail = {"detail": done.problem} if done.problem else {}
        return Answer(200, {"status": "recovered", **vars(done.counts), **quarantined, **detail})

    def _subscribed(
        self,
        event: Event,
        portal: Portal,
        url: str,
        outgoing: Deadline,
        administrator: int | None = None,
    ) -> Answer:
        try:
            rest = _rest(event, portal, outgoing)
            administrator = administrator or administrator_id(rest, event.auth.user_id)
            problems = subscribe(rest, self._settings.function_url or url, administrator)
        except Bitrix24Error as error:
            problems = [f"No event could be bound: {error}."]
        detail = {"detail": " ".join(problems)} if problems else {}
        return Answer(200, {"status": "installed", "subscribed": not problems, **detail})


def _rest(event: Event, portal: Portal, outgoing: Deadline) -> Rest:
    """Reach the portal at its confirmed endpoint with the event's token."""
    if portal.client_endpoint is None:
        raise Bitrix24Error("the portal was entered by hand, without --endpoint")
    if event.auth.access_token is None:
        raise Bitrix24Error("the event brought no access token")
    return Rest(portal.client_endpoint, event.auth.access_token.get_secret_value(), outgoing)
