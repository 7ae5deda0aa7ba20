"""`quarantine`: events with a valid token but invalid data."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from handler.commands.quarantine_retry import retry
from handler.console.portal_option import add_portal_option, find_portal, find_portals
from handler.console.portal_state import count_quarantined
from handler.console.printing import (
    CommandError,
    argument,
    newest_of_portals,
    positive_number,
    print_json,
    print_table,
    printable,
    store_deadline,
)
from handler.events.envelope import document_name
from handler.log import count
from handler.portal import member_id_in, portal_path
from handler.records.documents import QUARANTINE, RECEIVED_AT
from handler.stores.interface import Document, Store

_DEFAULT_LIMIT: Final = 20

_BATCH = 300  # documents read at a time to find one by its id

NOTHING: Final = "The quarantine is empty: no event is waiting to be retried."


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quarantine",
        help="events with invalid data",
        description=__doc__,
        epilog="Without an action, the events are listed, newest first.",
    )
    add_portal_option(parser)
    _add_limit(parser, f"default {_DEFAULT_LIMIT}; for retry, all", None)
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.set_defaults(run=_list)
    actions = parser.add_subparsers(metavar="ACTION")

    showing = actions.add_parser("show", help="show one event, with its data")
    dropping = actions.add_parser("drop", help="delete one event permanently")
    for action, run in ((showing, _show), (dropping, _drop)):
        action.add_argument(
            "id", metavar="ID", type=_event_id, help="the event's id, from the list"
        )
        action.set_defaults(run=run)
    retrying = actions.add_parser("retry", help="try to record the events again, after an update")
    _add_limit(retrying, "default all", argparse.SUPPRESS)
    retrying.set_defaults(run=_retry)
    for action in (showing, retrying):
        # If absent, the option before the action applies.
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
        )
    for action in (showing, dropping, retrying):
        add_portal_option(action, default=argparse.SUPPRESS)


def _add_limit(parser: argparse.ArgumentParser, otherwise: str, default: str | None) -> None:
    parser.add_argument(
        "--limit",
        metavar="N",
        type=positive_number,
        default=default,
        help=f"at most N, newest first ({otherwise})",
    )


_event_id = argument(document_name, "{text!r} is not an id from the list")


def _list(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    members = find_portals(store, options.portal)
    documents = _newest(store, members, options.limit or _DEFAULT_LIMIT)
    if options.json:
        for document in documents:
            print_json(document)
    elif documents:
        print_table(("RECEIVED (UTC)", "PORTAL", "EVENT", "REASONS", "ID"), map(_row, documents))
    if rest := count_quarantined(store, members) - len(documents):
        verb = "is" if rest == 1 else "are"
        print(f"{rest} more {verb} not shown: use a larger --limit.", file=sys.stderr)
    return 0


def _show(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    document = _find(store, find_portals(store, options.portal), options.id)
    fields = document.fields
    if options.json:
        print_json(document)
        return 0
    for name in ("event", "received_at", "event_at", "domain", "user_id", "expires_at"):
        if name in fields:
            print(f"{name}: {printable(fields[name])}")
    print(f"portal: {member_id_in(document.path)}")
    print("reasons:")
    for reason in _reasons(fields):
        print(f"  - {printable(reason)}")
    print(f"data: {_pretty(str(fields.get('payload')))}")
    return 0


def _drop(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    document = _find(store, _members_to_change(store, options.portal), options.id)
    store.delete([document.path], store_deadline())
    print(
        f"Event {document.name} of portal {member_id_in(document.path)} is deleted. Any of its"
        " deletions that were not recorded are lost."
    )
    return 0


def _retry(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    members = _members_to_change(store, options.portal)
    done = retry(options, _newest(store, members, options.limit))
    left = count_quarantined(store, members)
    if options.json:
        print(json.dumps({**vars(done.counts), "left": left, "problems": done.problems}))
    else:
        for problem in done.problems:
            print(problem)
        counts = done.counts
        print(f"{counts.recorded} recorded, {counts.duplicates} already recorded, {left} left.")
    return 1 if left else 0


def _newest(store: Store, members: Sequence[str], limit: int | None) -> list[Document]:
    documents = newest_of_portals(store, members, QUARANTINE, RECEIVED_AT, limit=limit)
    if members and not documents:
        print(NOTHING, file=sys.stderr)
    return documents


def _members_to_change(store: Store, name: str | None) -> Sequence[str]:
    return [find_portal(store, name)] if name else find_portals(store, None)


def _find(store: Store, members: Sequence[str], event_id: str) -> Document:
    paths = [f"{portal_path(member)}/{QUARANTINE}/{event_id}" for member in members]
    for start in range(0, len(paths), _BATCH):
        for found in store.get_all(paths[start : start + _BATCH], store_deadline()):
            if found:
                return found
    portals = count(len(members), "portal")
    raise CommandError(
        f"Event {event_id} is not in quarantine ({portals} searched); see `quarantine`."
    )


def _reasons(fields: Mapping[str, Any]) -> list[str]:
    """Return why an event is in quarantine; its document may have been edited by hand."""
    reasons = fields.get("reasons")
    return list(map(str, reasons)) if isinstance(reasons, list) else []


def _pretty(payload: str) -> str:
    try:
        lines = json.dumps(json.loads(payload), indent=2, ensure_ascii=False).splitlines()
    except ValueError:  # cut, because it was too long for a document
        lines = [payload]
    return "\n".join(map(printable, lines))


def _row(document: Document) -> tuple[object, ...]:
    fields = document.fields
    return (
        fields[RECEIVED_AT],
        fields.get("domain") or member_id_in(document.path),
        fields.get("event"),
        "; ".join(_reasons(fields)),
        document.name,
    )
