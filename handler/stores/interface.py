"""What a store is: documents by path, created once, changed only by who has seen them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from handler.deadline import Deadline

Scalar: TypeAlias = str | int | bool | datetime
Value: TypeAlias = Scalar | Sequence[str] | Mapping[str, Scalar]
Fields: TypeAlias = Mapping[str, Value]


# Documents in collections of this name are deleted some time after their `expires_at`: by a TTL
# policy in Firestore, and by the embedded store at its next write. Until then they can be read.
EXPIRING: Final = "openline_messages"


class StoreError(Exception):
    """The store refused what it was asked, and would again: a fault of this program."""


class StoreUnavailable(StoreError):  # noqa: N818 - it names the state, as in `store_unavailable`
    """The store could not be reached or did not answer in time; later it may."""


@dataclass(frozen=True)
class Document:
    """One document. Its path alternates collections and names: `portals/M/deletions/ID`.

    `version` tells what a store had when the document was read; it means something to that
    store only.
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
    """A whole document, written as `Store.put` does; `stamp`, if any, is set as in `create`."""

    document: Document
    stamp: str | None = None


@dataclass(frozen=True)
class Patch:
    """Changes `fields` of the document at a path, which must exist; fields of `None` are removed.

    With a `version`, the document must not have changed since that was read.
    """

    path: str
    fields: Mapping[str, Value | None]
    version: object = None


Write: TypeAlias = Put | Patch


class Store(Protocol):
    """Everything that is asked of a store.

    Each call ends within its deadline, retries included. Each raises `StoreUnavailable` when
    the store does not answer by then, and nothing else of the store's own.
    """

    @property
    def name(self) -> str:
        """Which store this is, for people: `projects/ID/databases/NAME`, or the file's path."""

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """Return the document at a path, if there is one."""

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        """Return the documents at different paths, in that order, with one call."""

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """Create those documents that are not there yet, together where possible.

        Returns how many were created; documents that are there stay as they are. The field
        `stamp` of each is set to the store's own time. The paths must differ.
        """

    def put(self, document: Document, deadline: Deadline) -> bool:
        """Write a document unless it has changed since its version was read.

        A `version` of `None` means that it must not exist. Returns whether it was written.
        """

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        """Apply all writes, to different paths, or none of them if one cannot be applied as asked.

        Returns whether they were applied. If an answer is lost, and the call repeated, it may
        return `False` although they were.
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

        Documents of one time come by name, descending. `since` leaves out those before that
        moment, `until` those at or after it. `after`, the last document of a page, continues
        with the page that follows.
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
        """Return the names of some of a collection's documents."""

    def names_with(
        self, collection: str, field: str, number: int, deadline: Deadline, *, limit: int
    ) -> Sequence[str]:
        """Return the names of some of a collection's documents that have a number in a field."""

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """Delete documents; those that are not there are fine."""
