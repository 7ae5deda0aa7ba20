"""The application's whole life at a portal, over HTTP, with the function as a process."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from time import sleep

import pytest

from handler.bitrix24.rest import Rest
from handler.deadline import Deadline
from handler.stores.interface import Fields
from tests.doubles.app import install_body, leaked, stored, stored_text, whole_text
from tests.doubles.bitrix24 import (
    Bitrix24,
    CustomerDeletion,
    Delivery,
    Installation,
    PortalDeletion,
    Silence,
)
from tests.doubles.function import Function
from tests.stopwatch import Stopwatch

INSTALLED = b'{"status": "installed", "subscribed": true}\n'


class Life:
    """One portal, one function, and the deletions that must be recorded in the end."""

    def __init__(self, bitrix: Bitrix24, function: Function, store: Path) -> None:
        self.bitrix = bitrix
        self.function = function
        self.store = store
        self.portal = bitrix.add_portal("ours.bitrix24.ru", administrators=(7,))
        self.expected: list[PortalDeletion | CustomerDeletion] = []

    def send(self, body: bytes) -> Delivery:
        """Send what Bitrix24 sends without any binding, such as installs."""
        return self.portal.post(f"{self.function.url}/", body)

    def install(self, installation: Installation) -> None:
        """Save a new application's form, or choose Reinstall; it must be accepted."""
        url = f"{self.function.url}/"
        saved = installation.save_form(url, by=7)
        (done,) = saved or [installation.reinstall(by=7)]
        assert (done.status, done.answer) == (200, INSTALLED)
        assert len(installation.bindings) == 4

    def delete(self, *, delivered: bool = True) -> None:
        """Delete in every way; `delivered` says whether the function gets the events directly."""
        before = len(self.portal.deliveries)
        self.expected += self.portal.delete_message("wamid.HBgL==", "ext/2")
        self.expected += self.portal.delete_message(user_id=None)
        self.expected.append(self.portal.customer_deletes())
        events = self.portal.deliveries[before:]
        answers = [event for event in events if event.event == "ONOPENLINEMESSAGEDELETE"]
        assert len(answers) == 3
        for answer in answers:
            assert (answer.status == 200) is delivered, answer

    @property
    def records(self) -> list[Fields]:
        """Return the portal's records."""
        return [
            fields
            for path, fields in stored(self.store).items()
            if path.startswith(f"portals/{self.portal.member_id}/deletions/")
        ]

    @property
    def document(self) -> Fields:
        """Return the portal's own document."""
        return stored(self.store)[f"portals/{self.portal.member_id}"]

    def assert_all_is_recorded(self) -> None:
        """Check that exactly the deleted messages are recorded."""
        recorded = sorted(map(str, map(identity, self.records)))
        assert recorded == sorted(map(str, map(expected_identity, self.expected)))

    def assert_no_token_has_leaked(self) -> None:
        """Search everything readable by others for every token ever issued."""
        answers = [whole_text(one) for one in self.portal.deliveries]
        texts = [self.function.log, stored_text(self.store), *answers]
        assert len(self.bitrix.secrets) > 50
        assert not leaked(self.bitrix.secrets, texts)


def identity(record: Fields) -> tuple[object, ...]:
    """Return a record's identity, and who deleted."""
    names = ("member_id", "im_chat_id", "im_message_id", "message_id", "connector", "line_id")
    return tuple(record.get(name) for name in (*names, "chat_id", "user_id"))


def expected_identity(deletion: PortalDeletion | CustomerDeletion) -> tuple[object, ...]:
    """Return the same for a deletion that the portal has seen."""
    if isinstance(deletion, PortalDeletion):
        numbers: tuple[object, ...] = (deletion.im_chat_id, deletion.im_message_id)
    else:
        numbers = (None, None)
    place = (deletion.message_id, deletion.connector, deletion.line_id, deletion.chat_id)
    return (deletion.member_id, *numbers, *place, deletion.user_id)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """Start a function that accepts installs of one portal."""
    store = tmp_path / "store.sqlite3"
    with (
        Bitrix24() as bitrix,
        Function(
            tmp_path / "log",
            STORE="local",
            LOCAL_STORE_PATH=str(store),
            ALLOWED_PORTALS="ours.bitrix24.ru",
            BITRIX24_OAUTH_SERVERS=bitrix.oauth_servers,
            THREADS="8",
        ) as function,
    ):
        yield Life(bitrix, function, store)


