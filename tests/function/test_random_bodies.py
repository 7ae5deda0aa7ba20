"""Any body leads to a success or a refusal, and no answer or document has what it must not."""

import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

from handler.events.body import FORM, JSON
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.stores.interface import Document
from handler.tokens import token_digest
from tests.doubles.bitrix24 import http_build_query
from tests.doubles.memory_store import MemoryStore
from tests.samples import EVENTS, NAMES, form, typed

ROUNDS = 20_000
PROCESSES = 2

# Nothing listens there, so no install is ever confirmed.
SETTINGS = Settings(oauth_servers=("http://127.0.0.1:9",))

BODIES = [
    *((FORM, form(name)) for name in NAMES),
    *((JSON, json.dumps(typed(name)).encode()) for name in NAMES),
]

# The portals that the samples come from, and their tokens.
PORTALS = {
    auth["member_id"]: token_digest(auth["application_token"])
    for auth in (typed(name)["auth"] for name in EVENTS)
}
TOKENS = {
    token
    for name in EVENTS
    for field, token in typed(name)["auth"].items()
    if field.endswith("_token")
}

# Pieces with a meaning to a decoder or a model, and bytes without any.
PIECES = (
    *(b"[", b"]", b"[]", b"%5B", b"%5D", b"=", b"&", b"+", b"%", b"%00", b"\0", b"%26", b"."),
    *(b"{", b"}", b'"', b":", b",", b"null", b"true", b"-1", b"1e999", b"[[[[", b"\\ud800"),
    *(b"\xff", b"%D0", b"0", b"9" * 25, b"DATA", b"MESSAGES", b"connector", b"auth", b"%5B0%5D"),
    *(b"ONAPPINSTALL", b"ONAPPUNINSTALL", b"ONOFFLINEEVENT", b"ONAPPTEST", b"/", b"..", b"x" * 99),
    *(b'{"event":', b'"auth":', b"event=ONOPENLINEMESSAGEDELETE", b"NaN", b"\xef\xbb\xbf"),
)

# Values that a model must reject, or accept as text, number or list.
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 7, 1.5, float("nan"), float("inf"), 2**63 - 1, 2**63, 10**400),
    *("", "0", "1", "x", "..", "a/b", "é" * 1_001, "😀" * 1_000, "\ud800", "a\0", "9" * 5_000),
    *([], {}, [[]], ["a", "b"], {"0": "a", "2": ""}, {"x": 1}, [{"id": "m"}], {"connector": []}),
    {"connector": {"connector_id": "c", "line_id": 1}, "message": {"id": ["m", 2]}, "chat": {}},
)
KEYS = ("id", "im", "0", "1", "7", "chat_id", "connector", "DATA", "MESSAGES", "", "\ud800")


def spoilt_values(chance: random.Random) -> tuple[str, bytes]:
    """Put anything, or nothing, in up to three places of a sample."""
    body = typed(chance.choice(NAMES))
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        container, key = chance.choice([*places(body)] or [(body, "event")])
        if chance.random() < 0.7:
            container[key] = json.loads(json.dumps(chance.choice(VALUES)))
        elif isinstance(container, dict):
            container[chance.choice(KEYS)] = container.pop(key, None)
        else:
            container.pop(key)
    match chance.randrange(3):
        case 0:
            return FORM, http_form(body)
        case 1:
            return JSON, json.dumps(body).encode()
    return JSON, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


