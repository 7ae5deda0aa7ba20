"""Events over HTTP become documents: the function as a process, on each kind of store."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from handler import VERSION
from handler.deadline import Deadline
from handler.stores.firestore import Firestore
from handler.stores.interface import Document, Fields, Store
from handler.stores.sqlite import LocalStore
from handler.tokens import token_digest
from tests.doubles.emulator import Emulator
from tests.doubles.function import FORM, Function, Response
from tests.samples import DELETIONS, form, in_portal, typed

MEMBER_ID = "bac1cd5c8940947a75e0d71b1a84e348"
TOKEN = "831c76b092f9f135d9b6b36c3a720757"
DOCUMENTATION_MEMBER_ID = "a223c6b3710f85df22e9377d6c4f7553"
DOCUMENTATION_TOKEN = "51856fefc120afa4b628cc82d3935cce"
JSON = "application/json"


class Site:
    """A running function, and its store."""

    def __init__(self, function: Function, store: Store) -> None:
        self.function = function
        self.store = store

    def enter(self, member_id: str, token: str) -> None:
        """Add a portal with the minimal document."""
        fields: Fields = {"token_digests": [token_digest(token)], "active": True}
        self.store.put(Document(f"portals/{member_id}", fields), Deadline(20))

    def new_portal(self) -> tuple[str, str]:
        """Add a portal that no other test uses; return its member_id and its token."""
        member_id, token = uuid4().hex, uuid4().hex
        self.enter(member_id, token)
        return member_id, token

    def deletions(self, member_id: str) -> list[Document]:
        """Return a portal's records."""
        path = f"portals/{member_id}/deletions"
        return list(self.store.newest(path, "recorded_at", Deadline(20)))

    def quarantine(self, member_id: str) -> list[Document]:
        """Return a portal's quarantine."""
        path = f"portals/{member_id}/quarantine"
        return list(self.store.newest(path, "received_at", Deadline(20)))

    def send(self, event: dict[str, Any]) -> Response:
        """Send an event as JSON."""
        return self.function.post(json.dumps(event).encode(), JSON)


