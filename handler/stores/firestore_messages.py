"""Firestore's protobuf messages, and the values in them.

Their package imports all of Google's Firestore clients, which took most of a cold start. So an
empty module stands in for the package while the messages are imported.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, TypeAlias, cast

from handler.stores.interface import Value

Message: TypeAlias = Any  # protobuf's generated messages have no types


def import_messages() -> ModuleType:
    """Return the package's module of messages, without importing the package."""
    name = "google.cloud.firestore_v1"
    if name in sys.modules:
        from google.cloud.firestore_v1 import types  # noqa: PLC0415
    else:
        sys.modules[name] = module_from_spec(cast("ModuleSpec", find_spec(name)))
        try:
            from google.cloud.firestore_v1 import types  # noqa: PLC0415
        finally:
            del sys.modules[name]
    return types


types = import_messages()

BatchGetDocumentsRequest = types.BatchGetDocumentsRequest.pb()
BatchGetDocumentsResponse = types.BatchGetDocumentsResponse.pb()
CommitRequest = types.CommitRequest.pb()
CommitResponse = types.CommitResponse.pb()
RunAggregationQueryRequest = types.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse = types.RunAggregationQueryResponse.pb()
RunQueryRequest = types.RunQueryRequest.pb()
RunQueryResponse = types.RunQueryResponse.pb()
Write = types.Write.pb()
_Value = types.Value.pb()

AND = types.StructuredQuery.CompositeFilter.Operator.AND
DESCENDING = types.StructuredQuery.Direction.DESCENDING
EQUAL = types.StructuredQuery.FieldFilter.Operator.EQUAL
GREATER_THAN_OR_EQUAL = types.StructuredQuery.FieldFilter.Operator.GREATER_THAN_OR_EQUAL
LESS_THAN = types.StructuredQuery.FieldFilter.Operator.LESS_THAN
REQUEST_TIME = types.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME


def set_value(field: Message, value: Value) -> None:
    """Set a field's value."""
    if isinstance(value, bool):
        field.boolean_value = value
    elif isinstance(value, int):
        field.integer_value = value
    elif isinstance(value, str):
        field.string_value = value
    elif isinstance(value, datetime):
        field.timestamp_value.FromDatetime(value)
    elif isinstance(value, _Value):
        field.CopyFrom(value)
    elif isinstance(value, Mapping):
        field.map_value.SetInParent()  # an empty map is stored, too
        for name, item in value.items():
            set_value(field.map_value.fields[name], item)
    else:
        field.array_value.SetInParent()  # an empty array is stored, too
        for item in value:
            set_value(field.array_value.values.add(), item)


def decode(value: Message) -> Any:  # noqa: ANN401
    """Return a field's value; types that this program never writes stay protobuf messages."""
    kind = value.WhichOneof("value_type")
    if kind == "timestamp_value":
        return value.timestamp_value.ToDatetime(tzinfo=UTC)
    if kind == "array_value":
        return [decode(item) for item in value.array_value.values]
    if kind == "map_value":
        return {name: decode(item) for name, item in value.map_value.fields.items()}
    if kind in ("string_value", "integer_value", "boolean_value"):
        return getattr(value, kind)
    return value
