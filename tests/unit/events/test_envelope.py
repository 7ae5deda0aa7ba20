"""The envelope of events: required fields, optional fields, and what is never shown."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from handler.answers import Refused
from handler.events.body import FORM, decode_body
from handler.events.envelope import Event, document_name, parse_event
from tests import samples

TOKEN = samples.typed("portal-one-message")["auth"]["application_token"]


def event(auth: dict[str, Any] | None = None, **fields: object) -> Event:
    """Parse an event with the required fields and these."""
    known = {"member_id": "m", "application_token": TOKEN, **(auth or {})}
    return parse_event({"event": "ONAPPTEST", "auth": known, **fields})


@pytest.mark.parametrize("name", samples.EVENTS)
def test_a_sample_is_the_same_event_as_a_form_and_in_json(name: str) -> None:
    """Including those without a handler's id, and those that no user caused."""
    body = samples.typed(name)
    parsed = parse_event(body)
    assert body["event"] == parsed.name
    assert body["auth"]["member_id"] == parsed.auth.member_id
    assert body["auth"]["application_token"] == parsed.auth.application_token.get_secret_value()
    assert int(body["ts"]) == (parsed.sent_at and parsed.sent_at.timestamp())
    from_form = parse_event(decode_body(FORM, samples.form(name)))
    assert parsed.auth == from_form.auth
    assert (parsed.name, parsed.sent_at) == (from_form.name, from_form.sent_at)


def test_oauth_tokens_are_absent_when_no_user_caused_the_event() -> None:
    """Robots, workflows and agents delete, too."""
    parsed = parse_event(decode_body(FORM, samples.form("portal-no-user")))
    assert parsed.auth.access_token is None
    assert parsed.auth.user_id is None
    assert parsed.auth.domain == "some-domain.bitrix24.com"


def test_the_user_and_the_endpoint_are_read() -> None:
    """From a deletion that an operator made."""
    auth = parse_event(decode_body(FORM, samples.form("portal-one-message"))).auth
    assert auth.access_token
    assert (27, "some-domain.bitrix24.com", "https://oauth.bitrix.info/rest/") == (
        auth.user_id,
        auth.domain,
        auth.server_endpoint,
    )
    assert auth.access_token.get_secret_value() == "5b00844001b0007cd181977d455de630432"


def test_an_event_may_have_no_data() -> None:
    """In a form, `data=[]` does not arrive at all."""
    assert event().data is None
    assert {"a": [1]} == event(data={"a": [1]}).data


@pytest.mark.parametrize("name", ["OnAppTest", "onapptest", "ONAPPTEST"])
def test_event_names_are_case_insensitive(name: str) -> None:
    """event.bind accepts any case; Bitrix24 sends upper case."""
    assert event(event=name).name == "ONAPPTEST"


@pytest.mark.parametrize(
    "ts", ["", "x", "-1", -1, True, None, [], {}, 1.5, "1" * 19, 253_402_300_800]
)
def test_invalid_time_is_absent(ts: object) -> None:
    """`ts` is optional, and not proven anyway."""
    assert event(ts=ts).sent_at is None


@pytest.mark.parametrize("ts", [253_402_300_799, "253402300799"])
def test_latest_time_is_firestores(ts: object) -> None:
    """The end of the year 9999."""
    assert datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) == event(ts=ts).sent_at