@pytest.fixture(scope="module", params=["local", "emulator"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Run the function on each kind of store, with the portal of the samples."""
    folder = tmp_path_factory.mktemp("site")
    store: Store
    if request.param == "local":
        path = str(folder / "store.sqlite3")
        store = LocalStore(path)
        settings = {"STORE": "local", "LOCAL_STORE_PATH": path}
    else:
        emulator: Emulator = request.getfixturevalue("emulator")
        project = f"http-{uuid4().hex[:20]}"
        store = Firestore.connect(project, "(default)", emulator.host, on_google_cloud=False)
        settings = {"GOOGLE_CLOUD_PROJECT": project, "FIRESTORE_EMULATOR_HOST": emulator.host}
    with Function(folder / "log", **settings, CONNECTORS="myConnector,livechat") as function:
        site = Site(function, store)
        site.enter(MEMBER_ID, TOKEN)
        site.enter(DOCUMENTATION_MEMBER_ID, DOCUMENTATION_TOKEN)
        yield site


def deletion_event(member_id: str, token: str, **data: object) -> dict[str, Any]:
    """Return a deletion event with little more than its data."""
    auth = {"member_id": member_id, "application_token": token}
    return {"event": "ONOPENLINEMESSAGEDELETE", "data": data, "auth": auth}


def records(name: str) -> list[dict[str, object]]:
    """Return the records that a sample becomes, except `recorded_at`."""
    event = typed(name)
    delivery: dict[str, object] = {
        "member_id": event["auth"]["member_id"],
        "domain": event["auth"]["domain"],
        "event": event["event"],
        "event_at": datetime.fromtimestamp(int(event["ts"]), UTC),
        "via": "online",
    }
    deleted = [
        {field: value for field, value in vars(deletion).items() if value is not None}
        for deletion in DELETIONS[name]
    ]
    return [{**delivery, **fields} for fields in deleted]


@pytest.mark.parametrize(
    "name",
    [
        "documentation-sample",
        "portal-one-message",
        "portal-two-external-ids",
        "portal-no-user",
        "customer",
    ],
)
def test_each_sample_becomes_the_records_of_the_contract(site: Site, name: str) -> None:
    """Each element of DATA is a record, with external ids as text and Bitrix24's as integers."""
    expected = records(name)
    before = datetime.now(UTC) - timedelta(minutes=1)

    answer = site.function.post(form(name))

    count = {"recorded": len(expected), "duplicates": 0}
    assert (200, {"status": "recorded", **count}) == (answer.status, answer.json)
    ids = {record["message_id"] for record in expected}
    found = [
        dict(document.fields)
        for document in site.deletions(str(expected[0]["member_id"]))
        if document.fields["message_id"] in ids
    ]
    recorded_at = [record.pop("recorded_at") for record in found]
    assert all(isinstance(moment, datetime) and moment > before for moment in recorded_at)
    assert _by_message(expected) == _by_message(found)


def _by_message(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["message_id"]))


def test_a_repeat_changes_nothing(site: Site) -> None:
    """Even with another time and another handler id."""
    member_id, token = site.new_portal()
    event = deletion_event(member_id, token, **in_portal("one"))
    first = site.send({**event, "ts": 1773760577, "event_handler_id": 559})
    (stored,) = site.deletions(member_id)

    again = site.send({**event, "ts": 1773769999, "eventId": 1})

    assert _said(first) == (200, {"status": "recorded", "recorded": 1, "duplicates": 0})
    assert _said(again) == (200, {"status": "recorded", "recorded": 0, "duplicates": 1})
    assert [stored] == site.deletions(member_id)


def test_the_twin_event_meets_the_same_document(site: Site) -> None:
    """An application bound to ONIMCONNECTORMESSAGEDELETE, too, gets two POSTs per deletion."""
    site.function.post(form("portal-one-message"))
    before = site.deletions(MEMBER_ID)

    twin = site.function.post(form("connector-twin"))

    assert _said(twin) == (200, {"status": "recorded", "recorded": 0, "duplicates": 1})
    assert before == site.deletions(MEMBER_ID)


def test_invalid_element_does_not_affect_the_others(site: Site) -> None:
    """The event is quarantined for the rest; the answer counts what is recorded."""
    member_id, token = site.new_portal()
    event = typed("variant-one-element-unfit")
    event["auth"].update(member_id=member_id, application_token=token)

    first = site.send(event)
    again = site.send(event)

    assert (422, 422) == (first.status, again.status)
    refused = {"error": "unprocessable_event", "fields": ["data.DATA.1.message.id"]}
    assert {**refused, "recorded": 1, "duplicates": 0} == _without(first, "quarantine_id", "detail")
    assert {**refused, "recorded": 0, "duplicates": 1} == _without(again, "quarantine_id", "detail")
    (record,) = site.deletions(member_id)
    assert "ext-msg-005" == record.fields["message_id"]
    (kept,) = site.quarantine(member_id)
    assert kept.name == first.json["quarantine_id"] == again.json["quarantine_id"]
    assert event["data"] == json.loads(str(kept.fields["payload"]))
    line = next(one for one in site.function.log_lines if one.get("member_id") == member_id)
    assert ("unprocessable_event", 1, 0) == (line["outcome"], line["recorded"], line["duplicates"])


def _without(response: Response, *names: str) -> dict[str, Any]:
    return {name: value for name, value in response.json.items() if name not in names}


def test_strangers_cannot_see_why_they_are_refused(site: Site) -> None:
    """Unknown portal, wrong token and uninstalled portal get the same answer."""
    member_id, token = site.new_portal()
    inactive = uuid4().hex
    fields: Fields = {"token_digests": [token_digest(token)], "active": False}
    site.store.put(Document(f"portals/{inactive}", fields), Deadline(20))
    data = in_portal("one")

    answers = [
        site.send(deletion_event(*who, **data))
        for who in (
            (uuid4().hex, token),
            (member_id, "wrong"),
            (member_id, token + " "),
            (member_id, token_digest(token)),
            (member_id, "Жетон"),
            (member_id, "x" * 200_000),
            (inactive, token),
        )
    ]

    assert {403} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})
    assert "forbidden" == answers[0].json["error"]


@pytest.mark.parametrize(
    "auth",
    [
        {"member_id": MEMBER_ID},
        {"member_id": MEMBER_ID, "application_token": {"0": TOKEN}},
        {"member_id": f"{MEMBER_ID}/deletions/x", "application_token": TOKEN},
        {"member_id": "\ud800", "application_token": TOKEN},
        None,
    ],
)
def test_event_without_valid_auth_is_malformed(site: Site, auth: object) -> None:
    """Ids and tokens that Firestore or a digest cannot handle are rejected cleanly."""
    answer = site.send({"event": "ONOPENLINEMESSAGEDELETE", "data": in_portal("x"), "auth": auth})

    assert (400, "malformed_event") == (answer.status, answer.json["error"])


