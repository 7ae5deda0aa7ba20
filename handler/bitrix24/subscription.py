"""What the function is subscribed to at a portal, and how it gets there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.events import names
from handler.events.fields import whole_number
from handler.urls import MAX_HANDLER_URL

# A bulk deletion must not ping once a message: a portal allows about two calls a second.
_PING_PAUSE_SECONDS = 60


@dataclass(frozen=True)
class Binding:
    """One of the bindings that the function needs.

    `as_administrator`: bound with the administrator's `auth_type`, the event brings a token
    that may read the offline queue. The deletion event has none, so that its user is whoever
    deleted.
    """

    event: str
    offline: bool = False
    as_administrator: bool = False
    minimum_pause: int = 0

    def __str__(self) -> str:
        return f"{self.event} (offline queue)" if self.offline else self.event


BINDINGS: Final = (
    Binding(names.DELETION),
    Binding(names.DELETION, offline=True),
    Binding(names.OFFLINE_PING, as_administrator=True, minimum_pause=_PING_PAUSE_SECONDS),
    Binding(names.UNINSTALL, as_administrator=True),
)


def administrator_id(rest: Rest, otherwise: int | None) -> int | None:
    """Return the id of the token's user; raises `Bitrix24Error` if that is no administrator.

    `otherwise` is who it is by what else is known, should the profile not tell.
    """
    profile = rest.call("profile")
    if not isinstance(profile, Mapping) or profile.get("ADMIN") is not True:
        raise Bitrix24Error("the token's user is not an administrator of the portal")
    try:
        return whole_number(profile.get("ID"))
    except ValueError:
        return otherwise


def missing(rest: Rest, url: str) -> list[Binding]:
    """Return those bindings that are not there yet; raises `Bitrix24Error`."""
    listed = rest.call("event.get")
    bound = {
        (
            str(one.get("event")).upper(),
            "" if str(one.get("offline")) == "1" else str(one.get("handler")),
        )
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping)
    }
    return [
        binding
        for binding in BINDINGS
        if (binding.event, "" if binding.offline else url) not in bound
    ]


def subscribe(rest: Rest, url: str, administrator: int | None) -> list[str]:
    """Bind what is missing, as far as it goes; return what could not be bound, and why.

    `administrator` is the token's user. Raises `Bitrix24Error` when not even a beginning can be
    made.
    """
    if len(url) > MAX_HANDLER_URL:
        return [f"The function's address is longer than {MAX_HANDLER_URL} characters."]
    problems = []
    for binding in missing(rest, url):
        try:
            _bind(rest, binding, url, administrator)
        except Bitrix24Error as error:
            if "already binded" not in error.description:
                problems.append(f"{binding} could not be bound: {error}.")
    return problems


def unsubscribe(rest: Rest, url: str) -> int:
    """Remove the bindings; return how many there were. Raises `Bitrix24Error`."""
    removed = 0
    for binding in BINDINGS:
        where = {"event_type": "offline"} if binding.offline else {"handler": url}
        result = rest.call("event.unbind", event=binding.event, **where)
        count = result.get("count") if isinstance(result, Mapping) else None
        removed += count if isinstance(count, int) else 0
    return removed


def _bind(rest: Rest, binding: Binding, url: str, administrator: int | None) -> None:
    parameters: dict[str, object] = {"event": binding.event}
    if binding.offline:
        parameters["event_type"] = "offline"
    else:
        parameters["handler"] = url
    if binding.as_administrator and administrator is not None:
        parameters["auth_type"] = administrator
    if binding.minimum_pause:
        parameters["options"] = {"minTimeout": binding.minimum_pause}
    rest.call("event.bind", **parameters)
