"""Upgrading from 0.1.0: its documents, bindings and dead letters keep working, in every store.

The samples were written by 0.1.0: its embedded store, and its log while Firestore was unavailable.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handler.bitrix24.rest import Rest
from handler.commands import main
from handler.deadline import Deadline
from handler.stores.interface import Document, Fields, Store
from handler.stores.sqlite import LocalStore
from tests.conftest import firestore_at
from tests.doubles.app import ADDRESS, App, Stage, stored
from tests.doubles.bitrix24 import Installation, Portal
from tests.samples import in_portal

SAMPLES = Path(__file__).parents[1] / "samples" / "version-0.1.0"
TOKEN = "51856fefc120afa4b628cc82d3935cce"
INSTALLED, REMOVED, BY_HAND = (f"0f9b7c6e5d4a43f2b1a0c9d8e7f6000{number}" for number in (1, 2, 3))
DELETE = "ONOPENLINEMESSAGEDELETE"


@dataclass
class Left:
    """What 0.1.0 left: a store, and a portal where its application is installed."""

    stage: Stage
    store: Store
    app: App
    portal: Portal
    installation: Installation
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = main(arguments)
        return code, *self.capsys.readouterr()

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """Run `deletions`, and return the records."""
        _, out, _ = self.run("deletions", "--json", *arguments)
        return [json.loads(line) for line in out.splitlines()]

    def fields(self, path: str) -> Fields:
        """Return a document."""
        found = self.store.get(path, Deadline(30))
        assert found
        return found.fields


@pytest.fixture(params=["local", "emulator", "double"])
def left(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Left]:
    """Take over from 0.1.0: its documents, and the bindings as it made them."""
    with Stage(tmp_path) as stage:
        portal = stage.bitrix.add_portal("ours.bitrix24.com", member_id=INSTALLED, pings=False)
        installation = portal.install()
        installation.application_token = TOKEN
        as_made_by_0_1_0(stage.store, portal)
        settings = {"STORE": "local", "LOCAL_STORE_PATH": str(stage.store)}
        store: Store = LocalStore(str(stage.store))
        if request.param != "local":
            host = request.getfixturevalue(request.param).host
            settings = {"STORE": "firestore", "FIRESTORE_EMULATOR_HOST": host}
            settings["GOOGLE_CLOUD_PROJECT"] = project
            store = firestore_at(host, project)
            copy_documents(stage.store, store)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        bind_as_0_1_0(installation)
        app = stage.start(ALLOWED_PORTALS="ours.bitrix24.com", **settings)
        yield Left(stage, store, app, portal, installation, capsys)


def as_made_by_0_1_0(path: Path, portal: Portal) -> None:
    """Restore the file of an embedded store, with the addresses of the stand-in."""
    dump = (SAMPLES / "store.sql").read_text()
    for name in ("client_endpoint", "server_endpoint"):
        dump = dump.replace(f"{{{name}}}", getattr(portal, name))
    with closing(sqlite3.connect(path)) as file:
        file.executescript(dump)


def copy_documents(path: Path, store: Store) -> None:
    """Copy all documents of an embedded store."""
    for name, fields in stored(path).items():
        assert store.put(Document(name, fields), Deadline(30))


def bind_as_0_1_0(installation: Installation) -> None:
    """Bind as 0.1.0 did: without the trailing slash."""
    token = installation.token().access_token
    rest = Rest(installation.portal.client_endpoint, token, Deadline(30))
    rest.call("event.bind", event=DELETE, handler=ADDRESS)
    rest.call("event.bind", event=DELETE, event_type="offline")
    pause = {"minTimeout": 60}
    rest.call("event.bind", event="ONOFFLINEEVENT", handler=ADDRESS, auth_type=1, options=pause)
    rest.call("event.bind", event="ONAPPUNINSTALL", handler=ADDRESS, auth_type=1)


def test_events_are_accepted_without_an_install(left: Left) -> None:
    """A deletion that 0.1.0 recorded has the same document today."""
    for message_id, number, new in (("no-time", 99, 0), ("new", 100, 1)):
        body = left.installation.event(DELETE, in_portal(message_id, im_message_id=number), None)
        answer = left.app.post(body)
        assert answer.json == {"status": "recorded", "recorded": new, "duplicates": 1 - new}


def test_a_ping_brings_the_portal_up_to_date(left: Left) -> None:
    """Its document gets the new fields, and its bindings the URL as requested.

    Rows that 0.1.0 left reserved are found by listing: it had no leases.
    """
    answer = left.app.post(left.installation.offline_ping(left.installation.token()))
    assert answer.json["status"] == "recovered"
    assert "detail" not in answer.json
    assert left.stage.bitrix.calls_to("event.offline.list")
    assert {"bound_as", "checked_at", "drained_at"} < set(left.fields(f"portals/{INSTALLED}"))
    assert "problem" not in left.fields(f"portals/{INSTALLED}")
    bound = sorted((one.event, one.handler, one.user_id) for one in left.installation.bindings)
    assert bound == [
        ("ONAPPUNINSTALL", f"{ADDRESS}/", 1),
        ("ONOFFLINEEVENT", f"{ADDRESS}/", 1),
        (DELETE, "", 0),
        (DELETE, f"{ADDRESS}/", 0),
    ]


def test_records_of_a_removed_portal_are_listed_too(left: Left) -> None:
    """0.1.0's `portals remove` deleted the portal's document; one record had no `event_at`."""
    assert 5 == len(left.records("--portal", "ours.bitrix24.com"))
    assert {"no-time"} == {
        one["message_id"] for one in left.records("--all") if "event_at" not in one
    }
    assert ["gone"] == [one["message_id"] for one in left.records("--portal", REMOVED)]


def test_what_it_could_not_read_is_read_now(left: Left) -> None:
    """Ids in an array were quarantined; an event without messages still is."""
    code, out, _ = left.run("quarantine", "retry", "--json")
    retried = json.loads(out)
    assert (code, retried["recorded"], retried["left"]) == (1, 2, 1)
    assert {"ext-7", "ext-8"} < {one["message_id"] for one in left.records("--all")}


def test_its_dead_letters_are_replayed(left: Left) -> None:
    """The one whose token had been verified, and the one whose token is verified now."""
    code, out, _ = left.run("replay", str(SAMPLES / "dead-letters.log"), "--json")
    assert (code, json.loads(out)["recorded"]) == (0, 2)
    replayed = {one["message_id"] for one in left.records("--all") if one["via"] == "replay"}
    assert replayed == {"verified", "unverified"}


def test_a_portal_that_was_removed_can_be_purged(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even though its portal document is gone."""
    monkeypatch.setenv("STORE_DEADLINE_SECONDS", "1")  # it waits that long for events under way
    code, _, _ = left.run("portals", "purge", REMOVED, "--yes", "--cache-seconds", "0")
    assert code == 0
    assert [] == left.records("--portal", REMOVED)


def test_status_shows_both_portals_and_what_needs_attention(left: Left) -> None:
    """Two events are in quarantine; a portal that was entered by hand is well."""
    code, out, _ = left.run("status", "--json")
    portals = {one["member_id"]: one for one in json.loads(out)["portals"]}
    assert code == 1
    assert {INSTALLED: 2, BY_HAND: 0} == {
        member_id: portal["quarantined"] for member_id, portal in portals.items()
    }
    assert {"active"} == {portal["state"] for portal in portals.values()}
