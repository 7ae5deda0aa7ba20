"""A portal, stored as `portals/{member_id}`: its tokens, addresses, problem and drain."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated

from handler.deadline import Deadline
from handler.events.fields import Model, OrNone
from handler.log import Log
from handler.stores.interface import Document, Fields, Store, StoreUnavailable

PORTALS = "portals"

# An application that is deleted and added again gets a new token, and the old one's uninstall may
# arrive after the new one's install. So the previous token stays accepted until that uninstall.
_TOKENS_KEPT = 2

_REMIND_AFTER = timedelta(days=1)

_WITHOUT_PROBLEM = {"problem": None, "problem_since": None, "problem_logged_at": None}


class Lease(Model, strict=True):
    """The lease on a portal's offline queue: which user drains it, and until when.

    `nonce` identifies the holder. `again`: more rows were announced since. `follows`: another event
    is waiting for this lease to end, and will drain everything announced until then; `follower`
    identifies it.
    """

    until: datetime
    nonce: str
    user: int
    again: bool = False
    follows: bool = False
    follower: str | None = None


class QueueLeft(Model, strict=True):
    """How many rows a drain left in the queue: a number, or text such as "more than 49"."""

    rows: int | str
    at: datetime


class Portal(Model, strict=True):
    """A portal that may send events; only digests of its tokens are stored.

    The document may have been edited by hand: an invalid field counts as absent.
    """

    member_id: str
    token_digests: Annotated[list[str] | None, OrNone] = None
    active: Annotated[bool | None, OrNone] = None
    domain: Annotated[str | None, OrNone] = None
    client_endpoint: Annotated[str | None, OrNone] = None
    server_endpoint: Annotated[str | None, OrNone] = None
    client_id: Annotated[str | None, OrNone] = None
    status: Annotated[str | None, OrNone] = None
    scope: Annotated[str | None, OrNone] = None
    installed_at: Annotated[datetime | None, OrNone] = None
    updated_at: Annotated[datetime | None, OrNone] = None
    clean_requested_at: Annotated[datetime | None, OrNone] = None
    removed_at: Annotated[datetime | None, OrNone] = None
    # Whether ALLOWED_PORTALS accepted it; absent if it was installed before 0.2.0.
    allowed: Annotated[bool | None, OrNone] = None
    # The user that the queue's ping is bound as, and when the bindings were last checked.
    bound_as: Annotated[int | None, OrNone] = None
    checked_at: Annotated[datetime | None, OrNone] = None
    # When the OAuth server was last asked about the portal, other than for a completed check.
    asked_at: Annotated[datetime | None, OrNone] = None
    problem: Annotated[str | None, OrNone] = None
    problem_since: Annotated[datetime | None, OrNone] = None
    problem_logged_at: Annotated[datetime | None, OrNone] = None
    drain: Annotated[Lease | None, OrNone] = None
    drained_at: Annotated[datetime | None, OrNone] = None
    queue_left: Annotated[QueueLeft | None, OrNone] = None
    # When the drains' calls so far will be paid off, at one a second.
    calls_until: Annotated[datetime | None, OrNone] = None

    @classmethod
    def from_fields(cls, member_id: str, fields: Fields) -> "Portal":
        """Read a portal from the fields of its document."""
        return cls.model_validate({**fields, "member_id": member_id})

    def to_fields(self) -> Fields:
        """Return the document's fields, without those that are `None`."""
        return self.model_dump(exclude_none=True)

    def with_token(self, digest: str, now: datetime) -> "Portal":
        """Accept a token from now on, along with the previous one.

        A new token may be another application's, so `client_id` is unknown until it is confirmed.
        """
        known = self.active and digest in (self.token_digests or ())
        return self.model_copy(
            update={
                "token_digests": [digest, *self._others(digest)][:_TOKENS_KEPT],
                "active": True,
                "client_id": self.client_id if known else None,
                "installed_at": self.installed_at if known else now,
                "updated_at": now,
                "clean_requested_at": None,
                "removed_at": None,
            }
        )

    def without_token(self, digest: str, now: datetime, *, clean: bool) -> "Portal":
        """Stop accepting a token; a portal without tokens is inactive.

        `client_id` belongs to the newest token; without that token, it is unknown.
        """
        others = self._others(digest)
        active = bool(self.active and others)
        was_newest = others == (self.token_digests or [])[1:]
        update = {
            "client_id": None if active and was_newest else self.client_id,
            "token_digests": others,
            "active": active,
            "updated_at": now,
            "clean_requested_at": now if clean else self.clean_requested_at,
        }
        return self.model_copy(update=update if active else {**update, **_WITHOUT_PROBLEM})

    def removed(self, now: datetime) -> "Portal":
        """Stop accepting anything, at an operator's request; the document stays for its records."""
        ended = {"token_digests": None, "active": False, "drain": None, "queue_left": None}
        since = {"removed_at": self.removed_at or now, "updated_at": now, "allowed": False}
        return self.model_copy(update={**ended, **since, **_WITHOUT_PROBLEM})

    def with_problem(self, problem: str | None, now: datetime) -> "Portal":
        """Set the portal's problem, or clear it with `None`."""
        if problem == self.problem:
            return self
        if problem is None:
            return self.model_copy(update=_WITHOUT_PROBLEM)
        noted = {"problem": problem, "problem_since": now, "problem_logged_at": now}
        return self.model_copy(update=noted)

    def _others(self, digest: str) -> list[str]:
        return [known for known in self.token_digests or () if known != digest]


