"""Each outcome's complete answer, log line and documents, without a server."""

import io
import itertools
import json
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from math import inf
from typing import Any

import pytest

from handler import VERSION
from handler.answers import Answer
from handler.bitrix24 import portal_problems as problems
from handler.events.body import JSON
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.stores.interface import Store, StoreUnavailable
from handler.tokens import token_digest
from tests.doubles.memory_store import NOW, MemoryStore

TOKEN = "T"
DELETION = "ONOPENLINEMESSAGEDELETE"
MESSAGE = {"im": {"chat_id": 1, "message_id": 2}, "message": {"id": "a"}, "chat": {"id": "b"}}
DATA = {"CONNECTOR": "c", "LINE": 3, "DATA": [MESSAGE]}
RECORD = {
    "origin": "portal",
    "member_id": "M",
    "event": DELETION,
    "via": "online",
    "connector": "c",
    "line_id": 3,
    "message_id": "a",
    "chat_id": "b",
    "im_message_id": 2,
    "im_chat_id": 1,
    "user_id": 5,
}
MISFIT = {**DATA, "LINE": "a line"}


class Instance:
    """A receiver with a portal in a store in memory, and its log; its time stands still.

    The store can be opened `openings` times, and is unavailable from then on.
    """

    def __init__(self, openings: float = inf, **settings: Any) -> None:  # noqa: ANN401
        self.store = MemoryStore()
        digests = [token_digest(TOKEN)]
        self.store.write("portals/M", {"active": True, "token_digests": digests, "domain": "d"})
        self._openings = openings
        self._log = io.StringIO()
        self.receiver = Receiver(Settings(**settings), self._open, Log(self._log), lambda: NOW)

    def _open(self) -> Store:
        if not self._openings:
            raise StoreUnavailable("It is away.")
        self._openings -= 1
        return self.store

    def ask(self, method: str, path: str, content_type: str = "", body: bytes = b"") -> Answer:
        return self.receiver.receive(
            Request(method=method, path=path, content_type=content_type, read_body=lambda: body)
        )

    def send(self, event: str, data: object = None, token: str = TOKEN) -> Answer:
        auth = {"member_id": "M", "application_token": token, "user_id": 5}
        body = json.dumps({"event": event, "data": data, "auth": auth}).encode()
        return self.ask("POST", "/", JSON, body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log, without the milliseconds that each answer took."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        for line in lines:
            if line["outcome"] not in ("not_recorded", "portal_problem"):
                assert re.fullmatch(r"\d+\.\d", str(line.pop("duration_ms")))
        return lines

    @property
    def added(self) -> list[str]:
        """The paths of added documents."""
        return [path for path in self.store.documents if path != "portals/M"]


def line(severity: str, message: str, outcome: str, **more: object) -> dict[str, object]:
    """Return a line of the log."""
    return {"severity": severity, "message": message, "outcome": outcome, **more}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_is_answered_without_a_line_in_the_log(method: str, path: str) -> None:
    """Uptime checks come every few minutes, from several locations."""
    instance = Instance()

    assert Answer(200, {"status": "up", "version": VERSION}) == instance.ask(method, path)
    assert [] == instance.lines


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/any", "POST"), ("HEAD", "/any", "POST"), ("PUT", "/health", "GET, HEAD, POST")],
)
def test_method_is_checked_first(method: str, path: str, allowed: str) -> None:
    """Whatever else is wrong with the request."""
    instance = Instance()
    detail = "Bitrix24 sends events by POST; GET /health shows whether the function is up."
    body = {"error": "method_not_allowed", "detail": detail}

    answer = instance.ask(method, path, "text/plain", b"{")

    assert Answer(405, body, {"Allow": allowed}) == answer
    assert [line("WARNING", detail, "method_not_allowed")] == instance.lines


