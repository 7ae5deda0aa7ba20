"""`send`: a sample event to a running function, as Bitrix24 would send it."""

import argparse
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_plus

from handler.commands.console import CommandError

_TIMEOUT_SECONDS = 30


def register(commands: Any) -> None:  # noqa: ANN401 - argparse does not name the type
    """Add the command to the parser."""
    parser = commands.add_parser(
        "send",
        help="send a sample event to a running function",
        description=__doc__,
        epilog="All defaults are those of the documentation's sample event.",
    )
    parser.add_argument(
        "--url",
        metavar="U",
        default="http://127.0.0.1:8080",
        type=_http_url,
        help="the function's address (%(default)s)",
    )
    parser.add_argument(
        "--shape",
        choices=["portal", "customer"],
        default="portal",
        help="deleted inside Bitrix24, or by the customer",
    )
    parser.add_argument("--member-id", metavar="M", default="a223c6b3710f85df22e9377d6c4f7553")
    parser.add_argument("--token", metavar="T", default="51856fefc120afa4b628cc82d3935cce")
    parser.add_argument("--domain", metavar="D", default="some-domain.bitrix24.com")
    parser.add_argument("--connector", metavar="C", default="livechat")
    parser.add_argument("--line", metavar="N", default="128")
    parser.add_argument("--chat-id", metavar="ID", default="1024", help="the external chat")
    parser.add_argument("--message-id", metavar="ID", default="2056", help="the external message")
    parser.add_argument("--wait", metavar="SECONDS", type=float, default=0, help="until it is up")
    parser.add_argument("--json", action="store_true", help="print the answer's JSON alone")
    parser.set_defaults(run=_send)


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("give the function's http(s) address")
    return text


def _send(options: argparse.Namespace) -> int:
    _wait(options.url, options.wait)
    status, body = _post(options.url, form_body(_event(options)))
    if options.json:
        print(body)
    else:
        print(f"{options.url} answers {status}: {body}")
    return 0 if status == http.HTTPStatus.OK else 1


def _event(options: argparse.Namespace) -> Mapping[str, object]:
    external = {"message": {"id": options.message_id}, "chat": {"id": options.chat_id}}
    if options.shape == "portal":
        im = {"chat_id": 1024, "message_id": 2056}
        data = {
            "CONNECTOR": options.connector,
            "LINE": options.line,
            "DATA": {0: {"im": im, **external}},
        }
    else:
        connector = {
            "connector_id": options.connector,
            "line_id": options.line,
            "chat_id": options.chat_id,
            "user_id": 1985,
        }
        data = {"DATA": {"connector": connector, **external}}
    endpoint = f"https://{options.domain}/rest/"
    return {
        "event": "ONOPENLINEMESSAGEDELETE",
        "eventId": 1,
        "data": data,
        "ts": 1714649632,
        "auth": {
            "access_token": "s6p6eclrvim6da22ft9ch94ekreb52lv",
            "expires_in": 3600,
            "scope": "imopenlines",
            "domain": options.domain,
            "server_endpoint": "https://oauth.bitrix.info/rest/",
            "status": "F",
            "client_endpoint": endpoint,
            "member_id": options.member_id,
            "refresh_token": "4s386p3q0tr8dy89xvmt96234v3dljg8",
            "application_token": options.token,
        },
    }


def form_body(event: Mapping[str, object]) -> bytes:
    """Encode an event as PHP's `http_build_query` does."""
    return "&".join(
        f"{quote_plus(name)}={quote_plus(value)}" for name, value in _fields(event)
    ).encode()


def _fields(values: Mapping[Any, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}[{key}]" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from _fields(value, name)
        else:
            yield name, str(value)


def _wait(url: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()
        except urllib.error.HTTPError:
            return  # it answers: /any/path takes events, but no GET
        except (OSError, ValueError, http.client.HTTPException):
            time.sleep(0.1)
        else:
            return


def _post(url: str, body: bytes) -> tuple[int, str]:
    try:
        # urllib calls a body a form, as Bitrix24 does, unless it is told another type.
        with urllib.request.urlopen(url, body, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CommandError(f"{url} does not answer: {error}. Is the function running?") from None
