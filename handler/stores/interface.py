"""The interface of a store: documents by path, with create-if-absent and compare-and-set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from handler.deadline import Deadline

Scalar: TypeAlias = str | int | bool | datetime
Value: TypeAlias = Scalar | Sequence[str] | Mapping[str, Scalar]
Fields: TypeAlias = Mapping[str, Value]

# Documents in collections of this name are deleted some time after their `expires_at`: by a TTL
# policy in Firestore, and by the embedded store at its next write. Until then, they can be read.
EXPIRING: Final = "openline_messages"


class StoreError(Exception):
    """The store rejected a request, and always would: a bug in this program."""


class StoreUnavailable(StoreError):  # noqa: N818 - it names the state, as in `store_unavailable`
    """The store cannot be used: it is unreachable or too slow, denies access, or is not set up.

    The request itself is valid, so it can be repeated once that is solved.
    """


@dataclass(frozen=True)
class Document:
    """One document. Its path alternates collections and names: `portals/M/deletions/ID`.

    `version` is the store's version of the document, opaque like an ETag.
    """

    path: str
    fields: Fields
    version: object = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Put:
    """Writes a whole document, as `Store.put` does; `stamp`, if any, is set as in `create`."""

    document: Document
    stamp: str | None = None


@dataclass(frozen=True)
class Patch:
    """Changes `fields` of the document at a path, which must exist; fields of `None` are removed.

    With a `version`, the document must be unchanged since that was read.
    """

    path: str
    fields: Mapping[str, Value | None]
    version: object = None


Write: TypeAlias = Put | Patch


class Store(Protocol):
    """A store of documents.

    Each call ends within its deadline, retries included, and raises `StoreUnavailable` if the store
    has not answered by then. Exceptions of the store's own client never escape.
    """

    @property
    def name(self) -> str:
        """The store's name, to show: `projects/ID/databases/NAME`, or the file's path."""

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """Return the document at a path, or `None`."""

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        """Return the documents at different paths, in that order, with one call."""

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """Create the documents that do not exist yet, together if possible.

        Returns how many were created; existing ones stay as they are. The field `stamp` of each is
        set to the store's own time. The paths must differ.
        """

    def put(self, document: Document, deadline: Deadline) -> bool:
        """Write a document unless it has changed since its version was read: compare-and-set.

        A `version` of `None` means that it must not exist. Returns whether it was written.
        """

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        """Apply all writes, or none if a precondition of one fails. Their paths must differ.

        Returns whether they were applied. After a lost answer and a retry, it may return `False`
        although they were.
        """

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
        """Return a collection's documents that have the timestamp `stamp`, newest first.

        Equal timestamps are sorted by name, descending. `since` is inclusive, `until` exclusive.
        `after`, the last document of a page, asks for the next page.
        """

    def count(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Return how many documents `newest` would list, without reading them."""

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        """Return the names of up to `limit` of a collection's documents, in any order."""

    def names_with(
        self, collection: str, field: str, number: int, deadline: Deadline, *, limit: int
    ) -> Sequence[str]:
        """Return the names of up to `limit` documents whose `field` has the value `number`."""

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """Delete documents; missing ones are ignored."""