def portal_path(member_id: str) -> str:
    """Return the path of a portal's document; its records are in collections below it."""
    return f"{PORTALS}/{member_id}"


def member_id_in(path: str) -> str:
    """Return the member_id in the path of a portal's document, or of one below it."""
    return path.split("/")[1]


def read_portal(store: Store, member_id: str, deadline: Deadline) -> Portal | None:
    """Return a portal, or `None` if it is unknown; raises `StoreUnavailable`."""
    document = store.get(portal_path(member_id), deadline)
    return Portal.from_fields(member_id, document.fields) if document else None


def log_problem(log: Log, before: Portal, after: Portal, event: str) -> None:
    """Log that a portal's problem has begun, changed or ended."""
    if after.problem and after.problem != before.problem:
        _log_problem(log, after, event)
    elif before.problem and not after.problem:
        known = {"event": event, "member_id": after.member_id, "domain": after.domain}
        log("INFO", f"Resolved: {before.problem}", outcome="portal_well", **known)


def remind_of_problem(
    store: Store, portal: Portal, event: str, log: Log, *, now: datetime, deadline: Deadline
) -> bool:
    """Log a lasting problem again, once a day across all instances; return whether it was due.

    Raises `StoreUnavailable`.
    """

    def is_due(portal: Portal) -> bool:
        logged = portal.problem_logged_at
        return bool(portal.problem) and (logged is None or now - logged >= _REMIND_AFTER)

    def note(stored: Portal | None) -> Portal | None:
        if not stored or not is_due(stored):
            return None
        return stored.model_copy(update={"problem_logged_at": now})

    if not is_due(portal):
        return False
    reminded = change_portal(store, portal.member_id, note, deadline)
    if reminded:
        _log_problem(log, reminded, event)
    return True


def _log_problem(log: Log, portal: Portal, event: str) -> None:
    log(
        "ERROR",
        str(portal.problem),
        outcome="portal_problem",
        event=event,
        member_id=portal.member_id,
        domain=portal.domain,
        problem_since=str(portal.problem_since or ""),
    )


def change_portal(
    store: Store,
    member_id: str,
    change: Callable[[Portal | None], Portal | None],
    deadline: Deadline,
) -> Portal | None:
    """Change a portal by compare-and-set, retried until the deadline; raises `StoreUnavailable`.

    `change` gets the stored portal, if any, and returns the changed one, or `None` to leave it
    alone. Fields that it does not change stay as they are, even invalid ones.
    """
    path = portal_path(member_id)
    while deadline.remaining:
        found = store.get(path, deadline) or Document(path, {})
        portal = Portal.from_fields(member_id, found.fields) if found.fields else None
        changed = change(portal)
        if changed is None:
            return None
        before, after = portal.to_fields() if portal else {}, changed.to_fields()
        fields = {
            name: found.fields[name] for name in found.fields.keys() - (before.keys() - after)
        }
        fields |= {name: after[name] for name in after if after[name] != before.get(name)}
        if store.put(replace(found, fields=fields), deadline):
            return changed
    raise StoreUnavailable(f"{path} kept changing until the deadline.")
