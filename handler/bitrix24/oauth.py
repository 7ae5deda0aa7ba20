"""Asks Bitrix24's OAuth server, one of BITRIX24_OAUTH_SERVERS, about an access token.

A token's portal and application come from here, never from a request: `app.info` confirms
`member_id`, `client_id`, the domain and the endpoint.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationError

from handler.bitrix24.rest import OUTGOING_SECONDS, Bitrix24Error, Rest
from handler.deadline import Deadline
from handler.events.envelope import Auth
from handler.events.fields import Model, OrNone, Text, UserId
from handler.portal import Portal
from handler.settings import Settings
from handler.urls import rest_endpoint

# Zones of portals that belong to oauth.bitrix24.tech; all others belong to oauth.bitrix.info.
_TECH_ZONES = (".ru", ".by", ".kz", ".uz", ".am", ".az", ".ge", ".kg")
_TECH = ".tech"

# If one server hangs, this leaves time to ask the other.
_LONGEST_OF_TWO_SECONDS = 4


class UnknownServerError(Bitrix24Error):
    """The event names an OAuth server that is not one of BITRIX24_OAUTH_SERVERS."""


def _joined(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value


class _Install(Model):
    member_id: Text
    domain: Annotated[Text, AfterValidator(str.lower)]
    client_endpoint: Annotated[Text, AfterValidator(rest_endpoint)]
    status: Annotated[Text | None, OrNone] = None
    scope: Annotated[Text | None, BeforeValidator(_joined), OrNone] = None


class _AppInfo(Model):
    client_id: Text
    user_id: UserId = None
    install: _Install


class Confirmed(Model):
    """What the OAuth server confirms about an access token."""

    portal: Portal
    user_id: int | None


def confirm(
    auth: Auth,
    token: str,
    settings: Settings,
    deadline: Deadline,
    *,
    longest: float = OUTGOING_SECONDS,
) -> Confirmed:
    """Look up the event's access token, for at most `longest` seconds; raises `Bitrix24Error`.

    The server is the one that the event names, if it is known. If it names none, both are asked,
    starting with the one of the portal's zone.
    """
    *others, last = _servers(auth, settings.oauth_servers)
    for server in others:
        with suppress(Bitrix24Error):  # the other server may know the token
            return _ask(server, token, deadline, min(longest, _LONGEST_OF_TWO_SECONDS))
    return _ask(last, token, deadline, longest)


def _servers(auth: Auth, known: Sequence[str]) -> Sequence[str]:
    """Return the known OAuth servers to ask, in order; raises `UnknownServerError`."""
    named = auth.server_endpoint
    if named is None:
        is_tech = (auth.domain or "").lower().endswith(_TECH_ZONES)
        return sorted(known, key=lambda server: server.endswith(_TECH) is not is_tech)
    for server in known:
        if named.rstrip("/").lower() in (server.lower(), f"{server.lower()}/rest"):
            return [server]
    raise UnknownServerError(
        "the event names an OAuth server that is not in BITRIX24_OAUTH_SERVERS"
    )


def _ask(server: str, token: str, deadline: Deadline, longest: float) -> Confirmed:
    rest = Rest(f"{server}/rest/", token, deadline, longest=longest)
    try:
        info = _AppInfo.model_validate(rest.call("app.info"))
    except ValidationError:
        raise Bitrix24Error("its answer to app.info is not valid") from None
    known = {name: getattr(info.install, name) for name in info.install.model_fields_set}
    portal = Portal(
        **{name: value for name, value in known.items() if value is not None},
        server_endpoint=f"{server}/rest/",
        client_id=info.client_id,
    )
    return Confirmed(portal=portal, user_id=info.user_id)
