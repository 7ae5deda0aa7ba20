"""Every store fulfils `handler.stores.interface`: one set of cases for all."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from typing import ClassVar, TypeVar

import grpc
import pytest
from google.cloud.firestore_v1 import types

from handler.portal import Portal, change_portal
from handler.stores.interface import (
    EXPIRING,
    Document,
    Fields,
    Patch,
    Put,
    Store,
    StoreError,
    StoreUnavailable,
    Value,
    Write,
)
from handler.stores.sqlite import LocalStore
from tests.stores.calls import STAMP, soon

T = TypeVar("T")

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FAR_EAST = timezone(timedelta(hours=12))
THREADS = 16


def at_once(threads: int, action: Callable[[int], T]) -> list[T]:
    """Call something from many threads at the same time."""
    start = Barrier(threads)

    def wait_and_act(number: int) -> T:
        start.wait()
        return action(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(wait_and_act, range(threads)))


def read(store: Store, path: str) -> Document:
    """Return a document that must exist."""
    document = store.get(path, soon())
    assert document is not None
    return document


def put_new(store: Store, path: str, fields: Fields) -> Document:
    """Write a new document, and return it as read."""
    assert store.put(Document(path, fields), soon())
    return read(store, path)


class TestGet:
    """Reading one document."""

    @pytest.mark.parametrize("path", ["portals/m", "portals/m/deletions/d"])
    def test_missing_document_is_none(self, store: Store, path: str) -> None:
        """It is not an error, nor is a missing parent."""
        assert store.get(path, soon()) is None

    def test_a_document_knows_its_path_and_name(self, store: Store) -> None:
        """It is found only at the path where it was written."""
        put_new(store, "portals/m/deletions/d", {"line_id": 1})

        document = read(store, "portals/m/deletions/d")

        assert (document.path, document.name) == ("portals/m/deletions/d", "d")
        assert store.get("portals/m", soon()) is None
        assert store.get("portals/m/quarantine/d", soon()) is None
        assert store.get("portals/n/deletions/d", soon()) is None


class TestCreate:
    """Create-if-absent."""

    def test_a_document_is_created_with_its_fields_and_the_stores_own_time(
        self, store: Store
    ) -> None:
        """The stamp is the store's time, even if the document has its own."""
        long_ago = datetime(2001, 1, 1, tzinfo=UTC)

        created = store.create(
            [Document("a/1", {"connector": "livechat", STAMP: long_ago})], STAMP, soon()
        )

        assert created == 1
        fields = dict(read(store, "a/1").fields)
        stamp = fields.pop(STAMP)
        assert fields == {"connector": "livechat"}
        assert isinstance(stamp, datetime)
        assert stamp.utcoffset() == timedelta(0)
        assert timedelta(hours=-1) < datetime.now(UTC) - stamp < timedelta(hours=1)

    def test_existing_document_is_never_overwritten(self, store: Store) -> None:
        """A second creation counts and changes nothing, including stamp and version."""
        store.create([Document("a/1", {"via": "online"})], STAMP, soon())
        first = read(store, "a/1")

        for version in (None, first.version):
            again = Document("a/1", {"via": "offline"}, version)
            assert store.create([again], STAMP, soon()) == 0

        assert first == read(store, "a/1")

    def test_only_missing_documents_are_created(self, store: Store) -> None:
        """Existing ones do not prevent the others from being created."""
        store.create([Document(f"a/{n}", {"by": "first"}) for n in (1, 3)], STAMP, soon())

        created = store.create(
            [Document(f"a/{n}", {"by": "second"}) for n in range(5)], STAMP, soon()
        )

        assert created == 3
        by = [read(store, f"a/{n}").fields["by"] for n in range(5)]
        assert by == ["second", "first", "second", "first", "second"]

    def test_creating_nothing_does_nothing(self, store: Store) -> None:
        """As for an event without wanted deletions."""
        assert store.create([], STAMP, soon()) == 0

    def test_documents_of_different_collections_are_created_together(self, store: Store) -> None:
        """One call may span collections, including those below a document."""
        paths = ["a/1", "b/1", "a/1/c/1"]

        assert store.create([Document(path, {"p": path}) for path in paths], STAMP, soon()) == 3

        assert paths == [read(store, path).fields["p"] for path in paths]

    def test_250_documents_are_created_in_one_call(self, store: Store) -> None:
        """The largest bulk deletion that fits in a body is stored completely, and once."""
        documents = [Document(f"a/{n:03}", {"n": n}) for n in range(250)]
        store.create(documents[100:101], STAMP, soon())

        assert store.create(documents, STAMP, soon()) == 249
        assert store.create(documents, STAMP, soon()) == 0

        assert [document.name for document in documents] == sorted(
            store.names("a", soon(), limit=300)
        )
        assert read(store, "a/249").fields["n"] == 249

    def test_a_path_twice_in_one_call_neither_hangs_nor_makes_two(self, store: Store) -> None:
        """Such a call ends quickly, with an error or one document."""
        twin = [Document("a/1", {"n": 1}), Document("a/1", {"n": 2})]
        try:
            assert store.create(twin, STAMP, soon()) == 1
        except StoreUnavailable:
            pytest.fail("a fault of the caller is not the store's unavailability")
        except StoreError:
            assert store.get("a/1", soon()) is None
        else:
            assert read(store, "a/1").fields["n"] == 1

    def test_many_threads_create_each_document_once(self, store: Store) -> None:
        """With 16 threads creating the same documents, each is created and counted once."""
        names = [f"{n:02}" for n in range(12)]

        def create(thread: int) -> int:
            # Each starts elsewhere, so that overlaps are partial.
            mine = [names[(thread + n) % len(names)] for n in range(6)]
            documents = [Document(f"a/{name}", {"by": thread}) for name in mine]
            return store.create(documents, STAMP, soon())

        counts = at_once(THREADS, create)

        assert len(names) == sum(counts)
        authors = [read(store, f"a/{name}").fields["by"] for name in names]
        assert counts == [authors.count(thread) for thread in range(THREADS)]


