"""The embedded store: one SQLite file, for a machine with nothing on it.

Every call opens the file anew, so any number of threads and processes may share it. They wait
for one another by SQLite's own locks; not by a write-ahead log, because two who switch that on
at once are not made to wait: one is told "database is locked".
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, StoreUnavailable

# A version is random, not counted: a document that is deleted and made again has another one.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    fields TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT (random()),
    PRIMARY KEY (collection, name)
) WITHOUT ROWID
"""

# Pages of a large collection, newest first: without an index, each would sort all of it.
_INDEX = "CREATE INDEX IF NOT EXISTS documents_by_{0} ON documents (collection, {1}, name)"
_INDEXED = ("event_at", "recorded_at")

_INSERT = "INSERT OR IGNORE INTO documents (collection, name, fields) VALUES (?, ?, ?)"

# What marks a timestamp and a map, which would look alike in JSON.
_TIME = "time"
_MAP = "map"


class LocalStore:
    """A store in the file at `path`, which is made when it is missing."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"LOCAL_STORE_PATH={path} cannot be made: {error}") from None
        with self._open(Deadline(5)) as file:
            file.execute(_SCHEMA)
            for stamp in _INDEXED:
                file.execute(_INDEX.format(stamp, _time_of(stamp)))

    def get(self, path: str, deadline: Deadline) -> Document | None:
        """See `Store.get`."""
        with self._open(deadline) as file:
            row = file.execute(
                "SELECT fields, version FROM documents WHERE collection = ? AND name = ?",
                _split(path),
            ).fetchone()
        return Document(path, _decode(row[0]), row[1]) if row else None

    def create(self, documents: Sequence[Document], stamp: str, deadline: Deadline) -> int:
        """See `Store.create`."""
        created = 0
        with self._open(deadline) as file, _transaction(file):
            now = datetime.now(UTC)
            for document in documents:
                fields = _encode({**document.fields, stamp: now})
                created += file.execute(_INSERT, (*_split(document.path), fields)).rowcount
        return created

    def put(self, document: Document, deadline: Deadline) -> bool:
        """See `Store.put`."""
        place, fields = _split(document.path), _encode(document.fields)
        with self._open(deadline) as file, _transaction(file):
            if document.version is None:
                changed = file.execute(_INSERT, (*place, fields))
            else:
                changed = file.execute(
                    "UPDATE documents SET fields = ?, version = random()"
                    " WHERE collection = ? AND name = ? AND version = ?",
                    (fields, *place, document.version),
                )
            return changed.rowcount == 1

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
            condition += f" AND ({time}, name) < (?, ?)"
            values += [_time_text(cast("datetime", after.fields[stamp])), after.name]
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

    def delete(self, paths: Iterable[str], deadline: Deadline) -> None:
        """See `Store.delete`."""
        with self._open(deadline) as file, _transaction(file):
            file.executemany(
                "DELETE FROM documents WHERE collection = ? AND name = ?", map(_split, paths)
            )

    @contextmanager
    def _open(self, deadline: Deadline) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self._path, timeout=deadline.remaining, isolation_level=None)
            ) as file:
                yield file
        except sqlite3.Error as error:
            raise StoreUnavailable(f"LOCAL_STORE_PATH={self._path}: {error}") from None


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    with file:
        yield


def _time_of(stamp: str) -> str:
    """Return the expression of a timestamp; the indexes are found by its exact text."""
    return f"json_extract(fields, '$.{stamp}.{_TIME}')"


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
    raise TypeError(f"A document holds no {type(value).__name__}.")


def _time_text(time: datetime) -> str:
    """Write a timestamp so that texts sort as times do, those of early years too."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _decode(text: str) -> Fields:
    return {name: _decode_value(value) for name, value in json.loads(text).items()}


def _decode_value(value: Any) -> Any:  # noqa: ANN401 - it is JSON
    if not isinstance(value, dict):
        return value
    if _TIME in value:
        return datetime.fromisoformat(value[_TIME])
    return {name: _decode_value(item) for name, item in value[_MAP].items()}
