"""The double refuses a query without its index, as Firestore does and the emulator does not.

So every query that the program makes is compared with what the deployment declares, in each test
that runs on the double.
"""

from typing import Any

import pytest
from google.cloud.firestore_v1 import types

from tests.doubles.firestore_indexes import declared, missing_index

_Query = types.StructuredQuery.pb()


def query(collection: str, *fields: str, where: str | None = None) -> Any:  # noqa: ANN401
    """Make a query by some fields."""
    made = _Query(from_=[{"collection_id": collection}])
    for field in fields:
        made.order_by.add(field={"field_path": field})
    if where:
        made.where.composite_filter.filters.add().field_filter.field.field_path = where
    return made


@pytest.mark.parametrize(
    "found",
    [
        query("portals"),
        query("deletions", "event_at", "__name__", where="event_at"),
        query("deletions", "recorded_at"),
        query("quarantine", "received_at"),
    ],
)
def test_a_query_by_one_field_has_its_index(found: Any) -> None:  # noqa: ANN401
    """Firestore makes that by itself, in both directions."""
    assert missing_index(found) is None


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (
            query("deletions", "event_at", where="connector"),
            "The query requires an index: deletions by connector, event_at",
        ),
        (query("deletions", "expires_at"), "deletions.expires_at has no index: it is exempt"),
        (query("quarantine", where="payload"), "quarantine.payload has no index: it is exempt"),
    ],
)
def test_what_is_not_declared_is_missing(found: Any, missing: str) -> None:  # noqa: ANN401
    """Several fields need a composite index, and what is exempt has none."""
    assert missing == missing_index(found)


def test_what_is_queried_is_not_exempt() -> None:
    """`event_at` was exempt once: a deployment of then must get the index."""
    exempt = {(one["collectionGroup"], one["fieldPath"]) for one in declared()["fieldOverrides"]}

    assert not exempt & {("deletions", "event_at"), ("deletions", "recorded_at")}
