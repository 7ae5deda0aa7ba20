"""A portal is named by its member_id or its domain."""

from pathlib import Path

import pytest

from handler.console.portal_option import (
    NO_PORTAL,
    all_portals,
    find_portal,
    find_portals,
    portal_ids,
    portal_name,
)
from handler.console.printing import CommandError
from handler.deadline import Deadline
from handler.stores.interface import Document
from handler.stores.sqlite import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """Create a store with two portals of one domain, and one without a domain."""
    store = LocalStore(str(tmp_path / "store.sqlite3"))
    for member_id, fields in (
        ("a", {"domain": "x.bitrix24.com"}),
        ("b", {"domain": "X.Bitrix24.com"}),
        ("c", {}),
    ):
        store.put(Document(f"portals/{member_id}", {"active": True, **fields}), Deadline(5))
    return store


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a223c6b3710f85df22e9377d6c4f7553", "a223c6b3710f85df22e9377d6c4f7553"),
        ("x.bitrix24.com", "x.bitrix24.com"),
        ("https://x.bitrix24.com/", "x.bitrix24.com"),
        ("https://x.bitrix24.com/crm/?a=b//c", "x.bitrix24.com"),
        ("x.bitrix24.com/rest/", "x.bitrix24.com"),
        ("http://X.bitrix24.com", "x.bitrix24.com"),
    ],
)
def test_pasted_urls_are_accepted(text: str, name: str) -> None:
    """A URL means its domain."""
    assert name == portal_name(text)


@pytest.mark.parametrize(
    ("name", "members"),
    [(None, ["a", "b", "c"]), ("a", ["a"]), ("x.bitrix24.COM", ["a", "b"]), ("c", ["c"])],
)
def test_a_name_stands_for_portals(store: LocalStore, name: str | None, members: list[str]) -> None:
    """A domain for every portal that has it, whatever its case; without a name, all."""
    assert members == find_portals(store, name)


@pytest.mark.parametrize("find", [find_portals, find_portal])
def test_an_unknown_portal_is_an_error_that_names_those_that_are_known(
    store: LocalStore, find: type[object]
) -> None:
    """With their domains, at most ten."""
    with pytest.raises(CommandError) as error:
        find(store, "nope")  # type: ignore[call-arg]
    known = "a (x.bitrix24.com), b (X.Bitrix24.com), c"
    assert f"There is no portal nope. The portals are: {known}." == str(error.value)

    for number in range(9):
        store.put(Document(f"portals/d{number}", {"active": True}), Deadline(5))
    with pytest.raises(CommandError) as error:
        find(store, "nope")  # type: ignore[call-arg]
    known = ", ".join([known, *(f"d{number}" for number in range(7))])
    told = f"There is no portal nope. The portals are: {known}, and 2 more (see `portals list`)."
    assert told == str(error.value)


@pytest.mark.parametrize("collection", ["deletions", "quarantine", "openline_messages"])
def test_portal_with_only_records_left_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], collection: str
) -> None:
    """By its member_id; an unknown one is still an error."""
    store = LocalStore(str(tmp_path / "store.sqlite3"))
    store.put(Document(f"portals/left/{collection}/1", {"a": 1}), Deadline(5))

    assert ["left"] == find_portals(store, "left")
    assert "left" == find_portal(store, "left")
    with pytest.raises(CommandError) as error:
        find_portals(store, "nope")
    told = "Portal nope not found: this store has no portals. Is it the right store?"
    assert told == str(error.value)

    assert [] == find_portals(store, None)
    assert f"{NO_PORTAL}\n" == capsys.readouterr().err


def test_a_change_needs_one_portal(store: LocalStore) -> None:
    """Portals that share a domain are named by member_id."""
    assert "a" == find_portal(store, "a")
    with pytest.raises(CommandError) as error:
        find_portal(store, "x.bitrix24.com")
    told = "2 portals have the domain x.bitrix24.com: a, b. Use a member_id."
    assert told == str(error.value)


class Crowded(LocalStore):
    """A store with as many portals as are read, or more."""

    portals = 10_000

    def names(self, collection: str, deadline: Deadline, *, limit: int) -> list[str]:
        assert ("portals", True) == (collection, deadline.remaining > 0)
        return ["c"] * min(limit, self.portals)


def test_omitted_portals_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The limit is not silent."""
    store = Crowded(str(tmp_path / "store.sqlite3"))

    assert (10_000, "") == (len(portal_ids(store)), capsys.readouterr().err)
    store.portals += 1
    assert 10_000 == len(portal_ids(store))

    told = "Only 10000 portals are read; use --portal for one.\n"
    assert told == capsys.readouterr().err


def test_all_portals_are_read_with_their_fields(store: LocalStore) -> None:
    """Such as the domain."""
    domains = [portal.domain for portal in all_portals(store)]
    assert ["x.bitrix24.com", "X.Bitrix24.com", None] == domains
