"""The stand-in itself: one HTTP server that plays both OAuth servers and all portals."""

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import errors, rest
from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.faults import Fault
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.bitrix24.installation import Token
from tests.doubles.bitrix24.php import Value, parse_str
from tests.doubles.bitrix24.portal import Portal
from tests.doubles.bitrix24.sockets import Sockets

IDLE_SECONDS = 60.0
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
    received, both in order. Leaving the block ends every thread, also those within a fault, and
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
        self._plans: list[_Plan] = []
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.oauth_url = f"{self.url}/oauth"
        self.oauth_tech_url = f"{self.url}/oauth-tech"
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
        auth_connector: bool = True,
        administrators: Sequence[int] = (1,),
        handler_id_key: Literal["event_handler_id", "eventId", ""] = "event_handler_id",
    ) -> Portal:
        """Add a portal; its zone decides which OAuth server is its own.

        `offline_extended` and `auth_connector` are the plan's features; `handler_id_key` is how its
        events name their handler (today's servers, the documentation, dumps of 2022).
        """
        with self.lock:
            base = self.oauth_tech_url if domain.endswith(TECH_ZONES) else self.oauth_url
            portal = Portal(
                self,
                domain=domain,
                member_id=member_id or secrets.token_hex(16),
                client_endpoint=f"{self.url}/portals/{len(self.portals) + 1}/rest/",
                server_endpoint=f"{base}/rest/",
                offline_extended=offline_extended,
                auth_connector=auth_connector,
                administrators=administrators,
                handler_id_key=handler_id_key,
            )
            self.portals.append(portal)
            return portal

    def fault(self, method: str, fault: Fault, *, after: int = 0, times: int | None = 1) -> None:
        """Let a fault strike calls of a method, `times` of them (None: all), `after` so many.

        Several faults of one method strike one after the other.
        """
        with self.lock:
            self._plans.append(_Plan(method, fault, after, times))

    def clear_faults(self) -> None:
        """Forget every fault that has not struck yet."""
        with self.lock:
            self._plans.clear()

    def calls_to(self, method: str) -> list[Call]:
        """Return the calls of one method, in order."""
        with self.lock:
            return [call for call in self.calls if call.method == method]

    def remember(self, *secret: str) -> None:
        """Keep something that must never show up in a log."""
        with self.lock:
            self.secrets.extend(secret)

    def issued(self, token: Token) -> None:
        """Make a token known to its portal and its OAuth server."""
        with self.lock:
            self._tokens[token.access_token] = token
            self.remember(token.access_token, token.refresh_token)

    def receive(self, path: str, params: Mapping[str, Value]) -> tuple[str, Fault | None]:
        """Note a call; return its method, and the fault that is to strike it."""
        written = path.rpartition("/")[2].removesuffix(".json")
        method = written.lower()
        with self.lock:
            shown = {name: value for name, value in params.items() if name != "auth"}
            self.calls.append(Call(path, written, shown))
            plan = next((plan for plan in self._plans if plan.strikes(method)), None)
            return method, plan.fault if plan else None

    def answer(
        self, path: str, method: str, params: Mapping[str, Value]
    ) -> tuple[Message, rest.Answer]:
        """Carry out a call."""
        started = self.clock()
        token = self._tokens.get(str(params.get("auth")))
        try:
            with self.lock:
                answer = self._dispatch(path, method, token, params)
        except RestError as error:
            body = {"error": error.error, "error_description": error.description}
            return Message.json(error.status, body), rest.Answer(None)
        content = {"result": answer.result, **answer.paging, "time": self._time(started)}
        return Message.json(200, content), answer

    def _dispatch(
        self, path: str, method: str, token: Token | None, params: Mapping[str, Value]
    ) -> rest.Answer:
        home = path.rpartition("/")[0]
        if home in {"/oauth/rest", "/oauth-tech/rest"}:
            if method != "app.info":
                raise errors.method_not_found()
            known = token.installation.portal if token else None
            at_home = known and urlsplit(known.server_endpoint).path == f"{home}/"
            return rest.app_info(known if at_home else None, token, params)
        found = re.fullmatch(r"/portals/(\d+)/rest", home)
        if not found or not 0 < int(found[1]) <= len(self.portals):
            raise errors.method_not_found()
        return rest.call(self.portals[int(found[1]) - 1], method, token, params)

    def _time(self, started: float) -> dict[str, float | str]:
        finished = self.clock()
        return {
            "start": started,
            "finish": finished,
            "duration": finished - started,
            "processing": finished - started,
            "date_start": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "date_finish": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
            "operating": 0,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 128

    def __init__(self, bitrix: Bitrix24) -> None:
        self.bitrix = bitrix
        super().__init__(("127.0.0.1", 0), _Connection)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: _Server

    def handle(self) -> None:
        bitrix = self.server.bitrix
        with bitrix.sockets.holding(self.connection):
            try:
                super().handle()
            except OSError:
                pass  # the caller hung up, or this side did
            except Exception as error:  # noqa: BLE001 - shown when the stand-in closes
                bitrix.failures.append(error)

    def do_POST(self) -> None:
        bitrix = self.server.bitrix
        path = urlsplit(self.path).path
        params = self._params()
        method, fault = bitrix.receive(path, params)
        message, answer = None, rest.Answer(None)

        def effect() -> Message:
            nonlocal message, answer
            message, answer = bitrix.answer(path, method, params)
            return message

        try:
            if fault:
                self.close_connection = True
                fault(self, effect)
            else:
                self.write(effect().encode())
        finally:
            if answer.afterwards:
                answer.afterwards()

    def _params(self) -> dict[str, Value]:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get_content_type() != "application/json":
            return parse_str(raw.decode(errors="replace"))
        try:
            params = json.loads(raw)
        except ValueError:
            return {}  # PHP finds no parameters then, thus no `auth`
        return params if isinstance(params, dict) else {}

    def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def pause(self, seconds: float) -> bool:
        return not self.server.bitrix.sockets.closing.wait(seconds)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: `calls` has it all."""
