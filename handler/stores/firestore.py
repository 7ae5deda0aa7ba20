"""The store in Firestore: documents as its protobuf messages, in as few calls as possible."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from handler.deadline import Deadline
from handler.stores import firestore_messages as messages
from handler.stores.access_token import AccessToken, ask_metadata_server, find_credentials
from handler.stores.firestore_channel import (
    CHANGED,
    EXISTS,
    MISSING,
    Conflict,
    FirestoreChannel,
    Statuses,
    open_to_emulator,
    open_to_google,
)
from handler.stores.firestore_messages import Message, decode, set_value
from handler.stores.interface import Document, Patch, StoreUnavailable, Value, Write

_EMULATOR_PROJECT = "google-cloud-firestore-emulator"  # as in Google's clients

# A commit may hold more, up to 10 MiB; deletes are small.
_DELETES_PER_COMMIT = 300

_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Firestore:
    """A store in one Firestore database, reached through a gRPC channel."""

    def __init__(
        self,
        project: str,
        database: str,
        open_channel: Callable[[], Any],
        token: AccessToken | None,
    ) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._root = f"{self._database}/documents"
        headers = (
            ("google-cloud-resource-prefix", self._database),
            ("x-goog-request-params", f"database={quote(self._database, safe='')}"),
            *(() if token else (("authorization", "Bearer owner"),)),  # as the emulator expects
        )
        self._channel = FirestoreChannel(open_channel, headers, token)

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
        """Return a store for a database or the emulator; it connects on the first call.

        Raises `StoreUnavailable` if there are no credentials or no project.
        """
        if emulator_host:
            project = project or _EMULATOR_PROJECT
            return cls(project, database, lambda: open_to_emulator(emulator_host), None)
        fetch = ask_metadata_server
        if not (on_google_cloud and project):
            fetch, found = find_credentials()
            project = project or found
        if not project:
            raise StoreUnavailable("No project: set GOOGLE_CLOUD_PROJECT.")
        return cls(project, database, open_to_google, AccessToken(fetch))

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """See `Store.get`."""
        (document,) = self.get_all([path], deadline)
        return document

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        """See `Store.get_all`."""
        names = [f"{self._root}/{path}" for path in paths]
        request = messages.BatchGetDocumentsRequest(database=self._database, documents=names)
        answers = self._channel.call("BatchGetDocuments", request, deadline)
        found = {answer.found.name: answer.found for answer in answers if answer.found.name}
        return [self._document(found[name]) if name in found else None for name in names]

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """See `Store.create`.

        One commit if none of them exists, which is nearly always the case.
        """
        missing = documents
        while missing:
            writes = [self._put(replace(document, version=None), stamp) for document in missing]
            if self._write(writes, deadline, EXISTS):
                return len(missing)
            if len(documents) == 1:
                return 0
            found = self.get_all([document.path for document in documents], deadline)
            there = {document.path for document in found if document}
            missing = [document for document in documents if document.path not in there]
        return 0

    def put(self, document: Document, deadline: Deadline) -> bool:
        """See `Store.put`."""
        conflicts = EXISTS if document.version is None else CHANGED
        return self._write([self._put(document)], deadline, conflicts)

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        """See `Store.commit`."""
        changes = [
            self._patch(write)
            if isinstance(write, Patch)
            else self._put(write.document, write.stamp)
            for write in writes
        ]
        return self._write(changes, deadline, EXISTS | CHANGED | MISSING)

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
            query.order_by.add(field={"field_path": field}, direction=messages.DESCENDING)
        if after:
            set_value(query.start_at.values.add(), after.fields[stamp])
            query.start_at.values.add(reference_value=f"{self._root}/{after.path}")
        return [self._document(found) for found in self._documents(request, deadline)]

    def count(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """See `Store.count`; Firestore bills one read per thousand."""
        query = self._query(collection, None)
        _between(query.structured_query, stamp, since, until)
        query.structured_query.order_by.add(field={"field_path": stamp})
        request = messages.RunAggregationQueryRequest(parent=query.parent)
        request.structured_aggregation_query.structured_query.CopyFrom(query.structured_query)
        request.structured_aggregation_query.aggregations.add(alias="count").count.SetInParent()
        (answer,) = self._channel.call("RunAggregationQuery", request, deadline)
        return int(answer.result.aggregate_fields["count"].integer_value)

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        """See `Store.names`."""
        return self._names(self._query(collection, limit), deadline)

    def names_with(
        self, collection: str, field: str, number: int, deadline: Deadline, *, limit: int
    ) -> Sequence[str]:
        """See `Store.names_with`."""
        request = self._query(collection, limit)
        conditions = request.structured_query.where.composite_filter
        conditions.op = messages.AND
        condition = conditions.filters.add().field_filter
        condition.field.field_path = field
        condition.op = messages.EQUAL
        condition.value.integer_value = number
        return self._names(request, deadline)

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """See `Store.delete`."""
        writes = [messages.Write(delete=f"{self._root}/{path}") for path in paths]
        for start in range(0, len(writes), _DELETES_PER_COMMIT):
            self._write(writes[start : start + _DELETES_PER_COMMIT], deadline)

    def _names(self, request: Message, deadline: Deadline) -> Sequence[str]:
        request.structured_query.select.fields.add(field_path="__name__")
        return [found.name.rpartition("/")[2] for found in self._documents(request, deadline)]

    def _query(self, collection: str, limit: int | None) -> Message:
        parent, _, collection_id = f"{self._root}/{collection}".rpartition("/")
        request = messages.RunQueryRequest(parent=parent)
        request.structured_query.from_.add(collection_id=collection_id)
        if limit is not None:
            request.structured_query.limit.value = limit
        return request

    def _documents(self, query: Message, deadline: Deadline) -> list[Message]:
        answers = self._channel.call("RunQuery", query, deadline)
        return [answer.document for answer in answers if answer.document.name]

    def _put(self, document: Document, stamp: str | None = None) -> Message:
        write = self._update(document.path, document.fields)
        if document.version is None:
            write.current_document.exists = False
        else:
            write.current_document.update_time.CopyFrom(document.version)
        if stamp:
            write.update_transforms.add(
                field_path=stamp,
                set_to_server_value=messages.REQUEST_TIME,
            )
        return write

    def _patch(self, patch: Patch) -> Message:
        write = self._update(patch.path, patch.fields)
        write.update_mask.field_paths.extend(patch.fields)
        if patch.version is None:
            write.current_document.exists = True
        else:
            write.current_document.update_time.CopyFrom(patch.version)
        return write

    def _update(self, path: str, fields: Mapping[str, Value | None]) -> Message:
        write = messages.Write()
        write.update.name = f"{self._root}/{path}"
        for name, value in fields.items():
            if value is not None:
                set_value(write.update.fields[name], value)
        return write

    def _write(
        self, writes: Sequence[Message], deadline: Deadline, conflicts: Statuses = frozenset()
    ) -> bool:
        """Commit all writes or none; return `False` if a precondition fails."""
        request = messages.CommitRequest(database=self._database, writes=writes)
        try:
            self._channel.call("Commit", request, deadline, conflicts)
        except Conflict:
            return False
        return True

    def _document(self, found: Message) -> Document:
        fields = {name: decode(value) for name, value in found.fields.items()}
        return Document(found.name.removeprefix(f"{self._root}/"), fields, found.update_time)


def _between(query: Message, stamp: str, since: datetime | None, until: datetime | None) -> None:
    """Filter by one timestamp only: its own index serves that, in either direction.

    The filter finds only timestamps, not other types that were stored by hand.
    """
    bounds = ((messages.GREATER_THAN_OR_EQUAL, since or _EARLIEST), (messages.LESS_THAN, until))
    conditions = query.where.composite_filter
    conditions.op = messages.AND
    for operator, bound in bounds:
        if bound:
            condition = conditions.filters.add().field_filter
            condition.field.field_path = stamp
            condition.op = operator
            set_value(condition.value, bound)
