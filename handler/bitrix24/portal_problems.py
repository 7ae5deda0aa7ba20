"""What can keep a portal from being served in full, in sentences that say what to do."""

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
    "as an administrator of the portal, choose Reinstall for the application in Bitrix24 (right"
    " click on it in the list of applications)"
)

NO_TOKEN: Final = (
    f"The offline queue cannot be read: Bitrix24 announces it without a user's token; {_REINSTALL}."
)
BY_HAND: Final = (
    "The offline queue cannot be read: the portal was entered by hand, without --endpoint; add it"
    f" with `python -m handler portals add`, or, {_REINSTALL}."
)
ADMINISTRATOR: Final = (
    "The offline queue cannot be read: the user as whom it is bound is no longer an administrator"
    f" of the portal; {_REINSTALL}."
)
PLAN: Final = (
    "The portal refuses REST: its plan has ended or does not include it; renew the plan, then,"
    f" {_REINSTALL}."
)
PERMISSION: Final = (
    "The application lacks the permission Open Channels (imopenlines): add it in the application's"
    f" form in Bitrix24 and save; then, {_REINSTALL}."
)
MOVED: Final = (
    "The portal's address answers with a redirect, and the OAuth server knows no other: if its"
    f" licence has ended, renew it; then, {_REINSTALL}."
)
SILENT: Final = (
    "The portal does not answer the function at its address, and the OAuth server knows no other:"
    f" see that it can be reached from the internet; then, {_REINSTALL}."
)
BINDINGS: Final = (
    "Not every event could be bound; the function tries again with the portal's pings. If this"
    f" lasts, {_REINSTALL}."
)
ADDRESS: Final = (
    "The function's address is too long to be bound: set FUNCTION_URL to a shorter one that leads"
    f" to the function; then, {_REINSTALL}."
)

_BY_REASON = {
    NO_ADMINISTRATOR: ADMINISTRATOR,
    NO_USER: ADMINISTRATOR,
    NO_PLAN: PLAN,
    NO_PERMISSION: PERMISSION,
}


def lasting(error: Bitrix24Error) -> str | None:
    """Return the problem that an error of a portal means, if it will not pass by itself."""
    return _BY_REASON.get(error.reason)


def out_of_reach(error: UnansweredError) -> str:
    """Return the problem of a portal that does not answer where the OAuth server says it is."""
    return MOVED if isinstance(error, RedirectError) else SILENT
