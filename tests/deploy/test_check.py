"""The deep check: with the real function and Google's emulator, and against failures."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.doubles.emulator import Emulator
from tests.doubles.function import ROOT, Function
from tests.doubles.loopback import Loopback, QuietHandler

_spec = importlib.util.spec_from_file_location("check", ROOT / "deploy/check.py")
assert _spec
assert _spec.loader
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)


class Server(Loopback):
    """Firestore's REST API and the function in one: scripted answers, recorded requests."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.documents: dict[str, Any] = {}
        self.refused: dict[str, int] = {}
        self.answers: list[tuple[int, str]] = []
        self.elsewhere = False
        self.cut = ""
        self.events: list[dict[str, list[str]]] = []
        self.authorized: set[str | None] = set()

    def paths(self, prefix: str) -> list[str]:
        if self.elsewhere:
            return []
        return [path for path in self.documents if path.startswith(f"{prefix}/")]


class Handler(QuietHandler):
    server: Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/hook":
            self.server.events.append(parse_qs(body.decode()))
            self.answer(*self.server.answers.pop(0))
            return
        self.server.authorized.add(self.headers["authorization"])
        path = self.path.partition("/documents")[2].partition("?")[0]
        status = self.server.refused.get(f"{self.command} {path.rpartition('/')[2][:12]}", 200)
        result: Any = {}
        if status == 200 and self.command == "POST":
            self.server.documents[f"/portals/{self.path.partition('=')[2]}"] = json.loads(body)
        elif status == 200 and self.command == "DELETE":
            self.server.documents.pop(path, None)
        elif self.command == "GET":
            found = [
                {"name": f"projects/p/databases/d/documents{p}"} for p in self.server.paths(path)
            ]
            result = {"documents": found} if found else {}
        self.answer(status, json.dumps(result))

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the standard library's names

    def answer(self, status: int, text: str) -> None:
        if status == 200 and "recorded" in text:
            (portal,) = self.server.events[-1]["auth[member_id]"]
            for group in ("deletions", "openline_messages"):
                self.server.documents[f"/portals/{portal}/{group}/1"] = {}
        announced = len(text) + (f"{self.command} {self.path}".startswith(self.server.cut or "-"))
        self.respond(status, text.encode(), **{"Content-Length": str(announced)})


RECORDED = (200, '{"status": "recorded", "recorded": 1, "duplicates": 0}')


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve on loopback."""
    with Server() as server:
        yield server


def run(server: Server) -> list[float]:
    """Run the check; return its pauses."""
    pauses: list[float] = []
    documents = check.Documents("p", "d", "ya29.token", server.url)
    check.check(documents, f"{server.url}/hook", "livechat", pauses.append)
    return pauses


def test_sample_is_stored_and_removed(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """Through the function as deployed, with texts kept, into Firestore and out again."""
    settings = {"FIRESTORE_EMULATOR_HOST": emulator.host, "GOOGLE_CLOUD_PROJECT": project}
    host = f"http://{emulator.host}"
    documents = check.Documents(project, "(default)", "owner", host)
    with Function(tmp_path / "log", **settings, RETENTION_DAYS="1") as function:
        check.check(documents, f"{function.url}/deploy-check", "livechat")
        assert "recorded" in function.log

    everything = {"structuredQuery": {"from": [{"allDescendants": True}]}}
    left = documents.call("POST", ":runQuery", everything)
    assert [found for found in left if "document" in found] == []


def test_active_portals_are_counted(emulator: Emulator, project: str) -> None:
    """To show how many stay behind when changing the database."""
    documents = check.Documents(project, "(default)", "owner", f"http://{emulator.host}")
    for number, active in enumerate((True, True, False)):
        fields = {"active": {"booleanValue": active}}
        documents.call("POST", f"/portals?documentId=m{number}", {"fields": fields})

    assert documents.active_portals() == 2


def test_new_role_is_waited_for(server: Server) -> None:
    """If the function cannot use Firestore yet, it is retried for minutes, with a notice."""
    server.answers = [(503, "{}"), (503, "{}"), RECORDED]

    assert run(server) == [15, 15]
    assert len(server.events) == 3
    assert server.documents == {}
    assert server.authorized == {"Bearer ya29.token"}


def test_it_gives_up_after_several_minutes(server: Server) -> None:
    """The message names the role."""
    server.answers = [(503, "{}")] * check.TRIES

    with pytest.raises(check.CheckError, match=r"HTTP 503.*\n.*roles/datastore\.user"):
        run(server)
    assert server.documents == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((403, '{"error": "forbidden"}'), "Does it use a database other than d"),
        ((422, '{"error": "unprocessable_event"}'), "It did not store the sample"),
        ((200, '{"status": "ignored"}'), "It did not store the sample"),
    ],
)
def test_made_up_portal_is_always_removed(
    server: Server, answer: tuple[int, str], reason: str
) -> None:
    """And the function's own answer is shown."""
    server.answers = [answer]

    with pytest.raises(check.CheckError, match=reason) as caught:
        run(server)
    assert answer[1] in str(caught.value)
    assert server.documents == {}


def test_record_in_another_database_is_detected(server: Server) -> None:
    """The function reported success, but its record is not where it should be."""
    server.answers = [RECORDED]
    server.elsewhere = True

    with pytest.raises(check.CheckError, match="did not store the sample in d"):
        run(server)


def test_missing_permission_is_explained(server: Server) -> None:
    """Nothing was stored, so nothing has to be removed."""
    server.refused = {"POST portals": 403}

    with pytest.raises(check.CheckError, match="--skip-deep-check") as caught:
        run(server)
    assert "could not be removed" not in str(caught.value)
    assert server.events == []


def test_failed_removal_is_reported_with_a_command(server: Server) -> None:
    """Nothing is left without notice."""
    server.answers = [RECORDED]
    server.refused = {"DELETE 1": 500}

    with pytest.raises(check.CheckError, match="python -m handler portals purge deploy-check-"):
        run(server)


def test_a_function_that_does_not_answer_is_a_failure(server: Server) -> None:
    """The network's own error says why."""
    documents = check.Documents("p", "d", "t", server.url)

    with pytest.raises(check.CheckError, match="Connection refused"):
        check.check(documents, "http://127.0.0.1:9/hook", "livechat")
    assert server.documents == {}


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_breaks_off_is_a_failure(server: Server, status: int) -> None:
    """The made-up portal is removed, and no traceback is shown."""
    server.answers = [(status, "x")]
    server.cut = "POST /hook"

    with pytest.raises(check.CheckError, match="IncompleteRead"):
        run(server)
    assert server.documents == {}


def test_a_removal_whose_answer_breaks_off_is_reported_with_a_command(server: Server) -> None:
    """It may not have been carried out."""
    server.answers = [RECORDED]
    server.cut = "DELETE"

    with pytest.raises(check.CheckError, match="python -m handler portals purge deploy-check-"):
        run(server)