class TestPut:
    """Compare-and-set of one document."""

    def test_a_new_document_must_not_exist(self, store: Store) -> None:
        """Without a version, the first writer succeeds and the second does not."""
        assert store.put(Document("portals/m", {"scope": "a"}), soon())
        assert not store.put(Document("portals/m", {"scope": "b"}), soon())

        assert read(store, "portals/m").fields == {"scope": "a"}

    def test_a_write_replaces_all_fields(self, store: Store) -> None:
        """Fields that the new document lacks are removed."""
        first = put_new(store, "portals/m", {"domain": "d", "scope": "a"})

        assert store.put(Document("portals/m", {"scope": "b"}, first.version), soon())

        assert read(store, "portals/m").fields == {"scope": "b"}

    def test_writer_succeeds_after_reading_again(self, store: Store) -> None:
        """Each write creates a version, which the next one needs."""
        document = put_new(store, "portals/m", {"line_id": 0})
        versions = [document.version]

        for number in (1, 2, 3):
            assert store.put(Document("portals/m", {"line_id": number}, versions[-1]), soon())
            versions.append(read(store, "portals/m").version)

        assert read(store, "portals/m").fields["line_id"] == 3
        assert all(versions.count(version) == 1 for version in versions)

    def test_deleted_document_stays_deleted(self, store: Store) -> None:
        """A writer that read it does not restore it."""
        first = put_new(store, "portals/m", {"scope": "a"})
        store.delete(["portals/m"], soon())

        assert not store.put(Document("portals/m", {"scope": "b"}, first.version), soon())

        assert store.get("portals/m", soon()) is None

    def test_recreated_document_is_a_different_one(self, store: Store) -> None:
        """A writer that read the old one does not overwrite the new one."""
        former = put_new(store, "portals/m", {"scope": "a"})
        store.delete(["portals/m"], soon())
        put_new(store, "portals/m", {"scope": "a"})

        assert not store.put(Document("portals/m", {"scope": "b"}, former.version), soon())

        assert read(store, "portals/m").fields == {"scope": "a"}

    def test_a_created_document_has_a_version_too(self, store: Store) -> None:
        """A writer that read it can change it."""
        store.create([Document("a/1", {"n": 1})], STAMP, soon())

        assert store.put(Document("a/1", {"n": 2}, read(store, "a/1").version), soon())

        assert read(store, "a/1").fields == {"n": 2}

    def test_versions_come_with_lists_too(self, store: Store) -> None:
        """Documents from `newest` can be changed like those from `get`."""
        put_new(store, "a/1", {STAMP: NOON})
        (found,) = store.newest("a", STAMP, soon())

        assert store.put(Document("a/1", {"n": 2}, found.version), soon())
        assert not store.put(Document("a/1", {"n": 3}, found.version), soon())

    def test_one_of_many_threads_writes(self, store: Store) -> None:
        """Of 16 that read the same version, exactly one succeeds."""
        version = put_new(store, "portals/m", {"line_id": -1}).version

        written = at_once(
            THREADS,
            lambda thread: store.put(Document("portals/m", {"line_id": thread}, version), soon()),
        )

        assert written.count(True) == 1
        assert written.index(True) == read(store, "portals/m").fields["line_id"]


