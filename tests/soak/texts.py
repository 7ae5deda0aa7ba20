"""Random interleavings of messages and deletions, checked against a reference model.

The expectation is written from the contract alone, by going through everything that could be
true: which unanswered events took effect, and in which order changes of one second arrived.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations, permutations, product
from random import Random
from typing import Any, cast

from handler.deadline import Deadline
from handler.log import Log
from handler.receiver import Receiver, Request
from handler.settings import Settings
from handler.stores.interface import Document, Fields, Store, StoreUnavailable
from handler.tokens import token_digest
from tests.soak.turns import SteppedStore, Task, Turns

DAYS = 3
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "documentation"
TEXT_FIELDS = (
    "text",
    "text_cut",
    "text_outdated",
    "author_id",
    "sent_at",
    "edited_at",
    "files",
)
INSTANCES = 3
FAULT_SHARES = (0, 0, 0.05, 0.2)


@dataclass(frozen=True)
class Subject:
    """A message as in Bitrix24: its number if an operator may delete it, its external ids."""

    number: int
    external: tuple[str, ...]
    by_operator: bool


@dataclass
class Post:
    """One event that is sent; `about` says what it contains about which message."""

    body: Mapping[str, Any]
    key: object = None
    ts: int = 0
    update: bool = False
    text: str | None = None
    author_id: int | None = None
    file: str | None = None
    task: Task = field(default_factory=lambda: Task(lambda: None))

    @property
    def answered(self) -> bool:
        return self.task.result is not None and self.task.result.status == 200


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class World:
    """One portal, whose messages are written, changed and deleted, with interleaved events."""

    def __init__(self, store: Store, clock: Clock, seed: int) -> None:
        self.random = Random(seed)
        self.member_id = f"world{seed}"
        self.store = store
        self.clock = clock
        self.out = io.StringIO()
        self.turns = Turns(self.random, self.random.choice(FAULT_SHARES))
        stepped = cast("Store", SteppedStore(store, self.turns))
        settings = Settings(keep_text_days=DAYS, store_deadline_seconds=60)
        self.instances = [
            Receiver(settings, lambda: stepped, Log(self.out), clock) for _ in range(INSTANCES)
        ]
        portal: Fields = {"token_digests": [token_digest(TOKEN)], "active": True}
        assert store.put(Document(f"portals/{self.member_id}", portal), Deadline(9))
        self._texts = 0

    def play(self, subjects: Sequence[Subject]) -> list[Post]:
        """Send some events about some messages; return those with an effect."""
        said = [self._said(subject) for subject in subjects for _ in range(self._some(0, 5))]
        deleted = [self._deleted(subject) for subject in subjects for _ in range(self._some(0, 2))]
        posts = [*said, *deleted]
        posts += [self._again(post) for post in posts if self.random.random() < 0.2]
        tasks = [post.task for post in posts]
        for post in posts:
            post.task.action = self._sending(post.body)
        self.records_expire = self.random.random() < 0.1
        if self.records_expire:
            tasks.append(Task(self._expire_records))
        self.random.shuffle(tasks)
        self.turns.run(tasks)
        return [post for post in posts if post.key]

    def records(self) -> list[Document]:
        """Return all records of the portal."""
        folder = f"portals/{self.member_id}/deletions"
        names = self.store.names(folder, Deadline(9), limit=99)
        found = [self.store.get(f"{folder}/{name}", Deadline(9)) for name in names]
        return [document for document in found if document]

    def _sending(self, body: Mapping[str, Any]) -> Callable[[], object]:
        receiver = self.random.choice(self.instances)
        content = json.dumps(body).encode()
        request = Request(
            method="POST",
            path="/",
            content_type="application/json",
            read_body=lambda: content,
        )
        return lambda: receiver.receive(request)

    def _expire_records(self) -> None:
        """Delete records, as RETENTION_DAYS may."""
        stepped = cast("Store", SteppedStore(self.store, self.turns))
        with suppress(StoreUnavailable):
            stepped.delete([record.path for record in self.records()], Deadline(9))

    def _event(self, name: str, ts: int, data: Mapping[str, Any]) -> Mapping[str, Any]:
        auth = {"member_id": self.member_id, "application_token": TOKEN, "user_id": 5}
        return {"event": name, "ts": ts, "data": data, "auth": auth}

    def _said(self, subject: Subject) -> Post:
        update = self.random.random() < 0.6
        ts = self._some(1, 9)
        self._texts += 1
        text = None if update and self.random.random() < 0.2 else f"text {self._texts}"
        name = "ONOPENLINEMESSAGEUPDATE" if update else "ONOPENLINEMESSAGEADD"
        message: dict[str, Any] = {} if text is None else {"text": text}
        file = f"file {self._texts}" if self.random.random() < 0.3 else None
        if file:
            message["files"] = [{"name": file, "link": "https://secret"}]
        # In Bitrix24, a message has one of these keys; here, it sometimes has both.
        operator = subject.by_operator != (self.random.random() < 0.1)
        connector = self.random.choice(["MyConnector", "myconnector"])
        if operator:
            author_id = None if update else 27
            about = (
                {"im": {"message_id": subject.number}, "message": message}
                if update
                else {"message": {**message, "id": subject.number, "user_id": 27}}
            )
            data = {"CONNECTOR": connector, "LINE": 107, "DATA": about}
            return Post(
                self._event(name, ts, data), subject.number, ts, update, text, author_id, file
            )
        external = self.random.choice(subject.external)
        about = {
            "connector": {"connector_id": connector, "line_id": 107, "user_id": 1985},
            "chat": {"id": "chat"},
            "message": {**message, "id": external},
        }
        return Post(self._event(name, ts, {"DATA": about}), external, ts, update, text, 1985, file)

    def _deleted(self, subject: Subject) -> Post:
        connector = "myconnector"
        ts = self._some(1, 9)
        if subject.by_operator or self.random.random() < 0.7:
            elements = [
                {
                    "im": {"chat_id": 1, "message_id": subject.number},
                    "message": {"id": external},
                    "chat": {"id": "chat"},
                }
                for external in subject.external
            ]
            data: Mapping[str, Any] = {"CONNECTOR": connector, "LINE": 107, "DATA": elements}
        else:
            data = {
                "DATA": {
                    "connector": {"connector_id": connector, "line_id": 107, "user_id": 1985},
                    "chat": {"id": "chat"},
                    "message": {"id": subject.external[0]},
                }
            }
        return Post(self._event("ONOPENLINEMESSAGEDELETE", ts, data), ts=ts)

    def _again(self, post: Post) -> Post:
        """Repeat an event."""
        about = (post.key, post.ts, post.update, post.text, post.author_id, post.file)
        return Post(post.body, *about)

    def _some(self, least: int, most: int) -> int:
        return self.random.randint(least, most)


def possible_texts(record: Mapping[str, Any], said: Sequence[Post]) -> Iterator[Mapping[str, Any]]:
    """Return all values that a record's text fields may have according to the contract."""
    keys = {record["message_id"], record.get("im_message_id")}
    deleted_at = record["event_at"].timestamp()
    known = [
        post
        for post in said
        if post.key in keys
        and post.task.started is not None
        and not (post.update and post.ts > deleted_at)
    ]
    sure = [post for post in known if post.answered]
    unsure = [post for post in known if not post.answered]
    for count in range(len(unsure) + 1):
        for some in combinations(unsure, count):
            for order in _orders([*sure, *some]):
                yield _last(order)


