"""Evaluates queries, as far as the project uses Firestore's."""

from collections.abc import Mapping
from typing import Any

from google.cloud.firestore_v1 import types

_Query = types.StructuredQuery
_FilterOperator = types.StructuredQuery.FieldFilter.Operator


def select(documents: Mapping[str, Any], parent: str, query: Any) -> list[Any]:  # noqa: ANN401 - protobuf's messages have no types
    """Return the matching documents, in order; raises `NotImplementedError`."""
    (source,) = query.from_
    folder = f"{parent}/{source.collection_id}/"
    found = [
        documents[name]
        for name in sorted(documents, key=str.encode)
        if name.startswith(folder) and "/" not in name.removeprefix(folder)
    ]
    for condition in query.where.composite_filter.filters:
        found = [document for document in found if _meets(document, condition.field_filter)]
    if query.order_by:
        found = _ordered(found, query)
    if query.HasField("limit"):
        found = found[: query.limit.value]
    if query.HasField("select"):
        if [field.field_path for field in query.select.fields] != ["__name__"]:
            raise NotImplementedError("only names")
        found = [types.Document.pb()(name=document.name) for document in found]
    return found


def _ordered(found: list[Any], query: Any) -> list[Any]:  # noqa: ANN401
    """Sort by a timestamp and by name, from the cursor on."""
    stamp, *rest = [order.field.field_path for order in query.order_by]
    directions = {order.direction for order in query.order_by}
    if rest not in ([], ["__name__"]) or len(directions) > 1:
        raise NotImplementedError("only by a timestamp and by name, in one direction")
    places = [(_time(one, stamp), one.name, one) for one in found if stamp in one.fields]
    if query.HasField("start_at"):
        if directions != {_Query.Direction.DESCENDING} or query.start_at.before:
            raise NotImplementedError("only after a document, and descending")
        last, name = query.start_at.values
        cursor = (last.timestamp_value.ToNanoseconds(), name.reference_value)
        places = [place for place in places if place[:2] < cursor]
    places.sort(key=lambda place: place[:2], reverse=directions == {_Query.Direction.DESCENDING})
    return [document for _, _, document in places]


def _meets(document: Any, condition: Any) -> bool:  # noqa: ANN401
    """Return whether a document's field meets a condition; another type never does."""
    field = condition.field.field_path
    kind = condition.value.WhichOneof("value_type")
    if field not in document.fields or document.fields[field].WhichOneof("value_type") != kind:
        return False
    if condition.op == _FilterOperator.EQUAL:
        if kind != "integer_value":
            raise NotImplementedError("only numbers are equal")
        return bool(document.fields[field] == condition.value)
    time = _time(document, field)
    bound: int = condition.value.timestamp_value.ToNanoseconds()
    if condition.op == _FilterOperator.GREATER_THAN_OR_EQUAL:
        return time >= bound
    if condition.op == _FilterOperator.LESS_THAN:
        return time < bound
    raise NotImplementedError("only =, >= and <")


def _time(document: Any, field: str) -> int:  # noqa: ANN401
    value = document.fields[field]
    if value.WhichOneof("value_type") != "timestamp_value":
        raise NotImplementedError("only timestamps have an order")
    nanoseconds: int = value.timestamp_value.ToNanoseconds()
    return nanoseconds
