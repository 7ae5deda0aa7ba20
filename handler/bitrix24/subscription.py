"""The function's event bindings at a portal: which ones it needs, and how to correct them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from handler.bitrix24.rest import Bitrix24Error, Rest
from handler.events import names
from handler.events.fields import MAX_INTEGER, whole_number
from handler.settings import Settings
from handler.urls import MAX_HANDLER_URL, host_of, is_plausible_host, same_address

# Current servers store it but ignore it: pings come up to once a second (Bitrix24's source code).
_PING_PAUSE_SECONDS = 60

# event.bind is refused for a moment, while another one for the same handler is running.
_BUSY = "has already started"
_BUSY_PAUSES_SECONDS = (0.3, 1.0)

_ALREADY_BOUND = "already binded"

# How many other hosts the log names; the portal's answer could list any number.
_MAX_OTHER_HOSTS = 10


@dataclass(frozen=True)
class Binding:
    """A binding that the function needs.

    `as_administrator`: bound with the administrator's `auth_type`, the event brings a token that
    may read the offline queue. The deletion event has no `auth_type`, so that its user is the one
    who deleted. `minimum_pause` is in seconds.
    """

    event: str
    offline: bool = False
    as_administrator: bool = False
    minimum_pause: int = 0

    def __str__(self) -> str:
        return f"{self.event} (offline queue)" if self.offline else self.event


@dataclass(frozen=True)
class Bound:
    """A binding as the portal lists it; `user` is its `auth_type`, or 0."""

    event: str
    handler: str = ""
    user: int = 0
    offline: bool = False
    connector: str = ""


@dataclass(frozen=True)
class Comparison:
    """Missing bindings, stale bindings, and the other hosts that have bindings."""

    missing: Sequence[Binding]
    stale: Sequence[Bound]
    other_hosts: Sequence[str]


@dataclass
class Corrected:
    """The result of correcting the bindings.

    `problems` says what failed, `errors` why; `not_bound` are the events that could not be bound.
    `queue_is_new`: the offline binding was missing; unless it was lost, the queue is still empty.
    """

    problems: list[str] = field(default_factory=list)
    errors: list[Bitrix24Error] = field(default_factory=list)
    not_bound: set[str] = field(default_factory=set)
    other_hosts: Sequence[str] = ()
    queue_is_new: bool = False


_ALWAYS: Final = (
    Binding(names.DELETION),
    Binding(names.DELETION, offline=True),
    Binding(names.OFFLINE_PING, as_administrator=True, minimum_pause=_PING_PAUSE_SECONDS),
    Binding(names.UNINSTALL, as_administrator=True),
)

_WITH_TEXTS: Final = (Binding(names.MESSAGE_ADD), Binding(names.MESSAGE_UPDATE))


def wanted(settings: Settings) -> tuple[Binding, ...]:
    """Return the bindings that the settings require."""
    return _ALWAYS if settings.keep_text_days is None else (*_ALWAYS, *_WITH_TEXTS)


def administrator_id(rest: Rest, otherwise: int | None) -> int | None:
    """Return the id of the token's user; raises `Bitrix24Error` unless that is an administrator.

    `otherwise` is returned if the profile has no valid id.
    """
    profile = rest.call("profile")
    if not isinstance(profile, Mapping) or profile.get("ADMIN") is not True:
        raise NotAdministratorError("the token's user is not an administrator of the portal")
    try:
        number = whole_number(profile.get("ID"))
    except ValueError:
        return otherwise
    return number if number <= MAX_INTEGER else otherwise


class NotAdministratorError(Bitrix24Error):
    """The portal says that the token's user is not an administrator."""


def bound_at(rest: Rest) -> list[Bound]:
    """Return the application's bindings; an administrator sees those of all users.

    Raises `Bitrix24Error`.
    """
    listed = rest.call("event.get")
    return [
        _bound(one)
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping)
    ]


def compare(
    bound: Sequence[Bound],
    bindings: Sequence[Binding],
    url: str,
    administrator: int | None,
    unwanted: frozenset[str] = frozenset(),
) -> Comparison:
    """Compare existing with needed bindings, for this URL and this administrator.

    A binding is stale if it has the same event but another user or another spelling of the URL, or
    if its event is `unwanted` and not among the needed ones.
    """
    needed = [_as_bound(binding, url, administrator) for binding in bindings]
    events = {binding.event for binding in bindings}
    return Comparison(
        missing=[
            binding for binding, needs in zip(bindings, needed, strict=True) if needs not in bound
        ],
        stale=[
            one
            for one in bound
            if one.event in events | unwanted
            and not one.offline
            and one not in needed
            and same_address(one.handler, url)
        ],
        other_hosts=sorted({host_of(one.handler) for one in bound} - {host_of(url)}),
    )