def _orders(posts: Sequence[Post]) -> Iterator[Sequence[Post]]:
    """Return the orders by time; within a second, every order of arrival."""
    groups: dict[tuple[int, bool], list[Post]] = {}
    for post in posts:
        groups.setdefault((post.ts, post.update), []).append(post)
    arrivals = [
        [order for order in permutations(groups[key]) if _may_have_arrived(order)]
        for key in sorted(groups)
    ]
    for orders in product(*arrivals):
        yield list(chain(*orders))


def _may_have_arrived(order: Sequence[Post]) -> bool:
    return not any(
        earlier.key == later.key
        and cast("int", later.task.ended) < cast("int", earlier.task.started)
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def _last(order: Sequence[Post]) -> Mapping[str, Any]:
    said: dict[str, Any] = {}
    with_text = [post for post in order if post.text is not None]
    updates = [post for post in order if post.update]
    additions = [post for post in order if not post.update]
    if with_text:
        said["text"] = with_text[-1].text
    if updates:
        said["edited_at"] = datetime.fromtimestamp(updates[-1].ts, UTC)
    since = order.index(with_text[-1]) + 1 if with_text else 0
    if any(post.update for post in order[since:]):
        said["text_outdated"] = True
    if additions:
        said["sent_at"] = datetime.fromtimestamp(additions[-1].ts, UTC)
    authors = [post.author_id for post in order if post.author_id]
    if authors:
        said["author_id"] = authors[-1]
    files = [post.file for post in order if post.file]
    if files:
        said["files"] = [files[-1]]
    return said


def explore(store: Store, clock: Clock, seed: int) -> None:
    """Play one interleaving to its end, beyond the texts' expiry, and check it."""
    world = World(store, clock, seed)
    count = world.random.choice([1, 1, 2])
    subjects = [
        Subject(
            number,
            tuple(f"{number}-{n}" for n in range(world.random.choice([1, 1, 2]))),
            by_operator=world.random.random() < 0.5,
        )
        for number in range(1, count + 1)
    ]
    first = _checked(world, subjects, {})
    clock.now += timedelta(days=DAYS)
    _checked(world, subjects, first)
    clock.now += timedelta(days=DAYS)
    assert '"text' not in world.out.getvalue()
    assert "file " not in world.out.getvalue()


def _checked(
    world: World, subjects: Sequence[Subject], before: Mapping[str, Document]
) -> Mapping[str, Document]:
    """Play, and compare every new record; expired texts must change none."""
    said = world.play(subjects)
    records = {record.path: record for record in world.records()}
    for path, record in records.items():
        if before.get(path) == record:
            continue
        assert path not in before or world.records_expire
        text: dict[str, Any] = {
            name: record.fields[name] for name in TEXT_FIELDS if name in record.fields
        }
        if "files" in text:
            text["files"] = list(text["files"])
        possible = list(possible_texts(record.fields, said))
        assert text in possible, f"{world.member_id}: {text} is none of {possible}"
    return records
