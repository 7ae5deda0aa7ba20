"""Shared by all commands: arguments, time limit, errors, and printing."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from handler.deadline import Deadline
from handler.events.envelope import document_name
from handler.portal import portal_path
from handler.settings import parse_whole
from handler.stores.interface import Document, Store

T = TypeVar("T")

# For one answer of a store that has already answered (`store_opening`): long lists take a while.
STORE_SECONDS: Final = 60

_MAX_LIMIT = 2**31 - 1  # Firestore's


class CommandError(Exception):
    """A command failed; the message says what is wrong and what to do."""


def argument(parse: Callable[[str], T], message: str = "{error}") -> Callable[[str], T]:
    """Return a parser for argparse: a `ValueError` of `parse` becomes an error with this message.

    `{text!r}` in it stands for the argument, `{error}` for the error.
    """

    def parse_argument(text: str) -> T:
        try:
            return parse(text)
        except ValueError as problem:
            error = str(problem).rstrip(".")
            raise argparse.ArgumentTypeError(message.format(text=text, error=error)) from None

    return parse_argument


member_id = argument(document_name, "{text!r} {error}")
"""Parses a portal's member_id from the command line."""

positive_number = argument(parse_whole(1, _MAX_LIMIT))
"""Parses a limit from the command line."""

_COPY_IT: Final = "copy auth[application_token] from the portal"


def secret(option: str, remedy: str = _COPY_IT) -> str:
    """Return a secret; `-` reads it from standard input, to keep it out of the shell's history."""
    text = sys.stdin.readline().strip() if option == "-" else option
    if not text:
        raise CommandError(f"The token is empty: {remedy}.")
    return text


def store_deadline() -> Deadline:
    """Return a new deadline for one call to the store."""
    return Deadline(STORE_SECONDS)


def newest_of_portals(
    store: Store,
    members: Iterable[str],
    collection: str,
    stamp: str,
    *,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Document]:
    """Return the newest documents of these portals' collections, in one list."""
    found = [
        document
        for member in members
        for document in store.newest(
            f"{portal_path(member)}/{collection}", stamp, store_deadline(), since=since, limit=limit
        )
    ]
    found.sort(key=lambda document: document.fields[stamp], reverse=True)  # type: ignore[arg-type,return-value] # all are timestamps
    return found[:limit]


def json_value(value: object) -> str:
    """Encode a timestamp, or, as text, any other type that was stored by hand."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def print_json(document: Document) -> None:
    """Print a document as one JSON line, with its name as `id`."""
    print(json.dumps({"id": document.name, **document.fields}, default=json_value), flush=True)


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people."""
    texts = [titles, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def printable(value: object) -> str:
    """Return a cell's text, with control characters escaped: they could control the terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in str(value)
    )
