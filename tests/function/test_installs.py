"""Installs that are proven: stored, bound, updated, taken away and added again, in any order."""

import json
from collections.abc import Mapping

import pytest

from handler.bitrix24.rest import Rest
from handler.deadline import Deadline
from handler.tokens import token_digest
from tests.doubles.app import ADDRESS, App, Stage, app_info, install_body
from tests.doubles.bitrix24 import (
    BINDING_BUSY,
    HugeBody,
    Installation,
    OtherResult,
    Portal,
    Redirect,
    Refusal,
    Value,
)
from tests.doubles.function import Response

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
    assert {"checked_at", "drained_at"} < set(document)  # its queue is new, so it is empty
    del document["checked_at"], document["drained_at"]
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
        "bound_as": 1,
    }
    assert list(stage.documents) == [f"portals/{portal.member_id}"]
    assert bound(installation) == EVERYTHING
    assert [one.options for one in installation.bindings] == [None, None, {"minTimeout": 60}, None]
    asked = ["app.info", "profile", "event.get", *["event.bind"] * 4]
    assert [call.method for call in stage.bitrix.calls] == asked
    # With an auth_type, each deletion's user would be the administrator, not whoever deleted.
    assert "auth_type" not in stage.bitrix.calls_to("event.bind")[0].params
    assert app.log_lines[-1].items() >= {"outcome": "installed", "severity": "INFO"}.items()


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


