"""The embedded store: one SQLite file, for a machine without anything else installed.

Every call opens the file anew, so any number of threads and processes may share it. SQLite's own
locks synchronise them. There is no write-ahead log: if two processes switch it on at the same time,
one does not wait but fails with "database is locked".
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from handler.deadline import Deadline
from handler.stores.interface import (
    EXPIRING,
    Document,
    Fields,
    Patch,
    Put,
    StoreUnavailable,
    Write,
)

# Versions are random, not counted: a document that is deleted and created again has a new one.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    fields TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT (random()),
    PRIMARY KEY (collection, name)
) WITHOUT ROWID
"""

# These mark timestamps and maps, to tell them apart in JSON.
_TIME = "time"
_MAP = "map"


def _time_of(stamp: str) -> str:
    """Return the SQL expression of a timestamp; SQLite matches an index by its exact text."""
    return f"json_extract(fields, '$.{stamp}.{_TIME}')"


# For pages of a large collection, newest first: without an index, each page would sort all of it.
_INDEXES = [
    f"CREATE INDEX IF NOT EXISTS documents_by_{stamp}"
    f" ON documents (collection, {_time_of(stamp)}, name)"
    for stamp in ("event_at", "recorded_at")
]

# Where each write looks for expired documents.
_EXPIRING = f"collection GLOB '*/{EXPIRING}'"
_EXPIRES_AT = _time_of("expires_at")
_EXPIRY_INDEX = (
    f"CREATE INDEX IF NOT EXISTS expiring ON documents ({_EXPIRES_AT}) WHERE {_EXPIRING}"
)
_SWEEP = f"DELETE FROM documents WHERE {_EXPIRING} AND {_EXPIRES_AT} <= ?"  # noqa: S608 - no value is in the text

_TABLES = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'documents'"

_INSERT = "INSERT OR IGNORE INTO documents (collection, name, fields) VALUES (?, ?, ?)"

_UPDATE = (
    "UPDATE documents SET fields = ?, version = random()"
    " WHERE collection = ? AND name = ? AND version = ?"
)


class _PreconditionFailed(Exception):  # noqa: N818 - it rolls back a commit, nothing went wrong
    pass


class LocalStore:
    """A store in the file at `path`.

    A missing file is created, with its folders. Without `create`, a missing file or one that is not
    a store raises `StoreUnavailable`.
    """

    def __init__(
        self,
        path: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        create: bool = True,
    ) -> None:
        self._path = path
        self._now = now
        self.name = str(Path(path).absolute())
        if create:
            self._create_file()
        else:
            self._check()

    def _create_file(self) -> None:
        try:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unavailable(f" cannot be created: {error}") from None
        with self._open(Deadline(5)) as file:
            file.execute(_SCHEMA)
            for index in (*_INDEXES, _EXPIRY_INDEX):
                file.execute(index)

    def _check(self) -> None:
        if not Path(self._path).exists():
            raise self._unavailable(
                ": no such file. It is created by the function's first write or by `portals add`;"
                " check LOCAL_STORE_PATH."
            )
        with self._open(Deadline(5)) as file:
            if not file.execute(_TABLES).fetchone():
                raise self._unavailable(": this file is not a store of this program.")

    def _unavailable(self, problem: str) -> StoreUnavailable:
        return StoreUnavailable(f"LOCAL_STORE_PATH={self._path}{problem}")

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """See `Store.get`."""
        (document,) = self.get_all([path], deadline)
        return document

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        """See `Store.get_all`."""
        with self._open(deadline) as file:
            return [_read(file, path) for path in paths]

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """See `Store.create`."""
        with self._writing(deadline) as file:
            now = self._now()
            return sum(_put(file, replace(one, version=None), {stamp: now}) for one in documents)

    def put(self, document: Document, deadline: Deadline) -> bool:
        """See `Store.put`."""
        return self.commit([Put(document)], deadline)

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        """See `Store.commit`."""
        with suppress(_PreconditionFailed), self._writing(deadline) as file:
            now = self._now()
            for write in writes:
                if isinstance(write, Patch):
                    _patch(file, write)
                elif not _put(file, write.document, {write.stamp: now} if write.stamp else {}):
                    raise _PreconditionFailed
            return True
        return False

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
        time = _time_of(stamp)
        condition, values = _between(collection, time, since, until)
        if after:
            # An index on an expression is searched by the first condition only.
            condition += f" AND {time} <= ? AND ({time}, name) < (?, ?)"
            last = _time_text(cast("datetime", after.fields[stamp]))
            values += [last, last, after.name]
        with self._open(deadline) as file:
            rows = file.execute(
                f"SELECT name, fields, version FROM documents WHERE {condition}"  # noqa: S608 - no value is in the text
                f" ORDER BY {time} DESC, name DESC LIMIT ?",
                (*values, -1 if limit is None else limit),
            ).fetchall()
        return [
            Document(f"{collection}/{name}", _decode(fields), version)
            for name, fields, version in rows
        ]

    def count(
        self,
        collection: str,
        stamp: str,
        deadline: Deadline,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """See `Store.count`."""
        condition, values = _between(collection, _time_of(stamp), since, until)
        query = f"SELECT count(*) FROM documents WHERE {condition}"  # noqa: S608 - no value is in the text
        with self._open(deadline) as file:
            return int(file.execute(query, values).fetchone()[0])

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> Sequence[str]:
        """See `Store.names`."""
        with self._open(deadline) as file:
            rows = file.execute(
                "SELECT name FROM documents WHERE collection = ? LIMIT ?", (collection, limit)
            ).fetchall()
        return [name for (name,) in rows]

    def names_with(
        self, collection: str, field: str, number: int, deadline: Deadline, *, limit: int
    ) -> Sequence[str]:
        """See `Store.names_with`."""
        with self._open(deadline) as file:
            rows = file.execute(
                "SELECT name FROM documents WHERE collection = ? AND json_extract(fields, ?) = ?"
                " LIMIT ?",
                (collection, f"$.{field}", number, limit),
            ).fetchall()
        return [name for (name,) in rows]

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """See `Store.delete`."""
        with self._writing(deadline) as file:
            file.executemany(
                "DELETE FROM documents WHERE collection = ? AND name = ?", map(_split, paths)
            )

    @contextmanager
    def _writing(self, deadline: Deadline) -> Iterator[sqlite3.Connection]:
        """Open the file for a transaction, which is rolled back if an exception is raised."""
        with self._open(deadline) as file:
            file.execute("BEGIN IMMEDIATE")
            with file:
                yield file
                file.execute(_SWEEP, (_time_text(self._now()),))

    @contextmanager
    def _open(self, deadline: Deadline) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=deadline.remaining, isolation_level=None)
            ) as file:
                yield file
        except sqlite3.Error as error:
            raise self._unavailable(f": {error}") from None


