"""ONAPPINSTALL: whoever trusts it blindly hands a stranger the portal's trust.

Anybody can send it, so it counts only when the OAuth server, one of two fixed hosts, confirms its
access token for the same portal, and the portal confirms that the token is an administrator's.
Where to connect to comes from the settings and from the OAuth server, never from the request.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationError

from handler.answers import Refused
from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.bitrix24.subscription import administrator_id
from handler.deadline import Deadline
from handler.events.envelope import Auth
from handler.events.fields import Model, OrNone, Text, UserId
from handler.portal import Portal
from handler.settings import Settings
from handler.urls import is_secure_url

_IF_YOURS = (
    "If it was yours, save the application's form again, as an administrator of the portal, or"
    " enter the portal by hand: python -m handler portals add."
)


class NotProven(Exception):  # noqa: N818 - the install is at fault, nothing went wrong here
    """An install that is not proven; the message, for the log, says why and what to do."""

    def __init__(self, reason: str, to_do: str = _IF_YOURS) -> None:
        super().__init__(f"{reason} {to_do}")


def prove(auth: Auth, settings: Settings, deadline: Deadline) -> tuple[Portal, int | None]:
    """Return the portal that an install is proven to come from, and its administrator's id.

    The portal is as the OAuth server knows it. Raises `NotProven`.
    """
    if not settings.client_id and not settings.allowed_portals:
        raise NotProven(
            "No installs are accepted.",
            "Set ALLOWED_PORTALS to the portal's domain, or CLIENT_ID to the application's, and"
            " save the application's form again.",
        )
    if auth.access_token is None:
        raise NotProven("The install has no access_token, so nobody can confirm it.")
    server = _server(auth.server_endpoint, settings.oauth_servers)
    token = auth.access_token.get_secret_value()
    try:
        answer = Rest(f"{server}/rest/", token, deadline).call("app.info")
        info = _AppInfo.model_validate(answer)
    except Bitrix24Error as error:
        raise NotProven(f"The OAuth server does not confirm the install: {error}.") from None
    except ValidationError:
        raise NotProven("The OAuth server's answer to app.info makes no sense.") from None
    install = info.install
    if install.member_id != auth.member_id:
        raise NotProven("The access token belongs to another portal than the install names.")
    if info.client_id != settings.client_id and install.domain not in settings.allowed_portals:
        raise NotProven(
            f"The portal {install.domain} is not in ALLOWED_PORTALS, and the application is not"
            " the one of CLIENT_ID.",
            "If it was yours, set one of them and save the application's form again.",
        )
    try:
        rest = Rest(install.client_endpoint, token, deadline)
        administrator = administrator_id(rest, info.user_id)
    except Bitrix24Error as error:
        raise NotProven(f"The portal {install.domain} does not confirm: {error}.") from None
    portal = Portal(
        member_id=install.member_id,
        domain=install.domain,
        client_endpoint=install.client_endpoint,
        server_endpoint=f"{server}/rest/",
        client_id=info.client_id,
        status=install.status,
        scope=install.scope,
    )
    return portal, administrator


def refused(reason: NotProven) -> Refused:
    """Make the answer to an install that is not proven; why goes to the log only."""
    return Refused(
        403,
        "install_refused",
        "The install could not be proven to come from the portal; the function's log tells why.",
        log={"reason": str(reason)},
    )


def _server(named: str | None, servers: Sequence[str]) -> str:
    """Choose among the known OAuth servers the one that the request names."""
    for server in servers:
        if named and named.rstrip("/").lower() in (server.lower(), f"{server.lower()}/rest"):
            return server
    raise NotProven("The install names no OAuth server of BITRIX24_OAUTH_SERVERS.")


def _endpoint(url: str) -> str:
    if not is_secure_url(url):
        raise ValueError
    return url.rstrip("/") + "/"


def _joined(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list) else value


class _Install(Model):
    member_id: Text
    domain: Annotated[Text, AfterValidator(str.lower)]
    client_endpoint: Annotated[Text, AfterValidator(_endpoint)]
    status: Annotated[Text | None, OrNone] = None
    scope: Annotated[Text | None, BeforeValidator(_joined), OrNone] = None


class _AppInfo(Model):
    client_id: Text
    user_id: UserId = None
    install: _Install
