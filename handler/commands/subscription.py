"""`subscription`: what the function is bound to at a portal."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from handler.bitrix24.rest import OUTGOING_SECONDS, Bitrix24Error, Rest
from handler.bitrix24.subscription import (
    administrator_id,
    bound_at,
    compare,
    subscribe,
    unsubscribe,
    wanted,
)
from handler.commands.console import CommandError, print_table
from handler.deadline import Deadline
from handler.settings import Settings
from handler.urls import is_secure_url


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "subscription",
        help="what the function is bound to at a portal",
        description=__doc__,
        epilog="The token is an administrator's, issued to the application: only it can bind.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, run, text in (
        ("status", _status, "tell which events are bound"),
        ("bind", _bind, "bind what is missing"),
        ("unbind", _unbind, "remove the bindings"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "--endpoint",
            metavar="E",
            required=True,
            type=_endpoint,
            help="as in https://mycompany.bitrix24.com/rest/",
        )
        action.add_argument(
            "--access-token", metavar="T", required=True, help="an administrator's access token"
        )
        action.add_argument("--url", metavar="U", required=True, help="the function's address")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=_reporting(run))


def _endpoint(text: str) -> str:
    if not is_secure_url(text):
        raise argparse.ArgumentTypeError("give https://…/rest/ (plain http to this machine only)")
    return text.rstrip("/") + "/"


def _reporting(
    run: Callable[[argparse.Namespace, Rest], int],
) -> Callable[[argparse.Namespace], int]:
    def reporting(options: argparse.Namespace) -> int:
        rest = Rest(options.endpoint, options.access_token, Deadline(OUTGOING_SECONDS))
        try:
            return run(options, rest)
        except Bitrix24Error as error:
            raise CommandError(f"{options.endpoint}: {error}.") from None

    return reporting


def _status(options: argparse.Namespace, rest: Rest) -> int:
    bindings = wanted(Settings())
    absent = compare(bound_at(rest), bindings, options.url, administrator_id(rest, None)).missing
    bound = {str(binding): binding not in absent for binding in bindings}
    if options.json:
        print(json.dumps(bound))
    else:
        print_table(
            ("EVENT", "BOUND"), [(event, "yes" if yes else "no") for event, yes in bound.items()]
        )
    return 1 if absent else 0


def _bind(options: argparse.Namespace, rest: Rest) -> int:
    administrator = administrator_id(rest, None)
    problems = subscribe(rest, wanted(Settings()), options.url, administrator).problems
    if options.json:
        print(json.dumps({"subscribed": not problems, "problems": problems}))
    else:
        print("\n".join(problems) or "Everything is bound.")
    return 1 if problems else 0


def _unbind(options: argparse.Namespace, rest: Rest) -> int:
    removed = unsubscribe(rest, wanted(Settings()), options.url)
    print(json.dumps({"removed": removed}) if options.json else f"{removed} bindings removed.")
    return 0
