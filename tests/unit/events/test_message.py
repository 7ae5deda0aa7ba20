"""Parsing ONOPENLINEMESSAGEADD and ONOPENLINEMESSAGEUPDATE, in all their shapes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from handler.events.body import decode_body
from handler.events.message import MAX_TEXT, Message, MessageContents, parse_messages
from tests.samples import form, typed

ADD = "ONOPENLINEMESSAGEADD"
UPDATE = "ONOPENLINEMESSAGEUPDATE"

ADDED = Message(
    author="operator",
    connector="myconnector",
    line_id=107,
    im_message_id=86501,
    author_id=27,
    text="[b]Operator:[/b] [br] The parcel is on its way.",
    files=("label.pdf",),
)
CHANGED = Message(
    author="operator",
    connector="myconnector",
    line_id=107,
    im_message_id=86501,
    text="[b]Operator:[/b] [br] The parcel comes on Friday.",
)
CUSTOMERS = Message(
    author="customer",
    connector="myconnector",
    line_id=107,
    chat_id="channel-123",
    message_id="ext-msg-006",
    author_id=1985,
    text="Where is my parcel?",
    sent_at=datetime(2026, 3, 17, 15, 16, 10, tzinfo=UTC),
)

SAMPLES = {
    "message-add-operator": ADDED,
    "message-update-operator": CHANGED,
    "message-add-customer": CUSTOMERS,
    "message-add-customer-in-list": CUSTOMERS,
}


def only(message: Message) -> MessageContents:
    """Return the contents of an event with this message alone."""
    return MessageContents([message], [], [])


def operators(message: object, **data: object) -> Mapping[str, object]:
    """Return the data of an operator's message."""
    return {"CONNECTOR": "myconnector", "LINE": 107, "DATA": {"message": message}, **data}


def customers(**message: object) -> dict[str, Any]:
    """Return one element of a customer's message."""
    return {
        "connector": {"connector_id": "myconnector", "line_id": 107, "user_id": 1985},
        "chat": {"id": "channel-123"},
        "message": {"id": "ext-msg-006", **message},
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_the_same_as_form_and_as_json(name: str) -> None:
    """Operators' messages have Bitrix24's number, customers' the connector's ids."""
    event = typed(name)
    decoded: Mapping[str, Any] = decode_body("application/x-www-form-urlencoded", form(name))

    assert only(SAMPLES[name]) == parse_messages(event["event"], event["data"])
    assert only(SAMPLES[name]) == parse_messages(decoded["event"], decoded["data"])


def test_a_customers_change_has_the_shape_of_an_addition() -> None:
    """The source sends the same data under a different event name."""
    assert only(CUSTOMERS) == parse_messages(UPDATE, typed("message-add-customer")["data"])


def test_documented_update_has_no_text() -> None:
    """The documentation shows a list without text, with the external system's ids."""
    element = {"im": {"message_id": 86501}, "message": {"id": "ext-msg-005"}, "chat": {"id": "c"}}
    data = {"CONNECTOR": "myconnector", "LINE": 107, "DATA": [element]}

    assert only(replace(CHANGED, text=None)) == parse_messages(UPDATE, data)
    del element["message"]
    assert only(replace(CHANGED, text=None)) == parse_messages(UPDATE, data)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("", ""),
        (5, "5"),
        ("a\n[b]é😀[/b]\x00", "a\n[b]é😀[/b]\x00"),
        ("half of \ud83d an emoji\udcff", "half of \ufffd an emoji\ufffd"),
        (None, None),
    ],
)
def test_text_is_kept_as_sent(sent: object, text: str | None) -> None:
    """Including BB code; only what no store accepts is replaced, so that the rest is readable."""
    assert [text] == [
        one.text for one in parse_messages(ADD, {"DATA": customers(text=sent)}).messages
    ]


@pytest.mark.parametrize(("excess", "cut"), [(0, False), (1, True)])
def test_long_text_is_cut(excess: int, cut: bool) -> None:  # noqa: FBT001 - it is the case
    """Characters are counted, not bytes, and a cut text is marked."""
    (message,) = parse_messages(ADD, {"DATA": customers(text="😀" * (MAX_TEXT + excess))}).messages

    assert ("😀" * 20_000, cut) == (message.text, message.text_cut)


