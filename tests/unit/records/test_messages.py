"""Keeping messages' texts, and copying them to records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from handler.deadline import Deadline
from handler.events.message import Message
from handler.records.documents import Delivery, deletion_document
from handler.records.messages import Messages
from handler.stores.interface import Document, Patch, StoreUnavailable, Write
from tests.doubles.memory_store import DEADLINE, MemoryStore
from tests.samples import CUSTOMER, PORTAL

M = "bac1cd5c8940947a75e0d71b1a84e348"
NOW = datetime(2026, 3, 17, 12, tzinfo=UTC)
DAYS = 30

OPERATORS = Message(
    author="operator", connector="myconnector", line_id=107, im_message_id=86501, author_id=27
)
CUSTOMERS = Message(
    author="customer",
    connector="MyConnector",
    line_id=107,
    chat_id="channel-123",
    message_id="ext-msg-005",
    author_id=1985,
)


def at(seconds: int) -> datetime:
    """Return the time of an event."""
    return datetime.fromtimestamp(seconds, UTC)


class Counting(MemoryStore):
    """A store that counts its calls; `meanwhile` runs once, before the next commit."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.meanwhile: Callable[[], object] | None = None

    def get(self, path: str, deadline: Deadline) -> Document | None:
        self.calls.append("get")
        return super().get(path, deadline)

    def get_all(self, paths: Sequence[str], deadline: Deadline) -> Sequence[Document | None]:
        self.calls.append("get_all")
        assert len(paths) == len(set(paths))
        return super().get_all(paths, deadline)

    def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        self.calls.append("commit")
        return super().commit(writes, deadline)


class Stage:
    """One portal, with a clock that the test moves."""

    def __init__(self) -> None:
        self.store = Counting()
        self.now = NOW
        self.messages = Messages(lambda: self.store, DAYS, lambda: self.now)

    def say(
        self, message: Message, seconds: int, text: str | None, *, update: bool = False
    ) -> bool:
        """Keep the message of an event, and count the calls."""
        said = replace(message, text=text)
        self.store.calls.clear()
        return self.messages.keep(M, said, DEADLINE, update=update, at=at(seconds))

    def delete(self, *deletions: Document) -> int:
        """Record deletions, and count the calls."""
        self.store.calls.clear()
        return self.messages.record(deletions, DEADLINE)

    def texts(self) -> list[object]:
        """Return the texts of the records."""
        return [document.fields.get("text") for document in self.found("deletions")]

    def found(self, collection: str) -> list[Document]:
        """Return the documents of a collection."""
        folder = f"portals/{M}/{collection}/"
        return [one for path, one in self.store.documents.items() if path.startswith(folder)]

    @property
    def calls(self) -> list[str]:
        """The calls made for the last event."""
        return self.store.calls


@pytest.fixture
def stage() -> Stage:
    """Start with an empty store."""
    return Stage()


def deletion(seconds: int = 50, **changes: object) -> Document:
    """Return the record of an operator's deletion at a time."""
    delivery = Delivery(
        member_id=M, event="ONOPENLINEMESSAGEDELETE", via="online", event_at=at(seconds)
    )
    return deletion_document(replace(PORTAL, **changes), delivery, None)  # type: ignore[arg-type]


def customers_deletion(seconds: int = 50) -> Document:
    """Return the record of the customer's own deletion at a time."""
    delivery = Delivery(
        member_id=M, event="ONOPENLINEMESSAGEDELETE", via="online", event_at=at(seconds)
    )
    return deletion_document(replace(CUSTOMER, message_id="ext-msg-005"), delivery, None)


