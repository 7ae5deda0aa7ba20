"""A portal: its address and its people, its applications, and the events it sends."""

from collections.abc import Sequence
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, Protocol

from tests.doubles.bitrix24 import delivery
from tests.doubles.bitrix24.delivery import Delivery
from tests.doubles.bitrix24.installation import Binding, Installation, Token
from tests.doubles.bitrix24.offline_queue import OfflineQueue
from tests.doubles.bitrix24.open_lines import OpenLines
from tests.doubles.bitrix24.rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import RLock

    from tests.doubles.bitrix24.faults import Fault
    from tests.doubles.bitrix24.offline_queue import Row
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.sockets import Sockets

PING_SECONDS = 1.0
"""The shortest time between two pings (EventOfflineTable::checkSendTime)."""

Post = tuple[str, str, bytes]
"""An event's name, the handler's URL, the body."""


class Hub(Protocol):
    """What a portal needs from the stand-in around it."""

    lock: "RLock"
    sockets: "Sockets"
    clock: "Callable[[], float]"

    def remember(self, *secrets: str) -> None: ...
    def issued(self, token: Token) -> None: ...
    def move(self, portal: "Portal", old_address: "Fault | None") -> None: ...


class Portal(OpenLines):
    """One Bitrix24; `Bitrix24.add_portal` makes it.

    What may change while a test runs, by assignment: `offline_extended`, `batch_offline` and
    `commercial` (what the plan has), `pings` (whether it pings by itself).
    """

    bitrix: Hub

    def __init__(
        self,
        bitrix: Hub,
        *,
        domain: str,
        member_id: str,
        client_endpoint: str,
        server_endpoint: str,
        offline_extended: bool,
        administrators: Sequence[int],
        pings: bool,
    ) -> None:
        super().__init__()
        self.bitrix = bitrix
        self.domain = domain
        self.member_id = member_id
        self.client_endpoint = client_endpoint
        self.server_endpoint = server_endpoint
        self.offline_extended = offline_extended
        self.batch_offline = True
        self.commercial = True
        self.pings = pings
        self.administrators = set(administrators)
        self.gone: set[int] = set()
        self.installations: list[Installation] = []
        self.deliveries: list[Delivery] = []
        self.rate_limit: RateLimit | None = None
        self.offline = OfflineQueue(bitrix.clock)
        self._binding_ids = count(1)
        self._delivered = Condition(bitrix.lock)
        self._commits = True
        self._pinged: dict[int, float] = {}
        self._wrote: dict[Installation, int | None] = {}

    # Its people and its address.

    def promote(self, user_id: int) -> None:
        """Make a user an administrator."""
        with self.bitrix.lock:
            self.administrators.add(user_id)
            self.gone.discard(user_id)

    def demote(self, user_id: int) -> None:
        """Make an administrator an employee: their tokens, old and new, may not read queues."""
        with self.bitrix.lock:
            self.administrators.discard(user_id)

    def dismiss(self, user_id: int) -> None:
        """Let a user leave: their tokens are refused, and no new ones are issued (inferred)."""
        with self.bitrix.lock:
            self.administrators.discard(user_id)
            self.gone.add(user_id)

    def rename(self, domain: str, *, old_address: "Fault | None" = None) -> None:
        """Rename the portal: `member_id`, tokens and bindings stay; domain and endpoint change.

        The old address answers 302 to the new one, or what `old_address` says, such as
        `Disconnect()`.
        """
        with self.bitrix.lock:
            self.domain = domain
            self.bitrix.move(self, old_address)

    def limit_rate(self, burst: int = 50, per_second: float = 2.0) -> None:
        """Refuse REST calls with QUERY_LIMIT_EXCEEDED beyond a bucket (page limits: 50 and 2)."""
        self.rate_limit = RateLimit(burst, per_second)

    # Its applications.

    def install(
        self,
        client_id: str = "",
        scope: str = "imopenlines",
        *,
        status: str = "L",
        connectors: Sequence[str] | frozenset[str] = (),
    ) -> Installation:
        """Install an application; `connectors` are those it registered (they get the twin event).

        A local application's `client_id` is `local.` and an identifier, if none is given.
        Registering a connector makes its id lower case. Nothing is sent: `Installation.save_form`.
        """
        with self.bitrix.lock:
            client_id = client_id or f"local.{self.member_id[:8]}.{len(self.installations) + 1}"
            registered = frozenset(connector.lower() for connector in connectors)
            app = Installation(self, client_id, scope, status, registered)
            self.installations.append(app)
            return app

    def next_binding_id(self) -> int:
        """Return the id of the next event handler."""
        return next(self._binding_ids)

    # The offline queue.

    def queue(self, app: Installation) -> "list[Row]":
        """Return copies of the offline rows of an application, as event.offline.list shows them."""
        with self.bitrix.lock:
            return [dict(row) for row in self.offline.select(app.client_id)]

    def enqueue(
        self, app: Installation, event: str, data: "Value", *, additional: "Value" = False
    ) -> None:
        """Write any row, e.g. one with EVENT_DATA and EVENT_ADDITIONAL `false`, without a ping."""
        with self.bitrix.lock:
            self.offline.add(app.client_id, event, data, additional, commit=self._commits)

    @contextmanager
    def uncommitted_rows(self) -> "Iterator[None]":
        """Give rows written in the block their ids, but show them only after `commit`."""
        self._commits = False
        try:
            yield
        finally:
            self._commits = True

    def commit(self) -> None:
        """Make visible the rows that were written within `uncommitted_rows`."""
        with self.bitrix.lock:
            self.offline.commit()

    # Its events.

    def fire(
        self,
        event: str,
        data: "Value",
        user_id: int | None = 27,
        *,
        deliver: bool = True,
        connector: str | None = None,
    ) -> list[Delivery]:
        """Trigger an event: rows for offline bindings immediately, then the POSTs, pings last.

        With `connector`, only the application that registered it is told. `deliver=False`: the
        handler is down; Bitrix24 does not try again.
        """
        with self.bitrix.lock:
            posts = self.announce(event, data, user_id, connector=connector)
        return self.post_all(posts, deliver=deliver)

    def announce(
        self,
        event: str,
        data: "Value",
        user_id: int | None,
        *,
        connector: str | None = None,
        only: Installation | None = None,
    ) -> list[Post]:
        """Write the rows of an event, and return the POSTs to those who are bound at this moment.

        Rows cause a ping, at most one a second whatever `options.minTimeout` says; a skipped one is
        not made up for. With `only`, no other application is told. The caller holds the lock,
        and posts later.
        """
        posts: list[Post] = []
        pings: list[Post] = []
        for app in self.installations:
            if (connector is not None and connector not in app.connectors) or only not in {
                None,
                app,
            }:
                continue
            for bound in app.bindings:
                if bound.event != event:
                    continue
                if bound.handler:
                    token = self._token_for(app, bound, user_id)
                    body = app.event(event, data, token, handler_id=bound.id)
                    posts.append((event, bound.handler, body))
                else:
                    additional: Value = {"user_id": str(user_id) if user_id else 0}
                    self.offline.add(app.client_id, event, data, additional, commit=self._commits)
                    self._wrote[app] = user_id
                    pings += self._pings(app) if self.pings else []
        return posts + pings

    def ping(self, *, deliver: bool = True) -> list[Delivery]:
        """Send ONOFFLINEEVENT wherever it is bound, as if each application had a new row now.

        It brings a fresh token of the user in `auth_type`; without `auth_type`, of the user who
        caused the last row, administrator or not; if no user did, it brings none.
        """
        with self.bitrix.lock:
            self._pinged.clear()
            posts = [post for app in self.installations for post in self._pings(app)]
        return self.post_all(posts, deliver=deliver)

    def _pings(self, app: Installation) -> list[Post]:
        """Return the pings that are due to an application."""
        posts = []
        now = self.bitrix.clock()
        for bound in app.bindings:
            last = self._pinged.get(bound.id)
            if bound.event == "ONOFFLINEEVENT" and (last is None or now - last >= PING_SECONDS):
                self._pinged[bound.id] = now
                token = self._token_for(app, bound, self._wrote.get(app))
                posts.append(
                    (bound.event, bound.handler, app.offline_ping(token, handler_id=bound.id))
                )
        return posts

    def _token_for(self, app: Installation, bound: Binding, user_id: int | None) -> Token | None:
        """Issue the token of a delivery: `auth_type`'s, else that of the user who caused it."""
        whose = bound.user_id or user_id
        return app.token(whose) if whose and whose not in self.gone else None

    def post(self, url: str, body: bytes, event: str = "") -> Delivery:
        """Post any body to any handler, e.g. ONAPPINSTALL to the installation path."""
        return self.post_all([(event, url, body)])[0]

    def post_all(self, posts: Sequence[Post], *, deliver: bool = True) -> list[Delivery]:
        """Post one after the other, outside the lock, and keep the results."""
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
        """Wait for this many deliveries; raises TimeoutError."""
        with self._delivered:
            if not self._delivered.wait_for(lambda: len(self.deliveries) >= number, seconds):
                raise TimeoutError(number, self.deliveries)
            return list(self.deliveries)
