"""Parsing both shapes of the deletion event and its twin, and the ids of deletions."""

import re
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.events import names
from handler.events.body import FORM, decode_body
from handler.events.deletion import Contents, Deletion, parse_deletions
from handler.events.invalid_data import InvalidData
from tests import samples
from tests.samples import CUSTOMER, DELETIONS, PORTAL


def element(**instead: object) -> dict[str, object]:
    """Return one element of shape (a), as in the offline queue."""
    return {
        "im": {"chat_id": 1807, "message_id": 86501},
        "message": {"id": "ext-msg-005"},
        "chat": {"id": "channel-123"},
        **instead,
    }


def in_portal(*elements: object, **instead: object) -> dict[str, object]:
    """Return the data of shape (a)."""
    return {"CONNECTOR": "myconnector", "LINE": 107, "DATA": list(elements), **instead}


def by_customer(**instead: object) -> dict[str, object]:
    """Return the data of shape (b)."""
    connector = {"connector_id": "myconnector", "line_id": 107, "user_id": 1985}
    return {
        "DATA": {
            "connector": connector,
            "message": {"id": "ext-msg-007"},
            "chat": {"id": "channel-123"},
            **instead,
        }
    }


def valid(name: str, data: object, user_id: int | None) -> tuple[Deletion, ...]:
    """Return the deletions of entirely valid data."""
    contents = parse_deletions(name, data, user_id)
    assert contents == Contents(contents.deletions)
    return contents.deletions


def faults(data: object, name: str = names.DELETION) -> InvalidData:
    """Return the faults of data without any valid deletion."""
    contents = parse_deletions(name, data, None)
    assert ((), ()) == (contents.deletions, contents.left_out)
    assert contents.invalid
    return contents.invalid


@pytest.mark.parametrize("name", DELETIONS)
def test_a_sample_holds_its_deletions(name: str) -> None:
    """As a form and as JSON."""
    body: Any = samples.typed(name)
    user_id = int(body["auth"]["user_id"]) if "user_id" in body["auth"] else None
    assert DELETIONS[name] == valid(body["event"], body["data"], user_id)
    form = decode_body(FORM, samples.form(name))
    assert DELETIONS[name] == valid(body["event"], form["data"], user_id)


def test_all_elements_are_parsed_in_order() -> None:
    """One message may have several external ids; the official PHP SDK reads only the first."""
    ids = [f"part-{number}" for number in range(12)]
    typed = in_portal(*(element(message={"id": name}) for name in ids))
    form = "&".join(
        f"data[DATA][{n}][im][chat_id]=1807&data[DATA][{n}][im][message_id]=86501"
        f"&data[DATA][{n}][message][id]={name}&data[DATA][{n}][chat][id]=channel-123"
        for n, name in reversed(list(enumerate(ids)))
    )
    decoded = decode_body(FORM, f"data[CONNECTOR]=myconnector&data[LINE]=107&{form}".encode())
    expected = tuple(replace(PORTAL, message_id=name) for name in ids)
    assert expected == valid(names.DELETION, typed, 27)
    assert expected == valid(names.DELETION, decoded["data"], 27)


@pytest.mark.parametrize("key", ["00", "x", "-1", "²", "9" * 5_000])
def test_an_array_that_is_not_a_list_is_invalid(key: str) -> None:
    """PHP's lists have numeric keys."""
    fault = faults(in_portal(DATA={"0": element(), key: element()}))
    assert ["data.DATA"] == fault.fields
    assert ["data.DATA: should be a list of one element or more"] == fault.reasons


def test_list_keys_may_have_gaps_and_name_faults() -> None:
    """PHP's `unset` leaves gaps; the order is numeric."""
    elements = {
        "10": element(message={"id": "b"}),
        "3": element(message={"id": "a"}),
        "7": element(message={"id": ""}),
    }
    contents = parse_deletions(names.DELETION, in_portal(DATA=elements), 27)
    assert ["a", "b"] == [deletion.message_id for deletion in contents.deletions]
    assert contents.invalid
    assert ["data.DATA.7.message.id"] == contents.invalid.fields


def test_each_external_id_in_an_array_is_a_deletion() -> None:
    """In both shapes; an invalid one does not affect the others."""
    ids = {"id": ["ext-msg-005", "", {"0": "x"}, 7]}
    expected = ["data.DATA.0.message.id"]
    contents = parse_deletions(names.DELETION, in_portal(element(message=ids)), 27)
    assert (PORTAL, replace(PORTAL, message_id="7")) == contents.deletions
    assert contents.invalid
    assert expected == contents.invalid.fields
    assert 1 == len(contents.invalid.reasons)

    contents = parse_deletions(names.DELETION, by_customer(message=ids), None)
    assert ["ext-msg-005", "7"] == [deletion.message_id for deletion in contents.deletions]
    assert contents.invalid
    assert ["data.DATA.message.id"] == contents.invalid.fields