class TestDocument:
    """A message's document."""

    def test_message_is_one_document_with_its_last_text(self, stage: Stage) -> None:
        """It expires a number of days after its last change; two calls each."""
        assert stage.say(replace(OPERATORS, files=("a.pdf",)), 10, "[b]one[/b]")
        assert ["get", "commit"] == stage.calls
        stage.now += timedelta(days=1)
        assert stage.say(OPERATORS, 20, "two", update=True)
        assert ["get", "commit"] == stage.calls

        (document,) = stage.found("openline_messages")
        fields = dict(document.fields)
        assert 2 == len(fields.pop("versions"))  # type: ignore[arg-type]
        assert {
            "text": "two",
            "author": "operator",
            "author_id": 27,
            "sent_at": at(10),
            "edited_at": at(20),
            "files": ("a.pdf",),
            "connector": "myconnector",
            "line_id": 107,
            "expires_at": NOW + timedelta(days=1 + DAYS),
        } == fields

    def test_repeats_write_nothing(self, stage: Stage) -> None:
        """A repeat is not a change, so the document's expiry stays the same."""
        stage.say(OPERATORS, 10, "one")
        stage.now += timedelta(days=1)

        assert stage.say(OPERATORS, 10, "one")

        assert ["get"] == stage.calls
        (document,) = stage.found("openline_messages")
        assert NOW + timedelta(days=DAYS) == document.fields["expires_at"]

    def test_message_without_text_is_not_counted(self, stage: Stage) -> None:
        """Such as an edit of an unknown message; a known text stays known."""
        assert not stage.say(OPERATORS, 20, None, update=True)
        assert not stage.say(OPERATORS, 20, None, update=True)
        stage.delete(deletion(seconds=50))
        assert not stage.say(OPERATORS, 51, "This message was deleted", update=True)
        assert stage.say(OPERATORS, 10, "one")
        assert stage.say(OPERATORS, 30, None, update=True)

    def test_different_messages_have_different_documents(self, stage: Stage) -> None:
        """Every part of the key counts, except the connector's case."""
        other = [
            replace(OPERATORS, im_message_id=5),
            replace(CUSTOMERS, connector="other"),
            replace(CUSTOMERS, line_id=5),
            replace(CUSTOMERS, chat_id="5"),
            replace(CUSTOMERS, message_id="5"),
        ]
        for number, message in enumerate([OPERATORS, CUSTOMERS, *other], start=1):
            stage.say(message, 10, "x")
            assert number == len(stage.found("openline_messages"))

        stage.say(replace(CUSTOMERS, connector="MYCONNECTOR"), 10, "x")

        assert 7 == len(stage.found("openline_messages"))

    def test_deletion_before_its_message_leaves_a_document_without_text(self, stage: Stage) -> None:
        """Under both keys, since the author is unknown; one call more than without texts."""
        assert 1 == stage.delete(deletion())

        assert ["get_all", "commit"] == stage.calls
        one, other = stage.found("openline_messages")
        for document, sibling in ((one, other), (other, one)):
            assert {
                "records": [f"{deletion().name} 50 {sibling.name}"],
                "expires_at": NOW + timedelta(days=DAYS),
            } == document.fields


