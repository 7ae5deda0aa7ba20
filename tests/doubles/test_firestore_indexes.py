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
    """Return a query by these fields."""
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
def test_query_by_one_field_has_an_index(found: Any) -> None:  # noqa: ANN401
    """Firestore creates it automatically, in both directions."""
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
def test_undeclared_index_is_missing(found: Any, missing: str) -> None:  # noqa: ANN401
    """Several fields need a composite index, and an exempt field has none."""
    assert missing == missing_index(found)


def test_queried_fields_are_not_exempt() -> None:
    """`event_at` once was: an old deployment must get the index."""
    exempt = {(one["collectionGroup"], one["fieldPath"]) for one in declared()["fieldOverrides"]}

    assert not exempt & {("deletions", "event_at"), ("deletions", "recorded_at")}
