"""The stand-in behaves over HTTP as Bitrix24's documentation and source say."""

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import active_count
from time import sleep
from urllib.parse import urlsplit

import pytest

from tests.doubles.bitrix24 import (
    Bitrix24,
    BodyDrip,
    Disconnect,
    Fault,
    HeaderDrip,
    HugeBody,
    Installation,
    LostAnswer,
    Portal,
    Silence,
    TruncatedBody,
    Value,
    WrongContentType,
    http_build_query,
    parse_str,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.bitrix24_client import DELETE, Handler, call, error, post, rest, result
from tests.stopwatch import Stopwatch


def test_form_bodies_are_phps() -> None:
    """php.net/http_build_query: escaped brackets, `+`, 1 and 0, no nulls, no empty arrays."""
    data: Mapping[str, Value] = {"a": {"b": [{"c": "é ~&"}, 2]}, "no": None, "none": [], "t": True}
    body = "a%5Bb%5D%5B0%5D%5Bc%5D=%C3%A9+%7E%26&a%5Bb%5D%5B1%5D=2&t=1&f=0"
    assert http_build_query({**data, "f": False}) == body
    assert parse_str(body) == {"a": {"b": [{"c": "é ~&"}, "2"]}, "t": "1", "f": "0"}
    assert parse_str("id[]=4&id[]=5&f[%3C%3DID]=9") == {"id": ["4", "5"], "f": {"<=ID": "9"}}


def test_app_info_refuses_every_other_token(bitrix: Bitrix24, app: Installation) -> None:
    """Missing, unknown, another OAuth server's, expired, uninstalled: 401 with its own code."""
    url = f"{bitrix.oauth_url}/rest/app.info"
    expired, fresh = app.token(expires_in=0), app.token()
    abroad = bitrix.add_portal("ein-portal.bitrix24.ru").install().token()
    assert error(call(url, {})) == (401, "NO_AUTH_FOUND")
    assert error(call(url, {"auth": "x"})) == (401, "invalid_token")
    assert error(call(url, {"auth": abroad.access_token})) == (401, "invalid_token")
    assert error(call(url, {"auth": expired.access_token})) == (401, "expired_token")
    tech = f"{bitrix.oauth_tech_url}/rest/app.info"
    assert call(tech, {"auth": abroad.access_token})[0] == 200
    app.uninstall()
    assert error(call(url, {"auth": fresh.access_token})) == (401, "NOT_INSTALLED")


def test_a_portal_knows_only_its_own_tokens_and_methods(
    bitrix: Bitrix24, app: Installation
) -> None:
    """Parameters come as JSON or as a form; `profile` says who is an administrator."""
    other = bitrix.add_portal("other.bitrix24.com").install()
    url = app.portal.client_endpoint
    stranger = {"auth": other.token().access_token}
    assert error(call(f"{url}profile", stranger)) == (401, "invalid_token")
    assert error(rest(app, "no.such.method")) == (404, "ERROR_METHOD_NOT_FOUND")
    assert result(app, "profile")["ADMIN"] is True
    assert rest(app, "profile", user=27)[1]["result"]["ADMIN"] is False
    form = http_build_query({"auth": app.token().access_token})
    _, _, body = post(f"{url}profile", form, "application/x-www-form-urlencoded")
    assert json.loads(body)["result"]["ADMIN"] is True


def test_binding_twice_is_an_error_unless_auth_type_differs(
    app: Installation, handler: Handler
) -> None:
    """EventTable::checkUniq; so one URL can be called twice for one event."""
    assert result(app, "event.bind", event=DELETE, handler=handler.url) is True
    status, answer = rest(app, "event.bind", event=DELETE, handler=handler.url)
    assert (status, answer["error"]) == (400, "ERROR_CORE")
    assert answer["error_description"] == ("Unable to set event handler: Handler already binded")
    result(app, "event.bind", event=DELETE, handler=handler.url, auth_type=1)
    result(app, "event.bind", event=DELETE.lower(), event_type="offline")
    assert result(app, "event.get") == [
        {"event": DELETE, "handler": handler.url, "auth_type": "0", "offline": 0},
        {"event": DELETE, "handler": handler.url, "auth_type": "1", "offline": 0},
        {"event": DELETE, "connector_id": "", "offline": 1},
    ]
    app.portal.delete_message(user_id=27)
    assert [body["auth"]["user_id"] for body in handler.bodies] == ["27", "1"]
    assert result(app, "event.unbind", event=DELETE, event_type="offline") == {"count": 1}


def test_what_event_bind_refuses(portal: Portal, app: Installation, handler: Handler) -> None:
    """Page event-bind, its table of errors."""
    bind = "event.bind"
    offline: Mapping[str, Value] = {"event": DELETE, "event_type": "offline"}
    without = portal.install(scope="crm")
    not_found = error(rest(without, bind, event=DELETE, handler=handler.url))
    assert not_found == (400, "ERROR_EVENT_NOT_FOUND")
    assert error(rest(app, bind, user=27, **offline)) == (403, "ACCESS_DENIED")
    denied = rest(app, bind, user=27, event=DELETE, handler=handler.url, auth_type=1)
    assert error(denied) == (403, "ACCESS_DENIED")
    assert error(rest(app, bind, event=DELETE)) == (400, "ERROR_ARGUMENT")
    nameless = rest(app, bind, event=DELETE, handler="http://localhost/")
    assert error(nameless) == (400, "ERROR_WRONG_HANDLER_URL")
    assert not app.bindings


def test_a_deletion_inside_bitrix24_is_posted_as_shape_a(portal: Portal, handler: Handler) -> None:
    """One element per external id with the same `im`; the twin goes to the connector's own."""
    app = portal.install(scope="imopenlines,imconnector", connectors=["myconnector"])
    other = portal.install(scope="imopenlines,imconnector")
    for event in (DELETE, "ONIMCONNECTORMESSAGEDELETE"):
        result(app, "event.bind", event=event, handler=handler.url)
        result(other, "event.bind", event=event, handler=handler.url)
    handler.status["POST"] = 503
    deletions = portal.delete_message("ext/msg 006&b=[1]", "ext-2")
    assert [one.message_id for one in deletions] == ["ext/msg 006&b=[1]", "ext-2"]
    names = [body["event"] for body in handler.bodies]
    assert names == [DELETE, DELETE, "ONIMCONNECTORMESSAGEDELETE"], "no retry after a 503"
    assert handler.requests[0].headers["user-agent"] == "Bitrix24 Webhook Engine"
    body = handler.bodies[0]
    first = deletions[0]
    im = {"chat_id": str(first.im_chat_id), "message_id": str(first.im_message_id)}
    assert body["data"] == {
        "CONNECTOR": "myconnector",
        "LINE": "107",
        "DATA": [
            {"im": im, "message": {"id": one.message_id}, "chat": {"id": "channel-123"}}
            for one in deletions
        ],
    }
    assert body["auth"]["application_token"] == app.application_token
    assert body["auth"]["user_id"] == "27"
    assert "refresh_token" not in body["auth"]
    assert handler.bodies[2]["data"]["MESSAGES"] == body["data"]["DATA"]
    assert [one.status for one in portal.deliveries] == [503, 503, 503]


def test_connector_ids_are_lower_cased_when_registered(portal: Portal, handler: Handler) -> None:
    """A connector's own application still gets its twin event; customers' keep the case."""
    app = portal.install(scope="imopenlines,imconnector", connectors=["MyConnector"])
    for event in (DELETE, "ONIMCONNECTORMESSAGEDELETE"):
        result(app, "event.bind", event=event, handler=handler.url)
    (deleted,) = portal.delete_message(connector="MyConnector")
    portal.customer_deletes(connector="MyConnector")
    assert deleted.connector == "myconnector"
    *ours, theirs = (body["data"] for body in handler.bodies)
    assert [data["CONNECTOR"] for data in ours] == ["myconnector", "myconnector"]
    assert theirs["DATA"]["connector"]["connector_id"] == "MyConnector"


def test_without_a_user_no_oauth_tokens_are_sent(app: Installation, handler: Handler) -> None:
    """A bot, a robot or an agent has none."""
    result(app, "event.bind", event=DELETE, handler=handler.url)
    app.portal.delete_message(user_id=None)
    assert set(handler.bodies[0]["auth"]) == {
        *("domain", "client_endpoint", "server_endpoint", "member_id", "application_token")
    }


def test_a_deletion_by_the_customer_is_posted_as_shape_b(
    app: Installation, handler: Handler
) -> None:
    """One object, no CONNECTOR and no LINE, the connector's data unvalidated, and no twin."""
    result(app, "event.bind", event=DELETE, handler=handler.url)
    done = app.portal.customer_deletes("7", chat={"name": "Test chat"}, extra={"ref": {"id": 1}})
    assert handler.bodies[0]["data"] == {
        "DATA": {
            "connector": {
                "connector_id": done.connector,
                "line_id": "107",
                "chat_id": "channel-123",
                "user_id": "1985",
            },
            "chat": {"id": "channel-123", "name": "Test chat"},
            "message": {"id": "7", "user_id": "1985"},
            "ref": {"id": "1"},
        }
    }
    assert len(handler.bodies) == 1


def test_the_offline_queue_keeps_types_and_merges_only_identical_rows(app: Installation) -> None:
    """EventOfflineTable::callEvent; rows are written whether or not the online call arrives."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    portal = app.portal
    portal.delete_message("a", im_message_id=1, deliver=False)
    portal.delete_message("a", im_message_id=1, user_id=None, deliver=False)
    portal.customer_deletes("b", message={"files": []})
    rows = result(app, "event.offline.list")
    assert [(row["ID"], row["EVENT_ADDITIONAL"]) for row in rows] == [
        ("1", {"user_id": 0}),
        ("2", {"user_id": "27"}),
    ], "identical rows merge"
    assert rows[0]["EVENT_DATA"]["DATA"][0]["im"] == {"chat_id": 1807, "message_id": 1}
    assert rows[1]["EVENT_DATA"]["DATA"]["message"]["files"] == []
    assert (rows[0]["PROCESS_ID"], rows[0]["ERROR"]) == ("", "0")
    assert error(rest(app, "event.offline.list", user=27)) == (403, "ACCESS_DENIED")


def test_event_offline_list_pages_by_fifty_and_changes_nothing(app: Installation) -> None:
    """Page event-offline-list: `total`, `next`, no negation."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    for _ in range(120):
        app.portal.delete_message()
    pages = [rest(app, "event.offline.list", start=start)[1] for start in (0, 50, 100)]
    assert [len(page["result"]) for page in pages] == [50, 50, 20]
    assert [page["total"] for page in pages] == [120, 120, 120]
    assert [page.get("next") for page in pages] == [50, 100, None]
    some = result(app, "event.offline.list", filter={"<ID": 3}, order={"ID": "DESC"})
    assert [row["ID"] for row in some] == ["2", "1"]
    wrong = rest(app, "event.offline.list", filter={"!ID": 3})
    assert error(wrong) == (400, "ERROR_ARGUMENT")


def test_event_offline_get_deletes_what_it_returns(app: Installation) -> None:
    """Page event-offline-get: arrays as values of its filter are refused."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    for _ in range(4):
        app.portal.delete_message()
    get = "event.offline.get"
    assert error(rest(app, get, filter={"ID": [1, 2]})) == (400, "ERROR_ARGUMENT")
    assert error(rest(app, get, filter={"PROCESS_ID": ""})) == (400, "ERROR_ARGUMENT")
    one = result(app, get, filter={"ID": 2})
    assert (one["process_id"], [row["ID"] for row in one["events"]]) == (None, ["2"])
    assert "PROCESS_ID" not in one["events"][0]
    result(app, get, filter={"<=ID": "3", "EVENT_NAME": DELETE}, limit=1)
    assert [row["ID"] for row in app.portal.queue(app)] == ["3", "4"]


def test_reserved_rows_are_cleared_under_their_process_id(app: Installation) -> None:
    """Pages event-offline-get and event-offline-clear."""
    result(app, "event.bind", event=DELETE, event_type="offline")
    for _ in range(3):
        app.portal.delete_message()
    get, clear = "event.offline.get", "event.offline.clear"
    batch = result(app, get, clear=0, limit=2)
    assert [row["ID"] for row in batch["events"]] == ["1", "2"]
    process_id = batch["process_id"]
    assert [row["ID"] for row in result(app, get, clear=0)["events"]] == ["3"]
    assert result(app, clear, process_id=process_id, id=[1, 3]) is True
    assert [row["ID"] for row in app.portal.queue(app)] == ["2", "3"]
    again = result(app, get, clear=0, process_id=process_id)
    assert [row["ID"] for row in again["events"]] == ["2"]
    assert result(app, clear, process_id=process_id) is True
    assert [row["ID"] for row in app.portal.queue(app)] == ["3"]
    assert error(rest(app, clear)) == (400, "ERROR_ARGUMENT")


def test_deletions_in_bulk_arrive_one_by_one(app: Installation, handler: Handler) -> None:
    """As many POSTs as messages, concurrently; the stand-in loses none of its own state."""
    result(app, "event.bind", event=DELETE, handler=handler.url)
    result(app, "event.bind", event=DELETE, event_type="offline")
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(app.portal.delete_message) for _ in range(40)]
    ids = {str(one.result()[0].im_message_id) for one in done}
    posted = {body["data"]["DATA"][0]["im"]["message_id"] for body in handler.bodies}
    assert (len(ids), posted) == (40, ids)
    assert [row["ID"] for row in app.portal.queue(app)] == [str(n) for n in range(1, 41)]


def test_an_offline_ping_carries_the_administrators_tokens(
    bitrix: Bitrix24, app: Installation, handler: Handler
) -> None:
    """Bound with `auth_type`, ONOFFLINEEVENT brings a token that may read the queue."""
    ping: Mapping[str, Value] = {"event": "ONOFFLINEEVENT", "handler": handler.url}
    result(app, "event.bind", **ping, auth_type=1, options={"minTimeout": 60})
    result(app, "event.bind", event=DELETE, event_type="offline")
    app.portal.delete_message(user_id=27)
    (body,) = handler.bodies
    assert (body["event"], body["auth"]["user_id"]) == ("ONOFFLINEEVENT", "1")
    assert "data" not in body
    read = {"auth": body["auth"]["access_token"]}
    assert call(app.portal.client_endpoint + "event.offline.list", read)[1]["total"] == 1
    tokens = {body["auth"][name] for name in ("access_token", "refresh_token")}
    assert tokens < set(bitrix.secrets)


def test_event_test_reaches_handlers_bound_to_onapptest(
    app: Installation, handler: Handler
) -> None:
    """Page test-handler: without event.bind of ONAPPTEST nothing is sent."""
    assert result(app, "event.test", any="too early") == 1
    result(app, "event.bind", event="ONAPPTEST", handler=handler.url)
    assert result(app, "event.test", any="data", list=[1, 2]) == 1
    app.portal.wait_for_deliveries(1)
    (body,) = handler.bodies
    assert body["data"]["QUERY"] == {"any": "data", "list": ["1", "2"]}
    assert {"access_token", "refresh_token"} < set(body["auth"])  # by source (inferred)


def test_event_test_misses_a_handler_that_is_bound_after_the_call(handler: Handler) -> None:
    """Receivers are chosen before the answer: once it arrives, the caller may bind."""
    with Bitrix24() as bitrix:
        app = bitrix.add_portal().install()
        url, auth = app.portal.client_endpoint, app.token().access_token

        def bind_before_the_answer(exchange: Exchange, effect: Callable[[], Message]) -> None:
            answer = effect()
            bind: Mapping[str, Value] = {"event": "ONAPPTEST", "handler": handler.url}
            assert call(f"{url}event.bind", {**bind, "auth": auth})[0] == 200
            exchange.write(answer.encode())

        bitrix.fault("event.test", bind_before_the_answer)
        assert result(app, "event.test", any="too early") == 1
        assert result(app, "event.test", any="data") == 1
        app.portal.wait_for_deliveries(1, seconds=30)
    assert [body["data"]["QUERY"] for body in handler.bodies] == [{"any": "data"}]


def test_the_life_of_an_application(app: Installation, handler: Handler) -> None:
    """A new local application has a new application token; an uninstall has no OAuth tokens."""
    app.save_form(handler.url)
    result(app, "event.bind", event="ONAPPUNINSTALL", handler=handler.url)
    app.uninstall(clean=True)
    again = app.delete_and_add()
    assert again.portal.member_id == app.portal.member_id
    assert again.application_token != app.application_token
    install, uninstall = handler.bodies
    assert install["data"] == {
        "VERSION": "1",
        "ACTIVE": "Y",
        "INSTALLED": "Y",
        "LANGUAGE_ID": "en",
    }
    assert {"access_token", "refresh_token", "application_token"} < set(install["auth"])
    assert uninstall["data"]["CLEAN"] == "1"
    assert uninstall["auth"]["application_token"] == app.application_token
    assert "access_token" not in uninstall["auth"]
    ready = parse_str(app.user_ready_event().decode())["data"]
    assert isinstance(ready, Mapping)
    for tokens in (ready, ready["AUTH"]):  # by documentation, and by source
        assert isinstance(tokens, Mapping)
        assert {"access_token", "refresh_token"} < set(tokens)


def test_handler_that_is_down_is_not_retried(app: Installation, handler: Handler) -> None:
    """The failure is only recorded for the test."""
    result(app, "event.bind", event=DELETE, handler="http://127.0.0.1:9/")
    app.portal.delete_message()
    app.portal.delete_message(deliver=False)
    assert [one.status for one in app.portal.deliveries] == [None, None]
    assert "ConnectionRefusedError" in app.portal.deliveries[0].failure
    assert handler.bodies == []


@pytest.mark.parametrize("fault", [HugeBody(), WrongContentType(), TruncatedBody(), LostAnswer()])
def test_some_faults_come_after_the_effect(
    bitrix: Bitrix24, app: Installation, fault: Fault
) -> None:
    """The caller cannot know, but the binding exists."""
    bitrix.fault("event.bind", fault)
    params = {"auth": app.token().access_token, "event": DELETE, "event_type": "offline"}
    url, body = app.portal.client_endpoint + "event.bind", json.dumps(params)
    if isinstance(fault, TruncatedBody | LostAnswer):
        with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
            post(url, body, "application/json")
    else:
        _, content_type, answer = post(url, body, "application/json")
        assert json.loads(answer)["result"] is True
        assert (len(answer) > 1 << 20) == isinstance(fault, HugeBody)
        assert content_type.startswith("text/html") == isinstance(fault, WrongContentType)
    assert len(app.bindings) == 1


@pytest.mark.parametrize("fault", [Silence(), HeaderDrip(), BodyDrip()])
def test_closing_ends_threads_that_are_within_a_fault(fault: Fault) -> None:
    """No thread and no wait outlives the stand-in."""
    threads = active_count()
    with Stopwatch() as watch, Bitrix24() as bitrix:
        app = bitrix.add_portal().install()
        bitrix.fault("profile", fault)
        target = urlsplit(app.portal.client_endpoint + "profile")
        connection = http.client.HTTPConnection(target.netloc, timeout=5)
        auth = json.dumps({"auth": app.token().access_token})
        connection.request("POST", target.path, auth, {"Content-Type": "application/json"})
        while not bitrix.calls:
            sleep(0.01)
    connection.close()
    assert (active_count(), watch.seconds < 5) == (threads, True)


def test_a_connection_closed_before_the_answer_has_no_effect(
    bitrix: Bitrix24, app: Installation
) -> None:
    """Nothing was bound."""
    bitrix.fault("event.bind", Disconnect())
    with pytest.raises(http.client.RemoteDisconnected):
        rest(app, "event.bind", event=DELETE, event_type="offline")
    assert app.bindings == []
