"""An application installed at a portal: its life, its tokens, its bindings."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.doubles.bitrix24.php import Value, http_build_query

if TYPE_CHECKING:
    from tests.doubles.bitrix24.delivery import Delivery
    from tests.doubles.bitrix24.portal import Portal

BRINGS_A_REFRESH_TOKEN = frozenset({"ONAPPINSTALL", "ONAPPTEST", "ONOFFLINEEVENT"})
"""The other events bring only an access token, despite the documentation's sample."""


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
        """Whether the token's user is currently an administrator of the portal."""
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
    options: Value = None

    def same_as(self, other: "Binding") -> bool:
        """Compare like EventTable::checkUniq: a different `auth_type` is a different binding."""
        return (self.event, self.handler, self.user_id) == (
            *(other.event, other.handler, other.user_id),
        )


class Installation:
    """One application in one portal; `Portal.install` makes it.

    `url` is its installation path, known once its form is saved.
    """

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
        self.url = ""
        self.bindings: list[Binding] = []
        self.application_token = secrets.token_hex(16)
        portal.bitrix.remember(self.application_token)

    def token(self, user_id: int = 1, *, expires_in: int = 3600) -> Token:
        """Issue an access token of a user."""
        with self.portal.bitrix.lock:
            expires = int(self.portal.bitrix.clock()) + expires_in
            token = Token(self, user_id, expires_in, expires)
            self.portal.bitrix.issued(token)
            return token

    def save_form(self, url: str, *, by: int = 1) -> "list[Delivery]":
        """Save the application's form: ONAPPINSTALL for a new one, and later nothing at all.

        The documentation says "called only once", and the source agrees.
        """
        new, self.url = not self.url, url
        return [self.reinstall(by=by)] if new else []

    def reinstall(self, *, by: int = 1) -> "Delivery":
        """Choose "Reinstall" in the application's menu, as an administrator.

        ONAPPINSTALL comes with a fresh token of `by`; the application token, the bindings and the
        offline queue stay as they are.
        """
        if by not in self.portal.administrators:
            raise ValueError(f"the menu is for administrators; {by} is not one")
        return self.portal.post(self.url, self.install_event(self.token(by)), "ONAPPINSTALL")

    def lose_bindings(self, event: str = "") -> None:
        """Lose all bindings, or those of one event, as portals do after restores and updates."""
        with self.portal.bitrix.lock:
            kept = [bound for bound in self.bindings if event and bound.event != event]
            self.bindings[:] = kept

    def uninstall(self, *, clean: bool = False, deliver: bool = True) -> "list[Delivery]":
        """Delete the application: ONAPPUNINSTALL where it is bound, then nothing works any more.

        Its bindings and its offline queue go. That the event is delivered for local applications
        at all is doubtful: see `deliver`.
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
            self.portal.offline.drop(self.client_id)
        return self.portal.post_all(posts, deliver=deliver)

    def delete_and_add(self, *, client_id: str = "") -> "Installation":
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
        origin: dict[str, Value] = {
            "domain": portal.domain,
            "client_endpoint": portal.client_endpoint,
            "server_endpoint": portal.server_endpoint,
            "member_id": portal.member_id,
            "application_token": self.application_token,
        }
        if token is None:
            return origin
        return {
            "access_token": token.access_token,
            "expires": token.expires,
            "expires_in": token.expires_in,
            "scope": self.scope,
            "status": self.status,
            "user_id": token.user_id,
            "refresh_token": token.refresh_token if refresh else None,
            **origin,
        }

    def event(
        self, name: str, data: Value, token: Token | None = None, *, handler_id: int = 1
    ) -> bytes:
        """Build the body of any event, as the queue server posts it."""
        fields: dict[str, Value] = {
            "event": name,
            "event_handler_id": handler_id,
            "data": data,
            "ts": int(self.portal.bitrix.clock()),
            "auth": self.auth(token, refresh=name in BRINGS_A_REFRESH_TOKEN),
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
        return self.event("ONAPPINSTALL", data, token)

    def uninstall_event(self, *, clean: bool = False, handler_id: int = 2) -> bytes:
        """Build ONAPPUNINSTALL: only `application_token`; CLEAN is 1 or 0."""
        data: Mapping[str, Value] = {"LANGUAGE_ID": "en", "CLEAN": clean}
        return self.event("ONAPPUNINSTALL", data, handler_id=handler_id)

    def test_event(
        self, query: Mapping[str, Value], token: Token | None = None, *, handler_id: int = 3
    ) -> bytes:
        """Build ONAPPTEST, what event.test sends (page test-handler)."""
        data: Mapping[str, Value] = {"QUERY": query, "LANGUAGE_ID": "en"}
        return self.event("ONAPPTEST", data, token or self.token(), handler_id=handler_id)

    def user_ready_event(self) -> bytes:
        """Build ONAPPUSERREADY: OAuth tokens inside `data`.

        By source they are in `data[AUTH]`, by documentation in `data` itself; here in both places.
        """
        token = self.token()
        auth = self.auth(token, refresh=True)
        data: Mapping[str, Value] = {**auth, "USER_ID": token.user_id, "AUTH": auth}
        return self.event("ONAPPUSERREADY", data, token)

    def offline_ping(self, token: Token | None, *, handler_id: int = 4) -> bytes:
        """Build ONOFFLINEEVENT: no `data` key, both tokens (page on-offline-event)."""
        return self.event("ONOFFLINEEVENT", [], token, handler_id=handler_id)
