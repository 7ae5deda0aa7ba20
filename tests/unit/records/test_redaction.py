"""What an event's data keeps when texts and credentials are redacted: everything else."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handler.events.deletion import parse_deletions
from handler.events.names import DELETIONS
from handler.events.php_form import parse_php_form
from handler.records.redaction import redacted
from tests.doubles.bitrix24 import Value, http_build_query
from tests.samples import EVENTS, typed
from tests.strategies import LEAVES, as_in_a_form

KEYS = st.sampled_from(
    [
        *["0", "1", "DATA", "MESSAGES", "CONNECTOR", "LINE", "connector", "im", "message", "chat"],
        *["id", "chat_id", "message_id", "line_id", "connector_id", "user_id", "text", "files"],
        *["auth", "access_token", "name"],
    ]
)
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


@pytest.mark.parametrize(
    "name",
    [
        *["text", "TEXT", "message_text", "messageText", "body", "file", "files", "attachments"],
        *["access_token", "ACCESS_TOKEN", "refresh_token", "token", "AUTH", "AUTH_ID"],
        *["refresh_id", "client_secret", "password", "new\nsecret", "message"],
    ],
)
@pytest.mark.parametrize("form", [False, True], ids=["typed", "form"])
def test_texts_and_credentials_are_redacted(name: str, form: bool) -> None:  # noqa: FBT001
    """At any level, in any case, with all that is inside."""
    hidden: Value = ["a secret", {"0": "a secret", "1": ["a secret"]}]
    message: Value = {"message": {"id": "ext-1", name: "a secret"}}
    data: Value = {"DATA": [message, {name: hidden}], name: hidden}
    kept = json.dumps(redacted(as_in_a_form(data) if form else data))

    assert "a secret" not in kept
    assert 7 == kept.count("(redacted)")
    assert "ext-1" in kept


def test_an_object_below_a_credential_is_redacted() -> None:
    """A whole `auth` has more than tokens, under any name."""
    auth: Value = {"member_id": "a", "x": {"y": ["b", 1, True, None]}}
    hidden: Value = {"member_id": "(redacted)", "x": {"y": [*["(redacted)"] * 3, None]}}

    assert {"DATA": {"auth": hidden}} == redacted({"DATA": {"auth": auth}})


@pytest.mark.parametrize("name", sorted({*EVENTS} - {"install", "message-added"}))
def test_a_real_deletion_stays_as_it_is(name: str) -> None:
    """Its ids are needed for a retry."""
    event = typed(name)
    if event["event"] in DELETIONS:
        assert event["data"] == redacted(event["data"])


@pytest.mark.parametrize("message", ["5", 5, ["5", 6], {"0": "5"}, True, None])
def test_ids_in_place_of_a_message_stay(message: Value) -> None:
    """An unknown variant may name a message by its id alone."""
    assert {"message": message} == redacted({"message": message})


def test_data_with_too_many_levels_is_cut() -> None:
    """A portal's queue could have as many levels as JSON allows."""
    deep: Value = []
    for _ in range(500):
        deep = [deep]
    kept = json.dumps(redacted(deep))

    assert "[" * 100 + '"(redacted)"' + "]" * 100 == kept


@given(DATA, st.sampled_from(sorted(DELETIONS)))
@example({"DATA": {"0": {"connector": {}}, "text": "a"}}, "ONOPENLINEMESSAGEDELETE")
@example({"DATA": [{"message": ["a"], "connector": ""}]}, "ONOPENLINEMESSAGEDELETE")
def test_redacted_data_is_parsed_the_same_way(data: dict[str, Value], name: str) -> None:
    """A retry and a replay find the same deletions and the same faults."""
    before, after = (parse_deletions(name, each, None) for each in (data, redacted(data)))

    assert (before.deletions, before.left_out) == (after.deletions, after.left_out)
    assert str(before.invalid) == str(after.invalid)


@given(DATA)
def test_a_form_and_the_queue_stay_the_same_event(data: dict[str, Value]) -> None:
    """And redacting again changes nothing."""
    form = parse_php_form(http_build_query({"data": data}).encode()).get("data", {})

    assert as_in_a_form(redacted(form)) == as_in_a_form(redacted(data))  # type: ignore[arg-type]
    assert redacted(data) == redacted(redacted(data))