class TestGetAll:
    """Reading several documents in one call."""

    def test_documents_come_in_the_requested_order(self, store: Store) -> None:
        """A missing one is `None` in its place, and each found one can be put back."""
        for path in ("a/1", "a/1/b/2"):
            put_new(store, path, {"path": path})

        first, missing, second = store.get_all(["a/1/b/2", "a/3", "a/1"], soon())

        assert (first, missing, second) == (read(store, "a/1/b/2"), None, read(store, "a/1"))


class TestCommit:
    """Several writes, each with its own precondition, in one transaction."""

    def test_all_writes_are_applied_together(self, store: Store) -> None:
        """A new document with a stamp, a changed one and a patched one, across collections."""
        changed = put_new(store, "a/1", {"n": 1, "gone": True})
        put_new(store, "b/1", {"n": 1, "stays": "é", "gone": True})

        applied = store.commit(
            [
                Put(Document("a/2", {"n": 2}), stamp=STAMP),
                Put(replace(changed, fields={"n": 3})),
                Patch("b/1", {"n": 4, "new": ["x"], "gone": None, "never_there": None}),
            ],
            soon(),
        )

        assert applied
        new = dict(read(store, "a/2").fields)
        assert isinstance(new.pop(STAMP), datetime)
        assert new == {"n": 2}
        assert read(store, "a/1").fields == {"n": 3}
        assert read(store, "b/1").fields == {"n": 4, "stays": "é", "new": ["x"]}

    @pytest.mark.parametrize("position", [0, 1])
    @pytest.mark.parametrize("kind", ["there", "changed", "deleted", "unpatchable", "outdated"])
    def test_one_failed_precondition_prevents_all_writes(
        self, store: Store, kind: str, position: int
    ) -> None:
        """At any place among the writes: nothing is written, and `False` is returned."""
        former = put_new(store, "a/there", {"n": 1})
        assert store.put(replace(former, fields={"n": 2}), soon())
        deleted = put_new(store, "a/deleted", {"n": 1})
        store.delete(["a/deleted"], soon())
        unmet: dict[str, Write] = {
            "there": Put(Document("a/there", {"n": 3})),
            "changed": Put(former),
            "deleted": Put(deleted),
            "unpatchable": Patch("a/deleted", {"n": 3}),
            "outdated": Patch("a/there", {"n": 3}, former.version),
        }
        writes: list[Write] = [Put(Document("a/new", {"n": 3}))]
        writes.insert(position, unmet[kind])

        assert not store.commit(writes, soon())

        assert read(store, "a/there").fields == {"n": 2}
        assert store.get_all(["a/new", "a/deleted"], soon()) == [None, None]

    def test_patch_with_the_current_version_is_applied(self, store: Store) -> None:
        """A patch may be a compare-and-set, too, and invalidates earlier reads."""
        found = put_new(store, "a/1", {"n": 1})

        assert store.commit([Patch("a/1", {"m": 2}, found.version)], soon())
        assert not store.put(replace(found, fields={}), soon())

        assert read(store, "a/1").fields == {"n": 1, "m": 2}

    def test_one_of_many_concurrent_commits_succeeds(self, store: Store) -> None:
        """Of those that read the same version, one is applied, with its other writes."""
        found = put_new(store, "a/1", {"by": -1})

        def change(number: int) -> bool:
            writes = [
                Put(replace(found, fields={"by": number})),
                Put(Document(f"b/{number}", {"by": number})),
            ]
            return store.commit(writes, soon())

        done = at_once(THREADS, change)

        assert 1 == sum(done)
        assert read(store, "a/1").fields == {"by": done.index(True)}
        assert [str(done.index(True))] == list(store.names("b", soon(), limit=THREADS))


