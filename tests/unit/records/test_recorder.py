"""Deletions are recorded once, and records never change."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from handler.records.documents import Delivery
from handler.records.recorder import Counts, Recorder, name_connectors, name_documents
from handler.settings import Settings
from handler.stores.interface import Store
from tests import samples
from tests.doubles.memory_store import DEADLINE, NOW, MemoryStore

ONLINE = Delivery(member_id="m", event="ONOPENLINEMESSAGEDELETE", via="online", user_id=27)
TWIN = replace(ONLINE, event="ONIMCONNECTORMESSAGEDELETE")
OFFLINE = Delivery(member_id="m", event="ONOPENLINEMESSAGEDELETE", via="offline")


def data(name: str) -> Any:  # noqa: ANN401
    """Return the data of a sample."""
    return samples.typed(name)["data"]


def recorder(store: Store, **settings: Any) -> Recorder:  # noqa: ANN401
    """Return a recorder with settings; its clock stands at noon."""
    return Recorder(lambda: store, Settings(**settings), lambda: NOW)


def test_a_repeat_counts_as_a_duplicate_and_changes_nothing() -> None:
    """By any route."""
    store = MemoryStore()
    recording = recorder(store)
    sample = data("portal-one-message")
    recording.record(recording.read(ONLINE, sample).documents, DEADLINE)
    before = dict(store.documents)
    again = recording.record(recording.read(OFFLINE, sample).documents, DEADLINE)
    twin = recording.record(recording.read(TWIN, data("connector-twin")).documents, DEADLINE)
    assert Counts(recorded=0, duplicates=1) == again == twin
    assert before == store.documents


def test_records_expire_according_to_the_settings() -> None:
    """`RETENTION_DAYS` from now, for Firestore's TTL policy."""
    recording = recorder(MemoryStore(), retention_days=30)
    (document,) = recording.read(ONLINE, data("customer")).documents
    assert datetime(2026, 4, 16, 12, 0, tzinfo=UTC) == document.fields["expires_at"]
    (kept,) = recorder(MemoryStore()).read(ONLINE, data("customer")).documents
    assert "expires_at" not in kept.fields


def test_invalid_data_is_quarantined_once() -> None:
    """The answer has its name."""
    store = MemoryStore()
    recording = recorder(store, retention_days=30)
    invalid = recording.read(ONLINE, {"DATA": []}).invalid
    assert invalid
    name = recording.quarantine(ONLINE, {"DATA": []}, invalid, DEADLINE)
    assert name == recording.quarantine(OFFLINE, {"DATA": []}, invalid, DEADLINE)
    assert [f"portals/m/quarantine/{name}"] == list(store.documents)
    fields = store.documents[f"portals/m/quarantine/{name}"].fields
    assert NOW == fields["received_at"]
    assert datetime(2026, 4, 16, 12, 0, tzinfo=UTC) == fields["expires_at"]
    assert invalid.reasons == fields["reasons"]
    assert "connectors" not in fields


def test_quarantined_event_has_its_connectors_setting() -> None:
    """For a retry, which cannot know it."""
    store = MemoryStore()
    recording = recorder(store, connectors=frozenset({"z", "a"}))
    invalid = recording.read(ONLINE, {"DATA": []}).invalid
    assert invalid
    recording.quarantine(ONLINE, {"DATA": []}, invalid, DEADLINE)

    (document,) = store.documents.values()
    assert ["a", "z"] == document.fields["connectors"]


def test_counts_of_several_events_add_up() -> None:
    """For the offline queue."""
    assert Counts(4, 6) == Counts(1, 2) + Counts(3, 4)
    assert Counts(1, 2) == Counts() + Counts(1, 2)


def test_the_store_is_opened_only_when_it_is_needed() -> None:
    """Firestore may be unavailable while an event is parsed."""
    opened: list[Store] = []

    def open_store() -> Store:
        opened.append(MemoryStore())
        return opened[-1]

    recording = Recorder(open_store, Settings(), lambda: NOW)
    documents = recording.read(ONLINE, data("customer")).documents
    assert Counts() == recording.record([], DEADLINE)
    assert [] == opened
    recording.record(documents, DEADLINE)
    assert 1 == len(opened)


def test_excluded_connectors_are_named_once_and_their_messages_counted() -> None:
    """For the log, which has room for a few."""
    assert {} == name_connectors([])
    assert {"connector": "a, b", "ignored": 3} == name_connectors(["a", "b", "a"])
    assert {"connector": "c" * 99 + ",", "ignored": 2} == name_connectors(["c" * 99, "d"])


def test_a_line_of_the_log_has_room_for_five_hundred_names() -> None:
    """Each once; a drain may store many more, which are counted."""
    names = [f"{number:064}" for number in range(502)]

    assert {} == name_documents(ids=[], quarantine_ids=[])
    assert {"ids": ["a", "b"]} == name_documents(ids=["a", "b", "a"])
    assert {"ids": names[:500]} == name_documents(ids=names[:500])
    assert {"ids": names[:500], "ids_left_out": 2} == name_documents(ids=names)
