"""What is fuzzed: the core of the function, from a body to the status of its answer."""

import io
import json

from handler.events.body import FORM, JSON
from handler.log import Log
from handler.receiver import Receiver, Request
from tests.doubles.memory_store import MemoryStore
from tests.function.test_random_bodies import BODIES, PORTALS, SETTINGS


def seeds() -> list[bytes]:
    """Return the samples as `send` takes them."""
    return [(b"J" if kind == JSON else b"F") + body for kind, body in BODIES]


def send(data: bytes) -> int:
    """Send a body, as JSON if it begins with J and as a form otherwise; return the status.

    The portals of the samples are known, so that their tokens open everything. They have no
    endpoint, which a ping reports as a problem; nothing else may be logged as an error.
    """
    body = data[1:]
    log = io.StringIO()
    store = MemoryStore()
    for member_id, digest in PORTALS.items():
        store.write(f"portals/{member_id}", {"active": True, "token_digests": [digest]})
    receiver = Receiver(SETTINGS, lambda: store, Log(log, level="ERROR"))
    answer = receiver.receive(
        Request(
            method="POST",
            path="/",
            content_type=JSON if data[:1] == b"J" else FORM,
            read_body=lambda: body,
        )
    )
    errors = {json.loads(line)["outcome"] for line in log.getvalue().splitlines()}
    assert errors <= {"portal_problem"}, log.getvalue()
    return answer.status