@pytest.mark.parametrize(
    ("event", "data", "body"),
    [
        (DELETION, DATA, {"status": "recorded", "recorded": 1, "duplicates": 0}),
        (
            DELETION,
            {**DATA, "DATA": [MESSAGE, MESSAGE]},
            {"status": "recorded", "recorded": 1, "duplicates": 1},
        ),
        ("ONAPPTEST", None, {"status": "ok", "event": "ONAPPTEST"}),
        ("ONIMBOTDELETE", None, {"status": "ignored", "event": "ONIMBOTDELETE"}),
    ],
)
def test_success_is_in_the_answer_and_one_log_line(
    event: str, data: object, body: Mapping[str, object]
) -> None:
    """With counts and the ids of the records, to find one from the other."""
    instance = Instance()

    answer = instance.send(event, data)

    assert (200, body, {}) == (answer.status, answer.body, answer.headers)
    counts = {name: body[name] for name in ("recorded", "duplicates") if name in body}
    outcome = str(body["status"])
    about = {"event": event, "member_id": "M"}
    names = {"ids": [path.rpartition("/")[2] for path in instance.added]} if counts else {}
    assert [line("INFO", outcome, outcome, **about, **counts, **names)] == instance.lines


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (
            "ONAPPINSTALL",
            {
                "status": "installed",
                "subscribed": False,
                "detail": "No installs are accepted. Set ALLOWED_PORTALS to the portal's domain, or"
                " CLIENT_ID to the application's, and choose Reinstall for the application in"
                " Bitrix24.",
            },
        ),
        (
            "ONOFFLINEEVENT",
            {
                "status": "recovered",
                "recorded": 0,
                "duplicates": 0,
                "quarantined": 0,
                "ignored": 0,
                "detail": problems.BY_HAND,
            },
        ),
    ],
)
def test_success_that_needs_an_operator_is_a_warning(
    event: str, body: Mapping[str, object]
) -> None:
    """The line says what to correct, in the words of the answer."""
    instance = Instance()

    assert Answer(200, body) == instance.send(event)

    written = instance.lines[-1]
    assert ("WARNING", body["detail"]) == (written["severity"], written["message"])


def test_excluded_connector_leaves_nothing() -> None:
    """CONNECTORS selects among the connectors of all applications."""
    instance = Instance(connectors=frozenset({"mine"}))

    answer = instance.send(DELETION, DATA)

    left_out = {"connector": "c", "ignored": 1}
    assert Answer(200, {"status": "ignored", "event": DELETION}, log=left_out) == answer
    assert [] == instance.added
    about = {"event": DELETION, "member_id": "M", **left_out}
    assert [line("INFO", "ignored", "ignored", **about)] == instance.lines


def test_a_record_takes_the_portals_domain_where_the_event_has_none() -> None:
    """RETENTION_DAYS, and a missing `ts`, count from the function's clock."""
    instance = Instance(retention_days=2)

    instance.send(DELETION, DATA)

    (path,) = instance.added
    times = {"event_at": NOW, "recorded_at": NOW, "expires_at": NOW + timedelta(days=2)}
    assert {**RECORD, "domain": "d", **times} == instance.store.documents[path].fields


def test_invalid_event_gets_its_fields_and_quarantine_id() -> None:
    """The sender learns which fields are wrong, and an administrator where to look."""
    instance = Instance()
    detail = (
        "Some of the data is invalid: the event is in quarantine, to be retried. The valid part is"
        " recorded."
    )

    answer = instance.send(DELETION, MISFIT)

    (path,) = instance.added
    assert path.startswith("portals/M/quarantine/")
    body = {
        "error": "unprocessable_event",
        "detail": detail,
        "recorded": 0,
        "duplicates": 0,
        "quarantine_id": path.rpartition("/")[2],
        "fields": ["data.LINE"],
    }
    assert Answer(422, body) == answer
    about = {"event": DELETION, "member_id": "M", "recorded": 0, "duplicates": 0}
    kept = {"quarantine_id": body["quarantine_id"]}
    assert [line("WARNING", detail, "unprocessable_event", **about, **kept)] == instance.lines