def test_an_array_without_an_external_id_is_invalid() -> None:
    """A deletion must not be lost because its list of ids is empty."""
    empty: list[dict[str, object]] = [{"id": []}, {"id": {}}]
    for message in empty:
        fault = faults(in_portal(element(message=message)))
        assert ["data.DATA.0.message.id"] == fault.fields
        assert ["data.DATA.0.message.id: should be text"] == fault.reasons


def test_customers_deletions_may_be_in_a_list() -> None:
    """One or more; a fault in one does not affect the others."""
    one = by_customer()["DATA"]
    several = {"DATA": [one, by_customer(message={"id": "b"})["DATA"]]}
    assert (CUSTOMER, replace(CUSTOMER, message_id="b")) == valid(names.DELETION, several, 27)
    with_fault = {"DATA": [by_customer(chat={})["DATA"], one]}
    contents = parse_deletions(names.DELETION, with_fault, 27)
    assert (CUSTOMER,) == contents.deletions
    assert contents.invalid
    assert ["data.DATA.0.chat.id"] == contents.invalid.fields


def test_fault_in_one_element_does_not_affect_the_others() -> None:
    """The sample's second element has an empty id."""
    for data in (
        samples.typed("variant-one-element-unfit")["data"],
        decode_body(FORM, samples.form("variant-one-element-unfit"))["data"],
    ):
        contents = parse_deletions(names.DELETION, data, 27)
        assert (PORTAL,) == contents.deletions
        assert contents.invalid
        assert ["data.DATA.1.message.id"] == contents.invalid.fields


@pytest.mark.parametrize("connector", ["MyConnector", "myconnector", "MYCONNECTOR"])
def test_connectors_are_compared_without_case(connector: str) -> None:
    """Bitrix24 lower-cases an id on registration; the customer's shape may keep its case."""
    wanted = {"myconnector"}
    data = in_portal(element(), CONNECTOR=connector)
    contents = parse_deletions(names.DELETION, data, 27, wanted)
    assert Contents((replace(PORTAL, connector=connector),)) == contents
    named = {"connector_id": connector, "line_id": 107, "user_id": 1985}
    contents = parse_deletions(names.DELETION, by_customer(connector=named), 27, wanted)
    assert Contents((replace(CUSTOMER, connector=connector),)) == contents


def test_excluded_connectors_are_named_for_each_deletion() -> None:
    """Even if the deletion is invalid, since it is not ours."""
    wanted = {"other"}

    def left_out(data: object, name: str = names.DELETION) -> tuple[str, ...]:
        contents = parse_deletions(name, data, None, wanted)
        assert Contents(left_out=contents.left_out) == contents
        return contents.left_out

    assert ("myconnector", "myconnector") == left_out(in_portal("x", element(im=1)))
    assert ("myconnector", "myconnector") == left_out(in_portal(element(message={"id": [1, 2]})))
    assert ("myconnector",) == left_out(in_portal())
    assert ("7",) == left_out({"CONNECTOR": 7, "MESSAGES": "x"}, names.DELETION_TWIN)
    assert ("myconnector",) == left_out(by_customer(message="x", chat=None))
    assert ("myconnector",) * 2 == left_out({"DATA": [by_customer(chat={})["DATA"]] * 2})


def test_unreadable_connector_is_not_excluded() -> None:
    """It may be a wanted one, so the event is kept."""
    for connector in ("", None, ["myconnector"], True):
        contents = parse_deletions(
            names.DELETION, in_portal(element(), CONNECTOR=connector), None, {"c"}
        )
        assert contents.left_out == ()
        assert contents.invalid
        assert ["data.CONNECTOR"] == contents.invalid.fields
    unreadable: list[object] = [[], "c", {"connector_id": ""}]
    for name in unreadable:
        contents = parse_deletions(names.DELETION, by_customer(connector=name), None, {"c"})
        assert contents.left_out == ()
        assert contents.invalid


def test_external_ids_are_text_and_bitrix24s_are_numbers() -> None:
    """The documentation types external ids as integers; then the offline queue has numbers."""
    data = in_portal(
        element(message={"id": 5}, chat={"id": "05"}, im={"chat_id": "7", "message_id": 8})
    )
    (deletion,) = valid(names.DELETION, data, None)
    assert ("5", "05", 7, 8) == (
        deletion.message_id,
        deletion.chat_id,
        deletion.im_chat_id,
        deletion.im_message_id,
    )


