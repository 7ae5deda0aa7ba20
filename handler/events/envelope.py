"""The envelope of every Bitrix24 event: its name, its data, its sender and their credentials."""

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

# In the log, unverified text is cut to this many characters.
SENSIBLE_LENGTH = 100

# Firestore's constraints on a document's name; a member_id has 32 characters.
_MAX_DOCUMENT_NAME_BYTES = 1_500
_RESERVED_NAME = re.compile(r"\.\.?|__.*__|.*/.*")

# If the application has a page, Bitrix24 opens this URL in the user's browser. Saving the form of
# an existing application sends no event; Reinstall does.
_PAGE: Final = (
    'Bitrix24 opened this URL as a page, but it is not one. Tick "Script only" in the form of'
    " the application, save it, and choose Reinstall in the application's menu."
)

_MAX_DOMAIN = 253  # characters, DNS's limit


def document_name(name: str) -> str:
    """Return a name if it is valid for a Firestore document; raises `ValueError` otherwise."""
    if (
        not name
        or not name.isprintable()
        or _RESERVED_NAME.fullmatch(name)
        or len(name.encode("utf-8")) > _MAX_DOCUMENT_NAME_BYTES
    ):
        raise ValueError("cannot be a portal's member_id")
    return name


MemberId = Annotated[str, AfterValidator(document_name)]


def _unicode(secret: SecretStr) -> SecretStr:
    """Raise `ValueError` for lone surrogates, which cannot be sent to Bitrix24."""
    secret.get_secret_value().encode()
    return secret


_AccessToken = Annotated[SecretStr, Field(min_length=1), AfterValidator(_unicode)]


class Auth(Model):
    """The sender and its credentials.

    Only `member_id` and `application_token` are always present. The OAuth tokens are absent when no
    user caused the event (a robot, a workflow, an agent, an uninstall).
    """

    member_id: MemberId
    application_token: Annotated[SecretStr, Field(min_length=1)]
    access_token: Annotated[_AccessToken | None, OrNone] = None
    domain: Annotated[Annotated[Text, Field(max_length=_MAX_DOMAIN)] | None, OrNone] = None
    server_endpoint: Annotated[Text | None, OrNone] = None
    user_id: UserId = None


class Event(Model):
    """An event, not yet verified. Its `data` may hold tokens, so `repr` omits it.

    Current servers also send `event_handler_id`, the documentation has `eventId`, and events of
    2022 have neither, so both are ignored.
    """

    name: Annotated[
        str, StringConstraints(to_upper=True, min_length=1, max_length=SENSIBLE_LENGTH)
    ] = Field(alias="event")
    data: Any = Field(default=None, repr=False)
    sent_at: Annotated[UnixTime | None, OrNone] = Field(None, alias="ts")
    auth: Auth


def parse_event(body: Mapping[str, object]) -> Event:
    """Parse a decoded body.

    Raises `Refused` (400), which names every missing or invalid field and quotes nothing.
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
