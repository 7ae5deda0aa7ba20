"""A portal's state, from its document and records, and what needs attention."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from handler.console.printing import printable, store_deadline
from handler.log import count
from handler.portal import Portal, portal_path
from handler.records.documents import DELETIONS, QUARANTINE, RECEIVED_AT, RECORDED_AT
from handler.stores.interface import Document, Store

# A ping follows each new row within about a minute; a drain may be postponed, or interrupted once.
_PINGS_STOP_AFTER: Final = timedelta(hours=1)

# To find a deletion that arrived online, so many records are read at a time, and at most.
_PAGE: Final = 100
_LOOKED_THROUGH: Final = 1_000

_REINSTALL: Final = (
    "let an administrator of the portal choose Reinstall for the application in Bitrix24"
    " (right-click it in the list of applications)"
)
_NEXT_PING: Final = (
    f"The next deletion in an open line continues it; if you expect none, {_REINSTALL}."
)


def state(portal: Portal) -> str:
    """Return the state for a table: whether the portal's events are accepted, or why not."""
    if portal.removed_at and not portal.active:
        return "removed"
    if not portal.active:
        return "uninstalled" if portal.installed_at else "not active"
    return "active" if portal.token_digests else "no token"


def count_quarantined(
    store: Store, members: Iterable[str], *, since: datetime | None = None
) -> int:
    """Return how many events of these portals, received since `since`, are in quarantine."""
    return sum(
        store.count(
            f"{portal_path(member)}/{QUARANTINE}", RECEIVED_AT, store_deadline(), since=since
        )
        for member in members
    )


def needs(store: Store, portal: Portal, quarantined: int, now: datetime) -> list[str]:
    """Return what needs attention at a portal, as sentences that say what to do."""
    name = portal.member_id
    found = []
    if portal.active and not portal.token_digests:
        found.append(
            "It has no accepted token. Enter one with `python -m handler portals add`, or install"
            " the application."
        )
    drain = _drain_cut_short(portal, now) if portal.active else ""
    if portal.problem:
        since = f" (Since {_moment(portal.problem_since)}.)" if portal.problem_since else ""
        found.append(f"{portal.problem}{since} {drain}".rstrip())
    elif drain:
        found.append(f"{drain} {_NEXT_PING}")
    if _is_half_installed(portal, now):
        found.append(
            "Its last install ended before the bindings were checked, so events may not arrive:"
            f" {_REINSTALL}."
        )
    if stopped := _pings_stopped(store, portal, now):
        found.append(stopped)
    if quarantined:
        found.append(
            f"{count(quarantined, 'event')} in quarantine: some of the data is invalid, so some"
            f" deletions are not recorded. `python -m handler quarantine --portal {name}` says why."
            " After an update of the function, record them with `python -m handler quarantine retry"
            f" --portal {name}`; `python -m handler quarantine drop ID` deletes one permanently."
        )
    # An active portal's application was added again: a late uninstall of the former one.
    if portal.clean_requested_at and not portal.active and not portal.removed_at:
        found.append(
            f"It was uninstalled at {_moment(portal.clean_requested_at)} with a request to delete"
            f" its data. If that was intended, delete it with `python -m handler portals purge"
            f" {name}`, or keep the records with `python -m handler portals remove {name}`. If not,"
            f" {_REINSTALL}."
        )
    return found


def _drain_cut_short(portal: Portal, now: datetime) -> str:
    """Say what a drain left behind: rows in the queue, its lease, or both."""
    said = []
    if left := portal.queue_left:
        rows = count(left.rows, "row")
        said.append(f"The drain at {_moment(left.at)} left {rows} in the portal's offline queue.")
    if portal.drain and portal.drain.until < now:
        said.append(f"A drain was interrupted: it did not end by {_moment(portal.drain.until)}.")
    return " ".join(said)


def _is_half_installed(portal: Portal, now: datetime) -> bool:
    """Return whether an install was accepted but then interrupted; 0.1.0 left no trace of it.

    A token that was entered by hand has no application, and nothing to check.
    """
    drains = portal.drain and portal.drain.until >= now
    is_installed = portal.client_id is not None and portal.allowed is not None
    checked = portal.checked_at or portal.problem
    return bool(portal.active and is_installed and not checked and not drains)


def _pings_stopped(store: Store, portal: Portal, now: datetime) -> str | None:
    """Say what to do if a deletion arrived without the ping that announces its row in the queue.

    `None` if something else explains that: a problem, or a drain under way.
    """
    left_at = portal.queue_left.at if portal.queue_left else None
    served = [time for time in (portal.drained_at, portal.checked_at, left_at) if time]
    drains = portal.drain and portal.drain.until >= now
    if not served or not portal.active or portal.problem or drains:
        return None
    since = max(served) + _PINGS_STOP_AFTER
    came = _last_online(store, portal.member_id, since)
    if not came:
        return None
    queue = (
        f"its offline queue was last found empty at {_moment(portal.drained_at)}"
        if portal.drained_at
        else "its offline queue was never read"
    )
    return (
        f"A deletion arrived at {_moment(came)}, but {queue}: the portal's pings do not arrive, so"
        " deletions that the function misses are not recovered. If that deletion is older than two"
        f" minutes, {_REINSTALL}, which binds the ping again."
    )


def _last_online(store: Store, member_id: str, since: datetime) -> datetime | None:
    """Return when the newest deletion that arrived online was recorded, if that was since then."""
    path = f"{portal_path(member_id)}/{DELETIONS}"
    last: Document | None = None
    for _ in range(_LOOKED_THROUGH // _PAGE):
        page = store.newest(
            path, RECORDED_AT, store_deadline(), since=since, after=last, limit=_PAGE
        )
        for last in page:
            if last.fields.get("via") == "online":
                return cast("datetime", last.fields[RECORDED_AT])
        if len(page) < _PAGE:
            break
    return None


def _moment(time: datetime) -> str:
    return f"{printable(time.astimezone(UTC))} UTC"
