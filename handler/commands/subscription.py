"""`subscription`: the function's event bindings at a portal."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from handler.bitrix24.rest import OUTGOING_SECONDS, Bitrix24Error, Rest
from handler.bitrix24.subscription import (
    Binding,
    Bound,
    administrator_id,
    bound_at,
    compare,
    subscribe,
    unsubscribe,
    wanted,
)
from handler.console.printing import CommandError, argument, print_table, secret
from handler.deadline import Deadline
from handler.log import count
from handler.urls import rest_endpoint, same_address


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "subscription",
        help="the function's event bindings at a portal",
        description=__doc__,
        epilog="The token must be an administrator's, issued to the application.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, run, text in (
        ("status", _status, "list the bound events, and the user of each"),
        ("bind", _bind, "add missing bindings, and remove stale ones"),
        ("unbind", _unbind, "remove the bindings"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "--endpoint",
            metavar="E",
            required=True,
            type=argument(rest_endpoint),
            help="the portal's REST URL, such as https://mycompany.bitrix24.com/rest/",
        )
        action.add_argument(
            "--access-token",
            metavar="T",
            required=True,
            help="an administrator's access token; - reads it from standard input",
        )
        action.add_argument("--url", metavar="U", required=True, help="the function's URL")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=_reporting(run))


def _reporting(
    run: Callable[[argparse.Namespace, Rest], int],
) -> Callable[[argparse.Namespace], int]:
    def reporting(options: argparse.Namespace) -> int:
        token = secret(options.access_token, "use an administrator's access token")
        rest = Rest(options.endpoint, token, Deadline(OUTGOING_SECONDS))
        try:
            return run(options, rest)
        except Bitrix24Error as error:
            raise CommandError(f"{options.endpoint}: {error}.") from None

    return reporting


def _status(options: argparse.Namespace, rest: Rest) -> int:
    bindings = wanted(options.settings)
    bound = bound_at(rest)
    found = compare(bound, bindings, options.url, administrator_id(rest, None))
    rows = [
        (str(binding), binding not in found.missing, _users(binding, bound, options.url))
        for binding in bindings
    ]
    if options.json:
        print(json.dumps({event: {"bound": yes, "users": users} for event, yes, users in rows}))
    else:
        print_table(
            ("EVENT", "BOUND", "AS USER"),
            [
                (event, "yes" if yes else "no", ", ".join(map(_user_text, users)) or None)
                for event, yes, users in rows
            ],
        )
        if found.missing:
            print("`subscription bind` binds what is missing; so does Reinstall.")
    for one in found.stale:
        where = f"as user {one.user}" if one.user else "without a user"
        print(
            f"{one.event} is bound at {one.handler} {where}, which is wrong: `bind` corrects it.",
            file=sys.stderr,
        )
    return 1 if found.missing else 0


def _users(binding: Binding, bound: Sequence[Bound], url: str) -> list[int]:
    """Return the users that an event is bound as at this URL; 0 means no user."""
    if binding.offline:
        return []
    return sorted(
        {
            one.user
            for one in bound
            if one.event == binding.event and not one.offline and same_address(one.handler, url)
        }
    )


def _user_text(user: int) -> str:
    return str(user) if user else "the user who causes it"


def _bind(options: argparse.Namespace, rest: Rest) -> int:
    administrator = administrator_id(rest, None)
    problems = subscribe(rest, wanted(options.settings), options.url, administrator).problems
    if options.json:
        print(json.dumps({"subscribed": not problems, "problems": problems}))
    else:
        print("\n".join(problems) or "Everything is bound.")
    return 1 if problems else 0


def _unbind(options: argparse.Namespace, rest: Rest) -> int:
    with_texts = replace(options.settings, keep_text_days=1)  # texts may have been kept before
    removed = unsubscribe(rest, wanted(with_texts), options.url)
    if options.json:
        print(json.dumps({"removed": removed}))
    elif removed:
        print(f"{count(removed, 'binding')} removed.")
    else:
        print(f"Nothing was bound at {options.url}.")
    return 0
