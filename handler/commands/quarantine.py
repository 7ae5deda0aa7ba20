"""`quarantine`: events with a valid token that did not fit, and another try after a fix."""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from handler.commands.console import (
    newest_of_portals,
    print_json,
    print_table,
    store_deadline,
)
from handler.commands.portal_option import add_portal_option, find_portals
from handler.records.documents import QUARANTINE, RECEIVED_AT, Delivery
from handler.records.recorder import Counts, Recorder
from handler.stores.interface import Document


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quarantine", help="events that did not fit, and another try", description=__doc__
    )
    parser.add_argument(
        "action", nargs="?", choices=["retry"], help="take them up again, after a fix"
    )
    add_portal_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_quarantine)


def _quarantine(options: argparse.Namespace) -> int:
    store = options.open_store()
    documents = newest_of_portals(
        store, find_portals(store, options.portal), QUARANTINE, RECEIVED_AT
    )
    if options.action == "retry":
        return _retry(options, documents)
    if options.json:
        for document in documents:
            print_json(document)
    else:
        print_table(("RECEIVED (UTC)", "PORTAL", "EVENT", "REASONS", "ID"), map(_row, documents))
    return 0


def _retry(options: argparse.Namespace, documents: list[Document]) -> int:
    """Record what fits by now, and take it out; fails when something is left."""
    recorder = Recorder(options.open_store, options.settings, lambda: datetime.now(UTC))
    counts = Counts()
    problems = []
    for document in documents:
        try:
            reading = recorder.read(_delivery(document), _payload(document.fields))
        except ValueError as fault:
            problems.append(f"{document.name} still does not fit: {fault}")
            continue
        counts += recorder.record(reading.documents, store_deadline())
        if reading.invalid:
            problems.append(f"{document.name} still does not fit: {reading.invalid}")
        else:
            options.open_store().delete([document.path], store_deadline())
    left = len(problems)
    if options.json:
        print(json.dumps({**vars(counts), "left": left, "problems": problems}))
    else:
        for problem in problems:
            print(problem)
        print(f"{counts.recorded} recorded, {counts.duplicates} known already, {left} left.")
    return 1 if left else 0


def _delivery(document: Document) -> Delivery:
    fields: Mapping[str, Any] = document.fields
    return Delivery(
        member_id=document.path.split("/")[1],
        event=fields["event"],
        via="replay",
        domain=fields.get("domain"),
        event_at=fields.get("event_at") or fields.get(RECEIVED_AT),
        user_id=fields.get("user_id"),
    )


def _payload(fields: Mapping[str, Any]) -> object:
    return json.loads(fields["payload"])


def _row(document: Document) -> tuple[object, ...]:
    fields: Mapping[str, Any] = document.fields
    portal = fields.get("domain") or document.path.split("/")[1]
    return (
        fields[RECEIVED_AT],
        portal,
        fields["event"],
        "; ".join(fields["reasons"]),
        document.name,
    )
