"""Installs that are proven: stored, bound, updated, taken away and added again, in any order."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from handler.tokens import token_digest
from tests.doubles.app import ADDRESS, App, Stage, install_body
from tests.doubles.bitrix24 import (
    HugeBody,
    Installation,
    OtherResult,
    Portal,
    Redirect,
    Refusal,
    Value,
)
from tests.doubles.function import Response
from tests.stopwatch import Stopwatch

DELETE = "ONOPENLINEMESSAGEDELETE"
EVERYTHING = [
    {"event": DELETE, "handler": f"{ADDRESS}/", "auth_type": "0", "offline": 0},
    {"event": DELETE, "connector_id": "", "offline": 1},
    {"event": "ONOFFLINEEVENT", "handler": f"{ADDRESS}/", "auth_type": "1", "offline": 0},
    {"event": "ONAPPUNINSTALL", "handler": f"{ADDRESS}/", "auth_type": "1", "offline": 0},
]
DELETION: Mapping[str, Value] = {
    "CONNECTOR": "myconnector",
    "LINE": 107,
    "DATA": [
        {
            "im": {"chat_id": 1807, "message_id": 86500},
            "message": {"id": "ext-msg-1"},
            "chat": {"id": "channel-123"},
        }
    ],
}
INSTALLED = {"status": "installed", "subscribed": True}


@pytest.fixture(scope="module")
def lasting_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Run one Bitrix24 for all tests."""
    with Stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(lasting_stage: Stage) -> Stage:
    """Set the stage: no faults, no calls yet, and an empty store."""
    lasting_stage.clear()
    return lasting_stage


@pytest.fixture
def portal(stage: Stage) -> Portal:
    """Add the portal that most tests are about."""
    return stage.bitrix.add_portal("ours.bitrix24.com")


@pytest.fixture
def app(stage: Stage) -> App:
    """Start a function that accepts installs of that portal."""
    return stage.start(ALLOWED_PORTALS="ours.bitrix24.com")


def bound(installation: Installation) -> list[dict[str, object]]:
    """Return an application's bindings as event.get shows them."""
    return [
        {"event": one.event, "connector_id": "", "offline": 1}
        if not one.handler
        else {
            "event": one.event,
            "handler": one.handler,
            "auth_type": str(one.user_id),
            "offline": 0,
        }
        for one in installation.bindings
    ]


def install(app: App, installation: Installation) -> Response:
    """Send a genuine install, by an administrator."""
    return app.post(installation.install_event(installation.token()))


def accepts(app: App, installation: Installation) -> bool:
    """Tell whether the application's token is accepted."""
    return app.post(installation.test_event({})).status == 200


def as_json(installation: Installation, **auth: object) -> bytes:
    """Build an install as JSON, with other fields in `auth`."""
    fields = installation.auth(installation.token(), refresh=True) | auth
    return json.dumps({"event": "onappinstall", "data": {}, "auth": fields}).encode()


def test_a_proven_install_is_stored_as_verified_and_bound(
    stage: Stage, portal: Portal, app: App
) -> None:
    """The portal's document holds what the OAuth server confirms, and a digest for its token."""
    installation = portal.install(scope="imopenlines,crm")
    answer = install(app, installation)
    assert (answer.status, answer.json) == (200, INSTALLED)
    document = dict(stage.portal(portal))
    assert document.pop("installed_at") == document.pop("updated_at")
    assert document == {
        "member_id": portal.member_id,
        "domain": "ours.bitrix24.com",
        "client_endpoint": portal.client_endpoint,
        "server_endpoint": portal.server_endpoint,
        "client_id": installation.client_id,
        "status": "L",
        "scope": "imopenlines,crm",
        "token_digests": [token_digest(installation.application_token)],
        "active": True,
    }
    assert list(stage.documents) == [f"portals/{portal.member_id}"]
    assert bound(installation) == EVERYTHING
    assert [one.options for one in installation.bindings] == [None, None, {"minTimeout": 60}, None]
    asked = ["app.info", "profile", "event.get", *["event.bind"] * 4]
    assert [call.method for call in stage.bitrix.calls] == asked
    assert app.log_lines[-1].items() >= {"outcome": "installed", "severity": "INFO"}.items()