class TestNewest:
    """Listing documents by timestamp, and counting them."""

    @pytest.fixture
    def five(self, store: Store) -> Store:
        """Write five documents, one hour apart, and others that must not be listed."""
        for hour, name in enumerate(["e", "b", "d", "a", "c"]):
            put_new(store, f"p/m/a/{name}", {STAMP: NOON + timedelta(hours=hour)})
        put_new(store, "p/m/a/unstamped", {"line_id": 1})
        put_new(store, "p/m/a/e/a/below", {STAMP: NOON})
        put_new(store, "p/m/aa/beside", {STAMP: NOON})
        put_new(store, "p/n/a/elsewhere", {STAMP: NOON})
        return store

    @staticmethod
    def names(documents: Sequence[Document]) -> str:
        """Return the names in order."""
        return "".join(document.name for document in documents)

    def test_newest_comes_first_and_unstamped_documents_are_omitted(self, five: Store) -> None:
        """Sorted by time, not by name; only from this collection."""
        documents = five.newest("p/m/a", STAMP, soon())

        assert self.names(documents) == "cadbe"
        assert documents[0].path == "p/m/a/c"
        assert {STAMP: NOON + timedelta(hours=4)} == documents[0].fields

    @pytest.mark.parametrize("stamp", ["2026-11-23", 5, True, ["x"], {"x": NOON}])
    def test_only_timestamps_are_listed_and_counted(self, five: Store, stamp: Value) -> None:
        """Documents may have been edited by hand."""
        put_new(five, "p/m/a/z", {STAMP: stamp})

        assert "c" == self.names(five.newest("p/m/a", STAMP, soon(), limit=1))
        assert "cadbe" == self.names(five.newest("p/m/a", STAMP, soon()))
        assert 5 == five.count("p/m/a", STAMP, soon())
        until = NOON + timedelta(days=9)
        assert "cadbe" == self.names(five.newest("p/m/a", STAMP, soon(), until=until))
        assert 5 == five.count("p/m/a", STAMP, soon(), until=until)

    @pytest.mark.parametrize(("limit", "expected"), [(0, ""), (1, "c"), (3, "cad"), (9, "cadbe")])
    def test_a_limit_keeps_the_newest(self, five: Store, limit: int, expected: str) -> None:
        """The oldest are cut off; a limit of 0 lists none."""
        assert expected == self.names(five.newest("p/m/a", STAMP, soon(), limit=limit))

    def test_since_includes_its_own_moment(self, five: Store) -> None:
        """Inclusive to the microsecond."""
        moment = NOON + timedelta(hours=2)
        tick = timedelta(microseconds=1)

        assert self.names(five.newest("p/m/a", STAMP, soon(), since=moment)) == "cad"
        assert self.names(five.newest("p/m/a", STAMP, soon(), since=moment + tick)) == "ca"
        assert self.names(five.newest("p/m/a", STAMP, soon(), since=NOON + timedelta(days=1))) == ""

    def test_since_means_its_moment_in_any_time_zone(self, five: Store) -> None:
        """The time zone of `since` is respected."""
        moment = (NOON + timedelta(hours=2)).astimezone(timezone(timedelta(hours=-9, minutes=-30)))

        assert self.names(five.newest("p/m/a", STAMP, soon(), since=moment)) == "cad"

    def test_since_and_limit_together_keep_the_newest(self, five: Store) -> None:
        """A limit counts from the newest, with any `since`."""
        assert self.names(five.newest("p/m/a", STAMP, soon(), since=NOON, limit=2)) == "ca"

    def test_equal_times_are_sorted_by_name(self, store: Store) -> None:
        """Every store lists the documents of one event in the same order."""
        store.create([Document(f"a/{name}", {}) for name in "bdac"], STAMP, soon())

        assert self.names(store.newest("a", STAMP, soon())) == "dcba"

    def test_until_excludes_its_own_moment(self, five: Store) -> None:
        """So that adjacent ranges list each document once."""
        moment = NOON + timedelta(hours=2)
        tick = timedelta(microseconds=1)

        assert self.names(five.newest("p/m/a", STAMP, soon(), until=moment)) == "be"
        assert self.names(five.newest("p/m/a", STAMP, soon(), until=moment + tick)) == "dbe"
        assert self.names(five.newest("p/m/a", STAMP, soon(), since=NOON, until=moment)) == "be"

    def test_pages_list_each_document_once(self, store: Store) -> None:
        """Even those of equal times: a page may end between them."""
        store.create([Document(f"a/{name}", {}) for name in "bdac"], STAMP, soon())
        store.create([Document(f"a/{name}", {}) for name in "gef"], STAMP, soon())
        listed, page = "", None
        for _ in range(3):
            found = store.newest("a", STAMP, soon(), after=page, limit=3)
            listed, page = f"{listed}{self.names(found)} ", found[-1]

        assert listed == "gfe dcb a "
        assert [] == list(store.newest("a", STAMP, soon(), after=page, limit=3))

    def test_a_page_stays_within_since_and_until(self, five: Store) -> None:
        """The bounds hold on every page."""
        since, until = NOON + timedelta(hours=1), NOON + timedelta(hours=4)
        (first,) = five.newest("p/m/a", STAMP, soon(), since=since, until=until, limit=1)
        rest = five.newest("p/m/a", STAMP, soon(), since=since, until=until, after=first)

        assert self.names([first]) == "a"
        assert self.names(rest) == "db"

    def test_missing_collection_is_empty(self, store: Store) -> None:
        """A portal without records is not an error."""
        assert list(store.newest("portals/m/deletions", STAMP, soon())) == []

    def test_count_is_the_number_listed(self, five: Store) -> None:
        """Within the same bounds, and without unstamped documents."""
        moment = NOON + timedelta(hours=2)

        assert five.count("p/m/a", STAMP, soon()) == 5
        assert five.count("p/m/a", STAMP, soon(), since=moment) == 3
        assert five.count("p/m/a", STAMP, soon(), until=moment) == 2
        assert five.count("p/m/a", STAMP, soon(), since=NOON, until=moment) == 2
        assert five.count("nothing/there/yet", STAMP, soon()) == 0


