"""`portals purge`: delete a portal and everything stored for it, so that nothing comes back."""

import argparse
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from handler.bitrix24.drain_lease import LEASE_SECONDS
from handler.console.portal_option import find_portal, portal_name
from handler.console.portal_state import count_quarantined
from handler.console.printing import CommandError, argument, store_deadline
from handler.log import count
from handler.portal import Portal, change_portal, portal_path, read_portal
from handler.records.documents import DELETIONS, QUARANTINE, RECORDED_AT
from handler.settings import Settings, parse_cache_seconds
from handler.stores.interface import EXPIRING, Store

_PAGE = 300  # documents deleted at a time

_MAX_COUNTED = 1_000  # messages; above this, "more than" is shown

_NOT_DELETED: Final = (
    "Not deleted, if they exist: the dead letters (log lines about deletions that could not be"
    " stored; replay now refuses them), the database's backups and its point-in-time recovery,"
    " exports and copies elsewhere, and the portal's own offline queue, which ends when the"
    " application is deleted in Bitrix24."
)


def register(actions: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the action to the parser of `portals`."""
    purge = actions.add_parser("purge", help="delete a portal and everything stored for it")
    purge.add_argument(
        "portal", type=portal_name, metavar="M", help="the portal's member_id or domain"
    )
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.add_argument(
        "--cache-seconds",
        metavar="N",
        type=argument(parse_cache_seconds),
        help="the service's TOKEN_CACHE_SECONDS, if it is not the default",
    )
    purge.set_defaults(run=_purge)


def _purge(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    member_id = find_portal(store, options.portal)
    portal = read_portal(store, member_id, store_deadline())
    domain = f" ({portal.domain})" if portal and portal.domain else ""
    print(f"Portal {member_id}{domain} has {_amounts(store, member_id)}.")
    if not options.yes:
        print(f"To delete all of it permanently, type its member_id, {member_id}:", flush=True)
        if sys.stdin.readline().strip() != member_id:
            raise CommandError("Nothing was deleted: that is not the portal's member_id.")
    now = datetime.now(UTC)
    drains = False

    def remove(stored: Portal | None) -> Portal | None:
        nonlocal drains
        drains = bool(stored and _may_be_drained(stored, now))
        return stored and stored.removed(now)

    change_portal(store, member_id, remove, store_deadline())
    _wait(options.settings, options.cache_seconds, drains=drains)
    deleted = _delete_collections(store, member_id)
    portal = read_portal(store, member_id, store_deadline())
    if portal and portal.active:
        raise CommandError(
            f"Portal {member_id} was installed again in between: its old data"
            f" ({count(deleted, 'document')}) is deleted, but new deletions are being recorded."
            " Delete the application in Bitrix24, and purge again."
        )
    store.delete([portal_path(member_id)], store_deadline())
    deleted += _delete_collections(store, member_id)  # stored late by an instance
    print(f"Portal {member_id} is deleted, with {count(deleted, 'document')}: nothing is left.")
    print(_NOT_DELETED)
    return 0


def _amounts(store: Store, member_id: str) -> str:
    path = portal_path(member_id)
    deletions = store.count(f"{path}/{DELETIONS}", RECORDED_AT, store_deadline())
    events = count_quarantined(store, [member_id])
    names = store.names(f"{path}/{EXPIRING}", store_deadline(), limit=_MAX_COUNTED + 1)
    more = len(names) > _MAX_COUNTED
    texts = f"more than {_MAX_COUNTED} messages" if more else count(len(names), "message")
    return (
        f"{count(deletions, 'recorded deletion')}, {count(events, 'event')} in quarantine and"
        f" {texts} kept"
    )


def _may_be_drained(portal: Portal, now: datetime) -> bool:
    """Return whether a drain may be under way: a removal deletes the lease, but does not end it."""
    lease = timedelta(seconds=LEASE_SECONDS)
    return bool(portal.drain or (portal.removed_at and now - portal.removed_at < lease))


def _wait(settings: Settings, cache_seconds: float | None, *, drains: bool) -> None:
    """Wait until no instance of the function trusts the portal's tokens or stores its data."""
    trusted = settings.token_cache_seconds if cache_seconds is None else cache_seconds
    seconds = trusted + settings.store_deadline_seconds
    reason = (
        "every instance of the function knows (TOKEN_CACHE_SECONDS plus STORE_DEADLINE_SECONDS)"
    )
    if drains and seconds < LEASE_SECONDS:
        seconds = LEASE_SECONDS
        reason = "a drain of its offline queue has ended"
    print(
        f"Its events are no longer accepted. Waiting {seconds:g} s until {reason} ...", flush=True
    )
    time.sleep(seconds)


def _delete_collections(store: Store, member_id: str) -> int:
    deleted = 0
    for collection in (DELETIONS, QUARANTINE, EXPIRING):
        path = f"{portal_path(member_id)}/{collection}"
        while names := store.names(path, store_deadline(), limit=_PAGE):
            store.delete([f"{path}/{name}" for name in names], store_deadline())
            deleted += len(names)
    return deleted
