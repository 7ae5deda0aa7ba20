"""ONAPPINSTALL: to trust it blindly would hand a stranger the portal's trust.

Anybody can send it, so it counts only when the OAuth server, one of two fixed hosts, confirms its
access token for the same portal, and the portal confirms that the token is an administrator's.
Where to connect to comes from the settings and from the OAuth server, never from the request.
"""

from collections.abc import Callable

from handler.answers import Refused
from handler.bitrix24.oauth import Confirmed, UnknownServerError, confirm
from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.bitrix24.subscription import administrator_id
from handler.deadline import Deadline
from handler.events.envelope import Auth
from handler.portal import Portal
from handler.settings import Settings

_IF_YOURS = (
    "If it was yours, choose Reinstall for the application in Bitrix24, as an administrator of the"
    " portal, or enter the portal by hand: python -m handler portals add."
)


class NotProven(Exception):  # noqa: N818 - the install is at fault, nothing went wrong here
    """An install that is not proven; the message, for the log, says why and what to do."""

    def __init__(self, reason: str, to_do: str = _IF_YOURS) -> None:
        super().__init__(f"{reason} {to_do}")


def prove(
    auth: Auth, settings: Settings, stored: Callable[[], Portal | None], deadline: Deadline
) -> tuple[Portal, int | None]:
    """Return the portal that an install is proven to come from, and its administrator's id.

    The portal is as the OAuth server knows it; `stored` reads what is known of it so far. Raises
    `NotProven`.
    """
    if not settings.client_id and not settings.allowed_portals:
        raise NotProven(
            "No installs are accepted.",
            "Set ALLOWED_PORTALS to the portal's domain, or CLIENT_ID to the application's, and"
            " choose Reinstall for the application in Bitrix24.",
        )
    if auth.access_token is None:
        raise NotProven("The install has no access_token, so it cannot be confirmed.")
    try:
        confirmed = confirm(auth, settings, deadline)
    except UnknownServerError:
        raise NotProven("The install names no OAuth server of BITRIX24_OAUTH_SERVERS.") from None
    except Bitrix24Error as error:
        raise NotProven(f"The OAuth server does not confirm the install: {error}.") from None
    portal = confirmed.portal
    if portal.member_id != auth.member_id:
        raise NotProven("The access token belongs to another portal than the install names.")
    if not _is_allowed(confirmed, settings, stored):
        raise NotProven(
            f"The portal {portal.domain} is not in ALLOWED_PORTALS, and the application is not"
            " the one of CLIENT_ID.",
            "If it was yours, set one of them and choose Reinstall for the application in"
            " Bitrix24.",
        )
    try:
        rest = Rest(str(portal.client_endpoint), auth.access_token.get_secret_value(), deadline)
        return portal, administrator_id(rest, confirmed.user_id)
    except Bitrix24Error as error:
        raise NotProven(f"The portal {portal.domain} does not confirm: {error}.") from None


def refused(reason: NotProven) -> Refused:
    """Make the answer to an install that is not proven; why goes to the log only."""
    return Refused(
        403,
        "install_refused",
        "The install could not be proven to come from the portal; the function's log tells why.",
        log={"reason": str(reason)},
    )


def _is_allowed(
    confirmed: Confirmed, settings: Settings, stored: Callable[[], Portal | None]
) -> bool:
    if confirmed.portal.client_id == settings.client_id:
        return True
    domains = settings.allowed_portals
    if confirmed.portal.domain in domains:
        return True
    return bool(domains) and _was_allowed(stored(), settings)


def _was_allowed(known: Portal | None, settings: Settings) -> bool:
    """Tell whether a portal was accepted by ALLOWED_PORTALS before: it may be renamed since.

    One that CLIENT_ID let in was accepted for that application only.
    """
    if known is None or known.client_id is None or known.removed_at is not None:
        return False
    return known.client_id != settings.client_id or known.domain in settings.allowed_portals