class TestRecord:
    """What a record copies."""

    @pytest.mark.parametrize("order", ["said first", "deleted first"])
    @pytest.mark.parametrize("message", [OPERATORS, CUSTOMERS], ids=["operator's", "customer's"])
    def test_record_has_its_messages_text(self, stage: Stage, message: Message, order: str) -> None:
        """From either author, in either order; a later text takes two calls."""
        said = replace(message, files=("a.pdf",), text_cut=True)
        if order == "said first":
            stage.say(said, 10, "one")
            stage.delete(deletion())
            assert ["get_all", "commit"] == stage.calls
        else:
            stage.delete(deletion())
            stage.say(said, 10, "one")
            assert ["get", "commit"] == stage.calls

        (record,) = stage.found("deletions")
        text = {
            "text": "one",
            "text_cut": True,
            "author_id": message.author_id,
            "sent_at": at(10),
            "files": ("a.pdf",),
        }
        assert {**deletion().fields, **text, "recorded_at": NOW} == record.fields

    def test_customers_deletion_has_one_key(self, stage: Stage) -> None:
        """It cannot mean an operator's message."""
        stage.say(CUSTOMERS, 10, "one")
        stage.say(OPERATORS, 20, "two")

        stage.delete(customers_deletion())

        assert ["one"] == stage.texts()
        customers, _ = stage.found("openline_messages")
        assert [f"{customers_deletion().name} 50"] == customers.fields["records"]
        stage.say(CUSTOMERS, 30, "three", update=True)
        assert ["get", "commit"] == stage.calls
        assert ["three"] == stage.texts()

    def test_later_text_replaces_the_records(self, stage: Stage) -> None:
        """All of it: outdated fields are removed."""
        stage.say(OPERATORS, 10, "one")
        stage.delete(deletion())
        stage.say(OPERATORS, 20, None, update=True)
        (record,) = stage.found("deletions")
        assert record.fields["text_outdated"]

        stage.say(OPERATORS, 30, "three", update=True)

        (record,) = stage.found("deletions")
        assert ("three", at(30)) == (record.fields["text"], record.fields["edited_at"])
        assert "text_outdated" not in record.fields

    def test_change_after_the_deletion_changes_nothing(self, stage: Stage) -> None:
        """Neither in the record nor in the message's document."""
        stage.say(OPERATORS, 10, "one")
        stage.delete(deletion(seconds=50))

        assert stage.say(OPERATORS, 51, "This message was deleted", update=True)

        assert ["one"] == stage.texts()
        texts = [one.fields.get("text") for one in stage.found("openline_messages")]
        assert ["one", None] == texts

    def test_many_changes_after_the_deletion_do_not_displace_the_last_text(
        self, stage: Stage
    ) -> None:
        """Although only so many versions are kept."""
        stage.say(OPERATORS, 10, "one")
        stage.say(OPERATORS, 20, "two", update=True)
        stage.delete(deletion(seconds=50))

        for seconds in range(51, 101):
            stage.say(OPERATORS, seconds, str(seconds), update=True)

        assert ["two"] == stage.texts()

    def test_older_text_under_the_other_key_changes_nothing(self, stage: Stage) -> None:
        """The deletion found a newer one, and a message is what was said last."""
        stage.say(CUSTOMERS, 20, "newer")
        stage.delete(deletion())

        stage.say(OPERATORS, 10, "older")

        assert ["newer"] == stage.texts()

    def test_change_after_the_deletion_may_come_before_it(self, stage: Stage) -> None:
        """As when only the queue brings the deletion, hours later."""
        stage.say(OPERATORS, 10, "one")
        stage.say(OPERATORS, 51, "This message was deleted", update=True)

        stage.delete(deletion(seconds=50))

        assert ["one"] == stage.texts()

    def test_several_external_ids_have_their_own_texts(self, stage: Stage) -> None:
        """Elements share Bitrix24's number, but customers' texts are not mixed up."""
        other = replace(CUSTOMERS, message_id="ext-msg-006")
        records = [deletion(), deletion(message_id="ext-msg-006")]
        stage.say(CUSTOMERS, 10, "one")
        stage.delete(*records)
        stage.say(other, 20, "two")
        assert ["one", "two"] == stage.texts()

        stage.say(OPERATORS, 15, "both")
        assert ["both", "two"] == stage.texts()

        stage.say(OPERATORS, 30, "both again", update=True)
        stage.say(CUSTOMERS, 25, "too late", update=True)
        assert ["both again", "both again"] == stage.texts()

    def test_repeated_deletion_is_one_call_and_changes_nothing(self, stage: Stage) -> None:
        """The queue repeats every deletion."""
        stage.say(OPERATORS, 10, "one")
        stage.delete(deletion())
        before = dict(stage.store.documents)

        assert 0 == stage.delete(deletion(seconds=55))

        assert ["get_all"] == stage.calls
        assert before == stage.store.documents

    def test_only_missing_records_are_created(self, stage: Stage) -> None:
        """Some of several may already exist."""
        stage.delete(deletion())

        assert 1 == stage.delete(deletion(), deletion(message_id="two"))
        assert 2 == len(stage.found("deletions"))

    def test_many_deletions_are_several_commits(self, stage: Stage) -> None:
        """One commit with all texts might exceed Firestore's limit."""
        records = [deletion(message_id=str(n), im_message_id=n + 1) for n in range(41)]

        assert 41 == stage.delete(*records)

        assert ["get_all", "commit"] * 3 == stage.calls

    def test_record_that_was_deleted_is_recorded_anew(self, stage: Stage) -> None:
        """After its retention, for example, even if a message's document names it."""
        stage.say(OPERATORS, 10, "one")
        stage.delete(deletion())
        del stage.store.documents[deletion().path]

        assert 1 == stage.delete(deletion(seconds=60))

        assert ["one"] == stage.texts()
        stage.say(OPERATORS, 55, "two", update=True)
        assert ["two"] == stage.texts()

    def test_bitrix24s_number_0_joins_nothing(self, stage: Stage) -> None:
        """Otherwise all messages with that number would be the same."""
        stage.delete(deletion(im_message_id=0))

        assert 1 == len(stage.found("openline_messages"))