@pytest.mark.parametrize("field", ["access_token", "domain", "server_endpoint", "user_id"])
@pytest.mark.parametrize("value", [None, "", [], {"a": "b"}, True, 1.5, "\udcff"])
def test_invalid_optional_fields_are_absent(field: str, value: object) -> None:
    """No deletion is lost because of them."""
    assert getattr(event({field: value}).auth, field) is None


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "event, auth"),
        ({"event": "X"}, "auth"),
        ({"event": "X", "AUTH_ID": "1"}, "auth"),
        ({"event": "", "auth": ""}, "event, auth"),
        ({"event": ["X"], "auth": []}, "event, auth"),
        ({"event": "X" * 101, "auth": {}}, "event, auth[member_id], auth[application_token]"),
        ({"event": 1, "auth": {"member_id": "m"}}, "event, auth[application_token]"),
        ({"event": "\udcff", "auth": {"application_token": "t"}}, "event, auth[member_id]"),
        (
            {"event": "X", "auth": {"member_id": 1, "application_token": 1}},
            "auth[member_id], auth[application_token]",
        ),
        (
            {"event": "X", "auth": {"member_id": "a/b", "application_token": ""}},
            "auth[member_id], auth[application_token]",
        ),
        (
            {"event": "X", "auth": {"member_id": {"0": "m"}, "application_token": ["t"]}},
            "auth[member_id], auth[application_token]",
        ),
    ],
)
def test_all_missing_fields_are_named_together(body: dict[str, object], missing: str) -> None:
    """By their names in the form, without quoting what was sent."""
    with pytest.raises(Refused) as refused:
        parse_event(body)
    answer = refused.value.answer
    assert (400, "malformed_event") == (answer.status, answer.outcome)
    verb = "are" if ", " in missing else "is"
    assert f"Not a Bitrix24 event: {missing} {verb} missing or invalid." == answer.body["detail"]
    assert {} == answer.log


@pytest.mark.parametrize("event", [{}, {"event": ""}])
def test_page_request_is_told_to_be_script_only(event: dict[str, str]) -> None:
    """If the box is not ticked, Bitrix24 opens the URL in the user's browser."""
    with pytest.raises(Refused) as refused:
        parse_event({**samples.typed("page-open"), **event})
    answer = refused.value.answer
    assert (400, "malformed_event") == (answer.status, answer.outcome)
    assert 'Tick "Script only"' in str(answer.body["detail"])
    assert {"event": "page"} == answer.log


@pytest.mark.parametrize(
    "name",
    ["m", "a223c6b3710f85df22e9377d6c4f7553", "...", "__a", "a__", "é" * 750, "." * 3, "a b"],
)
def test_member_id_may_be_any_document_name(name: str) -> None:
    """It currently has 32 hexadecimal digits; nothing depends on that."""
    assert name == document_name(name)
    assert name == event({"member_id": name}).auth.member_id


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/",
        "../portals/b",
        "__a__",
        "____",
        "é" * 751,
        "a" * 1_501,
        "a\nb",
        "a\u200b",
        "\0",
        "\udcff",
        "a/b\nc",
    ],
)
def test_member_id_that_firestore_rejects_is_invalid(name: str) -> None:
    """See Firestore's "Constraints on document IDs"; others would escape the portal's path."""
    with pytest.raises(ValueError, match="member_id"):
        document_name(name)
    with pytest.raises(Refused):
        event({"member_id": name})


def test_no_token_is_shown() -> None:
    """ONAPPUSERREADY has OAuth tokens even in its data."""
    parsed = event({"access_token": "5b00844001b0007c"}, data={"access_token": "5b00844001b0007c"})
    for text in (repr(parsed), str(parsed)):
        assert TOKEN not in text
        assert "5b00844001b0007c" not in text


def test_validation_errors_contain_no_token() -> None:
    """An uncaught one would be logged."""
    with pytest.raises(ValidationError) as raised:
        Event.model_validate({"event": "X", "auth": {"application_token": [TOKEN]}})
    assert TOKEN not in f"{raised.value!r} {raised.value}"


def test_an_event_cannot_be_changed() -> None:
    """What was verified is what is recorded."""
    with pytest.raises(ValueError, match="frozen"):
        event().name = "ONAPPINSTALL"  # type: ignore[misc]


def test_too_long_domain_is_omitted() -> None:
    """Each record of an unverified event repeats it in the log."""
    auth = {"member_id": "m", "application_token": "t"}
    for length, kept in ((253, True), (254, False)):
        event = parse_event({"event": "x", "auth": {**auth, "domain": "d" * length}})
        assert kept == (event.auth.domain is not None)
