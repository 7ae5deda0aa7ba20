"""A store in a dictionary, for units that need no more."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, Put, Write

# Time stands still: some is always left.
DEADLINE = Deadline(1, lambda: 0)

NOW = datetime(2026, 3, 17, 12, 0, tzinfo=UTC)


class MemoryStore:
    """Stores documents; `before_put`, called once, simulates a faster writer.

    `reads` counts the reads of single documents.
    """

    name = "memory"

    def __init__(self, before_put: Callable[[], object] | None = None) -> None:
        self.documents: dict[str, Document] = {}
        self.before_put = before_put
        self.reads = 0

    def get(self, path: str, deadline: Deadline) -> Document | None:
        assert isinstance(deadline, Deadline)  # every other store needs it
        self.reads += 1
        return self.documents.get(path)

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        assert isinstance(deadline, Deadline)
        return [self.documents.get(path) for path in paths]

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        new = [document for document in documents if document.path not in self.documents]
        for document in new:
            self.put(Document(document.path, {**document.fields, stamp: NOW}), deadline)
        return len(new)

    def put(self, document: Document, deadline: Deadline) -> bool:
        assert isinstance(deadline, Deadline)
        before_put, self.before_put = self.before_put, None
        if before_put:
            before_put()
        if document.version != self._version(document.path):
            return False
        self.write(document.path, document.fields)
        return True

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        before = dict(self.documents)
        if not all(self._apply(write, deadline) for write in writes):
            self.documents = before
            return False
        return True

    def _apply(self, write: Write, deadline: Deadline) -> bool:
        if isinstance(write, Put):
            stamp = {write.stamp: NOW} if write.stamp else {}
            document = write.document
            return self.put(replace(document, fields={**document.fields, **stamp}), deadline)
        found = self.documents.get(write.path)
        if found is None or write.version not in (None, found.version):
            return False
        changed = {**found.fields, **write.fields}
        self.write(
            write.path, {name: value for name, value in changed.items() if value is not None}
        )
        return True

    def write(self, path: str, fields: Fields) -> None:
        found = self.documents.get(path)
        if found and found.fields == fields:  # keeps its version, as in Firestore
            return
        self.documents[path] = Document(path, fields, (self._version(path) or 0) + 1)

    def _version(self, path: str) -> int | None:
        version = self.documents[path].version if path in self.documents else None
        assert version is None or isinstance(version, int)
        return version

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
        raise NotImplementedError

    def count(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        raise NotImplementedError

    def names(self, collection: str, _deadline: Deadline, *, limit: int) -> Sequence[str]:
        found = [path.rpartition("/") for path in self.documents]
        return [name for folder, _, name in found if folder == collection][:limit]

    def names_with(
        self, collection: str, field: str, number: int, deadline: Deadline, *, limit: int
    ) -> Sequence[str]:
        raise NotImplementedError

    def delete(self, paths: Iterable[str], _deadline: Deadline) -> None:
        for path in paths:
            self.documents.pop(path, None)
