"""Problems that limit the service for a portal, as messages that say what to do."""

from typing import Final

from handler.bitrix24.rest import (
    NO_ADMINISTRATOR,
    NO_PERMISSION,
    NO_PLAN,
    NO_USER,
    Bitrix24Error,
    RedirectError,
    UnansweredError,
)

_REINSTALL = (
    "as an administrator of the portal, choose Reinstall for the application in Bitrix24"
    " (right-click it in the list of applications)"
)

NO_TOKEN: Final = (
    f"The offline queue cannot be read: Bitrix24's pings come without a user's token; {_REINSTALL}."
)
BY_HAND: Final = (
    "The offline queue cannot be read: the portal was entered by hand, without --endpoint; add it"
    f" with `python -m handler portals add`, or, {_REINSTALL}."
)
ADMINISTRATOR: Final = (
    "The offline queue cannot be read: its ping is bound as a user who is no longer an"
    f" administrator of the portal; {_REINSTALL}."
)
PLAN: Final = (
    "The portal refuses REST calls: its plan has ended or does not include them; renew the plan,"
    f" then, {_REINSTALL}."
)
PERMISSION: Final = (
    "The application lacks the permission Open Channels (imopenlines): add it in the application's"
    f" form in Bitrix24 and save; then, {_REINSTALL}."
)
MOVED: Final = (
    "The portal's address answers with a redirect, and the OAuth server knows no other: if the"
    f" portal's licence has ended, renew it; then, {_REINSTALL}."
)
SILENT: Final = (
    "The portal does not answer the function at its address, and the OAuth server knows no other:"
    f" make sure that it can be reached from the internet; then, {_REINSTALL}."
)
BINDINGS: Final = (
    "Not every event could be bound; the function retries with the portal's pings. If this lasts,"
    f" {_REINSTALL}."
)
ADDRESS: Final = (
    "The function's URL is too long to be bound: set FUNCTION_URL to a shorter one that leads to"
    f" the function; then, {_REINSTALL}."
)

_BY_REASON = {
    NO_ADMINISTRATOR: ADMINISTRATOR,
    NO_USER: ADMINISTRATOR,
    NO_PLAN: PLAN,
    NO_PERMISSION: PERMISSION,
}


def lasting(error: Bitrix24Error) -> str | None:
    """Return the problem behind an error, unless the error is transient."""
    return _BY_REASON.get(error.reason)


def out_of_reach(error: UnansweredError) -> str:
    """Return the problem of a portal that does not answer at the address from the OAuth server."""
    return MOVED if isinstance(error, RedirectError) else SILENT