def test_the_deletion_event_is_bound_without_auth_type(
    stage: Stage, portal: Portal, app: App
) -> None:
    """With an auth_type, each deletion's user would be the administrator, not whoever deleted."""
    install(app, portal.install())
    binds = [dict(call.params) for call in stage.bitrix.calls_to("event.bind")]
    assert binds == [
        {"event": DELETE, "handler": f"{ADDRESS}/"},
        {"event": DELETE, "event_type": "offline"},
        {
            "event": "ONOFFLINEEVENT",
            "handler": f"{ADDRESS}/",
            "auth_type": 1,
            "options": {"minTimeout": 60},
        },
        {"event": "ONAPPUNINSTALL", "handler": f"{ADDRESS}/", "auth_type": 1},
    ]


def test_an_install_as_json_is_proven_alike(portal: Portal, app: App) -> None:
    """The body's type decides nothing."""
    installation = portal.install()
    assert app.post(as_json(installation), "application/json").json == INSTALLED
    assert accepts(app, installation)


@pytest.mark.parametrize(
    "settings",
    [
        {"ALLOWED_PORTALS": "other.bitrix24.com, OURS.Bitrix24.COM"},
        {"CLIENT_ID": "local.ours"},
        {"CLIENT_ID": "local.ours", "ALLOWED_PORTALS": "other.bitrix24.com"},
        {"CLIENT_ID": "local.other", "ALLOWED_PORTALS": "ours.bitrix24.com"},
    ],
)
def test_either_the_domain_or_the_application_is_enough(
    stage: Stage, settings: dict[str, str]
) -> None:
    """A domain counts in any case: DNS knows none."""
    portal = stage.bitrix.add_portal("Ours.bitrix24.com")
    assert install(stage.start(**settings), portal.install("local.ours")).json == INSTALLED
    assert stage.portal(portal)["domain"] == "ours.bitrix24.com"


@pytest.mark.parametrize("domain", ["ours.bitrix24.com", "ours.bitrix24.ru"])
def test_each_portal_is_proven_by_the_oauth_server_of_its_zone(stage: Stage, domain: str) -> None:
    """Portals in ru, by, kz, uz, am, az, ge and kg belong to oauth.bitrix24.tech."""
    portal = stage.bitrix.add_portal(domain)
    assert install(stage.start(ALLOWED_PORTALS=domain), portal.install()).json == INSTALLED
    (call,) = stage.bitrix.calls_to("app.info")
    server = "/oauth-tech/rest/" if domain.endswith(".ru") else "/oauth/rest/"
    assert call.path == f"{server}app.info"
    assert stage.portal(portal)["server_endpoint"] == f"{stage.bitrix.url}{server}"


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/rest", "{}/rest/"])
def test_the_oauth_server_is_known_with_and_without_its_path(
    stage: Stage, portal: Portal, app: App, form: str
) -> None:
    """`server_endpoint` ends in /rest/, settings do not; hosts count in any case."""
    installation = portal.install()
    named = form.format(stage.bitrix.oauth_url).replace("http", "HTTP")
    body = install_body(installation, installation.token(), server_endpoint=named)
    assert app.post(body).json == INSTALLED


