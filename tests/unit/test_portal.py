"""A portal's document decides whose events are accepted, and keeps fields set by others."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.deadline import Deadline
from handler.log import Log
from handler.portal import (
    Portal,
    change_portal,
    log_problem,
    portal_path,
    read_portal,
    remind_of_problem,
)
from handler.stores.interface import Fields, StoreUnavailable
from handler.tokens import accepts
from tests.doubles.memory_store import DEADLINE, NOW, MemoryStore

LATER = NOW + timedelta(days=1)
FIELDS: Fields = {
    "member_id": "m",
    "token_digests": ["new", "old"],
    "active": True,
    "domain": "some-domain.bitrix24.com",
    "client_endpoint": "https://some-domain.bitrix24.com/rest/",
    "server_endpoint": "https://oauth.bitrix.info/rest/",
    "client_id": "local.1",
    "status": "L",
    "scope": "imopenlines",
    "installed_at": NOW,
    "updated_at": NOW,
    "clean_requested_at": NOW,
    "removed_at": NOW,
    "bound_as": 7,
    "checked_at": NOW,
    "asked_at": NOW,
    "problem": "Choose Reinstall.",
    "problem_since": NOW,
    "problem_logged_at": NOW,
    "drain": {"until": NOW, "nonce": "n", "user": 7, "again": True, "follows": False},
    "drained_at": NOW,
    "queue_left": {"rows": "more than 49", "at": NOW},
    "calls_until": NOW,
}
TEXTS = ("domain", "client_endpoint", "server_endpoint", "client_id", "status", "scope", "problem")
BARE = Portal(member_id="m")


def test_a_document_is_read_and_written_as_it_is() -> None:
    """All its fields, with their types."""
    portal = Portal.from_fields("m", FIELDS)
    assert FIELDS == portal.to_fields()
    assert (["new", "old"], NOW) == (portal.token_digests, portal.installed_at)


def test_unknown_fields_are_absent() -> None:
    """A digest and `active` are enough for events to be accepted."""
    fields: Fields = {"token_digests": ["a"], "active": True}
    assert {**fields, "member_id": "m"} == Portal.from_fields("m", fields).to_fields()


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize("value", [1, 1.5, b"x", "x\udcff", ["x", 1], [["x"]], {"x": "y"}, None])
def test_a_field_of_the_wrong_type_counts_as_absent(field: str, value: object) -> None:
    """Documents may be edited by hand; one slip must not fail every event of a portal."""
    written: Any = {**FIELDS, field: value}
    portal = Portal.from_fields("m", written)
    expected: dict[str, object] = {name: known for name, known in FIELDS.items() if name != field}
    if field == "member_id":
        expected["member_id"] = "m"
    elif isinstance(value, str if field in TEXTS else int) and field in (*TEXTS, "bound_as"):
        expected[field] = value
    assert expected == portal.to_fields()


def test_an_install_puts_its_token_first_and_keeps_the_one_before() -> None:
    """The old application's uninstall can arrive after the new one's install."""
    portal = BARE.with_token("a", NOW)
    assert (["a"], True, NOW, NOW) == (
        portal.token_digests,
        portal.active,
        portal.installed_at,
        portal.updated_at,
    )
    assert ["b", "a"] == portal.with_token("b", LATER).token_digests
    assert ["c", "b"] == portal.with_token("b", NOW).with_token("c", NOW).token_digests
    assert ["a", "b"] == portal.with_token("b", NOW).with_token("a", NOW).token_digests


def test_install_cancels_the_request_to_delete_data() -> None:
    """Otherwise `portals purge` would delete data in use again."""
    portal = BARE.with_token("a", NOW).without_token("a", NOW, clean=True)
    assert (False, NOW) == (portal.active, portal.clean_requested_at)
    again = portal.with_token("b", LATER)
    assert (True, None, LATER) == (again.active, again.clean_requested_at, again.installed_at)


def test_an_uninstall_counts_only_for_the_token_that_it_carries() -> None:
    """A portal is active as long as it has a token."""
    portal = BARE.with_token("old", NOW).with_token("new", NOW)
    late = portal.without_token("old", LATER, clean=False)
    assert (["new"], True, LATER, None) == (
        late.token_digests,
        late.active,
        late.updated_at,
        late.clean_requested_at,
    )
    assert NOW == late.installed_at
    gone = late.without_token("new", LATER, clean=False)
    assert ([], False) == (gone.token_digests, gone.active)


def test_request_to_delete_data_outlasts_the_next_uninstall() -> None:
    """Not every uninstall repeats it."""
    portal = BARE.with_token("a", NOW).with_token("b", NOW).without_token("a", NOW, clean=True)
    assert NOW == portal.without_token("b", LATER, clean=False).clean_requested_at
    assert LATER == portal.without_token("b", LATER, clean=True).clean_requested_at


def test_install_with_a_known_token_is_not_a_new_installation() -> None:
    """Reinstall keeps the token; after an uninstall or `portals remove`, it is a new one."""
    portal = BARE.with_token("a", NOW).with_token("b", NOW).model_copy(update={"client_id": "c"})
    again = portal.with_token("a", LATER)
    assert (["a", "b"], NOW, LATER) == (again.token_digests, again.installed_at, again.updated_at)
    assert "c" == again.client_id
    removed = portal.model_copy(update={"active": False, "removed_at": NOW})
    back = removed.with_token("a", LATER)
    assert (LATER, None, True) == (back.installed_at, back.removed_at, back.active)


def test_problem_is_stored_with_its_time_until_it_ends() -> None:
    """Setting the same problem again does not make it new."""
    portal = BARE.with_problem("one", NOW)
    assert ("one", NOW, NOW) == (portal.problem, portal.problem_since, portal.problem_logged_at)
    assert portal == portal.with_problem("one", LATER)
    assert ("two", LATER) == (
        portal.with_problem("two", LATER).problem,
        portal.with_problem("two", LATER).problem_since,
    )
    assert BARE == portal.with_problem(None, LATER)


def test_the_problem_of_a_portal_ends_with_its_last_token() -> None:
    """An uninstalled portal needs no attention."""
    portal = BARE.with_token("a", NOW).with_token("b", NOW).with_problem("one", NOW)
    portal = portal.without_token("a", NOW, clean=False)
    assert "one" == portal.problem
    assert None is portal.without_token("b", NOW, clean=False).problem


def test_removed_portal_has_no_token_problem_or_drain() -> None:
    """Everything else stays; so does the time of an earlier removal."""
    ended = ("token_digests", "drain", "queue_left", "problem", "problem_since")
    kept = {name: value for name, value in FIELDS.items() if name not in ended}
    del kept["problem_logged_at"]
    removed = Portal.from_fields("m", FIELDS).removed(LATER)
    ended_at = {"active": False, "allowed": False, "updated_at": LATER}
    assert {**kept, **ended_at} == removed.to_fields()


def test_lasting_problem_is_logged_once_a_day() -> None:
    """By the first event after a day, although other instances do not know that yet."""
    store, out = MemoryStore(), io.StringIO()
    log, portal = Log(out), Portal(member_id="m", domain="d").with_problem("one", NOW)
    store.write("portals/m", portal.to_fields())
    early = LATER - timedelta(seconds=1)
    due = [
        remind_of_problem(store, portal, "EVENT", log, now=now, deadline=DEADLINE)
        for now in (early, LATER, LATER)
    ]
    log_problem(log, BARE, Portal(member_id="m", problem="two"), "EVENT")
    log_problem(log, portal, portal.with_problem(None, LATER), "EVENT")

    assert [False, True, True] == due
    about = {"event": "EVENT", "member_id": "m"}
    begun = {"severity": "ERROR", "outcome": "portal_problem", **about}
    ended = {"severity": "INFO", "outcome": "portal_well", **about}
    assert [
        {**begun, "message": "one", "domain": "d", "problem_since": str(NOW)},
        {**begun, "message": "two", "problem_since": ""},
        {**ended, "message": "Resolved: one", "domain": "d"},
    ] == [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_uninstall_does_not_activate_a_portal() -> None:
    """One that was deactivated by hand stays inactive."""
    off = Portal(member_id="m", active=False, token_digests=["a", "b"])
    assert off.without_token("b", NOW, clean=False).active is False
    assert BARE.without_token("b", NOW, clean=False).active is False


@given(st.lists(st.tuples(st.sampled_from(["install", "uninstall"]), st.sampled_from("abcd"))))
def test_right_tokens_are_accepted_in_any_order(changes: list[tuple[str, str]]) -> None:
    """At most the last two installed, newest first, and not uninstalled since."""
    portal = BARE
    for kind, token in changes:
        if kind == "install":
            portal = portal.with_token(token, NOW)
        else:
            portal = portal.without_token(token, NOW, clean=False)
    last = {token: index for index, (_, token) in enumerate(changes)}
    newest_first = sorted(last, key=last.__getitem__, reverse=True)
    expected = [token for token in newest_first if _is_accepted(changes[last[token] :])]
    assert expected == list(portal.token_digests or [])
    assert set(expected) == {token for token in "abcd" if accepts(portal, token)}
    assert bool(expected) == bool(portal.active)
    assert len(expected) <= 2


def _is_accepted(changes: list[tuple[str, str]]) -> bool:
    """Return whether the token of the first change is still accepted after the others.

    None of the others is about the same token.
    """
    if changes[0][0] == "uninstall":
        return False
    newer: set[str] = set()
    for kind, token in changes[1:]:
        newer = newer | {token} if kind == "install" else newer - {token}
        if len(newer) == 2:
            return False
    return True


def test_a_portal_is_read_by_its_member_id() -> None:
    """Its records are in collections below it."""
    store = MemoryStore()
    assert read_portal(store, "m", DEADLINE) is None
    store.write(portal_path("m"), {"active": True, "member_id": "somebody else"})
    assert Portal(member_id="m", active=True) == read_portal(store, "m", DEADLINE)
    assert ["portals/m"] == list(store.documents)


def install(token: str) -> Callable[[Portal | None], Portal]:
    """Return a change that accepts a token."""
    return lambda portal: (portal or BARE).with_token(token, NOW)


def test_a_portal_that_is_not_there_is_created() -> None:
    """The change gets `None`."""
    store = MemoryStore()
    seen: list[Portal | None] = []

    def change(portal: Portal | None) -> Portal:
        seen.append(portal)
        return BARE

    assert BARE == change_portal(store, "m", change, DEADLINE)
    assert [None] == seen
    assert {"member_id": "m"} == store.documents["portals/m"].fields


def test_document_without_fields_is_not_a_portal() -> None:
    """And does not prevent creating one."""
    store = MemoryStore()
    store.write("portals/m", {})
    changed = change_portal(store, "m", install("a"), DEADLINE)
    assert changed
    assert changed.to_fields() == store.documents["portals/m"].fields
    assert ["a"] == changed.token_digests


def test_unknown_fields_stay() -> None:
    """People may keep notes in the document; known fields that become `None` are removed."""
    store = MemoryStore()
    store.write("portals/m", {"note": "call Ann", "clean_requested_at": NOW, "domain": "d"})
    change_portal(store, "m", install("a"), DEADLINE)
    fields = store.documents["portals/m"].fields
    assert ("call Ann", "d", ["a"]) == (fields["note"], fields["domain"], fields["token_digests"])
    assert "clean_requested_at" not in fields


def test_a_portal_that_is_left_alone_stays_as_it_is() -> None:
    """So an uninstall does not restore a portal that was removed in between."""
    store = MemoryStore()
    assert None is change_portal(store, "m", lambda _: None, DEADLINE)
    assert {} == store.documents


def test_change_is_retried_after_a_conflict() -> None:
    """Two installs at the same time: both tokens are accepted."""
    store = MemoryStore()
    store.before_put = lambda: change_portal(store, "m", install("faster"), DEADLINE)
    changed = change_portal(store, "m", install("slower"), DEADLINE)
    assert changed
    assert ["slower", "faster"] == changed.token_digests
    assert ["slower", "faster"] == store.documents["portals/m"].fields["token_digests"]


def test_a_document_that_keeps_changing_is_given_up_at_the_deadline() -> None:
    """Nobody waits endlessly."""
    moments = iter(range(100))
    deadline = Deadline(3, lambda: next(moments))

    class Busy(MemoryStore):
        def put(self, *_: object) -> bool:
            return False

    with pytest.raises(StoreUnavailable, match=r"^portals/m kept changing until the deadline\.$"):
        change_portal(Busy(), "m", install("a"), deadline)
    assert next(moments) == 4
