"""The only module that knows Firestore.

It uses the official client's own channel and messages, but not its `Client`: that one retries
past any time-out it is given (48 s for `timeout=5`), and a commit through it costs twice the CPU.
Here each call has one deadline, which its retries share.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import google.auth
import grpc
from google.auth import compute_engine
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

from handler.deadline import Deadline
from handler.stores.interface import (
    Document,
    Patch,
    StoreError,
    StoreUnavailable,
    Value,
    Write,
)

T = TypeVar("T")

_CommitRequest = types.CommitRequest.pb()
_BatchGetDocumentsRequest = types.BatchGetDocumentsRequest.pb()
_RunQueryRequest = types.RunQueryRequest.pb()
_RunAggregationQueryRequest = types.RunAggregationQueryRequest.pb()
_Write = types.Write.pb()
_Value = types.Value.pb()

_EMULATOR_PROJECT = "google-cloud-firestore-emulator"  # as in Google's clients

# A channel that has lost its connection tries again at most this much later. gRPC's own two
# minutes would refuse events long after Firestore is back.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

# What may pass. Repeating is safe: records are created once, portals are changed by version.
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
}
# What somebody must mend, and then it passes: the database, the rights, the mode.
_MENDABLE = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
# What a write answers whose precondition does not hold: that there be no document, or that one.
# FAILED_PRECONDITION means something else where nothing but absence was asked for: a database
# in the wrong mode, for one.
_THERE = grpc.StatusCode.ALREADY_EXISTS
_CHANGED = grpc.StatusCode.FAILED_PRECONDITION
_MISSING = grpc.StatusCode.NOT_FOUND

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_SHORTEST_ATTEMPT_SECONDS = 1.0

# A commit may hold more, but is refused above 10 MiB; deletes are small.
_DELETES_PER_COMMIT = 300


class Firestore:
    """A store in one Firestore database, reached through a gRPC channel."""

    def __init__(
        self, channel: grpc.Channel, project: str, database: str, *, emulator: bool = False
    ) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._root = f"{self._database}/documents"
        self._metadata = [
            ("google-cloud-resource-prefix", self._database),
            ("x-goog-request-params", f"database={quote(self._database, safe='')}"),
            *([("authorization", "Bearer owner")] if emulator else []),
        ]

        def method(kind: Callable[..., Any], name: str, request: Any, response: Any) -> Any:  # noqa: ANN401 - grpc ships no types
            return kind(
                f"/google.firestore.v1.Firestore/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.pb().FromString,
            )

        self._commit = method(channel.unary_unary, "Commit", _CommitRequest, types.CommitResponse)
        self._batch_get = method(
            channel.unary_stream,
            "BatchGetDocuments",
            _BatchGetDocumentsRequest,
            types.BatchGetDocumentsResponse,
        )
        self._run_query = method(
            channel.unary_stream, "RunQuery", _RunQueryRequest, types.RunQueryResponse
        )
        self._run_aggregation_query = method(
            channel.unary_stream,
            "RunAggregationQuery",
            _RunAggregationQueryRequest,
            types.RunAggregationQueryResponse,
        )

    @property
    def name(self) -> str:
        """See `Store.name`."""
        return self._database

    @classmethod
    def connect(
        cls,
        project: str | None,
        database: str,
        emulator_host: str | None,
        *,
        on_google_cloud: bool,
    ) -> "Firestore":
        """Reach a database, or the emulator; opens no connection yet.

        Raises `StoreUnavailable` when there are no credentials or no project.
        """
        if emulator_host:
            channel = grpc.insecure_channel(
                emulator_host, options=(*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0))
            )
            return cls(channel, project or _EMULATOR_PROJECT, database, emulator=True)
        try:
            if on_google_cloud and project:
                credentials = _google_cloud_credentials()
            else:
                credentials, found = google.auth.default(scopes=FirestoreGrpcTransport.AUTH_SCOPES)
                project = project or found
        except (GoogleAuthError, OSError) as error:
            raise StoreUnavailable(
                f"No Google credentials ({type(error).__name__}): run `gcloud auth"
                " application-default login`, or set STORE=local to try without Google Cloud."
            ) from None
        if not project:
            raise StoreUnavailable("No project: set GOOGLE_CLOUD_PROJECT.")
        channel = FirestoreGrpcTransport.create_channel(
            credentials=credentials, options=_CHANNEL_OPTIONS
        )
        return cls(channel, project, database)

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """See `Store.get`."""
        (document,) = self.get_all([path], deadline)
        return document

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        """See `Store.get_all`."""
        names = [f"{self._root}/{path}" for path in paths]
        request = _BatchGetDocumentsRequest(database=self._database, documents=names)
        answers = self._call(lambda **options: list(self._batch_get(request, **options)), deadline)
        found = {answer.found.name: answer.found for answer in answers if answer.found.name}
        return [self._document(found[name]) if name in found else None for name in names]

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """See `Store.create`.

        One commit where none is there yet, which is nearly always.
        """
        missing = documents
        while missing:
            writes = [self._put(replace(document, version=None), stamp) for document in missing]
            if self._write(writes, deadline, _THERE):
                return len(missing)
            if len(documents) == 1:
                return 0
            found = self.get_all([document.path for document in documents], deadline)
            there = {document.path for document in found if document}
            missing = [document for document in documents if document.path not in there]
        return 0

    def put(self, document: Document, deadline: Deadline) -> bool:
        """See `Store.put`."""
        conflict = _THERE if document.version is None else _CHANGED
        return self._write([self._put(document)], deadline, conflict)

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        """See `Store.commit`."""
        messages = [
            self._patch(write)
            if isinstance(write, Patch)
            else self._put(write.document, write.stamp)
            for write in writes
        ]
        return self._write(messages, deadline, _THERE, _CHANGED, _MISSING)

    def newest(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        after: Document | None = None,
        limit: int | None = None,
    ) -> Sequence[Document]:
        """See `Store.newest`."""
        request = self._query(collection, limit)
        query = request.structured_query
        _between(query, stamp, since, until)
        for field in (stamp, "__name__"):
            query.order_by.add(
                field={"field_path": field}, direction=types.StructuredQuery.Direction.DESCENDING
            )
        if after:
            _set(query.start_at.values.add(), after.fields[stamp])
            query.start_at.values.add(reference_value=f"{self._root}/{after.path}")
        return [self._document(found) for found in self._stream_query(request, deadline)]

    def count(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """See `Store.count`; Firestore bills one read for a thousand."""
        query = self._query(collection, None)
        _between(query.structured_query, stamp, since, until)
        query.structured_query.order_by.add(field={"field_path": stamp})
        request = _RunAggregationQueryRequest(parent=query.parent)
        request.structured_aggregation_query.structured_query.CopyFrom(query.structured_query)
        request.structured_aggregation_query.aggregations.add(alias="count").count.SetInParent()
        (answer,) = self._call(
            lambda **options: list(self._run_aggregation_query(request, **options)), deadline
        )
        return int(answer.result.aggregate_fields["count"].integer_value)

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        """See `Store.names`."""
        request = self._query(collection, limit)
        request.structured_query.select.fields.add(field_path="__name__")
        return [found.name.rpartition("/")[2] for found in self._stream_query(request, deadline)]

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """See `Store.delete`."""
        writes = [_Write(delete=f"{self._root}/{path}") for path in paths]
        for start in range(0, len(writes), _DELETES_PER_COMMIT):
            self._write(writes[start : start + _DELETES_PER_COMMIT], deadline)

    def _query(self, collection: str, limit: int | None) -> Any:  # noqa: ANN401
        parent, _, collection_id = f"{self._root}/{collection}".rpartition("/")
        request = _RunQueryRequest(parent=parent)
        request.structured_query.from_.add(collection_id=collection_id)
        if limit is not None:
            request.structured_query.limit.value = limit
        return request

    def _stream_query(self, request: Any, deadline: Deadline) -> Iterator[Any]:  # noqa: ANN401
        answers = self._call(lambda **options: list(self._run_query(request, **options)), deadline)
        return (answer.document for answer in answers if answer.document.name)

    def _put(self, document: Document, stamp: str | None = None) -> Any:  # noqa: ANN401
        write = self._update(document.path, document.fields)
        if document.version is None:
            write.current_document.exists = False
        else:
            write.current_document.update_time.CopyFrom(document.version)
        if stamp:
            write.update_transforms.add(
                field_path=stamp,
                set_to_server_value=types.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME,
            )
        return write

    def _patch(self, patch: Patch) -> Any:  # noqa: ANN401
        write = self._update(patch.path, patch.fields)
        write.update_mask.field_paths.extend(patch.fields)
        if patch.version is None:
            write.current_document.exists = True
        else:
            write.current_document.update_time.CopyFrom(patch.version)
        return write

    def _update(self, path: str, fields: Mapping[str, Value | None]) -> Any:  # noqa: ANN401
        write = _Write()
        write.update.name = f"{self._root}/{path}"
        for name, value in fields.items():
            if value is not None:
                _set(write.update.fields[name], value)
        return write

    def _write(
        self, writes: Sequence[Any], deadline: Deadline, *conflicts: grpc.StatusCode
    ) -> bool:
        """Commit; return `False` when a precondition did not hold, which `conflicts` say."""
        request = _CommitRequest(database=self._database, writes=writes)

        def attempt(**options: Any) -> bool:  # noqa: ANN401
            try:
                self._commit(request, **options)
            except grpc.RpcError as error:
                if error.code() in conflicts:
                    return False
                raise
            return True

        return self._call(attempt, deadline)

    def _call(self, attempt: Callable[..., T], deadline: Deadline) -> T:
        """Try until it succeeds or the deadline passes; each attempt gets half of what is left."""
        pause = _FIRST_PAUSE_SECONDS
        problem = "no time was left"
        while remaining := deadline.remaining:
            timeout = max(remaining / 2, min(remaining, _SHORTEST_ATTEMPT_SECONDS))
            try:
                return attempt(timeout=timeout, metadata=self._metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                code = error.code()
                problem = f"{code.name}: {error.details()}"
                if code in _MENDABLE:
                    break
                if code not in _PASSING:
                    raise StoreError(problem) from None
            time.sleep(min(random.uniform(0, pause), deadline.remaining))  # noqa: S311 - jitter
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        raise StoreUnavailable(f"Firestore: {problem}")

    def _document(self, found: Any) -> Document:  # noqa: ANN401
        fields = {name: _decode(value) for name, value in found.fields.items()}
        return Document(found.name.removeprefix(f"{self._root}/"), fields, found.update_time)


def _google_cloud_credentials() -> Credentials:
    """Make what `google.auth.default()` finds there too, but after five questions more.

    To name the universe saves another question to the metadata server.
    """
    return compute_engine.Credentials(universe_domain="googleapis.com")  # type: ignore[no-untyped-call]


def _between(query: Any, stamp: str, since: datetime | None, until: datetime | None) -> None:  # noqa: ANN401
    """Select by one timestamp only: its own index answers that, in either direction."""
    operators = types.StructuredQuery.FieldFilter.Operator
    bounds = ((operators.GREATER_THAN_OR_EQUAL, since), (operators.LESS_THAN, until))
    conditions = query.where.composite_filter
    for operator, bound in bounds:
        if bound:
            conditions.op = types.StructuredQuery.CompositeFilter.Operator.AND
            condition = conditions.filters.add().field_filter
            condition.field.field_path = stamp
            condition.op = operator
            _set(condition.value, bound)


def _set(field: Any, value: Value) -> None:  # noqa: ANN401
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
        field.map_value.SetInParent()  # an empty map, too, is one
        for name, item in value.items():
            _set(field.map_value.fields[name], item)
    else:
        field.array_value.SetInParent()  # an empty array, too, is one
        for item in value:
            _set(field.array_value.values.add(), item)


def _decode(value: Any) -> Any:  # noqa: ANN401
    """Return a field's value; what is no `Value`, as people may write one, stays as it is."""
    kind = value.WhichOneof("value_type")
    if kind == "timestamp_value":
        return value.timestamp_value.ToDatetime(tzinfo=UTC)
    if kind == "array_value":
        return [_decode(item) for item in value.array_value.values]
    if kind == "map_value":
        return {name: _decode(item) for name, item in value.map_value.fields.items()}
    if kind in ("string_value", "integer_value", "boolean_value"):
        return getattr(value, kind)
    return value
