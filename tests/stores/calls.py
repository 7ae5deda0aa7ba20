"""Every operation of a store, for the tests that run them all."""

from collections.abc import Callable
from typing import NamedTuple

from handler.deadline import Deadline
from handler.stores.interface import Document, Put, Store

STAMP = "recorded_at"
RECORD = Document("portals/m/deletions/1", {"connector": "livechat"})


class Call(NamedTuple):
    """An operation, and the first of Firestore's methods that it calls."""

    method: str
    run: Callable[[Store, Deadline], object]


CALLS = {
    "get": Call("BatchGetDocuments", lambda store, deadline: store.get("a/1", deadline)),
    "create": Call("Commit", lambda store, deadline: store.create([RECORD], STAMP, deadline)),
    "put": Call("Commit", lambda store, deadline: store.put(RECORD, deadline)),
    "get_all": Call("BatchGetDocuments", lambda store, deadline: store.get_all(["a/1"], deadline)),
    "newest": Call("RunQuery", lambda store, deadline: store.newest("a", STAMP, deadline)),
    "count": Call("RunAggregationQuery", lambda store, deadline: store.count("a", STAMP, deadline)),
    "names": Call("RunQuery", lambda store, deadline: store.names("a", deadline, limit=1)),
    "names_with": Call(
        "RunQuery", lambda store, deadline: store.names_with("a", "n", 1, deadline, limit=1)
    ),
    "delete": Call("Commit", lambda store, deadline: store.delete(["a/1"], deadline)),
}
COMMIT = Call("Commit", lambda store, deadline: store.commit([Put(RECORD)], deadline))
"""Separate: it treats NOT_FOUND as a failed precondition, the others as a missing database."""


def soon() -> Deadline:
    """Return a deadline that only a bug would reach."""
    return Deadline(30)
