"""A portal's year: it is renamed, its people change, its bindings disappear."""

import http.client
import json

import pytest

from tests.doubles.bitrix24 import (
    Bitrix24,
    Disconnect,
    Installation,
    Portal,
    Value,
)
from tests.doubles.bitrix24_client import DELETE, Handler, call, error, post, rest, result

PING = "ONOFFLINEEVENT"


def bind_the_queue(app: Installation, handler: Handler, user: int = 1) -> None:
    """Bind the queue, and its ping as a user."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    options: Value = {"minTimeout": 60}
    result(app, "event.bind", event=PING, handler=handler.url, auth_type=user, options=options)


@pytest.mark.parametrize("old", [None, Disconnect()])
def test_a_renamed_portal_is_found_by_app_info_alone(
    bitrix: Bitrix24, app: Installation, handler: Handler, old: Disconnect | None
) -> None:
    """The old address answers 302, or not at all; `member_id`, tokens and bindings stay."""
    result(app, "event.bind", event=DELETE, handler=handler.url)
    portal, auth = app.portal, {"auth": app.token().access_token}
    former = f"{portal.client_endpoint}profile"
    portal.rename("new-name.bitrix24.com", old_address=old)
    if old:
        with pytest.raises(http.client.RemoteDisconnected):
            post(former, json.dumps(auth), "application/json")
    else:
        assert post(former, json.dumps(auth), "application/json")[0] == 302
    install = call(f"{bitrix.oauth_url}/rest/app.info", auth)[1]["result"]["install"]
    assert install["member_id"] == portal.member_id
    assert install["domain"] == "new-name.bitrix24.com"
    assert call(f"{install['client_endpoint']}profile", auth)[0] == 200
    portal.delete_message()
    assert handler.bodies[0]["auth"]["domain"] == "new-name.bitrix24.com"
    assert handler.bodies[0]["auth"]["client_endpoint"] == install["client_endpoint"]


def test_demoted_administrators_ping_may_not_read_the_queue(
    app: Installation, handler: Handler
) -> None:
    """The token is always that of the user the binding was made for."""
    app.portal.promote(7)
    bind_the_queue(app, handler)
    app.portal.demote(1)
    app.portal.delete_message()
    auth = handler.bodies[0]["auth"]
    assert auth["user_id"] == "1"
    read = call(f"{app.portal.client_endpoint}event.offline.list", {"auth": auth["access_token"]})
    assert error(read) == (403, "ACCESS_DENIED")
    assert read[1]["error_description"].startswith("Access denied!")
    bound = rest(app, "event.bind", user=7, event=PING, handler=handler.url, auth_type=7)
    assert bound[0] == 200
    app.portal.ping()
    assert [body["auth"]["user_id"] for body in handler.bodies] == ["1", "1", "7"]


def test_a_dismissed_administrators_ping_brings_no_tokens(
    app: Installation, handler: Handler
) -> None:
    """Nobody who has left can be authorised (inferred)."""
    bind_the_queue(app, handler)
    app.portal.dismiss(1)
    app.portal.delete_message()
    assert "access_token" not in handler.bodies[0]["auth"]


def test_saving_the_form_again_sends_nothing_and_reinstalling_does(
    app: Installation, handler: Handler
) -> None:
    """Reinstall: a new token of its administrator; application token, bindings, queue stay."""
    app.portal.promote(7)
    assert [one.status for one in app.save_form(handler.url)] == [200]
    bind_the_queue(app, handler)
    app.portal.delete_message(deliver=False)
    bindings, rows = list(app.bindings), app.portal.queue(app)
    assert app.save_form(handler.url, by=7) == []
    app.reinstall(by=7)
    first, second = handler.bodies
    assert [first["auth"]["user_id"], second["auth"]["user_id"]] == ["1", "7"]
    assert first["auth"]["application_token"] == second["auth"]["application_token"]
    assert first["auth"]["access_token"] != second["auth"]["access_token"]
    assert (app.bindings, app.portal.queue(app)) == (bindings, rows)
    with pytest.raises(ValueError, match="administrators"):
        app.reinstall(by=27)


def test_deleting_and_adding_again_loses_token_bindings_and_queue(
    app: Installation, handler: Handler
) -> None:
    """Under the same `member_id`."""
    bind_the_queue(app, handler)
    app.portal.delete_message(deliver=False)
    new = app.delete_and_add()
    assert new.application_token != app.application_token
    assert (app.bindings, new.bindings) == ([], [])
    assert (app.portal.queue(app), app.portal.queue(new)) == ([], [])


def test_portal_pings_once_a_second_regardless_of_min_timeout(handler: Handler) -> None:
    """`minTimeout` is stored but never read; a skipped ping is not made up for."""
    now = [1773752400.0]
    with Bitrix24(clock=lambda: now[0]) as bitrix:
        app = bitrix.add_portal().install()
        bind_the_queue(app, handler)
        for seconds in (0, 0.5, 0.25, 0.25, 0.5, 1):
            now[0] += seconds
            app.portal.delete_message(user_id=27)
    assert [body["event"] for body in handler.bodies] == [PING] * 3
    assert {body["auth"]["user_id"] for body in handler.bodies} == {"1"}
    assert app.bindings[1].options == {"minTimeout": 60}


def test_a_storm_deletes_at_a_pace_and_pings_meanwhile(app: Installation, handler: Handler) -> None:
    """Rates cannot be configured; each deletion is a separate POST."""
    result(app, "event.bind", event=DELETE, handler=handler.url)
    bind_the_queue(app, handler)
    deletions = app.portal.storm(12, per_second=200)
    told = [body for body in handler.bodies if body["event"] == DELETE]
    assert len({one.im_message_id for one in deletions}) == len(told) == 12
    assert len(app.portal.queue(app)) == 12
    assert PING in {body["event"] for body in handler.bodies}


def test_a_row_may_be_committed_after_those_with_greater_ids(app: Installation) -> None:
    """Taking a range of ids returns everything it deletes, including rows that were not listed."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    app.portal.delete_message("first")
    with app.portal.uncommitted_rows():
        app.portal.delete_message("late")
    app.portal.delete_message("last")
    assert [row["ID"] for row in result(app, "event.offline.list")] == ["1", "3"]
    app.portal.commit()
    taken = result(app, "event.offline.get", filter={">=ID": 1, "<=ID": 3, "EVENT_NAME": DELETE})
    assert [row["ID"] for row in taken["events"]] == ["1", "3", "2"]
    assert app.portal.queue(app) == []