def test_the_request_is_believed_in_nothing_but_its_tokens(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Domain, endpoint, status and scope are stored as the OAuth server knows them."""
    installation = portal.install()
    lies = {
        "domain": "lies.example.com",
        "client_endpoint": "https://lies.example.com/rest/",
        "status": "lies",
        "scope": "lies",
    }
    assert app.post(install_body(installation, installation.token(), **lies)).json == INSTALLED
    assert "lies" not in str(stage.portal(portal))


def app_info(portal: Portal, **install: object) -> OtherResult:
    """Build what app.info may answer for a portal, with other fields in `install`."""
    known = {
        "member_id": portal.member_id,
        "domain": portal.domain,
        "client_endpoint": portal.client_endpoint,
    }
    return OtherResult({"result": {"client_id": "local.1", "install": known | install}})


def test_what_the_oauth_server_does_not_tell_is_absent(
    stage: Stage, portal: Portal, app: App
) -> None:
    """The types of app.info's values are inferred: what is odd and not needed stops nothing."""
    stage.bitrix.fault("app.info", app_info(portal, status=["L"], scope={"a": "b"}))
    assert install(app, portal.install()).json == INSTALLED
    assert not stage.portal(portal).keys() & {"status", "scope"}


def test_a_scope_that_is_a_list_is_stored_as_text(stage: Stage, portal: Portal, app: App) -> None:
    """app.info's scope may be a list; an endpoint without its slash gets it."""
    odd = app_info(
        portal, scope=["imopenlines", "crm"], client_endpoint=portal.client_endpoint.rstrip("/")
    )
    stage.bitrix.fault("app.info", odd)
    assert install(app, portal.install()).json == INSTALLED
    assert stage.portal(portal)["scope"] == "imopenlines,crm"
    assert stage.portal(portal)["client_endpoint"] == portal.client_endpoint


def test_an_update_needs_no_proof_changes_nothing_and_binds_again(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Updating an application keeps its token, and removes its bindings (page event-bind)."""
    installation = portal.install()
    install(app, installation)
    before = dict(stage.portal(portal))
    installation.lose_bindings()
    assert install(app, installation).json == INSTALLED
    after = dict(stage.portal(portal))
    assert after.pop("updated_at") > before.pop("updated_at")  # type: ignore[operator] # timestamps
    assert after == before
    assert len(stage.bitrix.calls_to("app.info")) == 1
    assert bound(installation) == EVERYTHING


def test_what_is_bound_already_is_left_alone(stage: Stage, portal: Portal, app: App) -> None:
    """A handler bound again with another auth_type would be told everything twice."""
    installation = portal.install()
    install(app, installation)
    made = list(installation.bindings)
    assert install(app, installation).json == INSTALLED
    assert installation.bindings == made
    assert len(stage.bitrix.calls_to("event.bind")) == 4


def test_binding_what_somebody_else_has_just_bound_is_fine(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Binding twice is the error ERROR_CORE "Handler already binded" (page event-bind)."""
    installation = portal.install()
    install(app, installation)
    stage.bitrix.fault("event.get", OtherResult({"result": []}))
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING
    assert len(stage.bitrix.calls_to("event.bind")) == 8


def test_an_update_without_a_token_is_accepted_and_tells_what_is_missing(
    portal: Portal, app: App
) -> None:
    """ONAPPINSTALL comes with OAuth tokens usually, not always."""
    installation = portal.install()
    install(app, installation)
    answer = app.post(installation.install_event(None))
    detail = "No event could be bound: the event brought no access token."
    assert answer.json == {"status": "installed", "subscribed": False, "detail": detail}


def test_an_update_of_a_portal_without_endpoint_tells_what_is_missing(
    stage: Stage, portal: Portal, app: App
) -> None:
    """A document with a digest and `active` is enough for events, but nothing can be bound."""
    installation = portal.install()
    digests = [token_digest(installation.application_token)]
    stage.write(f"portals/{portal.member_id}", {"token_digests": digests, "active": True})
    answer = install(app, installation)
    detail = "No event could be bound: the portal was entered by hand, without --endpoint."
    assert answer.json == {"status": "installed", "subscribed": False, "detail": detail}
    assert not stage.bitrix.calls


def test_an_update_by_somebody_else_tells_that_an_administrator_is_needed(
    portal: Portal, app: App
) -> None:
    """Offline events and bindings with auth_type need an administrator's token."""
    installation = portal.install()
    install(app, installation)
    installation.lose_bindings()
    answer = app.post(installation.install_event(installation.token(user_id=27)))
    assert answer.json["subscribed"] is False
    assert answer.json["detail"] == (
        "No event could be bound: the token's user is not an administrator of the portal."
    )
    assert app.log_lines[-1]["message"] == answer.json["detail"]
    assert app.log_lines[-1]["severity"] == "WARNING"
    assert installation.bindings == []


def test_a_missing_permission_is_told_in_plain_words(portal: Portal, app: App) -> None:
    """Without imopenlines the event does not exist: ERROR_EVENT_NOT_FOUND; the others are bound."""
    installation = portal.install(scope="crm")
    answer = install(app, installation)
    why = "the application lacks the permission imopenlines (ERROR_EVENT_NOT_FOUND)"
    assert answer.json == {
        "status": "installed",
        "subscribed": False,
        "detail": f"{DELETE} could not be bound: {why}."
        f" {DELETE} (offline queue) could not be bound: {why}.",
    }
    assert bound(installation) == EVERYTHING[2:]
    assert app.log_lines[-1]["message"] == answer.json["detail"]


def test_a_portal_that_is_asked_too_much_is_asked_slowly(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Bitrix24 does not send an install again, so 503 QUERY_LIMIT_EXCEEDED must not spoil it."""
    installation = portal.install()
    portal.limit_rate(burst=2, per_second=4)
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING
    assert len(stage.bitrix.calls_to("event.bind")) > len(EVERYTHING)


@pytest.mark.parametrize("user", [None, "", "one", "-1", True, [], {}, 1.5, 1e999])
def test_a_profile_without_an_id_is_an_administrators_all_the_same(
    stage: Stage, portal: Portal, app: App, user: object
) -> None:
    """Who it is, app.info tells at first, whatever the request says; an update is believed."""
    installation = portal.install()
    profile = OtherResult({"result": {"ID": user, "ADMIN": True}})
    stage.bitrix.fault("profile", profile, times=None)
    lie = install_body(installation, installation.token(), user_id=27)
    assert app.post(lie).json == INSTALLED
    assert bound(installation) == EVERYTHING
    installation.lose_bindings()
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_what_could_not_be_bound_is_bound_by_the_next_install(
    stage: Stage, portal: Portal, app: App, after: int
) -> None:
    """Whichever of the calls it is that fails."""
    installation = portal.install()
    stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"), after=after)
    answer = install(app, installation)
    assert answer.json["subscribed"] is False
    assert "(INTERNAL_SERVER_ERROR)" in answer.json["detail"]
    assert bound(installation) == EVERYTHING[:after] + EVERYTHING[after + 1 :]
    assert accepts(app, installation)
    assert install(app, installation).json == INSTALLED
    assert sorted(map(str, bound(installation))) == sorted(map(str, EVERYTHING))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Refusal(403, "ACCESS_DENIED"), "not an administrator"),
        (Refusal(401, "expired_token"), "expired"),
        (Redirect("https://elsewhere.example.com/"), "answered with a redirect (HTTP 302)"),
        (HugeBody(), "more than 1048576 bytes"),
    ],
)
def test_an_install_stays_accepted_when_nothing_can_be_bound(
    stage: Stage, portal: Portal, app: App, fault: Refusal, why: str
) -> None:
    """The token is proven, so events count; what is missing can be bound later."""
    installation = portal.install()
    stage.bitrix.fault("event.get", fault)
    answer = install(app, installation)
    assert (answer.status, answer.json["subscribed"]) == (200, False)
    assert answer.json["detail"].startswith("No event could be bound: ")
    assert why in answer.json["detail"]
    assert accepts(app, installation)
    assert installation.bindings == []


@pytest.mark.parametrize("listed", [None, "none", [1, "x", None, {}], {"0": {"event": DELETE}}])
def test_an_odd_list_of_bindings_counts_as_none(
    stage: Stage, portal: Portal, app: App, listed: object
) -> None:
    """What event.get's answer does not show as bound is bound."""
    installation = portal.install()
    stage.bitrix.fault("event.get", OtherResult({"result": listed}))
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING


def test_the_function_url_of_the_settings_is_what_is_bound(stage: Stage, portal: Portal) -> None:
    """Behind a proxy or a domain of its own, the function is called at another address."""
    url = "https://deletions.example.com/bitrix"
    installation = portal.install()
    install(stage.start(ALLOWED_PORTALS=portal.domain, FUNCTION_URL=url), installation)
    assert {one.handler for one in installation.bindings} == {"", url}


def test_the_address_that_was_called_is_bound_as_the_caller_saw_it(
    portal: Portal, app: App
) -> None:
    """Cloud Run ends TLS, and says so in X-Forwarded-Proto; the query is no part of it."""
    installation = portal.install()
    body = installation.install_event(installation.token())
    seen = {"X-Forwarded-Proto": "https"}
    app.post(body, address="http://f.example.com/a/b?c=d", headers=seen)
    assert {one.handler for one in installation.bindings} == {"", "https://f.example.com/a/b"}


@pytest.mark.parametrize(("length", "subscribed"), [(180, True), (181, False)])
def test_an_address_that_event_bind_would_cut_is_not_bound(
    portal: Portal, app: App, length: int, *, subscribed: bool
) -> None:
    """Some versions of event.bind cut a handler after 180 characters."""
    installation = portal.install()
    address = f"{ADDRESS}/".ljust(length, "x")
    answer = app.post(installation.install_event(installation.token()), address=address)
    assert answer.json["subscribed"] is subscribed
    if not subscribed:
        told = "The function's address is longer than 180 characters."
        assert answer.json["detail"] == told
        assert installation.bindings == []


def test_a_reinstalled_application_is_accepted_and_its_uninstall_may_come_late(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Deleted and added again, it has a new token; the old one's uninstall can arrive after it."""
    old = portal.install()
    install(app, old)
    new = old.delete_and_add()
    assert install(app, new).json == INSTALLED
    assert (accepts(app, old), accepts(app, new)) == (True, True)
    digests = [token_digest(one.application_token) for one in (new, old)]
    assert stage.portal(portal)["token_digests"] == digests
    assert app.post(old.uninstall_event()).json == {"status": "uninstalled"}
    assert (accepts(app, old), accepts(app, new)) == (False, True)
    assert stage.portal(portal)["client_id"] == new.client_id


def test_a_reinstalled_application_is_accepted_after_its_uninstall(
    stage: Stage, portal: Portal, app: App
) -> None:
    """The other order: nothing is accepted in between."""
    old = portal.install()
    install(app, old)
    new = old.delete_and_add()
    assert app.post(old.uninstall_event()).json == {"status": "uninstalled"}
    assert stage.portal(portal)["active"] is False
    assert (accepts(app, old), accepts(app, new)) == (False, False)
    assert install(app, new).json == INSTALLED
    assert (accepts(app, old), accepts(app, new)) == (False, True)


def test_only_the_two_newest_tokens_are_accepted(stage: Stage, portal: Portal, app: App) -> None:
    """An uninstall may never arrive, so old tokens go by themselves."""
    first = portal.install()
    install(app, first)
    second = first.delete_and_add()
    install(app, second)
    third = second.delete_and_add()
    install(app, third)
    assert [accepts(app, one) for one in (first, second, third)] == [False, True, True]
    assert len(stage.digests(portal)) == 2


def test_two_installs_at_once_are_both_accepted(stage: Stage, portal: Portal, app: App) -> None:
    """Whoever writes second sees what the first has written."""
    installations = [portal.install(), portal.install()]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda one: install(app, one), installations))
    assert [answer.json for answer in answers] == [INSTALLED, INSTALLED]
    digests = {token_digest(one.application_token) for one in installations}
    assert set(stage.digests(portal)) == digests


@pytest.mark.parametrize(
    ("clean", "asked"),
    [("1", True), (1, True), (True, True), ("0", False), ("", False), ([], False)],
)
def test_an_uninstall_notes_the_wish_to_clean_up_and_deletes_nothing(
    stage: Stage, portal: Portal, app: App, clean: object, *, asked: bool
) -> None:
    """`data[CLEAN]` is 1 when the user asked for it; deleting is left to `portals purge`."""
    installation = portal.install()
    install(app, installation)
    assert app.post(installation.event(DELETE, DELETION)).json["recorded"] == 1
    event = {"event": "ONAPPUNINSTALL", "data": {"CLEAN": clean}, "auth": installation.auth(None)}
    answer = app.post(json.dumps(event).encode(), "application/json")
    assert answer.json == {"status": "uninstalled"}
    assert ("clean_requested_at" in stage.portal(portal)) is asked
    assert len(stage.documents) == 2
    assert install(app, installation).json == INSTALLED
    assert "clean_requested_at" not in stage.portal(portal)


def test_an_uninstall_without_data_counts(stage: Stage, portal: Portal, app: App) -> None:
    """PHP sends no `data` when it is empty."""
    installation = portal.install()
    install(app, installation)
    assert app.post(installation.event("ONAPPUNINSTALL", [])).json == {"status": "uninstalled"}
    assert stage.portal(portal)["active"] is False


def test_an_uninstall_with_no_valid_token_changes_nothing(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Anybody can send one: it is as forbidden as every event of a stranger."""
    installation = portal.install()
    install(app, installation)
    before = stage.documents
    forged = portal.install().uninstall_event()
    assert (app.post(forged).status, stage.documents) == (403, before)
    assert accepts(app, installation)


def test_an_install_is_proven_though_another_instance_uninstalled_the_same_token(
    stage: Stage, portal: Portal, app: App
) -> None:
    """An instance trusts a token for a minute, but not in what changes which are accepted."""
    installation, other = portal.install(), stage.start(ALLOWED_PORTALS=portal.domain)
    install(app, installation)
    assert accepts(other, installation)
    app.post(installation.uninstall_event())
    assert install(other, installation).json == INSTALLED
    assert stage.portal(portal)["active"] is True
    assert accepts(app, installation)


def test_other_events_do_not_make_an_instance_forget_whom_it_trusts(
    stage: Stage, portal: Portal
) -> None:
    """TOKEN_CACHE_SECONDS holds whatever else a portal sends."""
    app = stage.start(ALLOWED_PORTALS=portal.domain)
    installation = portal.install()
    install(app, installation)
    assert accepts(app, installation)
    stage.write(f"portals/{portal.member_id}", {"active": False})
    assert accepts(app, installation)
    assert accepts(app, installation)
    assert install(stage.start(), installation).status == 403


def test_an_install_that_cannot_be_stored_says_so(stage: Stage, portal: Portal) -> None:
    """The proof stands, the store does not: 503, and nothing is bound."""
    app = stage.start(ALLOWED_PORTALS=portal.domain, STORE_DEADLINE_SECONDS="0.3")
    installation = portal.install()
    with closing(sqlite3.connect(stage.store, isolation_level=None)) as somebody_else:
        assert not stage.documents
        somebody_else.execute("BEGIN IMMEDIATE")
        with Stopwatch() as watch:
            answer = install(app, installation)
    assert watch.seconds < 5
    assert (answer.status, answer.json["error"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"] == "10"
    assert stage.bitrix.calls_to("app.info")
    assert installation.bindings == []


def test_what_people_noted_in_a_portals_document_stays(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Fields that the function does not know are none of its business."""
    stage.write(f"portals/{portal.member_id}", {"note": "ask Ann", "domain": "old.example.com"})
    install(app, portal.install())
    assert stage.portal(portal)["note"] == "ask Ann"
    assert stage.portal(portal)["domain"] == "ours.bitrix24.com"


def test_the_data_of_events_that_are_not_for_the_function_is_kept_nowhere(
    stage: Stage, portal: Portal, app: App
) -> None:
    """ONAPPUSERREADY brings OAuth tokens within `data`; the stage searches for them."""
    installation = portal.install()
    install(app, installation)
    before = stage.documents
    for body, event in [
        (installation.user_ready_event(), "ONAPPUSERREADY"),
        (installation.event("ONCRMLEADADD", {"FIELDS": {"NAME": "confidential"}}), "ONCRMLEADADD"),
    ]:
        answer = app.post(body)
        assert (answer.status, answer.json) == (200, {"status": "ignored", "event": event})
    assert stage.documents == before
    assert "confidential" not in app.log


def test_the_probe_that_event_test_sends_is_answered(portal: Portal, app: App) -> None:
    """ONAPPTEST comes through the real queue, with what was passed to event.test as QUERY."""
    installation = portal.install()
    install(app, installation)
    answer = app.post(installation.test_event({"any": "confidential"}))
    assert (answer.status, answer.json) == (200, {"status": "ok", "event": "ONAPPTEST"})
    assert "confidential" not in app.log