def _read(file: sqlite3.Connection, path: str) -> Document | None:
    row = file.execute(
        "SELECT fields, version FROM documents WHERE collection = ? AND name = ?", _split(path)
    ).fetchone()
    return Document(path, _decode(row[0]), row[1]) if row else None


def _put(file: sqlite3.Connection, document: Document, stamps: Fields) -> bool:
    """Write a document if the stored version is the same; return whether it was written."""
    place, fields = _split(document.path), _encode({**document.fields, **stamps})
    if document.version is None:
        return file.execute(_INSERT, (*place, fields)).rowcount == 1
    return file.execute(_UPDATE, (fields, *place, document.version)).rowcount == 1


def _patch(file: sqlite3.Connection, patch: Patch) -> None:
    found = _read(file, patch.path)
    if found is None or patch.version not in (None, found.version):
        raise _PreconditionFailed
    changed = {**found.fields, **patch.fields}
    fields = {name: value for name, value in changed.items() if value is not None}
    _put(file, replace(found, fields=fields), {})


def _between(
    collection: str, time: str, since: datetime | None, until: datetime | None
) -> tuple[str, list[str]]:
    condition = f"collection = ? AND {time} >= ?"
    values = [collection, _time_text(since) if since else ""]
    if until:
        condition += f" AND {time} < ?"
        values.append(_time_text(until))
    return condition, values


def _split(path: str) -> tuple[str, str]:
    collection, _, name = path.rpartition("/")
    return collection, name


def _encode(fields: Fields) -> str:
    marked = {
        name: {_MAP: dict(value)} if isinstance(value, Mapping) else value
        for name, value in fields.items()
    }
    return json.dumps(marked, default=_encode_value)


def _encode_value(value: object) -> object:
    if isinstance(value, datetime):
        return {_TIME: _time_text(value)}
    raise TypeError(f"A document cannot hold {type(value).__name__}.")


def _time_text(time: datetime) -> str:
    """Format a timestamp so that texts sort by time, even those of early years."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _decode(text: str) -> Fields:
    return {name: _decode_value(value) for name, value in json.loads(text).items()}


def _decode_value(value: Any) -> Any:  # noqa: ANN401 - it is JSON
    if not isinstance(value, dict):
        return value
    if _TIME in value:
        return datetime.fromisoformat(value[_TIME])
    return {name: _decode_value(item) for name, item in value[_MAP].items()}