@pytest.mark.parametrize("zone", ["ru", "by", "kz", "uz", "am", "az", "ge", "kg"])
def test_eight_zones_belong_to_the_other_oauth_server(bitrix: Bitrix24, zone: str) -> None:
    """All others belong to bitrix.info."""
    assert (
        bitrix.add_portal(f"x.bitrix24.{zone}").server_endpoint == f"{bitrix.oauth_tech_url}/rest/"
    )
    assert bitrix.add_portal("x.bitrix24.de").server_endpoint == f"{bitrix.oauth_url}/rest/"


def test_a_batch_is_one_call_of_up_to_fifty(app: Installation) -> None:
    """Results and errors by key; no nesting."""
    app.portal.limit_rate(burst=2, per_second=0)
    commands: dict[str, Value] = {
        "bind": f"event.bind?event={DELETE}&event_type=offline",
        "list": "event.offline.list?filter[EVENT_NAME]=x",
        "nested": "batch?cmd[0]=profile",
        "what": "no.such.method",
    }
    done = result(app, "batch", cmd=commands)
    assert done["result"] == {"bind": True, "list": []}
    assert done["result_total"] == {"list": 0}
    assert {key: one["error"] for key, one in done["result_error"].items()} == {
        "nested": "ERROR_BATCH_METHOD_NOT_ALLOWED",
        "what": "ERROR_METHOD_NOT_FOUND",
    }
    many = result(app, "batch", cmd=["event.offline.list"] * 51)
    assert many["result"] == [[]] * 50
    assert many["result_error"]["50"]["error"] == "ERROR_BATCH_LENGTH_EXCEEDED"
    assert error(rest(app, "profile")) == (503, "QUERY_LIMIT_EXCEEDED")


def test_batch_may_not_remove_queue_rows(portal: Portal) -> None:
    """Unconfirmed: the function must work without."""
    app = portal.install()
    command = ["event.offline.get?filter[ID]=1"]
    assert result(app, "batch", cmd=command)["result_error"] == []
    portal.batch_offline = False
    refused = result(app, "batch", cmd=command)["result_error"]
    assert refused[0]["error"] == "ERROR_BATCH_METHOD_NOT_ALLOWED"
