"""`deletions`: read the records, newest first."""

import argparse
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from handler.commands.deletions_follow import follow
from handler.console.moments import add_range_options, read_range
from handler.console.portal_option import add_portal_option, find_portals
from handler.console.printing import CommandError, positive_number, print_json
from handler.console.record_reading import Progress, Reading, Selection, say_what_is_missing
from handler.console.record_spreadsheet import print_spreadsheet
from handler.console.record_table import print_record, print_records
from handler.console.record_view import Domains, view
from handler.stores.interface import Document, Store

_DEFAULT_LIMIT: Final = 20

_BY: Final = {"portal": "portal", "staff": "portal", "customer": "customer"}


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "deletions", help="read the records, newest first", description=__doc__
    )
    add_selection_options(parser)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--limit",
        metavar="N",
        type=positive_number,
        default=_DEFAULT_LIMIT,
        help=f"show at most N records (default {_DEFAULT_LIMIT})",
    )
    limit.add_argument("--all", action="store_true", help="show all records")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="keep printing new records as they arrive; --since then means when they were recorded",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON lines, exactly as stored")
    form.add_argument("--csv", action="store_true", help="print a spreadsheet (UTF-8)")
    parser.set_defaults(run=_deletions)


def add_selection_options(parser: Any, *, since: str | None = None) -> None:  # noqa: ANN401
    """Add the options that select records; `select` reads them."""
    add_portal_option(parser)
    add_range_options(parser, since=since)
    parser.add_argument(
        "--connector", metavar="C", help="only this connector; case does not matter"
    )
    parser.add_argument(
        "--by",
        choices=_BY,
        help="deleted by this side only: portal or staff (inside Bitrix24), or customer",
    )


def select(
    store: Store, options: argparse.Namespace, *, until: datetime | None = None
) -> Selection:
    """Return the selection; `until` is its default end. Raises `CommandError`."""
    since, until = read_range(options, until)
    return Selection(
        members=find_portals(store, options.portal),
        since=since,
        until=until,
        origin=options.by and _BY[options.by],
        connector=options.connector,
    )


def _deletions(options: argparse.Namespace) -> int:
    if options.follow and (options.csv or options.all or options.until):
        raise CommandError("--follow has no end: leave out --until, --all and --csv.")
    store = options.open_store()
    selection = select(store, options)
    domains = Domains(store)
    if options.follow:
        follow(options, selection, _printer(options, domains))
    reading = Reading(store, selection, Progress())
    records = reading.records(None if options.all else options.limit)
    if options.json:
        for record in records:
            print_json(record)
    elif options.csv:
        print_spreadsheet((view(record, domains) for record in records), options.timezone)
    else:
        print_records((view(record, domains) for record in records), options.timezone)
    sys.stdout.flush()
    say_what_is_missing(reading, selection, remedy="use --limit N for more, or --all")
    return 0


def _printer(options: argparse.Namespace, domains: Domains) -> Callable[[Document], None]:
    if options.json:
        return print_json
    return lambda record: print_record(view(record, domains), options.timezone)