def test_bitrix24_page_gets_instructions(site: Site) -> None:
    """Its POST has no event; it is marked in the log."""
    answer = site.function.post(form("page-open"), path="/page?DOMAIN=x.bitrix24.com")

    assert (400, "malformed_event") == (answer.status, answer.json["error"])
    assert '"Script only"' in answer.json["detail"]
    line = next(line for line in site.function.log_lines if line.get("event") == "page")
    assert ("WARNING", "malformed_event") == (line["severity"], line["outcome"])
    assert answer.json["detail"] == line["message"]
    secrets = ("6a2b844001b0007cd181977d", "5ac1ab4001b0007cd181977d")
    assert not any(secret in site.function.log for secret in secrets)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/", "GET, HEAD, POST"),
        ("DELETE", "/health", "GET, HEAD, POST"),
        ("OPTIONS", "/", "GET, HEAD, POST"),
        ("GET", "/anything", "POST"),
        ("PATCH", "/anything", "POST"),
    ],
)
def test_other_methods_are_not_allowed(site: Site, method: str, path: str, allow: str) -> None:
    """The answer lists the allowed ones."""
    answer = site.function.request(method, path)

    assert (405, allow) == (answer.status, answer.headers["Allow"])
    assert "method_not_allowed" == answer.json["error"]


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_reports_version(site: Site, path: str) -> None:
    """And nothing about portals, settings or Firestore."""
    assert _said(site.function.request("GET", path)) == (200, {"status": "up", "version": VERSION})
    head = site.function.request("HEAD", path)
    assert (200, b"") == (head.status, head.body)


def test_events_are_accepted_on_any_path(site: Site) -> None:
    """Whichever URL was pasted into the application's form."""
    assert 200 == site.function.post(form("app-test"), path="/any/path?with=a&query").status


def test_a_body_that_is_too_long_is_refused_unread(site: Site) -> None:
    """The limit applies with and without a Content-Length."""
    announced = site.function.post(b"x" * 262_145)
    chunked = site.function.request("POST", "/", iter([b"x" * 65_536] * 5), {"Content-Type": FORM})
    longest = site.function.post(b"x" * 262_144)

    assert (413, "body_too_large") == (announced.status, announced.json["error"])
    assert (413, "body_too_large") == (chunked.status, chunked.json["error"])
    assert (400, "malformed_event") == (longest.status, longest.json["error"])


@pytest.mark.parametrize(
    "headers_and_body",
    [
        b"Content-Length: 100\r\n\r\nevent=x",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nevent=x\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n10\r\nevent=x",
    ],
)
def test_incomplete_body_is_malformed(site: Site, headers_and_body: bytes) -> None:
    """What gunicorn makes of it never becomes a 500, and half a body is not an event."""
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n".encode()
    with socket.create_connection(("127.0.0.1", site.function.port), timeout=10) as client:
        client.sendall(head + headers_and_body)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"malformed_body"' in answer


def test_each_event_is_one_log_line(site: Site) -> None:
    """JSON, with the event's trace, and without tokens."""
    member_id, token = site.new_portal()
    event = deletion_event(member_id, token, **in_portal("one"))
    trace = "105445aa7843bc8bf206b12000100000"

    site.function.post(
        json.dumps(event).encode(), JSON, **{"X-Cloud-Trace-Context": f"{trace}/1;o=1"}
    )

    (line,) = [line for line in site.function.log_lines if line.get("member_id") == member_id]
    assert line.pop("duration_ms") >= 0
    assert line.pop("logging.googleapis.com/trace").endswith(trace)
    assert [document.name for document in site.deletions(member_id)] == line.pop("ids")
    assert {
        "severity": "INFO",
        "message": "recorded",
        "outcome": "recorded",
        "event": "ONOPENLINEMESSAGEDELETE",
        "member_id": member_id,
        "recorded": 1,
        "duplicates": 0,
    } == line
    assert token not in site.function.log


def _said(response: Response) -> tuple[int, Any]:
    assert response.body.endswith(b"}\n")
    assert response.headers["Content-Type"] == "application/json"
    return response.status, response.json
