"""`report`: write the records to one HTML file that needs no network."""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from handler.commands.deletions import add_selection_options, select
from handler.console.moments import time_text
from handler.console.printing import CommandError
from handler.console.record_reading import Progress, Reading, say_what_is_missing
from handler.console.record_view import Domains, view


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="write the records to an HTML file",
        description=__doc__,
    )
    add_selection_options(parser, since="30d")
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        required=True,
        type=Path,
        help="the file to write; only you can read it",
    )
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    # Importing the template engine would slow down all other commands.
    from handler.console.report_page import figures, page, portal_facts, rows  # noqa: PLC0415

    made_at = datetime.now(UTC)
    store = options.open_store()
    selection = select(store, options, until=made_at)
    domains = Domains(store)
    reading = Reading(store, selection, Progress())
    counted = figures.Figures(options.timezone)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as file:
        table = rows.Rows(file, options.timezone)
        for record in reading.records():
            one = view(record, domains)
            counted.take(one)
            table.take(one)
        report = page.Report(
            figures=counted,
            rows=table,
            portals=portal_facts.portal_facts(
                store, selection.members, selection.since, options.timezone
            ),
            since=selection.since,  # type: ignore[arg-type] # it has a default
            until=selection.until,  # type: ignore[arg-type] # the same
            made_at=made_at,
            filters=_filters(options),
        )
        _write(options.output, page.render(report))
    day = time_text(report.since, options.timezone)[:10]
    noun = "deletion" if counted.all.total == 1 else "deletions"
    print(f"{options.output}: {counted.all.total:,} {noun} since {day}.")
    sys.stdout.flush()
    say_what_is_missing(reading, selection, remedy="make the report again")
    return 0


def _filters(options: argparse.Namespace) -> list[str]:
    return [
        text
        for text, given in (
            (f"portal {options.portal}", options.portal),
            (f"connector {options.connector}", options.connector),
            (f"deleted by {options.by}", options.by),
        )
        if given is not None
    ]


def _write(path: Path, pieces: Iterable[str]) -> None:
    """Write the file whole or not at all; raises `CommandError`."""
    try:
        if path.exists() and not path.is_file():  # never replace a device
            raise CommandError(f"{path} cannot be written: it is not a file")
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            whole = Path(folder, path.name)
            whole.touch(0o600)
            with whole.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(pieces)
            whole.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
