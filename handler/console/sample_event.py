"""Sample deletions, in Bitrix24's current form and in its documentation's."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

from handler.events import names

# From the documentation, used for all shapes, so that one portal accepts them all.
MEMBER_ID: Final = "a223c6b3710f85df22e9377d6c4f7553"
TOKEN: Final = "51856fefc120afa4b628cc82d3935cce"  # noqa: S105 - it is public
DOMAIN: Final = "some-domain.bitrix24.com"

MESSAGE_ID: Final = "2056"  # the documentation's

SHAPES: Final = ("portal", "customer", "documentation")

_LIFE_SECONDS = 3_600


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The parts of a sample that can be chosen.

    `im_message_id` is Bitrix24's own number for the message; a customer's deletion omits it.
    """

    shape: str
    member_id: str
    token: str
    domain: str
    connector: str
    line: str
    chat_id: str
    message_id: str
    im_message_id: str

    def event(self) -> Mapping[str, object]:
        """Return the event; in a form, all values become text."""
        if self.shape == "documentation":
            return self._as_documented()
        now = int(time.time())
        data = self._by_customer() if self.shape == "customer" else self._in_portal("1807")
        auth = {
            "access_token": "5b00844001b0007cd181977d455de630432",
            "expires": now + _LIFE_SECONDS,
            "expires_in": _LIFE_SECONDS,
            "scope": "imopenlines",
            "domain": self.domain,
            "server_endpoint": "https://oauth.bitrix.info/rest/",
            "status": "L",
            "client_endpoint": f"https://{self.domain}/rest/",
            "member_id": self.member_id,
            "user_id": 27,
            "application_token": self.token,
        }
        event = {"event": names.DELETION, "event_handler_id": 559, "data": data}
        return {**event, "ts": now, "auth": auth}

    def _as_documented(self) -> Mapping[str, object]:
        auth = {
            "access_token": "s6p6eclrvim6da22ft9ch94ekreb52lv",
            "expires_in": _LIFE_SECONDS,
            "scope": "imopenlines",
            "domain": self.domain,
            "server_endpoint": "https://oauth.bitrix.info/rest/",
            "status": "F",
            "client_endpoint": f"https://{self.domain}/rest/",
            "member_id": self.member_id,
            "refresh_token": "4s386p3q0tr8dy89xvmt96234v3dljg8",
            "application_token": self.token,
        }
        event = {"event": names.DELETION, "eventId": 1, "data": self._in_portal(self.chat_id)}
        return {**event, "ts": 1714649632, "auth": auth}

    def _in_portal(self, im_chat_id: str) -> Mapping[str, object]:
        element = {
            "im": {"chat_id": im_chat_id, "message_id": self.im_message_id},
            "message": {"id": self.message_id},
            "chat": {"id": self.chat_id},
        }
        return {"CONNECTOR": self.connector, "LINE": self.line, "DATA": {0: element}}

    def _by_customer(self) -> Mapping[str, object]:
        connector = {
            "connector_id": self.connector,
            "line_id": self.line,
            "chat_id": self.chat_id,
            "user_id": 1985,
        }
        return {
            "DATA": {
                "connector": connector,
                "chat": {"id": self.chat_id},
                "message": {"id": self.message_id, "user_id": 1985},
            }
        }


def form_body(event: Mapping[str, object]) -> bytes:
    """Encode an event as PHP's `http_build_query` does."""
    return "&".join(
        f"{quote_plus(name)}={quote_plus(value)}" for name, value in fields(event)
    ).encode()


def fields(values: Mapping[Any, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return the fields of a form, with PHP's bracket nesting in their names."""
    for key, value in values.items():
        name = f"{prefix}[{key}]" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from fields(value, name)
        else:
            yield name, str(value)