class TestNames:
    """Listing the names of a collection's documents."""

    def test_only_this_collections_names_are_listed(self, store: Store) -> None:
        """Not those below it or in other collections."""
        for path in ["p/m", "p/n", "p/m/a/1", "pp/x", "q/p/p/y"]:
            put_new(store, path, {"n": 1})

        assert {"m", "n"} == set(store.names("p", soon(), limit=10))
        assert list(store.names("p/m/a", soon(), limit=10)) == ["1"]

    @pytest.mark.parametrize("limit", [0, 1, 2, 3])
    def test_names_respect_the_limit(self, store: Store, limit: int) -> None:
        """And every listed name exists."""
        for name in "ab":
            put_new(store, f"p/{name}", {"n": 1})

        names = store.names("p", soon(), limit=limit)

        assert min(limit, 2) == len(names)
        assert {"a", "b"} >= set(names)

    def test_names_with_a_number_are_listed(self, store: Store) -> None:
        """In that field, as a number; others may lack it, or have another type."""
        values: list[Value] = [27, 270, "27", True]
        for name, value in enumerate(values):
            put_new(store, f"p/m/a/{name}", {"author_id": value, "n": 27})
        put_new(store, "p/m/a/none", {"n": 27})
        put_new(store, "p/m/b/1", {"author_id": 27})
        put_new(store, "p/m/a/again", {"author_id": 27})

        found = store.names_with("p/m/a", "author_id", 27, soon(), limit=9)

        assert ["0", "again"] == sorted(found)
        assert 1 == len(store.names_with("p/m/a", "author_id", 27, soon(), limit=1))
        assert [] == store.names_with("p/m/a", "author_id", 28, soon(), limit=9)

    def test_missing_collection_has_no_names(self, store: Store) -> None:
        """Purging nothing is not an error."""
        assert list(store.names("portals/m/deletions", soon(), limit=10)) == []


