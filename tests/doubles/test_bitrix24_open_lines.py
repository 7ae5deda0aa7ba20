"""What the events of open lines look like, and which of them there are at all."""

from typing import Any

import pytest

from tests.doubles.bitrix24 import Installation, Message, Place, Portal, Value
from tests.doubles.bitrix24_client import DELETE, Handler, result

ADD = "ONOPENLINEMESSAGEADD"
UPDATE = "ONOPENLINEMESSAGEUPDATE"
TWIN = "ONIMCONNECTORMESSAGEDELETE"
WIDGET = Place("livechat")

CONNECTION = {
    "connector_id": "myconnector",
    "line_id": "107",
    "chat_id": "channel-123",
    "user_id": "1985",
}


@pytest.fixture
def app(portal: Portal, handler: Handler) -> Installation:
    """Bind an application to every event of open lines; it registered a connector itself."""
    app = portal.install(scope="imopenlines,imconnector", connectors=["MyConnector"])
    for event in (ADD, UPDATE, DELETE, TWIN):
        result(app, "event.bind", event=event, handler=handler.url)
    return app


def data(handler: Handler) -> Any:  # noqa: ANN401 - as PHP wrote it
    """Return the only event's data, and forget the event."""
    (body,) = handler.bodies
    handler.received.clear()
    return body["data"]


def test_what_an_operator_writes_has_bitrix24s_own_ids(app: Installation, handler: Handler) -> None:
    """One object; empty arrays vanish on the wire."""
    files: list[Value] = [{"name": "label.pdf", "type": "file", "size": 2048}]
    said = app.portal.operator_writes("[b]Operator:[/b] [br] Hi", files=files)
    assert data(handler) == {
        "CONNECTOR": "myconnector",
        "LINE": "107",
        "DATA": {
            "connector": CONNECTION,
            "message": {
                "id": str(said.im_message_id),
                "chat_id": "1807",
                "user_id": "27",
                "text": "[b]Operator:[/b] [br] Hi",
                "files": [{"name": "label.pdf", "type": "file", "size": "2048"}],
                "system": "N",
            },
            "no_session": "N",
        },
    }


def test_what_a_customer_writes_has_external_ids_alone(app: Installation, handler: Handler) -> None:
    """The documentation's page wraps it in a list."""
    said = app.portal.customer_writes("Where is my parcel?", date=1773760570)
    once = data(handler)
    assert once == {
        "DATA": {
            "connector": CONNECTION,
            "chat": {"id": "channel-123"},
            "message": {
                "id": said.external_ids[0],
                "user_id": "1985",
                "text": "Where is my parcel?",
                "date": "1773760570",
            },
            "extra": {"EXTRA_URL": ""},
        }
    }
    app.portal.customer_writes(
        said.text, message_id=said.external_ids[0], date=1773760570, in_list=True
    )
    assert data(handler) == {"DATA": [once["DATA"]]}


def test_an_operators_edit_has_an_array_of_ids_and_the_new_text(
    app: Installation, handler: Handler
) -> None:
    """The documentation's page shows a list, and no text."""
    said = app.portal.operator_writes("Friday", external_ids=["ext-1", "ext-2"])
    handler.received.clear()
    assert app.portal.edit(said, "Saturday").text == "Saturday"
    im = {"chat_id": "1807", "message_id": str(said.im_message_id)}
    chat = {"id": "channel-123"}
    message = {"id": ["ext-1", "ext-2"], "text": "Saturday"}
    about = {"CONNECTOR": "myconnector", "LINE": "107"}
    assert data(handler) == {**about, "DATA": {"im": im, "message": message, "chat": chat}}
    app.portal.edit(said, "Sunday", as_documented=True)
    assert data(handler)["DATA"] == [{"im": im, "message": {"id": "ext-1"}, "chat": chat}]


def test_a_customers_edit_looks_as_when_it_was_written(app: Installation, handler: Handler) -> None:
    """An edit may change the external id."""
    said = app.portal.customer_writes("Helo")
    added = data(handler)
    edited = app.portal.edit(said, "Hello", message_id="ext-2")
    added["DATA"]["message"] |= {"text": "Hello", "id": "ext-2"}
    assert data(handler) == added
    assert edited.external_ids == ("ext-2",)


def test_a_deletion_joins_its_message(app: Installation, handler: Handler) -> None:
    """By Bitrix24's number or by external ids, no matter who deletes."""
    result(app, "event.unbind", event=TWIN, handler=handler.url)
    ours, theirs = app.portal.operator_writes("Hi"), app.portal.customer_writes("Hello")
    handler.received.clear()
    (deleted,) = app.portal.delete(ours, user_id=1)
    assert data(handler)["DATA"][0]["im"]["message_id"] == str(ours.im_message_id)
    assert deleted.message_id == ours.external_ids[0]
    app.portal.delete(theirs)
    assert data(handler)["DATA"][0]["message"]["id"] == theirs.external_ids[0]
    app.portal.take_back(theirs)
    assert data(handler)["DATA"]["message"]["id"] == theirs.external_ids[0]


def test_an_unconfirmed_message_is_edited_and_deleted_in_silence(
    app: Installation, handler: Handler
) -> None:
    """No imconnector.send.status.delivery has given it an external id."""
    said = app.portal.operator_writes("Hi", external_ids=[])
    handler.received.clear()
    app.portal.edit(said, "Hello")
    assert app.portal.delete(said) == []
    assert handler.bodies == []


def test_the_widget_tells_of_customers_new_messages_alone(
    app: Installation, handler: Handler
) -> None:
    """The portal mirrors what is written and deleted in `livechat` itself."""
    said = app.portal.operator_writes("Hi", WIDGET)
    app.portal.edit(said, "Hello")
    assert app.portal.delete(said) == []
    assert app.portal.delete_message(connector="livechat") == []
    assert handler.bodies == []
    theirs = app.portal.customer_writes("Hello", WIDGET)
    assert data(handler)["DATA"]["connector"]["connector_id"] == "livechat"
    with pytest.raises(ValueError, match="no event"):
        app.portal.take_back(theirs)


def test_connector_ids_are_lower_cased_when_registered(app: Installation, handler: Handler) -> None:
    """A connector's own application finds its twin event all the same; customers' keep the case."""
    (deleted,) = app.portal.delete_message(connector="MyConnector")
    assert deleted.connector == "myconnector"
    assert [(body["event"], body["data"]["CONNECTOR"]) for body in handler.bodies] == [
        (DELETE, "myconnector"),
        (TWIN, "myconnector"),
    ]
    handler.received.clear()
    app.portal.operator_writes("Hi", Place("MyConnector"))
    assert data(handler)["CONNECTOR"] == "myconnector"
    app.portal.customer_deletes(connector="MyConnector")
    assert data(handler)["DATA"]["connector"]["connector_id"] == "MyConnector"


def test_a_message_says_who_wrote_it(portal: Portal) -> None:
    """For a test to compare with what was recorded."""
    ours, theirs = portal.operator_writes("Hi", user_id=7), portal.customer_writes("Hello")
    assert (ours.author, ours.user_id, theirs.author, theirs.user_id) == (
        *("operator", 7),
        *("customer", 1985),
    )
    assert isinstance(ours, Message)
