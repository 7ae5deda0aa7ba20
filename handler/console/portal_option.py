"""`--portal`: in every command, a portal's member_id or its domain."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from handler.console.printing import CommandError, argument, store_deadline
from handler.events.envelope import document_name
from handler.portal import PORTALS, Portal, portal_path, read_portal
from handler.records.documents import DELETIONS, QUARANTINE
from handler.stores.interface import EXPIRING, Store
from handler.urls import domain_in

NO_PORTAL: Final = (
    "There are no portals in this store: install the application in a portal, or enter one with"
    " `portals add`."
)

_MAX_PORTALS = 10_000

# How many portals an error names.
_MAX_NAMED = 10


def add_portal_option(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add `--portal`; pass its value to `find_portals` to read, to `find_portal` to change."""
    parser.add_argument(
        "--portal",
        metavar="M",
        type=portal_name,
        default=default,
        help="only this portal: its member_id or domain",
    )


portal_name = argument(
    lambda text: document_name(domain_in(text) if "." in text else text),
    "{text!r} is neither a portal's member_id nor its domain",
)
"""Parses a portal's member_id, domain or URL from the command line."""

portal_domain = argument(domain_in)
"""Parses a portal's domain, or the domain in its URL, from the command line."""


def portal_ids(store: Store) -> Sequence[str]:
    """Return the member_id of every portal that has a document.

    Says on stderr if some are left out.
    """
    names = store.names(PORTALS, store_deadline(), limit=_MAX_PORTALS + 1)
    if len(names) > _MAX_PORTALS:
        print(f"Only {_MAX_PORTALS} portals are read; use --portal for one.", file=sys.stderr)
    return names[:_MAX_PORTALS]


def all_portals(store: Store) -> list[Portal]:
    """Return every portal that has a document."""
    found = (read_portal(store, name, store_deadline()) for name in portal_ids(store))
    return [portal for portal in found if portal]


def find_portals(store: Store, name: str | None) -> Sequence[str]:
    """Return the member_ids that a name stands for; without a name, those of all portals.

    A member_id is also found if only its records are left. Says on stderr if there are no portals
    at all; raises `CommandError` for an unknown name.
    """
    if name is None:
        members = portal_ids(store)
        if not members:
            print(NO_PORTAL, file=sys.stderr)
        return members
    if _is_known(store, name):
        return [name]
    portals = all_portals(store)
    found = [portal.member_id for portal in portals if _has_domain(portal, name)]
    if not found:
        raise _unknown(name, portals)
    return found


def find_portal(store: Store, name: str) -> str:
    """Return the member_id of the one portal that a name stands for, to change it.

    Raises `CommandError` for an unknown name, or the domain of several portals.
    """
    found = find_portals(store, name)
    if len(found) > 1:
        raise CommandError(
            f"{len(found)} portals have the domain {name}: {', '.join(found)}. Use a member_id."
        )
    return found[0]


def _is_known(store: Store, member_id: str) -> bool:
    path = portal_path(member_id)
    return store.get(path, store_deadline()) is not None or any(
        store.names(f"{path}/{collection}", store_deadline(), limit=1)
        for collection in (DELETIONS, QUARANTINE, EXPIRING)
    )


def _has_domain(portal: Portal, name: str) -> bool:
    return portal.domain is not None and portal.domain.casefold() == name.casefold()


def _unknown(name: str, portals: Sequence[Portal]) -> CommandError:
    if not portals:
        return CommandError(
            f"Portal {name} not found: this store has no portals. Is it the right store?"
        )
    known = [
        f"{portal.member_id} ({portal.domain})" if portal.domain else portal.member_id
        for portal in portals[:_MAX_NAMED]
    ]
    more = len(portals) - len(known)
    others = [f"and {more} more (see `portals list`)"] if more else []
    return CommandError(
        f"There is no portal {name}. The portals are: {', '.join([*known, *others])}."
    )