def test_unknown_fields_are_ignored() -> None:
    """Connectors add their own to `chat` and `message`."""
    data = by_customer(message={"id": "ext-msg-007", "files": [{}]}, extra=[], ref={"source": "x"})
    assert (CUSTOMER,) == valid(names.DELETION, data, None)
    more = in_portal(element(message={"id": "ext-msg-005", "text": ["x"]}), NEW="x")
    assert (PORTAL,) == valid(names.DELETION, more, 27)


def test_customers_deletion_is_the_customers() -> None:
    """`auth[user_id]` is not a customer; `connector.user_id` is, if present."""
    assert (CUSTOMER,) == valid(names.DELETION, by_customer(), 27)
    unnamed = by_customer(connector={"connector_id": "myconnector", "line_id": "107"})
    assert (replace(CUSTOMER, user_id=None),) == valid(names.DELETION, unnamed, 27)


def test_twin_has_messages_instead_of_data() -> None:
    """Or `DATA` after all, but never the customer's shape."""
    data = in_portal(MESSAGES=[element()], DATA="ignored")
    assert (PORTAL,) == valid(names.DELETION_TWIN, data, 27)
    assert (PORTAL,) == valid(names.DELETION_TWIN, in_portal(element()), 27)
    fault = faults({"CONNECTOR": "c", "LINE": 1}, names.DELETION_TWIN)
    assert ["data.MESSAGES"] == fault.fields
    assert (
        "data.MESSAGES" in faults({"MESSAGES": by_customer()["DATA"]}, names.DELETION_TWIN).fields
    )


@pytest.mark.parametrize("data", [None, "", "x", 1, True, [], [element()], {}, {"DATA": None}])
def test_missing_data_names_all_missing_fields(data: object) -> None:
    """All faults together."""
    assert ["data.CONNECTOR", "data.LINE", "data.DATA"] == faults(data).fields


def test_event_without_a_deletion_is_invalid() -> None:
    """An event must not be lost because its list is empty."""
    assert ["data.DATA"] == faults(in_portal()).fields
    assert ["data.DATA"] == faults(in_portal(DATA={})).fields
    assert ["data.DATA"] == faults(in_portal(DATA="x")).fields


def test_all_faults_are_named_by_their_path() -> None:
    """At any depth."""
    elements = [
        element(),
        element(message={"id": {"x": "y"}}, chat={}),
        "x",
        element(im={"chat_id": -1}),
    ]
    fault = faults(in_portal(*elements, CONNECTOR="", LINE="one"))
    expected = [
        "data.CONNECTOR",
        "data.LINE",
        "data.DATA.1.message.id",
        "data.DATA.1.chat.id",
        "data.DATA.2",
        "data.DATA.3.im.chat_id",
        "data.DATA.3.im.message_id",
    ]
    assert expected == fault.fields
    assert expected == [reason.partition(": ")[0] for reason in fault.reasons]
    assert "; ".join(fault.reasons) == str(fault)
    assert "data.LINE: should be a whole number" == fault.reasons[1]
    customer = faults(by_customer(connector=[], message={"id": {"x": "y"}}, chat={"id": ""}))
    assert ["data.DATA.connector", "data.DATA.message.id", "data.DATA.chat.id"] == customer.fields


@given(
    st.recursive(
        st.sampled_from(["5b00844001b0007c", "", 1, -1, None, True]),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["DATA", "MESSAGES", "connector", "message", "5b00844001b0007c"]),
                inner,
            )
        ),
        max_leaves=10,
    ),
    st.sampled_from([names.DELETION, names.DELETION_TWIN]),
)
def test_faults_never_quote_the_input(data: object, name: str) -> None:
    """Neither values nor names from the sender, which may be secret."""
    fault = parse_deletions(name, data, None).invalid
    assert fault
    assert "5b00844001b0007c" not in f"{fault!r} {fault} {fault.fields} {fault.reasons}"


# A record's id must not change between releases: the same deletion would be stored again, beside
# the existing record.
@pytest.mark.parametrize(
    ("deletion", "name"),
    [
        (PORTAL, "094aa72dac7ee216476b248460623f851e6620f66d9c20fa3a4e46eedfad077b"),
        (CUSTOMER, "cfd262f494d12b99d58735e454ce81708e30707acd211a0e556a36edd9786ad3"),
    ],
    ids=["portal", "customer"],
)
def test_the_id_stays_the_same_in_every_release(deletion: Deletion, name: str) -> None:
    """Two releases use the same document."""
    assert name == deletion.id("bac1cd5c8940947a75e0d71b1a84e348")