class TestExpiry:
    """An expired document counts as absent until it is deleted."""

    def test_expired_text_is_not_copied(self, stage: Stage) -> None:
        """Nor is it left in the document that replaces it."""
        stage.say(OPERATORS, 10, "one")
        stage.now += timedelta(days=DAYS)

        assert 1 == stage.delete(deletion())

        assert [None] == stage.texts()
        assert not any("text" in one.fields for one in stage.found("openline_messages"))

    def test_text_just_before_its_expiry_is_copied(self, stage: Stage) -> None:
        """To the moment."""
        stage.say(OPERATORS, 10, "one")
        stage.now += timedelta(days=DAYS, microseconds=-1)

        stage.delete(deletion())

        assert ["one"] == stage.texts()

    def test_expired_deletion_takes_no_text(self, stage: Stage) -> None:
        """A later text stays with the message, for its own days."""
        stage.delete(deletion())
        stage.now += timedelta(days=DAYS)

        assert stage.say(OPERATORS, 10, "one")

        assert [None] == stage.texts()

    @pytest.mark.parametrize("expires_at", [None, "tomorrow"])
    def test_message_whose_expiry_was_edited_by_hand_has_expired(
        self, stage: Stage, expires_at: str | None
    ) -> None:
        """Firestore would never delete it, and its days are unknown."""
        stage.say(OPERATORS, 10, "one")
        (document,) = stage.found("openline_messages")
        fields = {name: value for name, value in document.fields.items() if name != "expires_at"}
        if expires_at:
            fields["expires_at"] = expires_at
        assert stage.store.put(replace(document, fields=fields), DEADLINE)

        assert 1 == stage.delete(deletion())

        assert [None] == stage.texts()


class TestUnknownDays:
    """An operator's shell may not know KEEP_TEXT_DAYS."""

    def test_deletion_does_not_change_when_its_message_expires(self, stage: Stage) -> None:
        """It takes the text, and later ones, but no document is created for its other key."""
        stage.say(OPERATORS, 10, "one")
        stage.now += timedelta(days=1)

        assert 1 == Messages(lambda: stage.store, 0, lambda: stage.now).record(
            [deletion()], DEADLINE
        )

        assert ["one"] == stage.texts()
        (document,) = stage.found("openline_messages")
        assert NOW + timedelta(days=DAYS) == document.fields["expires_at"]
        stage.say(OPERATORS, 20, "two", update=True)
        assert ["two"] == stage.texts()

    def test_expired_message_is_left_alone(self, stage: Stage) -> None:
        """The service's own document replaces it."""
        stage.say(OPERATORS, 10, "one")
        before = stage.found("openline_messages")
        stage.now += timedelta(days=DAYS)

        Messages(lambda: stage.store, 0, lambda: stage.now).record([deletion()], DEADLINE)

        assert [None] == stage.texts()
        assert before == stage.found("openline_messages")


