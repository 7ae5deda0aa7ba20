"""The order of the checks, and what the last resort keeps, without a server around it."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from handler.answers import Answer
from handler.body import JSON
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.tokens import token_digest
from tests.function import ROOT
from tests.memory_store import MemoryStore


class Instance:
    """A receiver with a store in memory, and its log."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        self.store = MemoryStore()
        digests = [token_digest("T")]
        self.store.write("portals/M", {"active": True, "token_digests": digests})
        self._log = io.StringIO()
        self._receiver = Receiver(Settings(**settings), lambda: self.store, Log(self._log))

    def ask(self, method: str, path: str, content_type: str = "", body: bytes = b"") -> Answer:
        return self._receiver.receive(
            Request(method=method, path=path, content_type=content_type, read_body=lambda: body)
        )

    def send(self, event: str, data: object) -> Answer:
        auth = {"member_id": "M", "application_token": "T"}
        body = json.dumps({"event": event, "data": data, "auth": auth}).encode()
        return self.ask("POST", "/", JSON, body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_is_answered_without_a_line_in_the_log(path: str) -> None:
    """Uptime checks come every few minutes, from several places."""
    instance = Instance()

    assert Answer(200, {"status": "up"}) == instance.ask("GET", path)
    assert [] == instance.lines


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/any", "POST"), ("HEAD", "/", "GET, POST"), ("PUT", "/health", "GET, POST")],
)
def test_the_method_comes_first(method: str, path: str, allowed: str) -> None:
    """Whatever else is wrong with the request."""
    answer = Instance().ask(method, path, "text/plain", b"{")

    assert (405, "method_not_allowed") == (answer.status, answer.outcome)
    assert {"Allow": allowed} == answer.headers


def test_a_connector_that_nobody_wants_leaves_nothing() -> None:
    """CONNECTORS chooses among the connectors of all applications."""
    instance = Instance(connectors=frozenset({"mine"}))
    message = {"im": {"chat_id": 1, "message_id": 2}, "message": {"id": "a"}, "chat": {"id": "b"}}
    data = {"CONNECTOR": "yours", "LINE": 1, "DATA": [message]}

    answer = instance.send("ONOPENLINEMESSAGEDELETE", data)

    assert {"status": "ignored", "event": "ONOPENLINEMESSAGEDELETE"} == answer.body
    assert ["portals/M"] == list(instance.store.documents)


def test_a_bug_in_another_event_keeps_nothing_of_it() -> None:
    """The data of an event that is no deletion is never stored, nor logged."""

    def fail() -> None:
        raise RuntimeError("nobody may see T")

    instance = Instance()
    instance.store.before_put = fail

    answer = instance.send("ONAPPUNINSTALL", {"CLEAN": "1", "SECRET": "T"})

    assert (500, "internal_error") == (answer.status, answer.outcome)
    (line,) = instance.lines
    assert ("ERROR", "RuntimeError") == (line["severity"], line["bug"])
    assert "records" not in line
    assert "nobody may see" not in json.dumps(line)


def test_what_is_refused_early_waits_for_no_import() -> None:
    """An instance that starts only to refuse, or to say that it is up, is there sooner."""
    script = """
import io, sys
from handler.body import FORM
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings

receiver = Receiver(Settings(), lambda: sys.exit("opened the store"), Log(io.StringIO()))
late = ["pydantic", "handler.dispatch", "handler.firestore", "handler.local_store"]

def ask(method, content_type="", body=b""):
    request = Request(
        method=method, path="/", content_type=content_type, read_body=lambda: body
    )
    status = receiver.receive(request).status
    print(status, *[name for name in late if name in sys.modules])

ask("GET")
ask("PUT")
ask("POST", "text/plain", b"x")
ask("POST", FORM, b"a=1&" * 1_001)
ask("POST", FORM, b"a=1")
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    expected = ["200", "405", "415", "400", "400 pydantic"]
    assert expected == printed.stdout.splitlines()
