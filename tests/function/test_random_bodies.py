"""Whatever the body, the answer is a success or a refusal: never a fault of ours."""

import io
import json
import random
from collections import Counter
from multiprocessing import get_context

from handler.events.body import FORM, JSON
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.tokens import token_digest
from tests.doubles.memory_store import MemoryStore
from tests.samples import NAMES, form, typed

ROUNDS = 100_000
PROCESSES = 2

BODIES = [
    *((FORM, form(name)) for name in NAMES),
    *((JSON, json.dumps(typed(name)).encode()) for name in NAMES),
]

# The portals that the samples come from, and their tokens.
PORTALS = {
    auth["member_id"]: token_digest(auth["application_token"])
    for auth in (typed(name)["auth"] for name in NAMES)
}

# Pieces that mean something to a decoder or a model, and bytes that mean nothing to anybody.
PIECES = (
    *(b"[", b"]", b"[]", b"%5B", b"%5D", b"=", b"&", b"+", b"%", b"%00", b"\0", b"%26", b"."),
    *(b"{", b"}", b'"', b":", b",", b"null", b"true", b"-1", b"1e999", b"[[[[", b"\\ud800"),
    *(b"\xff", b"%D0", b"0", b"9" * 25, b"DATA", b"MESSAGES", b"connector", b"auth", b"%5B0%5D"),
    *(b"ONAPPINSTALL", b"ONAPPUNINSTALL", b"ONOFFLINEEVENT", b"ONAPPTEST", b"/", b"..", b"x" * 99),
)


def random_request(chance: random.Random) -> Request:
    """Take a sample, as a form or as JSON, and spoil it here and there."""
    kind, body = chance.choice(BODIES)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 5))):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice((0, 0, 1, 4, 40)))
        body = body[:start] + chance.choice(PIECES) + body[end:]
    return Request(method="POST", path="/", content_type=kind, read_body=lambda: body)


def send_random_bodies(seed: int) -> tuple[str, Counter[int]]:
    """Return what was logged as an error, and how often each status was answered."""
    chance = random.Random(seed)
    log = io.StringIO()
    store = MemoryStore()
    receiver = Receiver(Settings(), lambda: store, Log(log, level="ERROR"))
    statuses: Counter[int] = Counter()

    for _ in range(ROUNDS // PROCESSES):
        for member_id, digest in PORTALS.items():  # again and again: some bodies uninstall
            store.write(f"portals/{member_id}", {"active": True, "token_digests": [digest]})
        statuses[receiver.receive(random_request(chance)).status] += 1
    return log.getvalue(), statuses


def test_no_body_is_answered_with_a_fault() -> None:
    """A hundred thousand of Bitrix24's own, spoilt: many are still accepted, none gives a 5xx."""
    # In processes of their own, so that nobody counts the lines that they cover.
    with get_context("spawn").Pool(PROCESSES) as pool:
        results = pool.map(send_random_bodies, range(PROCESSES))
    statuses = sum((counted for _, counted in results), Counter[int]())

    assert [""] * PROCESSES == [log for log, _ in results]
    assert ROUNDS == statuses.total()
    assert {200, 400, 403, 422} == set(statuses)
    assert all(1_000 < count for count in statuses.values()), statuses
