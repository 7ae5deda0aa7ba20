"""`portals`: enter, list, remove and purge portals by hand."""

import argparse
import sys
from datetime import UTC, datetime
from typing import Any, cast

from handler.commands.console import (
    CommandError,
    member_id,
    print_json,
    print_table,
    store_deadline,
)
from handler.commands.portal_option import find_portal, find_portals, portal_name
from handler.portal import Portal, change_portal, portal_path
from handler.records.documents import DELETIONS, QUARANTINE
from handler.stores.interface import Document, Store
from handler.tokens import token_digest
from handler.urls import is_secure_url

_PAGE = 300  # documents that are deleted at a time


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser("portals", help="whose events are accepted", description=__doc__)
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="accept a portal's application token")
    add.add_argument("--member-id", required=True, type=member_id, help="auth[member_id]")
    add.add_argument(
        "--token", required=True, help="auth[application_token]; - reads it from standard input"
    )
    add.add_argument("--domain", help="as in mycompany.bitrix24.com")
    add.add_argument("--endpoint", help="the portal's REST address, to drain its offline queue")
    add.add_argument("--json", action="store_true", help="print the portal as JSON")
    add.set_defaults(run=_add)

    listing = actions.add_parser("list", help="list the portals")
    listing.add_argument("--json", action="store_true", help="print JSON lines")
    listing.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="accept nothing from a portal; its records stay")
    remove.add_argument("portal", type=portal_name, metavar="M", help="its member_id or domain")
    remove.set_defaults(run=_remove)

    purge = actions.add_parser("purge", help="delete a portal and all its records")
    purge.add_argument("portal", type=portal_name, metavar="M", help="its member_id or domain")
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.set_defaults(run=_purge)


def _add(options: argparse.Namespace) -> int:
    token = sys.stdin.readline().strip() if options.token == "-" else options.token  # noqa: S105
    if not token:
        raise CommandError("The token is empty: copy auth[application_token] from the portal.")
    endpoint = options.endpoint and options.endpoint.rstrip("/") + "/"
    if endpoint and not is_secure_url(endpoint):
        raise CommandError("--endpoint: give https://…/rest/ (plain http to this machine only).")
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


def _list(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    found = [store.get(portal_path(name), store_deadline()) for name in find_portals(store, None)]
    documents = [document for document in found if document]
    if options.json:
        for document in documents:
            print_json(document)
        return 0
    rows = []
    for document in documents:
        portal = Portal.from_fields(document.name, document.fields)
        tokens = len(portal.token_digests or ())
        active = "yes" if portal.active else "no"
        rows.append((portal.member_id, portal.domain, active, tokens, portal.updated_at))
    print_table(("MEMBER ID", "DOMAIN", "ACTIVE", "TOKENS", "UPDATED"), rows)
    return 0


def _remove(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    member_id = find_portal(store, options.portal)
    store.delete([portal_path(member_id)], store_deadline())
    print(
        f"Portal {member_id} is removed; functions that run accept it for at most"
        " TOKEN_CACHE_SECONDS longer. Its records stay until `portals purge`; to read them:"
        f" deletions --portal {member_id}"
    )
    return 0


def _purge(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    member_id = find_portal(store, options.portal)
    if not options.yes:
        print(f"Delete portal {member_id} and all its records? Type yes:", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing is deleted.")
    path = portal_path(member_id)
    store.delete([path], store_deadline())  # first, so that no more comes in
    deleted = 0
    for collection in (DELETIONS, QUARANTINE):
        while names := store.names(f"{path}/{collection}", store_deadline(), limit=_PAGE):
            store.delete([f"{path}/{collection}/{name}" for name in names], store_deadline())
            deleted += len(names)
    print(f"Portal {member_id} is deleted, with {deleted} records.")
    return 0