class TestDelete:
    """Deleting documents."""

    def test_only_the_given_documents_are_deleted(self, store: Store) -> None:
        """Others stay, even those below them; deleting a missing one is not an error."""
        for path in ["a/1", "a/2", "a/1/b/1"]:
            put_new(store, path, {"n": 1})

        store.delete(["a/1", "a/none"], soon())
        store.delete(["a/1"], soon())

        assert store.get("a/1", soon()) is None
        assert read(store, "a/2")
        assert read(store, "a/1/b/1")

    def test_deleting_nothing_does_nothing(self, store: Store) -> None:
        """An empty purge is not an error."""
        store.delete([], soon())

    def test_deletes_may_exceed_one_commit(self, store: Store) -> None:
        """Any number, from any iterable."""
        for start in (0, 200, 400):
            documents = [Document(f"a/{start + n:03}", {}) for n in range(200)]
            assert store.create(documents, STAMP, soon()) == 200

        store.delete((f"a/{n:03}" for n in range(1, 600)), soon())

        assert list(store.names("a", soon(), limit=10)) == ["000"]

    def test_what_was_deleted_can_be_created_again(self, store: Store) -> None:
        """Nothing of the old document prevents it."""
        store.create([Document("a/1", {"n": 1})], STAMP, soon())
        store.delete(["a/1"], soon())

        assert store.create([Document("a/1", {"n": 2})], STAMP, soon()) == 1
        assert read(store, "a/1").fields["n"] == 2


VALUES: dict[str, Value] = {
    "empty text": "",
    "text of every plane": "aé\u0416中\u202e\ufeff\ufffe😀\U0010ffff",
    "combining, not normalised": "e\u0301 \u00e9",
    "control characters": "\x00\x01\t\r\n\x1f\x7f\x85\u2028",
    "text like JSON": '{"time": "2026-11-22T12:00:00Z"} \\u0000 "',
    "text like a number": "0012",
    "long text": "ж" * 200_000,
    "zero": 0,
    "one": 1,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "beyond a double's integers": 2**53 + 1,
    "true": True,
    "false": False,
    "microseconds": datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC),
    "no fraction": datetime(2026, 11, 22, tzinfo=UTC),
    "earliest": datetime(1, 1, 1, tzinfo=UTC),
    "early year": datetime(999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "before 1970": datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
    "latest": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "list": ["b", "a", "", "a", "\x00😀"],
    "empty list": [],
    "map": {"time": "text", "at": NOON, "map": 5, "again": False},
    "empty map": {},
}


class TestValues:
    """Values round-trip."""

    def test_values_round_trip(self, store: Store) -> None:
        """Values keep their types, and fields their names, with any characters."""
        found = put_new(store, "a/1", VALUES).fields

        assert found == VALUES
        assert {name: type(value) for name, value in VALUES.items()} == {
            name: type(value) for name, value in found.items()
        }

    def test_a_document_may_be_empty(self, store: Store) -> None:
        """A document without fields exists nevertheless."""
        assert put_new(store, "a/1", {}).fields == {}

    def test_a_time_in_another_zone_is_the_same_moment(self, store: Store) -> None:
        """Timestamps are returned in UTC, in any zone of the machine."""
        tokyo = NOON.astimezone(timezone(timedelta(hours=9)))

        found = put_new(store, "a/1", {"event_at": tokyo}).fields["event_at"]

        assert tokyo == found
        assert isinstance(found, datetime)
        assert found.utcoffset() == timedelta(0)

    def test_other_sequences_come_back_as_lists(self, store: Store) -> None:
        """Such as a tuple."""
        assert put_new(store, "a/1", {"l": ("a", "b")}).fields == {"l": ["a", "b"]}

    def test_any_legal_name_names_a_document(self, store: Store) -> None:
        """Each name that Firestore allows leads to a document, and is listed."""
        names = {
            *("a b", "é", "e\u0301", "..a", "...", "%2F", "__", "a__b", "\\", "'\"`", "*?[]", "~"),
            *("\n", "\x00", "a\x00", "a\x00b", "a", "A", "1", "01", "-", "(default)", "#:@$"),
            *("\u202e", "\ufeff", "😀", "ж" * 750, "x" * 1_500),
        }

        created = store.create(
            [Document(f"a/{name}", {"name": name}) for name in names], STAMP, soon()
        )

        assert len(names) == created
        assert names == {read(store, f"a/{name}").fields["name"] for name in names}
        assert names == {document.name for document in store.newest("a", STAMP, soon())}
        assert names == set(store.names("a", soon(), limit=100))