def test_the_url_is_pasted_and_it_works_until_the_end(life: Life) -> None:
    """From the install to the uninstall, every deletion is recorded once, and no token anywhere."""
    portal, function = life.portal, life.function

    first = portal.install("local.1")
    life.install(first)
    life.delete()
    life.assert_all_is_recorded()
    portal.pings = False  # each waits a second for unannounced rows

    event_test_reaches_the_function(life, first)
    assert life.send(first.user_ready_event()).answer == (
        b'{"status": "ignored", "event": "ONAPPUSERREADY"}\n'
    )

    function.kill()
    life.delete(delivered=False)
    function.start()
    (pinged,) = portal.ping()
    # The portal's own pings, at most one a second, had drained part of the deletions that arrived
    # online.
    answer = json.loads(pinged.answer)
    assert (answer["status"], answer["recorded"], answer["quarantined"]) == ("recovered", 4, 0)
    assert portal.queue(first) == []
    life.assert_all_is_recorded()
    assert {record["via"] for record in life.records} == {"online", "offline"}

    first.lose_bindings()
    life.install(first)
    life.delete()

    refuse_forgeries(life, first)
    life.delete()

    second = first.delete_and_add(client_id="local.2")
    life.install(second)
    life.delete()
    late = life.send(first.uninstall_event(clean=True))
    assert late.answer == b'{"status": "uninstalled"}\n'
    assert life.document["active"] is True
    life.delete()
    assert life.send(first.test_event({})).status == 403

    captured = second.install_event(second.token(7))
    (gone,) = second.uninstall(clean=True)
    assert gone.answer == b'{"status": "uninstalled"}\n'
    assert life.document["active"] is False
    assert life.document["token_digests"] == []
    assert isinstance(life.document["clean_requested_at"], datetime)
    assert life.send(second.test_event({})).status == 403
    assert life.send(captured).status == 403

    life.assert_all_is_recorded()
    function.stop()
    life.assert_no_token_has_leaked()
    outcomes = [line.get("outcome") for line in function.log_lines]
    assert outcomes.count("install_refused") == 4
    assert not {"internal_error", "not_recorded", "store_unavailable"} & set(outcomes)


def event_test_reaches_the_function(life: Life, installation: Installation) -> None:
    """Call event.test: ONAPPTEST arrives through the queue, once it is bound."""
    administrator = installation.token(7)
    endpoint = life.portal.client_endpoint
    bound = installation.bindings[0]
    before = len(life.portal.deliveries)
    rest = Rest(endpoint, administrator.access_token, Deadline(5))
    rest.call("event.bind", event="ONAPPTEST", handler=bound.handler)
    rest.call("event.test", any="data")
    answer = life.portal.wait_for_deliveries(before + 1)[-1]
    assert answer.answer == b'{"status": "ok", "event": "ONAPPTEST"}\n'
    rest.call("event.unbind", event="ONAPPTEST", handler=bound.handler)


def refuse_forgeries(life: Life, installation: Installation) -> None:
    """Try forgeries: with nothing, with another portal's token, with an employee's."""
    stranger = life.bitrix.add_portal("strange.bitrix24.com").install()
    forged = "f0" * 16
    life.bitrix.remember(forged)
    before = stored_text(life.store)
    for body in (
        install_body(installation, None, application_token=forged),
        install_body(installation, stranger.token(), application_token=forged),
        install_body(installation, installation.token(27), application_token=forged),
    ):
        refused = life.send(body)
        assert refused.status == 403
        assert b"install_refused" in refused.answer
    assert stored_text(life.store) == before


def test_silent_servers_cost_an_install_ten_seconds_and_other_events_nothing(life: Life) -> None:
    """An OAuth server and a portal that never answer share the deadline of one install."""
    installation = life.portal.install()
    life.install(installation)
    newer = installation.delete_and_add()
    installs = [newer.install_event(newer.token(7)) for _ in range(2)]
    updated = installation.install_event(None)
    life.bitrix.fault("app.info", Silence(), times=1)
    life.bitrix.fault("profile", Silence(), times=1)
    with Stopwatch() as watch, ThreadPoolExecutor() as pool:
        slow = [pool.submit(life.send, body) for body in installs]
        while len(life.bitrix.calls_to("profile")) + len(life.bitrix.calls_to("app.info")) < 5:
            sleep(0.01)
            assert watch.seconds < 5
        assert life.send(installation.test_event({})).status == 200
        assert life.send(updated).status == 200
        assert watch.seconds < 5
        assert [done.result().status for done in slow] == [403, 403]
    assert watch.seconds < 13
    reasons = [str(line.get("reason")) for line in life.function.log_lines if "reason" in line]
    assert len(reasons) == 2
    assert all("127.0.0.1 did not answer in time" in reason for reason in reasons)
    life.function.stop()
    assert not leaked(life.bitrix.secrets, [life.function.log, stored_text(life.store)])
