"""`send`: send a running function a sample event in Bitrix24's current form."""

import argparse
import http
import secrets
import shlex
import sys
import zlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus, urlsplit

from handler.console import sample_event
from handler.console.portal_option import portal_domain
from handler.console.posting import post, wait
from handler.console.printing import CommandError, argument, printable, secret
from handler.console.sample_event import SHAPES, Sample, fields, form_body

# Bitrix24 sends no deletion events for `livechat`, the connector in the documentation's sample.
_CURRENT: Final = {"connector": "myconnector", "line": "107", "chat_id": "channel-123"}
_DOCUMENTATION: Final = {"connector": "livechat", "line": "128", "chat_id": "1024"}

_IN_CURL: Final = ("event", "auth[member_id]", "auth[application_token]")

# Placeholders for ids that the shell generates; without $RANDOM, its process id still differs.
_ID = "__id__"
_NUMBER = "__number__"
_SHELL_IDS: Final = {_ID: "$(date +%s)$$$RANDOM", _NUMBER: "$(date +%s)"}


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "send",
        help="send a sample event to a running function",
        description=__doc__,
        epilog="The default portal is the one in the documentation's sample.",
    )
    parser.add_argument(
        "--url",
        metavar="U",
        default="http://127.0.0.1:8080",
        type=argument(_http_url, "use the function's http(s) URL"),
        help="the function's URL (default %(default)s)",
    )
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        default=SHAPES[0],
        help="deleted inside Bitrix24 (default) or by the customer, or the documentation's sample",
    )
    parser.add_argument(
        "--member-id", metavar="M", default=sample_event.MEMBER_ID, help="the portal"
    )
    parser.add_argument(
        "--token",
        metavar="T",
        default=sample_event.TOKEN,
        help="the application token; - reads it from standard input",
    )
    parser.add_argument(
        "--domain",
        metavar="D",
        default=sample_event.DOMAIN,
        type=portal_domain,
        help="the portal's domain",
    )
    parser.add_argument("--connector", metavar="C", help="the connector's id")
    parser.add_argument("--line", metavar="N", help="the number of the open line")
    parser.add_argument("--chat-id", metavar="ID", help="the chat's external id")
    parser.add_argument(
        "--message-id", metavar="ID", help="the message's external id; by default a new one"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=0,
        help="wait for the function to start, at most this long",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print only the answer's JSON")
    output.add_argument(
        "--curl", action="store_true", help="print a curl command instead of sending"
    )
    parser.add_argument("--verbose", action="store_true", help="show the body, but not the token")
    parser.set_defaults(run=_send)


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    return text


def _send(options: argparse.Namespace) -> int:
    event = _sample(options).event()
    if options.curl:
        print(_curl(options.url, event))
        return 0
    if options.verbose:
        for name, value in fields(event):
            shown = "(not shown)" if name == "auth[application_token]" else printable(value)
            print(f"{name}={shown}", file=sys.stderr)
    wait(options.url, options.wait)
    status, answer = post(options.url, form_body(event))
    answer = answer.rstrip()
    print(answer if options.json else f"{options.url} answers {status}: {answer}")
    return 0 if status == http.HTTPStatus.OK else 1


def _sample(options: argparse.Namespace) -> Sample:
    """Return the sample; options that are not given have the shape's defaults."""
    defaults = _DOCUMENTATION if options.shape == "documentation" else _CURRENT
    message_id, im_message_id = _ids(options)
    return Sample(
        shape=options.shape,
        member_id=options.member_id,
        token=secret(options.token),
        domain=options.domain,
        **{name: getattr(options, name) or value for name, value in defaults.items()},
        message_id=message_id,
        im_message_id=im_message_id,
    )


def _ids(options: argparse.Namespace) -> tuple[str, str]:
    """Return the external id and Bitrix24's own number for it.

    In the documentation's sample, they are the same number.
    """
    given: str | None = options.message_id
    if options.shape == "documentation":
        if given and not (given.isascii() and given.isdigit()):
            raise CommandError("--message-id: use a number with the documentation's shape.")
        number = given or (_NUMBER if options.curl else str(secrets.randbelow(10**12)))
        return number, number
    if options.curl and not given:
        return f"ext-msg-{_ID}", _NUMBER
    message_id = given or f"ext-msg-{secrets.token_hex(6)}"
    return message_id, str(zlib.crc32(message_id.encode()))


def _curl(url: str, event: Mapping[str, object]) -> str:
    """Write a curl command with the essential fields; the shell generates new ids on each run."""
    body = "&".join(
        f"{name}={quote_plus(value)}"
        for name, value in fields(event)
        if name.startswith("data") or name in _IN_CURL
    )
    for place, by_the_shell in _SHELL_IDS.items():
        body = body.replace(place, f"'{by_the_shell}'")
    return f"curl {shlex.quote(url)} -d '{body}'"
