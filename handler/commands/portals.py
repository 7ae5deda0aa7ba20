"""`portals`: enter, list, remove and purge portals by hand."""

import argparse
from datetime import UTC, datetime
from typing import Any, cast

from handler.commands import portals_purge as purge
from handler.console.portal_option import find_portal, find_portals, portal_domain, portal_name
from handler.console.portal_state import state
from handler.console.printing import (
    CommandError,
    member_id,
    print_json,
    print_table,
    secret,
    store_deadline,
)
from handler.console.record_reading import last_deletion
from handler.portal import Portal, change_portal, portal_path
from handler.stores.interface import Document, Store
from handler.tokens import token_digest
from handler.urls import rest_endpoint


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "portals", help="manage the portals whose events are accepted", description=__doc__
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="accept a portal's application token")
    add.add_argument("--member-id", required=True, type=member_id, help="auth[member_id]")
    add.add_argument(
        "--token", required=True, help="auth[application_token]; - reads it from standard input"
    )
    add.add_argument("--domain", type=portal_domain, help="such as mycompany.bitrix24.com")
    add.add_argument("--endpoint", help="the portal's REST URL, to drain its offline queue")
    add.add_argument("--json", action="store_true", help="print the portal as JSON")
    add.set_defaults(run=_add)

    listing = actions.add_parser("list", help="list the portals")
    listing.add_argument("--json", action="store_true", help="print JSON lines")
    listing.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="stop accepting a portal's events; its records stay")
    remove.add_argument(
        "portal", type=portal_name, metavar="M", help="the portal's member_id or domain"
    )
    remove.set_defaults(run=_remove)

    purge.register(actions)


def _add(options: argparse.Namespace) -> int:
    token = secret(options.token)
    try:
        endpoint = options.endpoint and rest_endpoint(options.endpoint)
    except ValueError as error:
        raise CommandError(f"--endpoint: {error}.") from None
    known = {"domain": options.domain, "client_endpoint": endpoint}
    update = {name: value for name, value in known.items() if value}
    now = datetime.now(UTC)

    def accept(stored: Portal | None) -> Portal:
        portal = (stored or Portal(member_id=options.member_id)).model_copy(update=update)
        return portal.with_token(token_digest(token), now)

    store: Store = options.open_store(create=True)
    change_portal(store, options.member_id, accept, store_deadline())
    if options.json:
        document = store.get(portal_path(options.member_id), store_deadline())
        print_json(cast("Document", document))
    else:
        print(f"Portal {options.member_id} is accepted.")
    return 0


_TITLES = (
    "MEMBER ID",
    "DOMAIN",
    "STATE",
    "LAST DELETION (UTC)",
    "QUEUE LAST EMPTY (UTC)",
    "PROBLEM",
)


def _list(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    paths = [portal_path(name) for name in find_portals(store, None)]
    found = [store.get(path, store_deadline()) for path in paths]
    rows = []
    for document in filter(None, found):
        portal = Portal.from_fields(document.name, document.fields)
        latest = last_deletion(store, portal.member_id)
        if options.json:
            last = {"last_deletion_at": latest} if latest else {}
            print_json(Document(document.path, {**document.fields, **last}))
        else:
            rows.append(
                (
                    portal.member_id,
                    portal.domain,
                    state(portal),
                    latest,
                    portal.drained_at,
                    portal.problem,
                )
            )
    if rows:
        print_table(_TITLES, rows)
    return 0


def _remove(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    member_id = find_portal(store, options.portal)
    now = datetime.now(UTC)
    change_portal(
        store,
        member_id,
        lambda stored: (stored or Portal(member_id=member_id)).removed(now),
        store_deadline(),
    )
    print(
        f"Portal {member_id} is removed; running instances accept it for at most"
        " TOKEN_CACHE_SECONDS longer. Its records and its entry in the list stay until `portals"
        f" purge`. To read the records: deletions --portal {member_id}"
    )
    return 0