class TestConflicts:
    """Changes between a read and its commit are never overwritten or lost."""

    def test_text_between_a_deletions_calls_is_copied(self, stage: Stage) -> None:
        """The deletion reads again."""
        stage.store.meanwhile = lambda: stage.say(OPERATORS, 10, "one")

        assert 1 == stage.delete(deletion())

        assert ["one"] == stage.texts()

    def test_deletion_between_a_texts_calls_gets_it(self, stage: Stage) -> None:
        """The text reads again, and finds the record."""
        stage.store.meanwhile = lambda: stage.delete(deletion())

        assert stage.say(OPERATORS, 10, "one")

        assert ["one"] == stage.texts()

    def test_other_key_between_a_texts_calls_is_respected(self, stage: Stage) -> None:
        """An older text does not replace a newer one that arrived under the record's other key."""
        stage.delete(deletion())
        stage.store.meanwhile = lambda: stage.say(CUSTOMERS, 20, "newer")

        assert stage.say(OPERATORS, 10, "older")

        assert ["newer"] == stage.texts()

    def test_other_key_between_the_calls_of_a_contested_text_is_respected(
        self, stage: Stage
    ) -> None:
        """What was read has changed, so everything is read again."""
        stage.say(CUSTOMERS, 10, "one")
        stage.delete(deletion())
        stage.store.meanwhile = lambda: stage.say(CUSTOMERS, 30, "three", update=True)

        assert stage.say(OPERATORS, 20, "two")

        assert ["three"] == stage.texts()

    def test_missing_record_does_not_prevent_keeping_a_text(self, stage: Stage) -> None:
        """The text does not recreate it, and the other records get the text."""
        gone, kept = deletion(), deletion(message_id="ext-msg-006")
        stage.delete(gone, kept)
        del stage.store.documents[gone.path]

        assert stage.say(OPERATORS, 10, "one")

        assert ["one"] == stage.texts()
        stage.say(OPERATORS, 20, "two", update=True)
        assert ["get", "commit"] == stage.calls
        assert ["two"] == stage.texts()

    def test_missing_other_key_does_not_prevent_copying_a_text(self, stage: Stage) -> None:
        """Its document may expire earlier."""
        stage.delete(deletion())
        stage.say(CUSTOMERS, 10, "one")
        customers = next(one for one in stage.found("openline_messages") if "text" in one.fields)
        del stage.store.documents[customers.path]

        assert stage.say(OPERATORS, 20, "two")

        assert ["two"] == stage.texts()

    def test_endless_conflicts_end_with_the_deadline(self) -> None:
        """For texts and deletions; then the store counts as unavailable."""

        class Contended(MemoryStore):
            commits = 0

            def commit(self, _writes: Sequence[Write], _deadline: Deadline) -> bool:
                self.commits += 1
                return False

        store = Contended()
        messages = Messages(lambda: store, DAYS, lambda: NOW)
        time = iter([0, 0, 0.5, 1, 1.5])
        with pytest.raises(StoreUnavailable, match=r"openline_messages/.* kept changing"):
            messages.keep(M, OPERATORS, Deadline(1, lambda: next(time)), update=False, at=NOW)
        assert 2 == store.commits
        time = iter([0, 0, 0.5, 1, 1.5])
        with pytest.raises(StoreUnavailable, match=r"deletions/.* kept changing"):
            messages.record([deletion()], Deadline(1, lambda: next(time)))
        assert 4 == store.commits


def test_other_keys_are_only_marked(stage: Stage) -> None:
    """A text is never copied to another message's document."""
    stage.delete(deletion())
    written: list[Mapping[str, object]] = []

    class Watching(Counting):
        def commit(self, writes: Sequence[Write], deadline: Deadline) -> bool:
            written.extend(
                write.fields
                for write in writes
                if isinstance(write, Patch) and "openline_messages" in write.path
            )
            return super().commit(writes, deadline)

    watching = Watching()
    watching.documents = stage.store.documents
    stage.store = watching
    stage.say(OPERATORS, 10, "one")

    assert [{"contested": True}] == written