class TestChangePortal:
    """Changing a portal, made safe by `get` and `put`."""

    def test_concurrent_changes_lose_no_update(self, store: Store) -> None:
        """In the end, the portal has every thread's changes, in some order."""
        threads, changes = 6, 4

        def change(thread: int) -> None:
            for number in range(changes):
                mark = f"{thread}.{number}"
                change_portal(store, "m", marking(mark), soon())

        at_once(threads, change)

        scope = read(store, "portals/m").fields["scope"]
        assert isinstance(scope, str)
        marks = scope.split()
        assert sorted(f"{t}.{n}" for t in range(threads) for n in range(changes)) == sorted(marks)
        assert all(
            sorted(own) == own
            for own in ([m for m in marks if m.startswith(f"{t}.")] for t in range(threads))
        )

    @pytest.mark.parametrize("kind", ["emulator", "double"])
    def test_unknown_types_stay(
        self, request: pytest.FixtureRequest, project: str, kind: str
    ) -> None:
        """Values set by hand that our code cannot read are neither changed nor an error."""
        host: str = request.getfixturevalue(kind).host
        store: Store = request.getfixturevalue(f"{kind}_store")
        name = f"projects/{project}/databases/(default)/documents/portals/m"
        by_hand = types.Document(
            name=name,
            fields={
                "scope": {"string_value": "a"},
                "domain": {"null_value": 0},
                "nothing": {"null_value": 0},
                "price": {"double_value": 1.5},
                "raw": {"bytes_value": b"ab"},
                "owner": {"reference_value": name},
                "place": {"geo_point_value": {"latitude": 1, "longitude": 2}},
                "nested": {"map_value": {"fields": {"n": {"integer_value": 1}}}},
                "mixed": {"array_value": {"values": [{"null_value": 0}, {"string_value": "x"}]}},
            },
        )
        write_raw(host, by_hand)

        portal = change_portal(store, "m", marking("b"), soon())

        assert portal is not None
        assert portal.scope == "a b"
        after = read_raw(host, name)
        assert "a b" == after.fields["scope"].string_value
        assert set(by_hand.fields) == set(after.fields)
        kept = set(by_hand.fields) - {"scope"}
        for field in kept:
            assert by_hand.fields[field] == after.fields[field], field


class TestLocalExpiry:
    """The embedded store deletes expired documents at its next write; Firestore has a policy."""

    WRITES: ClassVar[dict[str, Callable[[Store], object]]] = {
        "create": lambda store: store.create([Document("a/1", {})], STAMP, soon()),
        "put": lambda store: store.put(Document("a/1", {}), soon()),
        "commit": lambda store: store.commit([Put(Document("a/1", {}))], soon()),
        "delete": lambda store: store.delete(["a/1"], soon()),
    }

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    def test_expired_documents_are_deleted_at_the_next_write(
        self, tmp_path: Path, write: Callable[[Store], object]
    ) -> None:
        """Only in the expiring collection, of any portal, and at their time."""
        file = str(tmp_path / "store.sqlite3")
        before = LocalStore(file, lambda: NOON - timedelta(hours=1))
        past = {"expires_at": NOON}
        later = {"expires_at": (NOON + timedelta(microseconds=1)).astimezone(FAR_EAST)}
        expired = [f"portals/m/{EXPIRING}/1", f"portals/n/{EXPIRING}/1"]
        for path in expired:
            put_new(before, path, past)
        kept = [
            put_new(before, f"portals/m/{EXPIRING}/2", later),
            put_new(before, f"portals/m/{EXPIRING}/3", {}),
            put_new(before, "portals/m/deletions/1", past),
            put_new(before, f"portals/m/{EXPIRING}-not/1", past),
        ]
        assert None not in before.get_all(expired, soon())

        write(LocalStore(file, lambda: NOON))

        assert before.get_all(expired, soon()) == [None, None]
        assert kept == before.get_all([document.path for document in kept], soon())

    def test_expired_document_can_be_replaced_by_its_version(self, tmp_path: Path) -> None:
        """It is deleted after the write, so that a compare-and-set on it can succeed."""
        before = LocalStore(str(tmp_path / "store.sqlite3"), lambda: NOON - timedelta(hours=1))
        found = put_new(before, f"portals/m/{EXPIRING}/1", {"expires_at": NOON})
        store = LocalStore(str(tmp_path / "store.sqlite3"), lambda: NOON)
        renewed = {"expires_at": NOON + timedelta(days=1)}

        assert store.put(replace(found, fields=renewed), soon())

        assert read(store, found.path).fields == renewed


