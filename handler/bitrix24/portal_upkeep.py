"""Keeps a portal's address and bindings up to date.

A ping usually brings an administrator's token. With it, and under the drain's lease, the bindings
are checked once a day, or every ten minutes while there is a problem. If the portal no longer
answers, the OAuth server is asked for its new address, at most once an hour.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from handler.bitrix24 import portal_problems as problems
from handler.bitrix24.call_budget import Budget
from handler.bitrix24.oauth import confirm
from handler.bitrix24.rest import Bitrix24Error, Rest, UnansweredError
from handler.bitrix24.subscription import (
    NotAdministratorError,
    administrator_id,
    subscribe,
    wanted,
)
from handler.deadline import Deadline
from handler.events import names
from handler.events.envelope import Auth
from handler.portal import Portal
from handler.settings import Settings
from handler.urls import MAX_HANDLER_URL

_CHECK_INTERVAL = timedelta(days=1)
_RETRY_INTERVAL = timedelta(minutes=10)  # while there is a problem
_ASK_INTERVAL = timedelta(hours=1)

# If the old address hangs, this leaves time to ask for the new one; if the OAuth server does, to
# drain the queue.
_LONGEST_CALL_SECONDS = 4


class Upkeep:
    """Checks and corrects one portal for one event; `portal` is as stored before.

    `update` holds the changed fields of the portal's document, `problem` its problem afterwards,
    and `details` what the event's answer says about it.
    """

    def __init__(
        self,
        auth: Auth,
        portal: Portal,
        *,
        url: str,
        settings: Settings,
        deadline: Deadline,
        now: Callable[[], datetime],
    ) -> None:
        self.portal = portal
        self.problem = portal.problem
        self.details: list[str] = []
        self.other_hosts: Sequence[str] = ()
        self.queue_is_new = False
        self.update: dict[str, object] = {}
        self._auth = auth
        self._token = auth.access_token.get_secret_value() if auth.access_token else ""
        self._url = url
        self._settings = settings
        self._deadline = deadline
        self._now = now
        self._confirmed = False

    @property
    def checked(self) -> bool:
        """Whether the bindings were checked."""
        return "checked_at" in self.update

    def begin(self) -> bool:
        """Check what is due; return whether the queue can be drained with the event's token."""
        if self.portal.client_endpoint is None:
            return self._fails(problems.BY_HAND)
        if not self._token:
            return self._fails(problems.NO_TOKEN)
        if self._is_due():
            return self._confirm(is_check=True)
        if self._names_another_domain() and self._may_ask():
            return self._confirm(is_check=False)
        return True

    def has_moved(self) -> bool:
        """Look up the address of a portal that does not answer; return whether it answers there."""
        if self._confirmed or not self._may_ask():
            return False
        return self._confirm(is_check=False) and self._confirmed

    def bind(self, administrator: int | None) -> None:
        """Add missing bindings as this administrator, and remove stale ones."""
        bindings = wanted(self._settings)
        try:
            # Without KEEP_TEXT_DAYS, the events of messages may still be bound from earlier.
            done = subscribe(self.rest(), bindings, self._url, administrator, names.MESSAGES)
        except Bitrix24Error as error:
            self.details.append(f"No event could be bound: {error}.")
            self.problem = _problem(error)
            return
        self.details += done.problems
        self.other_hosts = done.other_hosts
        self.queue_is_new = done.queue_is_new
        self.problem = _problem(done.errors[0]) if done.errors else None
        if len(self._url) > MAX_HANDLER_URL:
            self.problem = problems.ADDRESS
        self.update |= {"checked_at": self._now()}
        if names.OFFLINE_PING not in done.not_bound:
            self.update |= {"bound_as": administrator}

    def note(self, error: Bitrix24Error | None) -> None:
        """Set the portal's problem from a drain's error, unless that is transient."""
        if error is None:
            return
        found = problems.lasting(error)
        if isinstance(error, UnansweredError) and self._confirmed:
            found = problems.out_of_reach(error)
        self.problem = found or self.problem

    def rest(self, budget: Budget | None = None) -> Rest:
        """Return a client for the portal's confirmed endpoint with the event's token."""
        return Rest(
            self.portal.client_endpoint or "",
            self._token,
            self._deadline,
            longest=_LONGEST_CALL_SECONDS,
            pace=budget.spend if budget else lambda: None,
        )

    def _confirm(self, *, is_check: bool) -> bool:
        """Confirm the token and the portal's address; if that succeeds, check the bindings.

        Returns whether the queue can be drained with the event's token.
        """
        self.update["asked_at"] = self._now()
        try:
            confirmed = confirm(
                self._auth,
                self._token,
                self._settings,
                self._deadline,
                longest=_LONGEST_CALL_SECONDS,
            )
        except Bitrix24Error as error:
            self.details.append(f"The portal could not be checked: {error}.")
            return True
        known, found = self.portal, confirmed.portal
        if found.member_id != known.member_id or known.client_id not in (None, found.client_id):
            self.details.append("The access token belongs to a different portal or application.")
            return False
        self._confirmed = True
        self._learn({**found.to_fields(), "client_id": known.client_id})
        try:
            administrator = administrator_id(self.rest(), confirmed.user_id)
        except NotAdministratorError:
            return self._fails(problems.ADMINISTRATOR)
        except Bitrix24Error as error:
            self.details.append(f"The portal could not be checked: {error}.")
            self.note(error)
            return not isinstance(error, UnansweredError)
        self._learn({"client_id": found.client_id})
        self.bind(administrator)
        if is_check and self.checked:
            del self.update["asked_at"]
        return True

    def _learn(self, fields: Mapping[str, object]) -> None:
        self.portal = self.portal.model_copy(update=fields)
        self.update |= fields

    def _fails(self, problem: str) -> bool:
        self.details.append(problem)
        self.problem = problem
        return False

    def _is_due(self) -> bool:
        checked, tried = self.portal.checked_at, self.portal.asked_at
        if not self.problem and checked and self._now() - checked < _CHECK_INTERVAL:
            return False
        last = max((one for one in (checked, tried) if one), default=None)
        return last is None or self._now() - last >= _RETRY_INTERVAL

    def _may_ask(self) -> bool:
        asked = self.portal.asked_at
        return asked is None or self._now() - asked >= _ASK_INTERVAL

    def _names_another_domain(self) -> bool:
        named, known = self._auth.domain, self.portal.domain
        return bool(named and known) and str(named).lower() != str(known).lower()


def _problem(error: Bitrix24Error) -> str:
    return problems.lasting(error) or problems.BINDINGS
