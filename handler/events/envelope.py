"""The envelope in which every event of Bitrix24 comes: its name, its data, its proof."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from handler.answers import Refused
from handler.events.fields import Model, OrNone, Text, UnixTime, UserId

# What a stranger sends is cut to this many characters wherever it is logged.
SENSIBLE_LENGTH = 100

# Firestore's constraints on a document's name; a member_id has 32 characters.
_MAX_DOCUMENT_NAME_BYTES = 1_500
_NO_DOCUMENT_NAME = re.compile(r"\.\.?|__.*__|.*/.*")

# Bitrix24 opens the path of an application that has a page in the user's browser. Saving the form
# of an application that exists sends nothing; Reinstall does.
_PAGE: Final = (
    'Bitrix24 opened this address as a page, but it has none. Tick "Script only" in the form of'
    " the application, save it, and choose Reinstall in the application's menu."
)

_MAX_DOMAIN = 253  # characters, as DNS has it


def document_name(name: str) -> str:
    """Return a name that Firestore takes for a document; raises `ValueError` for any other."""
    if (
        not name
        or not name.isprintable()
        or _NO_DOCUMENT_NAME.fullmatch(name)
        or len(name.encode("utf-8")) > _MAX_DOCUMENT_NAME_BYTES
    ):
        raise ValueError("cannot be a portal's member_id")
    return name


MemberId = Annotated[str, AfterValidator(document_name)]


def _unicode(secret: SecretStr) -> SecretStr:
    """Refuse lone surrogates, which no call to Bitrix24 could carry, with a `ValueError`."""
    secret.get_secret_value().encode()
    return secret


_AccessToken = Annotated[SecretStr, Field(min_length=1), AfterValidator(_unicode)]


class Auth(Model):
    """Who sent the event, and what proves it.

    Only `member_id` and `application_token` always come. The OAuth tokens are absent when no
    user caused the event (a robot, a workflow, an agent, an uninstall).
    """

    member_id: MemberId
    application_token: Annotated[SecretStr, Field(min_length=1)]
    access_token: Annotated[_AccessToken | None, OrNone] = None
    domain: Annotated[Annotated[Text, Field(max_length=_MAX_DOMAIN)] | None, OrNone] = None
    server_endpoint: Annotated[Text | None, OrNone] = None
    user_id: UserId = None


class Event(Model):
    """An event, not yet verified. Its `data` may hold tokens, so it is not shown.

    `event_handler_id` (today's server), `eventId` (the documentation) and neither (2022) all
    occur, so none of them is looked at.
    """

    name: Annotated[
        str, StringConstraints(to_upper=True, min_length=1, max_length=SENSIBLE_LENGTH)
    ] = Field(alias="event")
    data: Any = Field(default=None, repr=False)
    sent_at: Annotated[UnixTime | None, OrNone] = Field(None, alias="ts")
    auth: Auth


def parse_event(body: Mapping[str, object]) -> Event:
    """Make an event of a decoded body.

    Raises `Refused` (400) that names everything that is missing, and quotes nothing.
    """
    if "AUTH_ID" in body and not body.get("event"):
        raise Refused(400, "malformed_event", _PAGE, log={"event": "page"})
    try:
        return Event.model_validate(body)
    except ValidationError as faults:
        names = [_form_name(fault["loc"]) for fault in faults.errors()]
        verb = "is" if len(names) == 1 else "are"
        detail = f"Not a Bitrix24 event: {', '.join(names)} {verb} missing or invalid."
        raise Refused(400, "malformed_event", detail) from None


def _form_name(location: tuple[int | str, ...]) -> str:
    first, *rest = map(str, location)
    return first + "".join(f"[{name}]" for name in rest)
