"""`messages`: manage the message texts stored by KEEP_TEXT_DAYS."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from handler.console.portal_option import find_portal, portal_name
from handler.console.printing import CommandError, argument, store_deadline
from handler.events.fields import MAX_INTEGER
from handler.log import count
from handler.portal import portal_path
from handler.records.documents import DELETIONS
from handler.records.message_document import MESSAGES
from handler.records.versions import AUTHOR_ID, COPIED_FIELDS
from handler.settings import parse_whole
from handler.stores.interface import Patch, Store

_PAGE = 300  # documents erased at a time

_NOT_ERASED = (
    "Not erased: what this person writes from now on, texts whose author is unknown (an update of"
    " a message that was not kept when it was sent), the database's backups and its point-in-time"
    " recovery, exports and copies elsewhere."
)


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "messages", help="manage stored message texts", description=__doc__
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    purge = actions.add_parser(
        "purge",
        help="erase one person's texts",
        description="Erase what one person wrote: kept messages, and the texts in records. The"
        " records stay, without the message's text, author, times and file names.",
    )
    purge.add_argument(
        "--portal",
        metavar="M",
        type=portal_name,
        required=True,
        help="the portal's member_id or domain",
    )
    purge.add_argument(
        "--user",
        metavar="N",
        type=argument(parse_whole(1, MAX_INTEGER)),
        required=True,
        help="the author_id in a record",
    )
    purge.add_argument("--yes", action="store_true", help="do not ask")
    purge.add_argument("--json", action="store_true", help="print the result as JSON")
    purge.set_defaults(run=_purge)


def _purge(options: argparse.Namespace) -> int:
    store: Store = options.open_store()
    member_id = find_portal(store, options.portal)
    user: int = options.user
    if not options.yes:
        print(
            f"To erase what user {user} of portal {member_id} wrote, type {user}:",
            file=sys.stderr,
            flush=True,
        )
        if sys.stdin.readline().strip() != str(user):
            raise CommandError(f"Nothing was erased: that is not {user}.")

    messages, records = erase(store, member_id, user)
    if options.json:
        print(json.dumps({"messages": messages, "records": records}))
    else:
        print(f"Erased {count(messages, 'message')}, and the texts of {count(records, 'record')}.")
    print(_NOT_ERASED, file=sys.stderr)
    if not messages and not records:
        raise CommandError(
            f"No texts of user {user} in portal {member_id} were found. They are only kept with"
            " KEEP_TEXT_DAYS, for that many days. Is this the author's id, not the deleter's?"
        )
    return 0


def erase(store: Store, member_id: str, user: int) -> tuple[int, int]:
    """Erase what a user wrote; return how many messages and records were affected."""

    def delete(paths: Sequence[str]) -> None:
        store.delete(paths, store_deadline())

    def forget(paths: Sequence[str]) -> None:
        # If a record has expired meanwhile, the whole commit fails, and the next round retries.
        store.commit(
            [Patch(path, dict.fromkeys(COPIED_FIELDS)) for path in paths], store_deadline()
        )

    # Messages first: otherwise their texts could be copied to records again.
    messages = _each(store, f"{portal_path(member_id)}/{MESSAGES}", user, delete)
    records = _each(store, f"{portal_path(member_id)}/{DELETIONS}", user, forget)
    return messages, records


def _each(store: Store, collection: str, user: int, act: Callable[[Sequence[str]], None]) -> int:
    """Act on documents with this author until none is left; return how many there were."""
    seen: set[str] = set()
    while names := store.names_with(collection, AUTHOR_ID, user, store_deadline(), limit=_PAGE):
        act([f"{collection}/{name}" for name in names])
        seen.update(names)
    return len(seen)