TEXT = st.text(st.sampled_from('a1", []\\:/|\0é'), max_size=4)
NUMBER = st.integers(0, 3) | st.integers(0, 2**63 - 1)
REST = st.tuples(TEXT, NUMBER, TEXT, st.none() | NUMBER)


def from_portal(identity: tuple[str, int, int, str], rest: tuple[str, int, str, int | None]) -> str:
    """Return the id of a shape (a) deletion from its identity and its other fields."""
    member_id, im_chat_id, im_message_id, message_id = identity
    connector, line_id, chat_id, user_id = rest
    return Deletion(
        origin="portal",
        connector=connector,
        line_id=line_id,
        message_id=message_id,
        chat_id=chat_id,
        im_message_id=im_message_id,
        im_chat_id=im_chat_id,
        user_id=user_id,
    ).id(member_id)


def from_customer(identity: tuple[str, str, int, str, str], user_id: int | None) -> str:
    """Return the id of a shape (b) deletion from its identity and its other fields."""
    member_id, connector, line_id, chat_id, message_id = identity
    return Deletion(
        origin="customer",
        connector=connector,
        line_id=line_id,
        message_id=message_id,
        chat_id=chat_id,
        user_id=user_id,
    ).id(member_id)


IN_PORTAL = st.tuples(TEXT, NUMBER, NUMBER, TEXT)
BY_CUSTOMER = st.tuples(TEXT, TEXT, NUMBER, TEXT, TEXT)


@given(IN_PORTAL, REST, REST)
def test_portal_deletion_is_identified_by_bitrix24s_and_external_ids(
    identity: tuple[str, int, int, str],
    rest: tuple[str, int, str, int | None],
    other: tuple[str, int, str, int | None],
) -> None:
    """Connector, line, external chat and user do not count."""
    assert from_portal(identity, rest) == from_portal(identity, other)


@given(BY_CUSTOMER, st.none() | NUMBER, st.none() | NUMBER)
def test_customer_deletion_is_identified_by_connector_line_chat_and_message(
    identity: tuple[str, str, int, str, str], user_id: int | None, other: int | None
) -> None:
    """The user does not count."""
    assert from_customer(identity, user_id) == from_customer(identity, other)


@given(st.lists(IN_PORTAL, max_size=20), st.lists(BY_CUSTOMER, max_size=20))
def test_two_deletions_never_share_an_id(
    in_portal: list[tuple[str, int, int, str]], by_customer: list[tuple[str, str, int, str, str]]
) -> None:
    """Regardless of separators in their texts, and of their shapes."""
    ids = [from_portal(identity, ("", 0, "", None)) for identity in in_portal]
    ids += [from_customer(identity, None) for identity in by_customer]
    assert len({*in_portal}) + len({*by_customer}) == len({*ids})
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in ids)


@pytest.mark.parametrize(
    ("origin", "field"),
    [
        ("portal", "im_chat_id"),
        ("portal", "im_message_id"),
        ("portal", "message_id"),
        ("customer", "connector"),
        ("customer", "line_id"),
        ("customer", "chat_id"),
        ("customer", "message_id"),
    ],
)
def test_every_part_of_the_identity_counts(
    origin: Literal["portal", "customer"], field: str
) -> None:
    """And always the portal's own."""
    deletion = replace(PORTAL, origin=origin)
    value = getattr(deletion, field)
    changed: Any = {field: value + 1 if isinstance(value, int) else f"{value} "}
    other = replace(deletion, **changed)
    assert 3 == len({deletion.id("m"), other.id("m"), deletion.id("n")})


def test_faults_say_where_an_object_was_expected() -> None:
    """In words for people who read the quarantine, not in Python's."""
    fault = faults(in_portal(DATA=[{**element(), "im": "text"}]))
    assert ["data.DATA.0.im: should be an object"] == fault.reasons


@pytest.mark.parametrize("user_id", ["", "guest", ["1985"], 0, None, -1, 2**63])
def test_invalid_customer_id_is_omitted(user_id: object) -> None:
    """It does not identify the deletion, which is recorded nevertheless."""
    connector = {"connector_id": "c", "line_id": 1, "user_id": user_id}
    message = {"connector": connector, "message": {"id": "m"}, "chat": {"id": "x"}}
    (deletion,) = valid("ONOPENLINEMESSAGEDELETE", {"DATA": message}, 27)
    assert None is deletion.user_id