class TestLocalProcesses:
    """Processes share the embedded store's file."""

    def test_many_processes_create_the_store_and_each_document_once(self, tmp_path: Path) -> None:
        """The function and the commands may start on a new machine at the same time."""
        processes, rounds, documents = 8, 12, 10
        script = (
            "import sys\n"
            "from handler.stores.sqlite import LocalStore\n"
            "from handler.stores.interface import Deadline, Document\n"
            "print('ready', flush=True)\n"
            "for path in sys.stdin:\n"
            "    store = LocalStore(path.rstrip())\n"
            f"    new = [Document(f'a/{{n}}', {{}}) for n in range({documents})]\n"
            "    print(store.create(new, 'at', Deadline(30)), flush=True)\n"
        )
        with ExitStack() as stack:
            started = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-c", script],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                for _ in range(processes)
            ]
            assert ["ready"] * processes == [self.answer(process) for process in started]
            for number in range(rounds):
                path = tmp_path / str(number) / "store.sqlite3"
                for process in started:
                    assert process.stdin is not None
                    process.stdin.write(f"{path}\n")
                    process.stdin.flush()
                counts = [int(self.answer(process)) for process in started]
                assert documents == sum(counts)
                names = LocalStore(str(path)).names("a", soon(), limit=100)
                assert documents == len(names)

    @staticmethod
    def answer(process: subprocess.Popen[str]) -> str:
        """Return a process's next line, or fail with its error."""
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(process.communicate()[1])
        return line.strip()


def marking(mark: str) -> Callable[[Portal | None], Portal]:
    """Return a change that adds a mark to a portal."""

    def change(portal: Portal | None) -> Portal:
        portal = portal or Portal(member_id="m")
        return portal.model_copy(update={"scope": f"{portal.scope or ''} {mark}".strip()})

    return change


def write_raw(host: str, document: types.Document) -> None:
    """Write a document as the console does, with any types."""
    request = types.CommitRequest(
        database=database_of(document.name), writes=[types.Write(update=document)]
    )
    with grpc.insecure_channel(host) as channel:
        call = channel.unary_unary(
            "/google.firestore.v1.Firestore/Commit",
            request_serializer=types.CommitRequest.serialize,
            response_deserializer=types.CommitResponse.deserialize,
        )
        call(request, metadata=metadata_for(document.name), timeout=30)


def read_raw(host: str, name: str) -> types.Document:
    """Read a document with any types."""
    request = types.BatchGetDocumentsRequest(database=database_of(name), documents=[name])
    with grpc.insecure_channel(host) as channel:
        call = channel.unary_stream(
            "/google.firestore.v1.Firestore/BatchGetDocuments",
            request_serializer=types.BatchGetDocumentsRequest.serialize,
            response_deserializer=types.BatchGetDocumentsResponse.deserialize,
        )
        (answer,) = call(request, metadata=metadata_for(name), timeout=30)
        found: types.Document = answer.found
        return found


def database_of(name: str) -> str:
    """Return the database of a document's full name."""
    return name.partition("/documents/")[0]


def metadata_for(name: str) -> list[tuple[str, str]]:
    """Return the headers that Google's emulator and its double require."""
    return [
        ("google-cloud-resource-prefix", database_of(name)),
        ("authorization", "Bearer owner"),
    ]
