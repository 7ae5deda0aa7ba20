"""Verifies ONAPPINSTALL, which makes the function trust a portal's token.

Anyone can send it. So it counts only if the OAuth server, one of BITRIX24_OAUTH_SERVERS, confirms
its access token for the same portal, and the portal confirms that the token is an administrator's.
The hosts to call come from the settings and the OAuth server, never from the request.
"""

from collections.abc import Callable

from handler.answers import Refused
from handler.bitrix24.oauth import UnknownServerError, confirm
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
    """An install could not be verified; the message, for the log, says why and what to do."""

    def __init__(self, reason: str, to_do: str = _IF_YOURS) -> None:
        super().__init__(f"{reason} {to_do}")


def prove(
    auth: Auth, settings: Settings, stored: Callable[[], Portal | None], deadline: Deadline
) -> tuple[Portal, int | None]:
    """Verify an install; return its portal and the administrator's id.

    The portal is as the OAuth server describes it; `stored` reads the one in the store. Raises
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
    token = auth.access_token.get_secret_value()
    try:
        confirmed = confirm(auth, token, settings, deadline)
    except UnknownServerError:
        raise NotProven(
            "The install names an OAuth server that is not in BITRIX24_OAUTH_SERVERS."
        ) from None
    except Bitrix24Error as error:
        raise NotProven(f"The OAuth server does not confirm the install: {error}.") from None
    portal = confirmed.portal
    if portal.member_id != auth.member_id:
        raise NotProven("The access token belongs to a different portal from the install.")
    domains = settings.allowed_portals
    allowed = portal.domain in domains or (bool(domains) and _was_allowed(stored(), settings))
    if not allowed and portal.client_id != settings.client_id:
        raise NotProven(
            f"The portal {portal.domain} is not in ALLOWED_PORTALS, and the application's client_id"
            " is not CLIENT_ID.",
            "If it was yours, set one of them and choose Reinstall for the application in"
            " Bitrix24.",
        )
    try:
        rest = Rest(str(portal.client_endpoint), token, deadline)
        administrator = administrator_id(rest, confirmed.user_id)
    except Bitrix24Error as error:
        raise NotProven(
            f"The portal {portal.domain} does not confirm the install: {error}."
        ) from None
    return (portal.model_copy(update={"allowed": True}) if allowed else portal), administrator


def refused(reason: NotProven) -> Refused:
    """Return the answer to an install that was not verified; only the log says why."""
    return Refused(
        403,
        "install_refused",
        "The install could not be verified; the function's log says why.",
        log={"reason": str(reason)},
    )


def _was_allowed(known: Portal | None, settings: Settings) -> bool:
    """Return whether ALLOWED_PORTALS accepted a portal before; it may have been renamed since.

    A portal accepted by CLIENT_ID was accepted for that application only.
    """
    if known is None or known.removed_at is not None:
        return False
    if known.allowed is not None:
        return known.allowed
    if known.client_id is None:  # it was entered by hand
        return False
    # It was installed before 0.2.0, which notes it.
    return known.client_id != settings.client_id or known.domain in settings.allowed_portals