@pytest.mark.parametrize(
    ("date", "sent_at"),
    [
        ("1773760570", CUSTOMERS.sent_at),
        (1773760570, CUSTOMERS.sent_at),
        ("2026-03-17T15:16:10Z", None),
        ("", None),
        ([], None),
    ],
)
def test_date_is_used_if_it_is_a_number(date: object, sent_at: datetime | None) -> None:
    """Connectors send dates in any format."""
    (message,) = parse_messages(ADD, {"DATA": customers(date=date)}).messages

    assert sent_at == message.sent_at


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        ([{"name": "a.pdf", "link": "https://secret"}, {"name": "b.pdf"}], ("a.pdf", "b.pdf")),
        ({"0": {"name": "a.pdf"}, "3": {"name": "b.pdf"}}, ("a.pdf", "b.pdf")),
        ([{"link": "https://secret"}, {"name": ""}, {"name": ["x"]}, "https://secret"], ()),
        ([{"name": "x" * 256 + "\ud83d"}], ("x" * 255,)),
        ([{"name": "\ud83d"}], ("\ufffd",)),
        ([{"name": str(n)} for n in range(101)], tuple(map(str, range(100)))),
        ([], ()),
        ("https://secret", None),
        (None, None),
    ],
)
def test_only_file_names_are_kept(sent: object, names: tuple[str, ...] | None) -> None:
    """A link in a file works for anyone who has it."""
    (message,) = parse_messages(ADD, {"DATA": customers(files=sent)}).messages

    assert names == message.files


def test_several_external_ids_are_several_messages() -> None:
    """Each may be deleted under its own id."""
    said = parse_messages(ADD, {"DATA": customers(id={"0": "one", "1": "two"})})

    assert ["one", "two"] == [message.message_id for message in said.messages]


def test_author_that_is_not_a_number_is_unknown() -> None:
    """System messages have no author; connectors may identify theirs differently."""
    element = customers()
    element["connector"]["user_id"] = "wa-7"

    assert [None] == [one.author_id for one in parse_messages(ADD, {"DATA": element}).messages]
    said = parse_messages(ADD, operators({"id": 86501, "user_id": "0"}))
    assert [None] == [one.author_id for one in said.messages]


class TestConnectors:
    """CONNECTORS applies to messages, too."""

    def test_excluded_connector_is_skipped_before_validation(self) -> None:
        """Invalid data of other connectors is not our concern; case does not matter."""
        unwanted = customers(text=[])
        unwanted["connector"]["connector_id"] = "Other"

        said = parse_messages(ADD, {"DATA": [unwanted, customers()]}, {"myconnector"})

        assert ["Other"] == said.left_out
        assert ["ext-msg-006"] == [message.message_id for message in said.messages]
        assert [] == said.faults

    def test_operators_messages_have_it_beside_the_element(self) -> None:
        """As CONNECTOR, in any case."""
        data = operators({"id": 1}, CONNECTOR="MyConnector")

        assert ["MyConnector"] == parse_messages(ADD, data, {"other"}).left_out
        assert 1 == len(parse_messages(ADD, data, {"myconnector"}).messages)

    @pytest.mark.parametrize("connector", [[], {}, None, {"connector_id": []}, "text"])
    def test_unreadable_connector_is_a_fault(self, connector: object) -> None:
        """It may be a wanted one."""
        said = parse_messages(ADD, {"DATA": {**customers(), "connector": connector}}, {"other"})

        assert [] == said.left_out
        assert said.faults


@pytest.mark.parametrize(
    ("name", "data", "faults"),
    [
        (ADD, None, ["data.DATA"]),
        (ADD, {"DATA": "text"}, ["data.DATA"]),
        (ADD, {"DATA": []}, ["data.DATA"]),
        (
            ADD,
            {"DATA": [{}, customers(text=["x"])]},
            [
                "data.DATA.0.connector",
                "data.DATA.0.chat",
                "data.DATA.0.message",
                "data.DATA.1.message.text",
            ],
        ),
        (ADD, {"DATA": [5, 6]}, ["data.DATA.0", "data.DATA.1"]),
        (ADD, operators({"text": "x"}, LINE="?"), ["data.LINE", "data.DATA.message.id"]),
        (ADD, operators({"id": 0}), ["data.DATA.message.id"]),
        (UPDATE, operators({"id": 5}), ["data.DATA.im"]),
        (ADD, {"DATA": customers(id=[])}, ["data.DATA.message.id"]),
    ],
)
def test_faults_are_named_by_their_paths(name: str, data: object, faults: list[str]) -> None:
    """All together, as in Bitrix24's data, and without values."""
    assert MessageContents([], [], faults) == parse_messages(name, data)


def test_invalid_element_does_not_affect_the_others() -> None:
    """Each element of a list is parsed independently."""
    said = parse_messages(ADD, {"DATA": [customers(), customers(text=[])]})

    assert ["ext-msg-006"] == [message.message_id for message in said.messages]
    assert ["data.DATA.1.message.text"] == said.faults