def subscribe(
    rest: Rest,
    bindings: Sequence[Binding],
    url: str,
    administrator: int | None,
    unwanted: frozenset[str] = frozenset(),
) -> Corrected:
    """Add missing bindings, then remove stale ones, as far as possible.

    `administrator` is the token's user. Raises `Bitrix24Error` if the bindings cannot be listed.
    """
    if len(url) > MAX_HANDLER_URL:
        detail = f"The function's URL is longer than {MAX_HANDLER_URL} characters."
        events = {binding.event for binding in bindings}
        return Corrected([detail], not_bound=events)
    found = compare(bound_at(rest), bindings, url, administrator, unwanted)
    queue_is_new = any(binding.offline for binding in found.missing)
    other_hosts = [
        host
        for host in found.other_hosts
        if is_plausible_host(host) and not rest.quotes_token(host)
    ]
    corrected = Corrected(other_hosts=other_hosts[:_MAX_OTHER_HOSTS], queue_is_new=queue_is_new)
    already_bound = set()
    for binding in found.missing:
        try:
            if not _bind(rest, binding, url, administrator):
                already_bound.add(binding.event)
        except Bitrix24Error as error:
            corrected.not_bound.add(binding.event)
            corrected.problems.append(f"{binding} could not be bound: {error}.")
            corrected.errors.append(error)
    for one in found.stale:
        # Better than no binding at all. A portal that says that the missing one is already bound
        # may mean this one: it may ignore case in URLs, for example.
        if one.event in corrected.not_bound | already_bound:
            continue
        try:
            rest.call("event.unbind", event=one.event, handler=one.handler, auth_type=one.user)
        except Bitrix24Error as error:
            corrected.problems.append(
                f"A stale binding of {one.event} could not be removed: {error}."
            )
            corrected.errors.append(error)
    return corrected


def unsubscribe(rest: Rest, bindings: Sequence[Binding], url: str) -> int:
    """Remove the bindings at every spelling of the URL; return how many there were.

    Raises `Bitrix24Error`.
    """
    places: list[tuple[str, Mapping[str, str]]] = []
    bound = bound_at(rest)
    for binding in bindings:
        if binding.offline:
            places.append((binding.event, {"event_type": "offline"}))
            continue
        listed = {one.handler for one in bound if one.event == binding.event}
        spelled = {url} | {handler for handler in listed if same_address(handler, url)}
        places += [(binding.event, {"handler": handler}) for handler in sorted(spelled)]
    results = [rest.call("event.unbind", event=event, **where) for event, where in places]
    counts = [result.get("count") for result in results if isinstance(result, Mapping)]
    return sum(count for count in counts if isinstance(count, int))


def _as_bound(binding: Binding, url: str, administrator: int | None) -> Bound:
    if binding.offline:
        return Bound(binding.event, offline=True)
    return Bound(binding.event, url, (administrator or 0) if binding.as_administrator else 0)


def _bound(one: Mapping[str, object]) -> Bound:
    event = str(one.get("event")).upper()
    if str(one.get("offline")) == "1":
        return Bound(event, offline=True, connector=str(one.get("connector_id") or ""))
    return Bound(event, str(one.get("handler") or ""), _user(one.get("auth_type")))


def _user(auth_type: object) -> int:
    try:
        return whole_number(auth_type)
    except ValueError:
        return 0


def _bind(rest: Rest, binding: Binding, url: str, administrator: int | None) -> bool:
    """Add a binding; return whether it is new. Raises `Bitrix24Error`."""
    pauses = iter(_BUSY_PAUSES_SECONDS)
    while True:
        try:
            rest.call("event.bind", **_parameters(binding, url, administrator))
        except Bitrix24Error as error:
            if _ALREADY_BOUND in error.description:
                return False
            pause = next(pauses, None)
            if _BUSY not in error.description or pause is None or rest.remaining < pause:
                raise
            time.sleep(pause)
        else:
            return True


def _parameters(binding: Binding, url: str, administrator: int | None) -> dict[str, object]:
    where = {"event_type": "offline"} if binding.offline else {"handler": url}
    parameters: dict[str, object] = {"event": binding.event, **where}
    if binding.as_administrator and administrator is not None:
        parameters["auth_type"] = administrator
    if binding.minimum_pause:
        parameters["options"] = {"minTimeout": binding.minimum_pause}
    return parameters