def test_partly_valid_event_names_both_documents() -> None:
    """The record and the quarantined event; an already known record is named, too."""
    instance = Instance()
    parts = {**DATA, "DATA": [MESSAGE, {**MESSAGE, "message": {"id": []}}]}

    for counts in ({"recorded": 1, "duplicates": 0}, {"recorded": 0, "duplicates": 1}):
        instance.send(DELETION, parts)
        names = {path.split("/")[2]: path.rpartition("/")[2] for path in instance.added}
        assert counts.items() <= instance.lines[-1].items()
        assert ([names["deletions"]], names["quarantine"]) == (
            instance.lines[-1]["ids"],
            instance.lines[-1]["quarantine_id"],
        )


@pytest.mark.parametrize("event", [DELETION, "ONAPPTEST", "ONAPPUNINSTALL", "ONOFFLINEEVENT"])
@pytest.mark.parametrize("known", [True, False])
def test_unknown_token_learns_nothing_else(event: str, known: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Nothing is stored, for any event; only the log says whether the portal is known."""
    instance = Instance()
    if not known:
        del instance.store.documents["portals/M"]
    detail = "No active portal has this application token."

    before = dict(instance.store.documents)

    answer = instance.send(event, DATA, "of nobody")

    body = {"error": "forbidden", "detail": detail}
    assert (403, body, {}) == (answer.status, answer.body, answer.headers)
    about: dict[str, object] = {"event": event, "member_id": "M"}
    if known:
        about["known"] = True
    assert [line("WARNING", detail, "forbidden", **about)] == instance.lines
    assert before == instance.store.documents


@pytest.mark.parametrize("event", [DELETION, "ONAPPTEST", "ONAPPINSTALL", "ONAPPUNINSTALL"])
@pytest.mark.parametrize("known", [True, False])
def test_each_event_of_a_stranger_costs_one_read(event: str, known: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """No more, however often it comes; nor less, so that its time does not say who is known."""
    instance = Instance()
    if not known:
        del instance.store.documents["portals/M"]
    before = dict(instance.store.documents)

    for reads in (1, 2):
        assert 403 == instance.send(event, DATA, "of nobody").status
        assert reads == instance.store.reads
    assert before == instance.store.documents


@pytest.mark.parametrize(
    "fields", [{"active": False}, {"active": False, "removed_at": NOW}, {"token_digests": "none"}]
)
def test_inactive_portal_is_still_known(fields: dict[str, Any]) -> None:
    """Uninstalled, removed or damaged by hand: its events still arrive."""
    instance = Instance()
    instance.store.write("portals/M", fields)

    assert 403 == instance.send(DELETION, DATA).status
    assert [True] == [written["known"] for written in instance.lines]


def test_recently_accepted_token_needs_no_store() -> None:
    """Except for events that change the portal's tokens, which always read the store."""
    instance = Instance()
    instance.send(DELETION, DATA)
    instance.send("ONAPPTEST")
    portal = instance.store.documents.pop("portals/M")

    assert 200 == instance.send(DELETION, DATA).status
    assert 403 == instance.send("ONAPPUNINSTALL").status
    assert 200 == instance.send(DELETION, DATA).status

    instance.store.documents["portals/M"] = portal
    assert 200 == instance.send("ONAPPUNINSTALL").status
    assert 403 == instance.send(DELETION, DATA).status


def test_lasting_problem_does_not_disturb_events() -> None:
    """Once it is logged, the next event reads the portal again; the store may be unavailable."""
    instance = Instance()
    portal = instance.store.documents["portals/M"].fields
    instance.store.write("portals/M", {**portal, "problem": "P."})
    reads = [0]
    for _ in range(3):
        assert 200 == instance.send("ONAPPTEST").status
        reads.append(instance.store.reads)
    assert [2, 1, 0] == [after - before for before, after in itertools.pairwise(reads)]

    away = Instance(openings=1)
    away.store.write("portals/M", {**portal, "problem": "P."})
    assert 200 == away.send("ONAPPTEST").status


PAYLOAD = json.dumps(MISFIT)
LETTER = line(
    "CRITICAL",
    "1 deletion could not be stored; replay this line when Firestore is back.",
    "not_recorded",
    event=DELETION,
    member_id="M",
)
RECEIVED = {"event_at": NOW.isoformat(), "expires_at": (NOW + timedelta(days=2)).isoformat()}
"""Where the event does not say when it was."""

OF_THE_EVENT = {
    **RECEIVED,
    "member_id": "M",
    "event": DELETION,
    "via": "online",
    "domain": "d",
    "user_id": 5,
    "id": sha256(PAYLOAD.encode()).hexdigest(),
    "payload": PAYLOAD,
    "part": 1,
    "parts": 1,
}


@pytest.mark.parametrize(
    ("event", "data", "openings", "letter"),
    [
        (DELETION, DATA, 1, {**LETTER, "records": [{**RECORD, **RECEIVED, "domain": "d"}]}),
        (
            DELETION,
            DATA,
            0,
            {
                **LETTER,
                "verified": False,
                "token_digest": token_digest(TOKEN),
                "records": [{**RECORD, **RECEIVED}],
            },
        ),
        (
            DELETION,
            MISFIT,
            1,
            {
                **LETTER,
                "message": "An event could not be stored; replay this line when the fault is"
                " fixed.",
                "records": [OF_THE_EVENT],
            },
        ),
        (DELETION, MISFIT, 0, None),
        ("ONAPPTEST", DATA, 0, None),
        ("ONAPPUNINSTALL", DATA, 1, None),
    ],
)
def test_log_has_each_deletion_while_the_store_is_unavailable(
    event: str, data: object, openings: int, letter: dict[str, object] | None
) -> None:
    """And nothing else; the answer is the same whether or not the token was verified."""
    instance = Instance(openings, retention_days=2)
    detail = (
        "Firestore could not be reached in time. If this was a deletion, it is in the log, to"
        " be replayed."
    )
    body = {"error": "store_unavailable", "detail": detail}

    answer = instance.send(event, data)

    reason = {"reason": "It is away."}
    assert Answer(503, body, {"Retry-After": "10"}, reason) == answer
    about = {"event": event, "member_id": "M"}
    last = line("ERROR", detail, "store_unavailable", **about, **reason)
    assert ([letter, last] if letter else [last]) == instance.lines


def test_bug_in_another_event_logs_no_data() -> None:
    """Only data of deletion events is ever stored or logged."""

    def fail() -> None:
        raise RuntimeError("nobody may see T")

    instance = Instance(service="s", revision="s-00001")
    instance.store.before_put = fail
    detail = "This is a bug in the function; its log has the details."

    answer = instance.send("ONAPPUNINSTALL", {"CLEAN": "1", "SECRET": "T"})

    assert (500, {"error": "internal_error", "detail": detail}) == (answer.status, answer.body)
    (written,) = instance.lines
    assert written.pop("where")[-1].endswith(" in fail")
    about = {"event": "ONAPPUNINSTALL", "member_id": "M", "bug": "RuntimeError"}
    number = fail.__code__.co_firstlineno + 1
    place = {"filePath": __file__, "lineNumber": number, "functionName": "fail"}
    reporting: dict[str, object] = {
        "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1"
        ".ReportedErrorEvent",
        "serviceContext": {"service": "s", "version": "s-00001"},
        "context": {"reportLocation": place},
    }
    assert line("ERROR", detail, "internal_error", **about, **reporting) == written


def test_milliseconds_are_logged() -> None:
    """From the request to its answer."""
    out = io.StringIO()
    receiver = Receiver(Settings(), MemoryStore, Log(out))

    def read_body() -> bytes:
        time.sleep(0.01)
        return b""

    started = time.perf_counter()
    receiver.receive(Request(method="POST", path="/", content_type=JSON, read_body=read_body))
    longest = (time.perf_counter() - started) * 1000

    assert 10 <= json.loads(out.getvalue())["duration_ms"] <= longest + 1


def test_bug_before_parsing_is_answered_too() -> None:
    """The request is then unknown."""

    def fail() -> bytes:
        raise RuntimeError("nobody may see T")

    instance = Instance()

    answer = instance.receiver.receive(
        Request(method="POST", path="/", content_type=JSON, read_body=fail)
    )

    assert (500, "internal_error") == (answer.status, answer.outcome)
    (written,) = instance.lines
    assert ("RuntimeError", None) == (written["bug"], written.get("event"))
