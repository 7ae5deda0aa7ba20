"""The stand-in itself: one HTTP server that plays both OAuth servers and all portals."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock, Thread
from typing import Self
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import errors, oauth, rest
from tests.doubles.bitrix24.connection import Server
from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.faults import Fault, Redirect
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.bitrix24.installation import Token
from tests.doubles.bitrix24.php import Value
from tests.doubles.bitrix24.portal import Portal
from tests.doubles.bitrix24.request import Answer
from tests.doubles.bitrix24.sockets import Sockets
from tests.doubles.bitrix24.timing import timing

TECH_ZONES = (".ru", ".by", ".kz", ".uz", ".am", ".az", ".ge", ".kg")
"""The portals that belong to the OAuth server oauth.bitrix24.tech."""


@dataclass(frozen=True)
class Call:
    """A REST call as received, in upper or lower case; `params` is without `auth`."""

    path: str
    method: str
    params: Mapping[str, Value]


@dataclass
class _Plan:
    method: str
    fault: Fault
    after: int
    times: int | None

    def strikes(self, method: str) -> bool:
        if method != self.method or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class Bitrix24:
    """Bitrix24 on 127.0.0.1, for as long as a `with` block lasts.

    `secrets` holds every access, refresh and application token ever issued, `calls` every REST call
    received, both in order. Leaving the block ends every thread, even those within a fault, and
    raises what went wrong inside the stand-in itself, if anything did.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = RLock()
        self.sockets = Sockets()
        self.secrets: list[str] = []
        self.calls: list[Call] = []
        self.portals: list[Portal] = []
        self.failures: list[BaseException] = []
        self._tokens: dict[str, Token] = {}
        self._homes: dict[str, Portal] = {}
        self._former_homes: dict[str, Fault | None] = {}
        self._plans: list[_Plan] = []
        self._server = Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.oauth_url = f"{self.url}/oauth"
        self.oauth_tech_url = f"{self.url}/oauth.tech"
        self._thread = Thread(target=self._server.serve_forever, args=[0.01], name="bitrix24")

    @property
    def oauth_servers(self) -> str:
        """Both OAuth servers, comma-separated."""
        return f"{self.oauth_url},{self.oauth_tech_url}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.shutdown()
        self.sockets.close()
        self._server.server_close()
        self._thread.join()
        if self.failures and kind is None:
            raise self.failures[0]

    def add_portal(
        self,
        domain: str = "some-domain.bitrix24.com",
        *,
        member_id: str = "",
        offline_extended: bool = True,
        administrators: Sequence[int] = (1,),
        pings: bool = True,
    ) -> Portal:
        """Add a portal; its zone decides which OAuth server is its own.

        `offline_extended`: whether its plan has it. `pings`: whether it pings by itself when it
        writes a row, as real ones do.
        """
        with self.lock:
            tech = domain.endswith(TECH_ZONES)
            portal = Portal(
                self,
                domain=domain,
                member_id=member_id or secrets.token_hex(16),
                client_endpoint="",
                server_endpoint=f"{self.oauth_tech_url if tech else self.oauth_url}/rest/",
                offline_extended=offline_extended,
                administrators=administrators,
                pings=pings,
            )
            self.portals.append(portal)
            self._settle(portal)
            return portal

    def move(self, portal: Portal, old_address: Fault | None) -> None:
        """Give a portal another endpoint; `old_address` answers at the former one, else a 302."""
        with self.lock:
            former = next(home for home, at_home in self._homes.items() if at_home is portal)
            del self._homes[former]
            self._former_homes[former] = old_address or Redirect(f"https://{portal.domain}/rest/")
            self._settle(portal)

    def _settle(self, portal: Portal) -> None:
        home = f"/portals/{len(self._homes) + len(self._former_homes) + 1}/rest"
        self._homes[home] = portal
        portal.client_endpoint = f"{self.url}{home}/"

    def fault(self, method: str, fault: Fault, *, after: int = 0, times: int | None = 1) -> None:
        """Let a fault strike `times` calls of a method (None: all), after the first `after`.

        Several faults of one method strike one after the other.
        """
        with self.lock:
            self._plans.append(_Plan(method, fault, after, times))

    def clear_faults(self) -> None:
        """Forget all pending faults."""
        with self.lock:
            self._plans.clear()

    def calls_to(self, method: str) -> list[Call]:
        """Return the calls of one method, in order."""
        with self.lock:
            return [call for call in self.calls if call.method == method]

    def remember(self, *secret: str) -> None:
        """Register a secret that must never appear in a log."""
        with self.lock:
            self.secrets.extend(secret)

    def issued(self, token: Token) -> None:
        """Register a token with its portal and its OAuth server."""
        with self.lock:
            self._tokens[token.access_token] = token
            self.remember(token.access_token, token.refresh_token)

    def receive(self, path: str, params: Mapping[str, Value]) -> Fault | None:
        """Record a call; return the fault that strikes it."""
        home, method = _parts(path)
        with self.lock:
            shown = {name: value for name, value in params.items() if name != "auth"}
            self.calls.append(Call(path, method, shown))
            if home in self._former_homes:
                return self._former_homes[home]
            plan = next((plan for plan in self._plans if plan.strikes(method.lower())), None)
            return plan.fault if plan else None

    def answer(self, path: str, params: Mapping[str, Value]) -> tuple[Message, Answer]:
        """Execute a call."""
        started = self.clock()
        try:
            with self.lock:
                answer = self._dispatch(*_parts(path), params)
        except RestError as error:
            body = {"error": error.error, "error_description": error.description}
            return Message.json(error.status, body), Answer(None)
        time = timing(started, self.clock())
        return Message.json(200, {"result": answer.result, **answer.paging, "time": time}), answer

    def _dispatch(self, home: str, method: str, params: Mapping[str, Value]) -> Answer:
        token = self._tokens.get(str(params.get("auth")))
        if home in {"/oauth/rest", "/oauth.tech/rest"}:
            if method.lower() != "app.info":
                raise errors.method_not_found()
            known = token.installation.portal if token else None
            at_home = known and urlsplit(known.server_endpoint).path == f"{home}/"
            return oauth.app_info(known if at_home else None, token, params)
        if home not in self._homes:
            raise errors.method_not_found()
        return rest.call(self._homes[home], method.lower(), token, params)


def _parts(path: str) -> tuple[str, str]:
    """Split a path into its target and the method, which may end in `.json` or a slash."""
    home, _, method = path.removesuffix("/").rpartition("/")
    return home, method.removesuffix(".json")
