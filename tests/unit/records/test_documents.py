"""The documents' fields, and ids that repeats share."""

import hashlib
import json
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from handler.events.deletion import Deletion
from handler.events.invalid_data import Fault, InvalidData
from handler.events.php_form import parse_php_form
from handler.records.documents import Delivery, deletion_document, quarantine_document
from handler.stores.interface import Document
from tests.doubles.bitrix24 import Value, http_build_query
from tests.samples import PORTAL
from tests.strategies import TYPED, as_in_a_form

EVENT_AT = datetime(2026, 3, 17, 15, 56, 17, tzinfo=UTC)
EXPIRES_AT = datetime(2027, 3, 17, tzinfo=UTC)
DELIVERY = Delivery(
    member_id="m",
    event="ONOPENLINEMESSAGEDELETE",
    via="online",
    domain="some-domain.bitrix24.com",
    event_at=EVENT_AT,
    user_id=27,
)
BARE = Delivery(member_id="m", event="ONOPENLINEMESSAGEDELETE", via="offline")
CUSTOMER = Deletion(
    origin="customer", connector="c", line_id=0, message_id="ext-msg-007", chat_id="channel-123"
)


INVALID = InvalidData([Fault("data.DATA", "should be a list")])


def quarantined(data: object, delivery: Delivery = DELIVERY) -> Document:
    """Return the quarantine document of invalid data."""
    return quarantine_document(delivery, data, INVALID, None)


def test_a_deletion_in_bitrix24_has_all_its_fields() -> None:
    """Including the end of its retention, if any; `recorded_at` is set by the store."""
    document = deletion_document(PORTAL, DELIVERY, EXPIRES_AT)
    assert f"portals/m/deletions/{PORTAL.id('m')}" == document.path
    assert {
        "origin": "portal",
        "member_id": "m",
        "domain": "some-domain.bitrix24.com",
        "event": "ONOPENLINEMESSAGEDELETE",
        "connector": "myconnector",
        "line_id": 107,
        "message_id": "ext-msg-005",
        "chat_id": "channel-123",
        "im_message_id": 86501,
        "im_chat_id": 1807,
        "user_id": 27,
        "event_at": EVENT_AT,
        "via": "online",
        "expires_at": EXPIRES_AT,
    } == document.fields


def test_unknown_fields_are_absent() -> None:
    """No nulls, but 0 is a value; the event's user is not taken for the customer."""
    expected = {
        "origin": "customer",
        "member_id": "m",
        "event": "ONOPENLINEMESSAGEDELETE",
        "connector": "c",
        "line_id": 0,
        "message_id": "ext-msg-007",
        "chat_id": "channel-123",
        "via": "offline",
    }
    assert expected == deletion_document(CUSTOMER, BARE, None).fields
    assert "user_id" not in deletion_document(CUSTOMER, DELIVERY, None).fields


def test_path_does_not_depend_on_the_delivery() -> None:
    """Repeats, the twin and the offline queue lead to one document."""
    assert (
        deletion_document(PORTAL, DELIVERY, EXPIRES_AT).path
        == deletion_document(PORTAL, BARE, None).path
    )


def test_a_quarantined_event_keeps_its_data_and_the_reasons() -> None:
    """The data is JSON text, since Firestore does not allow lists in lists."""
    data = {"CONNECTOR": "c", "LINE": 1, "DATA": [["é", "\udcff"], None, 1.5]}
    document = quarantine_document(DELIVERY, data, INVALID, EXPIRES_AT)
    collection, _, name = document.path.rpartition("/")
    assert ("portals/m/quarantine", document.name) == (collection, name)
    assert data == json.loads(str(document.fields["payload"]))
    assert {
        "event": "ONOPENLINEMESSAGEDELETE",
        "reasons": ["data.DATA: should be a list"],
        "payload": document.fields["payload"],
        "domain": "some-domain.bitrix24.com",
        "event_at": EVENT_AT,
        "user_id": 27,
        "expires_at": EXPIRES_AT,
    } == document.fields
    assert {"event", "reasons", "payload"} == quarantined(data, BARE).fields.keys()


def test_too_large_payload_is_cut_and_marked() -> None:
    """Firestore's limit is one mebibyte."""
    whole, cut = quarantined("x" * 899_998).fields, quarantined("x" * 899_999).fields
    assert ("x" * 899_998, ["data.DATA: should be a list"]) == (
        json.loads(str(whole["payload"])),
        whole["reasons"],
    )
    assert '"' + "x" * 899_999 == cut["payload"]
    assert ["data.DATA: should be a list", "payload: cut at 900000 characters"] == cut["reasons"]


@given(TYPED)
@example({"DATA": [{"im": {"chat_id": 1}, "message": {"id": ["x", True, None]}}], "0": False})
@example({})
def test_an_event_from_a_form_and_from_the_queue_is_quarantined_once(
    data: dict[str, Value],
) -> None:
    """In a form, everything is text, and nulls and empty arrays do not arrive."""
    form = parse_php_form(http_build_query({"data": data}).encode()).get("data")
    assert quarantined(data).path == quarantined(form).path


def test_the_name_of_a_quarantined_event_never_changes() -> None:
    """Otherwise a later version would quarantine old events again."""
    data = {"DATA": [{"im": {"chat_id": 1}, "message": {"id": True}}]}
    form = [
        "m",
        "ONOPENLINEMESSAGEDELETE",
        ["[DATA][0][im][chat_id]", "1"],
        ["[DATA][0][message][id]", "1"],
    ]

    assert hashlib.sha256(json.dumps(form).encode()).hexdigest() == quarantined(data).name


@given(st.lists(TYPED, max_size=5))
def test_different_events_are_quarantined_separately(events: list[dict[str, Value]]) -> None:
    """None replaces another."""
    different = {json.dumps(as_in_a_form(data)) for data in events}
    assert len(different) == len({quarantined(data).path for data in events})


def test_quarantined_events_differ_by_portal_and_event() -> None:
    """Not by time or route: the same event twice is one document."""
    twin = Delivery(member_id="m", event="ONIMCONNECTORMESSAGEDELETE", via="online")
    other = Delivery(member_id="n", event="ONOPENLINEMESSAGEDELETE", via="online")
    names = [quarantined({}, delivery).name for delivery in (DELIVERY, BARE, twin, other)]
    assert names[0] == names[1]
    assert 3 == len({*names})
