"""An application installed in a portal: its tokens, its bindings, the bodies of its events."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.doubles.bitrix24.offline_queue import Source
from tests.doubles.bitrix24.php import Value, http_build_query

if TYPE_CHECKING:
    from tests.doubles.bitrix24.delivery import Delivery
    from tests.doubles.bitrix24.portal import Portal


@dataclass(eq=False)
class Token:
    """An OAuth access token of one user for one application, with its refresh token."""

    installation: "Installation"
    user_id: int
    expires_in: int
    expires: int
    access_token: str = field(default_factory=lambda: secrets.token_hex(35))
    refresh_token: str = field(default_factory=lambda: secrets.token_hex(35))

    @property
    def admin(self) -> bool:
        """Whether the token's user is an administrator of the portal at this moment."""
        return self.user_id in self.installation.portal.administrators

    def expire(self) -> None:
        """Make the token expire now."""
        self.expires = 0


@dataclass(frozen=True)
class Binding:
    """What event.bind registered; `handler` is empty and `user_id` 0 for an offline binding."""

    id: int
    event: str
    handler: str
    user_id: int
    connector: str
    options: Value = None

    def same_as(self, other: "Binding") -> bool:
        """Compare as EventTable::checkUniq does: another `auth_type` makes another binding."""
        return (self.event, self.handler, self.user_id, self.connector) == (
            *(other.event, other.handler, other.user_id, other.connector),
        )


class Installation:
    """One application in one portal; `Portal.install` makes it."""

    def __init__(
        self, portal: "Portal", client_id: str, scope: str, status: str, connectors: frozenset[str]
    ) -> None:
        self.portal = portal
        self.client_id = client_id
        self.scope = scope
        self.status = status
        self.connectors = connectors
        self.version = 1
        self.installed = True
        self.bindings: list[Binding] = []
        self.application_token = secrets.token_hex(16)
        portal.bitrix.remember(self.application_token)

    def token(
        self, user_id: int = 1, *, admin: bool | None = None, expires_in: int = 3600
    ) -> Token:
        """Issue an access token; `admin` changes what the user is in the portal, for good."""
        with self.portal.bitrix.lock:
            if admin is not None:
                (self.portal.administrators.add if admin else self.portal.administrators.discard)(
                    user_id
                )
            expires = int(self.portal.bitrix.clock()) + expires_in
            token = Token(self, user_id, expires_in, expires)
            self.portal.bitrix.issued(token)
            return token

    def source(self, connector: str = "") -> Source:
        """Return the part of the offline queue that belongs to this application."""
        return Source(self.client_id, connector)

    def update(self) -> None:
        """Update the application: the token stays, the bindings go (page event-bind, its note)."""
        with self.portal.bitrix.lock:
            self.version += 1
            self.bindings.clear()

    def uninstall(self, *, clean: bool = False, deliver: bool = True) -> "list[Delivery]":
        """Remove the application: ONAPPUNINSTALL to whoever bound it, then nothing works any more.

        That it is delivered for local applications at all is doubtful: see `deliver`.
        """
        with self.portal.bitrix.lock:
            handlers = [
                bound
                for bound in self.bindings
                if bound.event == "ONAPPUNINSTALL" and bound.handler
            ]
            posts = [
                (bound.event, bound.handler, self.uninstall_event(clean=clean, handler_id=bound.id))
                for bound in handlers
            ]
            self.installed = False
            self.bindings.clear()
        return self.portal.post_all(posts, deliver=deliver)

    def reinstall(self, *, client_id: str = "") -> "Installation":
        """Delete the local application and add it again, silently: another application token.

        Adding a local application makes a new `client_id` (class oauth Provider::applicationAdd),
        unless one is given here. This object remains, to send its late ONAPPUNINSTALL.
        """
        self.uninstall(deliver=False)
        return self.portal.install(
            client_id, self.scope, status=self.status, connectors=self.connectors
        )

    def auth(self, token: Token | None, *, refresh: bool = False) -> dict[str, Value]:
        """Build `auth`: with OAuth tokens, or without any when no user caused the event."""
        portal = self.portal
        if token is None:
            return {
                "domain": portal.domain,
                "client_endpoint": portal.client_endpoint,
                "server_endpoint": portal.server_endpoint,
                "member_id": portal.member_id,
                "application_token": self.application_token,
            }
        return {
            "access_token": token.access_token,
            "expires": token.expires,
            "expires_in": token.expires_in,
            "scope": self.scope,
            "domain": portal.domain,
            "server_endpoint": portal.server_endpoint,
            "status": self.status,
            "client_endpoint": portal.client_endpoint,
            "member_id": portal.member_id,
            "user_id": token.user_id,
            "application_token": self.application_token,
            "refresh_token": token.refresh_token if refresh else None,
        }

    def event(
        self,
        name: str,
        data: Value,
        token: Token | None = None,
        *,
        refresh: bool = False,
        handler_id: int = 1,
    ) -> bytes:
        """Build the body of any event, as the queue server posts it."""
        id_key = self.portal.handler_id_key
        fields: dict[str, Value] = {
            "event": name,
            **({id_key: handler_id} if id_key else {}),
            "data": data,
            "ts": int(self.portal.bitrix.clock()),
            "auth": self.auth(token, refresh=refresh),
        }
        return http_build_query(fields).encode()

    def install_event(self, token: Token | None) -> bytes:
        """Build ONAPPINSTALL, "usually with" tokens: pass None for one without."""
        data: Mapping[str, Value] = {
            "VERSION": self.version,
            "ACTIVE": "Y",
            "INSTALLED": "Y",
            "LANGUAGE_ID": "en",
        }
        return self.event("ONAPPINSTALL", data, token, refresh=True)

    def uninstall_event(self, *, clean: bool = False, handler_id: int = 2) -> bytes:
        """Build ONAPPUNINSTALL: no tokens beside `application_token`; CLEAN is 1 or 0."""
        data: Mapping[str, Value] = {"LANGUAGE_ID": "en", "CLEAN": clean}
        return self.event("ONAPPUNINSTALL", data, handler_id=handler_id)

    def test_event(
        self, query: Mapping[str, Value], token: Token | None = None, *, handler_id: int = 3
    ) -> bytes:
        """Build ONAPPTEST, what event.test sends (page test-handler)."""
        data: Mapping[str, Value] = {"QUERY": query, "LANGUAGE_ID": "en"}
        return self.event("ONAPPTEST", data, token or self.token(), handler_id=handler_id)

    def user_ready_event(self) -> bytes:
        """Build ONAPPUSERREADY: OAuth tokens inside `data` (where exactly is inferred)."""
        token = self.token()
        data: Mapping[str, Value] = {
            "USER_ID": token.user_id,
            "AUTH": self.auth(token, refresh=True),
        }
        return self.event("ONAPPUSERREADY", data, token)

    def offline_ping(self, token: Token | None, *, handler_id: int = 4) -> bytes:
        """Build ONOFFLINEEVENT: no `data` key, both tokens (page on-offline-event)."""
        return self.event("ONOFFLINEEVENT", [], token, refresh=True, handler_id=handler_id)