def test_a_reinstall_is_proven_again_and_binds_again(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Updating an application keeps its token, and removes its bindings (page event-bind)."""
    installation = portal.install()
    install(app, installation)
    before = dict(stage.portal(portal))
    installation.lose_bindings()
    assert install(app, installation).json == INSTALLED
    after = dict(stage.portal(portal))
    for moved_on in ("updated_at", "checked_at", "drained_at"):
        assert after.pop(moved_on) > before.pop(moved_on)  # type: ignore[operator] # timestamps
    assert after == before
    assert len(stage.bitrix.calls_to("app.info")) == 2
    assert bound(installation) == EVERYTHING


def test_a_reinstall_stores_anew_all_that_is_confirmed(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Such as where the portal is, what the application may, and a portal that was by hand."""
    installation = portal.install(scope="imopenlines,crm")
    install(app, installation)
    known = stage.portal(portal)
    stale = {"domain": "old.bitrix24.com", "client_endpoint": "https://old.example.com/rest/"}
    odd = {"server_endpoint": "https://old.example.com/", "scope": "crm", "status": "T"}
    stage.write(f"portals/{portal.member_id}", {**stale, **odd, "problem": "Any."})
    assert install(app, installation).json == INSTALLED
    after = stage.portal(portal)
    names = {*stale, *odd}
    assert {name: known[name] for name in names} == {name: after[name] for name in names}
    assert "problem" not in after
    assert app.log_lines[-2].items() >= {"outcome": "portal_well", "severity": "INFO"}.items()


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


@pytest.mark.parametrize(
    ("settings", "user", "why"),
    [
        ({"ALLOWED_PORTALS": "ours.bitrix24.com"}, None, "has no access_token"),
        ({"ALLOWED_PORTALS": "ours.bitrix24.com"}, 27, "is not an administrator of the portal"),
        ({}, 1, "No installs are accepted. Set ALLOWED_PORTALS"),
        ({"CLIENT_ID": "local.other"}, 1, "client_id is not CLIENT_ID"),
    ],
)
def test_a_reinstall_that_is_not_proven_changes_only_when_it_was_updated(
    stage: Stage, portal: Portal, settings: dict[str, str], user: int | None, why: str
) -> None:
    """Its token is known, so it is told why, and events go on being accepted."""
    app = stage.start(ALLOWED_PORTALS=portal.domain)
    installation = portal.install()
    install(app, installation)
    before = dict(stage.portal(portal))
    installation.lose_bindings()
    token = installation.token(user) if user else None
    other = stage.start(**settings)
    answer = other.post(installation.install_event(token))
    assert (answer.status, answer.json["subscribed"]) == (200, False)
    assert why in answer.json["detail"]
    assert "Reinstall" in answer.json["detail"]
    assert other.log_lines[-1]["message"] == answer.json["detail"]
    assert other.log_lines[-1]["severity"] == "WARNING"
    after = dict(stage.portal(portal))
    assert after.pop("updated_at") > before.pop("updated_at")  # type: ignore[operator] # timestamps
    assert after == before
    assert installation.bindings == []
    assert accepts(app, installation)


def test_a_portal_that_was_entered_by_hand_is_known_whole_after_a_reinstall(
    stage: Stage, portal: Portal, app: App
) -> None:
    """A document with a digest and `active` is enough for events; the rest is proven."""
    installation = portal.install()
    digests = [token_digest(installation.application_token)]
    stage.write(f"portals/{portal.member_id}", {"token_digests": digests, "active": True})
    assert install(app, installation).json == INSTALLED
    assert stage.portal(portal)["client_endpoint"] == portal.client_endpoint
    assert bound(installation) == EVERYTHING


class TestAllowedOnce:
    """ALLOWED_PORTALS counts once: a portal may be renamed, its member_id stays."""

    @pytest.fixture
    def renamed(self, portal: Portal, app: App) -> Installation:
        """Install the application, and rename the portal."""
        installation = portal.install("local.ours")
        install(app, installation)
        portal.domain = "renamed.bitrix24.com"
        return installation

    def test_a_renamed_portal_is_known(
        self, stage: Stage, portal: Portal, app: App, renamed: Installation
    ) -> None:
        """By its member_id: with its old token, and with that of an application added anew."""
        assert install(app, renamed).json == INSTALLED
        assert stage.portal(portal)["domain"] == "renamed.bitrix24.com"
        added_anew = renamed.delete_and_add()
        assert install(app, added_anew).json == INSTALLED
        assert stage.portal(portal)["client_id"] == added_anew.client_id

    def test_a_portal_that_was_removed_is_not(
        self, stage: Stage, portal: Portal, app: App, renamed: Installation
    ) -> None:
        """`portals remove` ends it; then only the setting counts."""
        removed = {"active": False, "removed_at": stage.portal(portal)["updated_at"]}
        stage.write(f"portals/{portal.member_id}", removed)
        assert install(app, renamed).status == 403
        portal.domain = "ours.bitrix24.com"
        assert install(app, renamed).json == INSTALLED
        assert "removed_at" not in stage.portal(portal)

    @pytest.mark.parametrize(
        ("settings", "accepted"),
        [
            ({"CLIENT_ID": "local.other"}, False),
            ({"CLIENT_ID": "local.ours"}, True),
            ({"CLIENT_ID": "local.other", "ALLOWED_PORTALS": "another.bitrix24.com"}, True),
        ],
    )
    def test_where_only_the_application_counts_it_must_still_be_the_one(
        self, stage: Stage, renamed: Installation, settings: dict[str, str], *, accepted: bool
    ) -> None:
        """CLIENT_ID alone knows no portals."""
        answer = install(stage.start(**settings), renamed)
        assert answer.json["subscribed"] is accepted

    def test_another_application_of_a_portal_that_client_id_let_in_is_refused(
        self, stage: Stage
    ) -> None:
        """A stranger's portal was accepted for one application, and not for all of its own."""
        strange = stage.bitrix.add_portal("strange.bitrix24.com")
        app = stage.start(CLIENT_ID="app.ours", ALLOWED_PORTALS="ours.bitrix24.com")
        assert install(app, strange.install("app.ours")).json == INSTALLED
        assert install(app, strange.install("local.theirs")).status == 403


@pytest.mark.parametrize("domain", ["ours.bitrix24.com", "ours.bitrix24.ru"])
@pytest.mark.parametrize("named", [None, "", ["x"]])
def test_without_a_server_endpoint_both_oauth_servers_may_be_asked(
    stage: Stage, domain: str, named: Value
) -> None:
    """A portal with a domain of its own may not tell its server; both hosts are fixed."""
    portal = stage.bitrix.add_portal(domain)
    installation = portal.install()
    body = install_body(installation, installation.token(), server_endpoint=named)
    assert stage.start(ALLOWED_PORTALS=domain).post(body).json == INSTALLED
    assert stage.portal(portal)["server_endpoint"] == portal.server_endpoint


def test_the_queue_is_drained_by_a_reinstall(stage: Stage, portal: Portal, app: App) -> None:
    """What the function missed while it was not known where the portal is comes at once."""
    installation = portal.install()
    install(app, installation)
    portal.delete_message("one", "two", deliver=False)
    assert install(app, installation).json == INSTALLED
    assert portal.queue(installation) == []
    assert sum("/deletions/" in path for path in stage.documents) == 2


def test_a_reinstall_by_another_administrator_takes_the_bindings_over(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Bound first as the new one, then unbound as the former: nothing is missed in between."""
    installation = portal.install()
    install(app, installation)
    portal.administrators.add(7)
    stage.bitrix.calls.clear()
    assert app.post(installation.install_event(installation.token(7))).json == INSTALLED
    theirs = [
        {**one, "auth_type": "7"} if one.get("auth_type") == "1" else one for one in EVERYTHING
    ]
    assert sorted(map(str, bound(installation))) == sorted(map(str, theirs))
    assert stage.portal(portal)["bound_as"] == 7
    changes = [call for call in stage.bitrix.calls if call.method.endswith("bind")]
    assert [call.method for call in changes] == ["event.bind"] * 2 + ["event.unbind"] * 2
    assert [call.params["auth_type"] for call in changes] == [7, 7, 1, 1]


@pytest.mark.parametrize("stale", [f"{ADDRESS}", f"{ADDRESS}//", f"{ADDRESS}/%2F"])
def test_another_spelling_of_the_address_is_unbound_and_other_hosts_are_left(
    portal: Portal, app: App, stale: str
) -> None:
    """Each would deliver everything twice; what is bound elsewhere is another program's."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    for handler in (stale, "https://other.example.com/hook"):
        rest.call("event.bind", event=DELETE, handler=handler)
    assert install(app, installation).json == INSTALLED
    handlers = [one.handler for one in installation.bindings if one.event == DELETE]
    assert sorted(handlers) == ["", f"{ADDRESS}/", "https://other.example.com/hook"]
    assert app.log_lines[-1]["other_hosts"] == ["other.example.com"]


def test_what_is_stale_stays_where_nothing_could_be_bound_in_its_place(
    stage: Stage, portal: Portal, app: App
) -> None:
    """It does at least some of the work."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    rest.call("event.bind", event=DELETE, handler=ADDRESS)
    stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
    assert install(app, installation).json["subscribed"] is False
    assert ADDRESS in [one.handler for one in installation.bindings]


def test_what_cannot_be_unbound_is_told(stage: Stage, portal: Portal, app: App) -> None:
    """Everything is delivered twice then, which does no harm, but costs."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    rest.call("event.bind", event=DELETE, handler=ADDRESS)
    stage.bitrix.fault("event.unbind", Refusal(500, "INTERNAL_SERVER_ERROR"))
    told = (
        "ONOPENLINEMESSAGEDELETE is bound twice, and could not be unbound: event.unbind was refused"
    )
    assert install(app, installation).json["detail"].startswith(told)


@pytest.mark.parametrize(("times", "subscribed"), [(2, True), (3, False)])
def test_a_bind_that_meets_another_one_is_made_again(
    stage: Stage, portal: Portal, app: App, times: int, *, subscribed: bool
) -> None:
    """Binds of one handler exclude each other, as when two events are bound at once."""
    stage.bitrix.fault("event.bind", BINDING_BUSY, times=times)
    assert install(app, portal.install()).json["subscribed"] is subscribed
    assert ("problem" in stage.portal(portal)) is not subscribed


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


@pytest.mark.parametrize("target", ["/a/b", "/a%20b/%2Fc/", "/a?b=c%20d&e", "/"])
def test_the_address_that_was_called_is_bound_as_the_caller_saw_it(
    portal: Portal, app: App, target: str
) -> None:
    """Cloud Run ends TLS, and says so in X-Forwarded-Proto; a path is not spelled anew."""
    installation = portal.install()
    body = installation.install_event(installation.token())
    seen = {"X-Forwarded-Proto": "https"}
    app.post(body, address=f"http://f.example.com{target}", headers=seen)
    handlers = {one.handler for one in installation.bindings}
    assert handlers == {"", f"https://f.example.com{target}"}


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
        told = "The function's URL is longer than 180 characters."
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
