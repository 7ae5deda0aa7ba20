"""A portal: who is installed there, what happens in its open lines, whom it tells."""

from collections.abc import Mapping, Sequence
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, Literal, Protocol

from tests.doubles.bitrix24 import delivery
from tests.doubles.bitrix24.deletions import CustomerDeletion, PortalDeletion
from tests.doubles.bitrix24.delivery import Delivery
from tests.doubles.bitrix24.installation import Binding, Installation, Token
from tests.doubles.bitrix24.offline_queue import OfflineQueue
from tests.doubles.bitrix24.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock

    from tests.doubles.bitrix24.offline_queue import Row
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.sockets import Sockets

DELETE_EVENT = "ONOPENLINEMESSAGEDELETE"
CONNECTOR_TWIN = "ONIMCONNECTORMESSAGEDELETE"

Post = tuple[str, str, bytes]
"""An event's name, the handler's URL, the body."""


class Hub(Protocol):
    """What a portal needs of the stand-in around it."""

    lock: "RLock"
    sockets: "Sockets"
    clock: "Callable[[], float]"

    def remember(self, *secrets: str) -> None: ...
    def issued(self, token: Token) -> None: ...


class Portal:
    """One Bitrix24; `Bitrix24.add_portal` makes it."""

    def __init__(
        self,
        bitrix: Hub,
        *,
        domain: str,
        member_id: str,
        client_endpoint: str,
        server_endpoint: str,
        offline_extended: bool,
        auth_connector: bool,
        administrators: Sequence[int],
        handler_id_key: Literal["event_handler_id", "eventId", ""],
    ) -> None:
        self.bitrix = bitrix
        self.domain = domain
        self.member_id = member_id
        self.client_endpoint = client_endpoint
        self.server_endpoint = server_endpoint
        self.offline_extended = offline_extended
        self.auth_connector = auth_connector
        self.administrators = set(administrators)
        self.handler_id_key = handler_id_key
        self.installations: list[Installation] = []
        self.deliveries: list[Delivery] = []
        self.rate_limit: RateLimit | None = None
        self.offline = OfflineQueue(bitrix.clock)
        self._ids = count(1)
        self._delivered = Condition(bitrix.lock)
        self._unannounced: dict[Installation, int | None] = {}

    def install(
        self,
        client_id: str = "",
        scope: str = "imopenlines",
        *,
        status: str = "L",
        connectors: Sequence[str] | frozenset[str] = (),
    ) -> Installation:
        """Install an application; `connectors` are those it added itself (they get the twin event).

        A local application's `client_id` is `local.` and an identifier, if none is given.
        """
        with self.bitrix.lock:
            client_id = client_id or f"local.{self.member_id[:8]}.{len(self.installations) + 1}"
            app = Installation(self, client_id, scope, status, frozenset(connectors))
            self.installations.append(app)
            return app

    def next_binding_id(self) -> int:
        """Return the number of the next event handler."""
        return next(self._ids)

    def limit_rate(self, burst: int = 50, per_second: float = 2.0) -> None:
        """Refuse REST calls with QUERY_LIMIT_EXCEEDED beyond a bucket (page limits: 50 and 2)."""
        self.rate_limit = RateLimit(burst, per_second)

    def queue(self, app: Installation, connector: str = "") -> "list[Row]":
        """Return copies of the offline rows of an application, as event.offline.list shows them."""
        with self.bitrix.lock:
            return [dict(row) for row in self.offline.select(app.source(connector))]

    def enqueue(
        self,
        app: Installation,
        event: str,
        data: "Value",
        *,
        additional: "Value" = False,
        connector: str = "",
    ) -> None:
        """Write any row, e.g. one with EVENT_DATA and EVENT_ADDITIONAL `false`."""
        with self.bitrix.lock:
            self.offline.add(app.source(connector), event, data, additional)
            self._unannounced.setdefault(app, None)

    def delete_message(
        self,
        *external_ids: str,
        connector: str = "myconnector",
        line: int = 107,
        chat_id: str = "channel-123",
        im_chat_id: int = 1807,
        im_message_id: int | None = None,
        user_id: int | None = 27,
        deliver: bool = True,
        by: Installation | None = None,
    ) -> list[PortalDeletion]:
        """Delete a message inside Bitrix24: shape (a), one element per external id.

        `user_id` None: a bot or a robot did it. `by`: the application whose REST call did it.
        """
        im_message_id = im_message_id or 86500 + next(self._ids)
        external_ids = external_ids or (f"ext-msg-{im_message_id}",)
        elements: list[Value] = [
            {
                "im": {"chat_id": im_chat_id, "message_id": im_message_id},
                "message": {"id": external_id},
                "chat": {"id": chat_id},
            }
            for external_id in external_ids
        ]
        about: dict[str, Value] = {"CONNECTOR": connector, "LINE": line}
        self.fire(DELETE_EVENT, {**about, "DATA": elements}, user_id, deliver=deliver, by=by)
        twin: dict[str, Value] = {**about, "MESSAGES": elements}
        self.fire(CONNECTOR_TWIN, twin, user_id, deliver=deliver, by=by, connector=connector)
        return [
            PortalDeletion(
                *(self.member_id, im_chat_id, im_message_id, external_id),
                *(connector, line, chat_id, user_id),
            )
            for external_id in external_ids
        ]

    def customer_deletes(
        self,
        message_id: str = "",
        *,
        connector: str = "myconnector",
        line: int = 107,
        chat_id: str = "channel-123",
        customer_id: int = 1985,
        user_id: int | None = 27,
        chat: "Mapping[str, Value] | None" = None,
        message: "Mapping[str, Value] | None" = None,
        extra: "Mapping[str, Value] | None" = None,
        deliver: bool = True,
        by: Installation | None = None,
    ) -> CustomerDeletion:
        """Let the customer delete a message in the external system: shape (b), never the twin.

        `chat`, `message` and `extra` (`ref`, `extra`) add to, or replace, what the connector sends,
        unvalidated; `user_id` is whose token the connector uses, not who deleted.
        """
        message_id = message_id or f"ext-msg-{86500 + next(self._ids)}"
        about: Value = {
            "connector_id": connector,
            "line_id": line,
            "chat_id": chat_id,
            "user_id": customer_id,
        }
        content: Value = {
            "connector": about,
            "chat": {"id": chat_id, **(chat or {})},
            "message": {"id": message_id, "user_id": customer_id, **(message or {})},
            **(extra or {}),
        }
        self.fire(DELETE_EVENT, {"DATA": content}, user_id, deliver=deliver, by=by)
        return CustomerDeletion(self.member_id, connector, line, chat_id, message_id, customer_id)

    def fire(
        self,
        event: str,
        data: "Value",
        user_id: int | None = 27,
        *,
        deliver: bool = True,
        by: Installation | None = None,
        connector: str | None = None,
    ) -> list[Delivery]:
        """Let an event happen: rows for offline bindings at once, then a POST per online one.

        No row for the application whose own REST call did it, but for one bound with an
        `auth_connector`. With `connector`, only the application that added it is told.
        `deliver=False`: the handler is down; Bitrix24 does not try again.
        """
        with self.bitrix.lock:
            posts = self.announce(event, data, user_id, by=by, connector=connector)
        return self.post_all(posts, deliver=deliver)

    def announce(
        self,
        event: str,
        data: "Value",
        user_id: int | None,
        *,
        by: Installation | None = None,
        connector: str | None = None,
        only: Installation | None = None,
    ) -> list[Post]:
        """Write the rows of an event, and return the POSTs to those who are bound at this moment.

        With `only`, no other application is told. The caller holds the lock, and posts later.
        """
        posts: list[Post] = []
        for app in self.installations:
            mine = connector is None or connector in app.connectors
            for bound in app.bindings:
                if bound.event != event or not mine or only not in {None, app}:
                    continue
                if bound.handler:
                    token = self._token_for(app, bound, user_id)
                    body = app.event(event, data, token, handler_id=bound.id)
                    posts.append((event, bound.handler, body))
                elif by is not app or bound.connector:
                    additional: Value = {"user_id": str(user_id) if user_id else 0}
                    self.offline.add(app.source(bound.connector), event, data, additional)
                    self._unannounced[app] = user_id
        return posts

    def _token_for(self, app: Installation, bound: Binding, user_id: int | None) -> Token | None:
        """Issue the token of a delivery: `auth_type`'s user's, or that of whoever caused it."""
        whose = bound.user_id or user_id
        return app.token(whose) if whose else None

    def ping(self, *, deliver: bool = True) -> list[Delivery]:
        """Send ONOFFLINEEVENT to each application that has had new rows since the last ping.

        The token is `auth_type`'s user's, fresh; an unset `auth_type` means whoever caused the last
        row, who may be no administrator, or nobody. A real portal pings by itself when it writes a
        row, unless `minTimeout` has not passed, and makes up for none that it left out
        (EventOfflineTable::checkSendTime); here the test decides when.
        """
        posts: list[Post] = []
        with self.bitrix.lock:
            for app, user_id in self._unannounced.items():
                for bound in app.bindings:
                    if bound.event == "ONOFFLINEEVENT":
                        token = self._token_for(app, bound, user_id)
                        posts.append(
                            (
                                bound.event,
                                bound.handler,
                                app.offline_ping(token, handler_id=bound.id),
                            )
                        )
            self._unannounced.clear()
        return self.post_all(posts, deliver=deliver)

    def post(self, url: str, body: bytes, event: str = "") -> Delivery:
        """Post any body to any handler, e.g. ONAPPINSTALL to the installation path."""
        return self.post_all([(event, url, body)])[0]

    def post_all(self, posts: Sequence[Post], *, deliver: bool = True) -> list[Delivery]:
        """Post one after the other, outside the lock, and keep what came of it."""
        made = []
        for event, url, body in posts:
            if deliver:
                done = delivery.post(event, url, body, self.bitrix.sockets)
            else:
                done = Delivery(event, url, body, failure="the handler was down")
            made.append(done)
            with self._delivered:
                self.deliveries.append(done)
                self._delivered.notify_all()
        return made

    def wait_for_deliveries(self, number: int, seconds: float = 5.0) -> list[Delivery]:
        """Wait until there have been so many deliveries; TimeoutError when there are not."""
        with self._delivered:
            if not self._delivered.wait_for(lambda: len(self.deliveries) >= number, seconds):
                raise TimeoutError(number, self.deliveries)
            return list(self.deliveries)