def places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    """Return every place within a value, as its container and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def http_form(body: Any) -> bytes:  # noqa: ANN401
    """Write a form, with a byte that is not UTF-8 for each lone surrogate."""
    text = re.sub("[\ud800-\udfff]", "\uffff", json.dumps(body, ensure_ascii=False))
    return http_build_query(json.loads(text)).replace("%EF%BF%BF", "%FF").encode()


def spoilt_bytes(chance: random.Random) -> tuple[str, bytes]:
    """Overwrite some bytes of a sample with pieces."""
    kind, body = chance.choice(BODIES)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((0, 0, 1, 4, 40)))
        body = body[:start] + chance.choice(PIECES) + body[end:]
    return kind, body


def any_pieces(chance: random.Random) -> tuple[str, bytes]:
    """Return pieces one after the other, sometimes many of one, with any content type."""
    kind = chance.choice((FORM, JSON, f"{JSON}; charset=x", "text/plain", "\udcff"))
    pieces = [chance.choice(PIECES) for _ in range(chance.randrange(20))]
    if chance.random() < 0.01:
        pieces.append(chance.choice((b"[", b"[]", b'{"auth":', b"auth[", b"a=1&")) * 40_000)
    return kind, b"".join(pieces)


def fault_of(status: int, log: str, store: MemoryStore) -> str:
    """Return what is wrong after a request, if anything."""
    if status not in {200, 400, 403, 415, 422}:
        return f"status {status}"
    for line in map(json.loads, log.splitlines()):
        # A ping of a portal entered by hand cannot be used, which the answer says.
        if line["severity"] in ("ERROR", "CRITICAL") and line["outcome"] != "portal_problem":
            return log
    documents = [document for path, document in store.documents.items() if path.count("/") > 1]
    if not documents and status == 422:
        return "what is not valid is not kept"
    return "".join(filter(None, map(invalid_for_firestore, documents)))


def invalid_for_firestore(document: Document) -> str | None:
    """Return what Firestore would reject in a document, if anything."""
    try:
        document.path.encode()
        for value in document.fields.values():
            if isinstance(value, int) and not 0 <= value < 2**63:
                return f"{document.path}: {value}"
            if isinstance(value, str):
                value.encode()
    except UnicodeEncodeError:
        return f"{document.path!r} is not Unicode"
    return None if document.path.count("/") == 3 else document.path


def shows_a_token(text: str) -> bool:
    """Search for the tokens of the samples."""
    return any(token in text for token in TOKENS)


def request(kind: str, body: bytes) -> Request:
    """Return a request with a body."""
    return Request(method="POST", path="/", content_type=kind, read_body=lambda: body)


def send_random_bodies(seed: int) -> tuple[list[str], Counter[str]]:
    """Return the first bodies with a fault, and the number of each outcome."""
    chance = random.Random(seed)
    faults: list[str] = []
    outcomes: Counter[str] = Counter()
    store = MemoryStore()
    log = io.StringIO()
    receiver = Receiver(SETTINGS, lambda: store, Log(log))
    for _ in range(ROUNDS // PROCESSES):
        store.documents.clear()
        for member_id, digest in PORTALS.items():
            store.write(f"portals/{member_id}", {"active": True, "token_digests": [digest]})
        make = chance.choice((spoilt_values, spoilt_values, spoilt_bytes, any_pieces))
        kind, body = make(chance)
        answer = receiver.receive(request(kind, body))
        outcomes[answer.outcome] += 1
        fault = fault_of(answer.status, log.getvalue(), store)
        # Cutting out bytes may turn a token into another field's value.
        if make is spoilt_values and shows_a_token(f"{log.getvalue()} {answer}"):
            fault = "a token is shown"
        if fault and len(faults) < 3:
            faults.append(f"{fault}: {kind} {body[:2_000]!r}")
        log.seek(0)
        log.truncate()
    return faults, outcomes


def test_no_body_causes_a_server_error() -> None:
    """Twenty thousand, most of them corrupted samples: many are accepted, none gives a 5xx."""
    # In separate processes, whose coverage does not count.
    with get_context("spawn").Pool(PROCESSES) as pool:
        results = pool.map(send_random_bodies, range(PROCESSES))
    outcomes = sum((counted for _, counted in results), Counter[str]())

    assert [[]] * PROCESSES == [faults for faults, _ in results]
    assert ROUNDS == outcomes.total()
    expected = {
        *("recorded", "ignored", "ok", "uninstalled", "unprocessable_event", "forbidden"),
        *("malformed_body", "malformed_event", "unsupported_media_type"),
    }
    assert expected <= set(outcomes)
    assert all(outcomes[outcome] > 200 for outcome in expected), outcomes
