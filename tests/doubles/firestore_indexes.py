"""Which queries Firestore answers with the indexes that the deployment declares.

Firestore indexes each field by itself, in both directions, unless it is exempt; a query about
one field needs nothing else. One about several needs a composite index, which must be declared.
Google's emulator asks for none, so it would not notice one that is missing.
https://firebase.google.com/docs/firestore/query-data/index-overview
"""

import json
from functools import cache
from typing import Any

from tests.doubles.function import ROOT


@cache
def declared() -> dict[str, Any]:
    """Return what `deploy.sh` declares, in the format of Firebase's `firestore.indexes.json`."""
    found: dict[str, Any] = json.loads((ROOT / "deploy/indexes.json").read_text())
    return found


def missing_index(query: Any) -> str | None:  # noqa: ANN401 - protobuf's messages have no types
    """Return the index that a query lacks, if any."""
    (source,) = query.from_
    orders = [(order.field.field_path, order.direction) for order in query.order_by]
    conditions = query.where.composite_filter.filters
    names = {field for field, _ in orders} | {
        condition.field_filter.field.field_path for condition in conditions
    }
    fields = sorted(names - {"__name__"})
    exempt = [one for one in fields if (source.collection_id, one) in _exempt()]
    if exempt:
        return f"{source.collection_id}.{exempt[0]} has no index: it is exempt"
    if len(fields) > 1 and (source.collection_id, tuple(fields)) not in _composite():
        return f"The query requires an index: {source.collection_id} by {', '.join(fields)}"
    return None


def _exempt() -> set[tuple[str, str]]:
    return {
        (override["collectionGroup"], override["fieldPath"])
        for override in declared()["fieldOverrides"]
        if not override["indexes"]
    }


def _composite() -> set[tuple[str, tuple[str, ...]]]:
    return {
        (index["collectionGroup"], tuple(sorted(field["fieldPath"] for field in index["fields"])))
        for index in declared()["indexes"]
    }
