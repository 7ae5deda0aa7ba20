"""Verified installs: stored, bound, updated, removed and added again, in any order."""

import json
import os
import threading
import time
from collections.abc import Callable
from io import StringIO

import pytest

from handler.bitrix24 import portal_problems as problems
from handler.bitrix24.application import Application
from handler.bitrix24.rest import Rest
from handler.bitrix24.subscription import subscribe
from handler.commands import main
from handler.deadline import Deadline
from handler.events.body import FORM, decode_body
from handler.events.envelope import Event, parse_event
from handler.log import Log
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Document, Fields, Store
from handler.stores.sqlite import LocalStore
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
    Silence,
    Value,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.function import Response
from tests.doubles.memory_store import NOW
from tests.samples import in_portal

DELETE = "ONOPENLINEMESSAGEDELETE"
EVERYTHING = [
    {"event": DELETE, "handler": f"{ADDRESS}/", "auth_type": "0", "offline": 0},
    {"event": DELETE, "connector_id": "", "offline": 1},
    {"event": "ONOFFLINEEVENT", "handler": f"{ADDRESS}/", "auth_type": "1", "offline": 0},
    {"event": "ONAPPUNINSTALL", "handler": f"{ADDRESS}/", "auth_type": "1", "offline": 0},
]
INSTALLED = {"status": "installed", "subscribed": True}


def bound(installation: Installation) -> list[dict[str, object]]:
    """Return an application's bindings as listed by event.get."""
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


def application(
    stage: Stage, portal: Portal, store: Store, clock: Callable[[], float] = time.monotonic
) -> Application:
    """Return what answers the application's events, with a store and a clock of the test's own."""
    servers = tuple(stage.bitrix.oauth_servers.split(","))
    settings = Settings(allowed_portals=frozenset({portal.domain}), oauth_servers=servers)
    return Application(
        settings,
        lambda: store,
        Recorder(lambda: store, settings, lambda: NOW),
        proofs=threading.Semaphore(),
        waiting=threading.Semaphore(),
        now=lambda: NOW,
        clock=clock,
    )


def remove(app: App, portal: Portal) -> None:
    """Remove a portal by `portals remove`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {"STORE": "local", "LOCAL_STORE_PATH": str(app.store)})
        assert main(["portals", "remove", portal.member_id]) == 0


def accepts(app: App, installation: Installation) -> bool:
    """Return whether the application's token is accepted."""
    return app.post(installation.test_event({})).status == 200


def as_json(installation: Installation, **auth: object) -> bytes:
    """Build an install as JSON, with other fields in `auth`."""
    fields = installation.auth(installation.token(), refresh=True) | auth
    return json.dumps({"event": "onappinstall", "data": {}, "auth": fields}).encode()


def test_verified_install_is_stored_and_bound(stage: Stage, portal: Portal, app: App) -> None:
    """The portal's document has what the OAuth server confirms, and a digest of its token."""
    installation = portal.install(scope="imopenlines,crm")
    answer = install(app, installation)
    assert (answer.status, answer.json) == (200, INSTALLED)
    document = dict(stage.portal(portal))
    assert document.pop("installed_at") == document.pop("updated_at")
    assert {"checked_at", "drained_at"} < set(document)  # its queue is new and therefore empty
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
        "allowed": True,
        "bound_as": 1,
    }
    assert list(stage.documents) == [f"portals/{portal.member_id}"]
    assert bound(installation) == EVERYTHING
    assert [one.options for one in installation.bindings] == [None, None, {"minTimeout": 60}, None]
    asked = ["app.info", "profile", "event.get", *["event.bind"] * 4]
    assert [call.method for call in stage.bitrix.calls] == asked
    # With an auth_type, each deletion's user would be the administrator, not the one who deleted.
    assert "auth_type" not in stage.bitrix.calls_to("event.bind")[0].params
    assert app.log_lines[-1].items() >= {"outcome": "installed", "severity": "INFO"}.items()


def test_install_as_json_is_verified_in_the_same_way(portal: Portal, app: App) -> None:
    """The body's type does not matter."""
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
    """A domain is case-insensitive, as in DNS."""
    portal = stage.bitrix.add_portal("Ours.bitrix24.com")
    assert install(stage.start(**settings), portal.install("local.ours")).json == INSTALLED
    assert stage.portal(portal)["domain"] == "ours.bitrix24.com"


@pytest.mark.parametrize("domain", ["ours.bitrix24.com", "ours.bitrix24.ru"])
def test_each_portal_is_verified_by_the_oauth_server_of_its_zone(stage: Stage, domain: str) -> None:
    """Portals in ru, by, kz, uz, am, az, ge and kg belong to oauth.bitrix24.tech."""
    portal = stage.bitrix.add_portal(domain)
    assert install(stage.start(ALLOWED_PORTALS=domain), portal.install()).json == INSTALLED
    (call,) = stage.bitrix.calls_to("app.info")
    server = "/oauth.tech/rest/" if domain.endswith(".ru") else "/oauth/rest/"
    assert call.path == f"{server}app.info"
    assert stage.portal(portal)["server_endpoint"] == f"{stage.bitrix.url}{server}"


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/rest", "{}/rest/"])
def test_oauth_server_is_recognised_with_and_without_its_path(
    stage: Stage, portal: Portal, app: App, form: str
) -> None:
    """`server_endpoint` ends in /rest/, settings do not; hosts are case-insensitive."""
    installation = portal.install()
    named = form.format(stage.bitrix.oauth_url).replace("http", "HTTP")
    body = install_body(installation, installation.token(), server_endpoint=named)
    assert app.post(body).json == INSTALLED


def test_only_the_tokens_in_a_request_are_trusted(stage: Stage, portal: Portal, app: App) -> None:
    """Domain, endpoint, status and scope are stored as the OAuth server has them."""
    installation = portal.install()
    lies = {
        "domain": "lies.example.com",
        "client_endpoint": "https://lies.example.com/rest/",
        "status": "lies",
        "scope": "lies",
    }
    assert app.post(install_body(installation, installation.token(), **lies)).json == INSTALLED
    assert "lies" not in str(stage.portal(portal))


def test_fields_missing_at_the_oauth_server_are_absent(
    stage: Stage, portal: Portal, app: App
) -> None:
    """The types of app.info's values are inferred: invalid optional ones are ignored."""
    stage.bitrix.fault("app.info", app_info(portal, status=["L"], scope={"a": "b"}))
    assert install(app, portal.install()).json == INSTALLED
    assert not stage.portal(portal).keys() & {"status", "scope"}


def test_a_scope_that_is_a_list_is_stored_as_text(stage: Stage, portal: Portal, app: App) -> None:
    """app.info's scope may be a list; an endpoint without a slash gets one."""
    odd = app_info(
        portal, scope=["imopenlines", "crm"], client_endpoint=portal.client_endpoint.rstrip("/")
    )
    stage.bitrix.fault("app.info", odd)
    assert install(app, portal.install()).json == INSTALLED
    assert stage.portal(portal)["scope"] == "imopenlines,crm"
    assert stage.portal(portal)["client_endpoint"] == portal.client_endpoint


def test_reinstall_is_verified_and_binds_again(stage: Stage, portal: Portal, app: App) -> None:
    """Updating an application keeps its token, and removes its bindings (page event-bind)."""
    installation = portal.install()
    install(app, installation)
    before = dict(stage.portal(portal))
    installation.lose_bindings()
    assert install(app, installation).json == INSTALLED
    after = dict(stage.portal(portal))
    for moved_on in ("updated_at", "checked_at", "drained_at"):
        assert after.pop(moved_on) > before.pop(moved_on)  # type: ignore[operator] # timestamps
    assert after.pop("calls_until")  # the queue was read
    assert after == before
    assert len(stage.bitrix.calls_to("app.info")) == 2
    assert bound(installation) == EVERYTHING


def test_reinstall_reads_the_queue_of_a_binding_that_seems_to_be_lost(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Earlier rows are still there, and `event.get` may even have been wrong."""
    installation = portal.install()
    install(app, installation)
    (deletion,) = portal.delete_message(deliver=False)
    stage.bitrix.fault("event.get", OtherResult({"result": None}))
    assert install(app, installation).json == INSTALLED
    assert portal.queue(installation) == []
    (record,) = [fields for path, fields in stage.documents.items() if "/deletions/" in path]
    assert record["im_message_id"] == deletion.im_message_id


def test_reinstall_updates_all_confirmed_fields(stage: Stage, portal: Portal, app: App) -> None:
    """Such as the address, the scope, and a portal entered by hand."""
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


def test_existing_bindings_are_left_alone(stage: Stage, portal: Portal, app: App) -> None:
    """A handler bound again with another auth_type would get everything twice."""
    installation = portal.install()
    install(app, installation)
    made = list(installation.bindings)
    assert install(app, installation).json == INSTALLED
    assert installation.bindings == made
    assert len(stage.bitrix.calls_to("event.bind")) == 4


def test_concurrent_identical_binding_is_fine(stage: Stage, portal: Portal, app: App) -> None:
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
def test_unverified_reinstall_changes_only_updated_at(
    stage: Stage, portal: Portal, settings: dict[str, str], user: int | None, why: str
) -> None:
    """Its token is known, so the answer says why, and events stay accepted."""
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


def test_reinstall_completes_a_portal_entered_by_hand(
    stage: Stage, portal: Portal, app: App
) -> None:
    """A digest and `active` are enough for events; the rest needs verification."""
    installation = portal.install()
    digests = [token_digest(installation.application_token)]
    stage.write(f"portals/{portal.member_id}", {"token_digests": digests, "active": True})
    assert install(app, installation).json == INSTALLED
    assert stage.portal(portal)["client_endpoint"] == portal.client_endpoint
    assert bound(installation) == EVERYTHING


class TestAllowedOnce:
    """ALLOWED_PORTALS is checked once: a portal may be renamed, but its member_id stays."""

    @pytest.fixture
    def renamed(self, portal: Portal, app: App) -> Installation:
        """Install the application, and rename the portal."""
        installation = portal.install("local.ours")
        install(app, installation)
        portal.domain = "renamed.bitrix24.com"
        return installation

    def test_renamed_portal_is_recognised(
        self, stage: Stage, portal: Portal, app: App, renamed: Installation
    ) -> None:
        """By its member_id: with its old token, and with that of an application added again."""
        assert install(app, renamed).json == INSTALLED
        assert stage.portal(portal)["domain"] == "renamed.bitrix24.com"
        added_anew = renamed.delete_and_add()
        assert install(app, added_anew).json == INSTALLED
        assert stage.portal(portal)["client_id"] == added_anew.client_id

    def test_removed_portal_is_not_recognised(
        self, stage: Stage, portal: Portal, app: App, renamed: Installation
    ) -> None:
        """After `portals remove`, only the setting counts."""
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
    def test_client_id_alone_is_always_checked(
        self, stage: Stage, renamed: Installation, settings: dict[str, str], *, accepted: bool
    ) -> None:
        """It does not accept portals, only the application."""
        answer = install(stage.start(**settings), renamed)
        assert answer.json["subscribed"] is accepted

    def test_client_id_accepts_no_other_application_of_a_portal(self, stage: Stage) -> None:
        """The portal was accepted for one application only."""
        strange = stage.bitrix.add_portal("strange.bitrix24.com")
        app = stage.start(CLIENT_ID="app.ours", ALLOWED_PORTALS="ours.bitrix24.com")
        assert install(app, strange.install("app.ours")).json == INSTALLED
        assert install(app, strange.install("local.theirs")).status == 403
        # Nor after another application has taken its place in the settings.
        app = stage.start(CLIENT_ID="app.new", ALLOWED_PORTALS="ours.bitrix24.com")
        assert install(app, strange.install("local.theirs")).status == 403
        assert stage.portal(strange)["allowed"] is False

    def test_an_allowed_portal_stays_so_when_its_application_is_named(
        self, stage: Stage, renamed: Installation
    ) -> None:
        """CLIENT_ID was set later, to the application that was installed."""
        app = stage.start(CLIENT_ID="local.ours", ALLOWED_PORTALS="another.bitrix24.com")
        assert install(app, renamed).json == INSTALLED
        added_anew = renamed.delete_and_add()
        assert install(app, added_anew).json == INSTALLED

    def test_a_portal_entered_by_hand_is_not_recognised(self, stage: Stage, portal: Portal) -> None:
        """No setting accepted it."""
        stage.write(f"portals/{portal.member_id}", {"token_digests": ["d"], "active": True})
        app = stage.start(ALLOWED_PORTALS="another.bitrix24.com")
        assert install(app, portal.install()).status == 403

    @pytest.mark.parametrize(
        ("client_id", "allowed", "accepted"),
        [
            ("local.other", "another.bitrix24.com", True),
            ("local.ours", "another.bitrix24.com", False),
            ("local.ours", "ours.bitrix24.com", True),
        ],
    )
    def test_a_portal_of_an_earlier_version_is_judged_by_its_application(
        self, stage: Stage, renamed: Installation, client_id: str, allowed: str, *, accepted: bool
    ) -> None:
        """It does not say which setting accepted it."""
        path = f"portals/{renamed.portal.member_id}"
        fields = {name: one for name, one in stage.documents[path].items() if name != "allowed"}
        stage.replace(path, fields)
        app = stage.start(CLIENT_ID=client_id, ALLOWED_PORTALS=allowed)
        answer = install(app, renamed.delete_and_add())
        assert answer.status == (200 if accepted else 403)


@pytest.mark.parametrize("domain", ["ours.bitrix24.com", "ours.bitrix24.ru"])
@pytest.mark.parametrize("named", [None, "", ["x"]])
def test_without_a_server_endpoint_both_oauth_servers_may_be_asked(
    stage: Stage, domain: str, named: Value
) -> None:
    """A portal with its own domain may not name its server; both hosts are fixed."""
    portal = stage.bitrix.add_portal(domain)
    installation = portal.install()
    body = install_body(installation, installation.token(), server_endpoint=named)
    assert stage.start(ALLOWED_PORTALS=domain).post(body).json == INSTALLED
    assert stage.portal(portal)["server_endpoint"] == portal.server_endpoint
    assert len(stage.bitrix.calls_to("app.info")) == 1  # first at the server of its zone


@pytest.mark.parametrize("hangs", [False, True])
def test_without_a_server_endpoint_the_other_oauth_server_is_asked_next(
    stage: Stage, *, hangs: bool
) -> None:
    """A portal's own domain does not show its zone; the first server may hang, too."""
    portal = stage.bitrix.add_portal("ours.bitrix24.ru")
    if hangs:
        stage.bitrix.fault("app.info", Silence())
    installation = portal.install()
    token = installation.token()
    body = install_body(installation, token, server_endpoint=None, domain="crm.example.com")
    assert stage.start(ALLOWED_PORTALS=portal.domain).post(body).json == INSTALLED
    first, second = (call.path for call in stage.bitrix.calls_to("app.info"))
    assert (first, second) == ("/oauth/rest/app.info", "/oauth.tech/rest/app.info")


def test_reinstall_by_another_administrator_replaces_the_bindings(
    stage: Stage, portal: Portal, app: App
) -> None:
    """First bound as the new one, then unbound as the old one: nothing is missed in between."""
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


def test_offline_binding_of_one_connector_does_not_count(
    stage: Stage, portal: Portal, app: App
) -> None:
    """It was made with an `auth_connector`; the function's own has none."""
    installation = portal.install()
    install(app, installation)
    listed = [{**one, "connector_id": "x"} if one["offline"] else one for one in EVERYTHING]
    stage.bitrix.fault("event.get", OtherResult({"result": listed}))
    installation.lose_bindings(DELETE)
    assert install(app, installation).json == INSTALLED
    assert {"event": DELETE, "connector_id": "", "offline": 1} in bound(installation)


@pytest.mark.parametrize("stale", [f"{ADDRESS}", f"{ADDRESS}//", f"{ADDRESS}/%2F"])
def test_other_spellings_of_the_url_are_unbound_and_other_hosts_are_left(
    portal: Portal, app: App, stale: str
) -> None:
    """Other spellings would deliver everything twice; other hosts belong to other programs."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    for handler in (stale, "https://other.example.com/hook"):
        rest.call("event.bind", event=DELETE, handler=handler)
    assert install(app, installation).json == INSTALLED
    handlers = [one.handler for one in installation.bindings if one.event == DELETE]
    assert sorted(handlers) == ["", f"{ADDRESS}/", "https://other.example.com/hook"]
    assert app.log_lines[-1]["other_hosts"] == ["other.example.com"]


def test_only_ten_plausible_hosts_without_the_token_are_logged(
    stage: Stage, portal: Portal, app: App
) -> None:
    """A portal could list any number of bindings, with anything in them."""
    installation = portal.install()
    token = installation.token()
    secret = "x-" * 9
    hosts = [
        *(token.access_token, f"{installation.application_token}.com", "a" * 64, "a." * 127 + "aa"),
        *("<b>", "a b", "[::1]", "é" * 64, "", *(f"b{number:02}.com" for number in range(11))),
    ]
    bindings = [{"event": "X", "handler": f"https://{host}/"} for host in hosts]
    stage.bitrix.fault("event.get", OtherResult({"result": bindings}))
    assert app.post(installation.install_event(token)).status == 200
    assert app.log_lines[-1]["other_hosts"] == [f"b{number:02}.com" for number in range(10)]
    names = {name: f"{name}.example.com" for name in (f"A{secret}", "b")}
    listed = [{"event": "X", "handler": f"https://{name}/"} for name in names.values()]
    stage.bitrix.fault("event.get", OtherResult({"result": listed}))
    rest = Rest(portal.client_endpoint, secret, Deadline(9))
    assert subscribe(rest, [], f"{ADDRESS}/", 1).other_hosts == ["b.example.com"]


def test_stale_binding_stays_if_its_replacement_fails(
    stage: Stage, portal: Portal, app: App
) -> None:
    """It is better than none; the others are removed."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    for event in (DELETE, "ONAPPUNINSTALL"):
        rest.call("event.bind", event=event, handler=ADDRESS)
    stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
    assert install(app, installation).json["subscribed"] is False
    stale = {"event": DELETE, "handler": ADDRESS, "auth_type": "0", "offline": 0}
    assert bound(installation) == [stale, *EVERYTHING[1:]]


def test_binding_that_the_portal_takes_for_the_new_one_stays(
    stage: Stage, portal: Portal, app: App
) -> None:
    """It may compare URLs less exactly; without the listed one, no event would arrive."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    rest.call("event.bind", event=DELETE, handler=ADDRESS)
    refusal = Refusal(400, "ERROR_CORE", "Unable to set event handler: Handler already binded")
    stage.bitrix.fault("event.bind", refusal)
    assert install(app, installation).json == INSTALLED
    listed = {"event": DELETE, "handler": ADDRESS, "auth_type": "0", "offline": 0}
    assert bound(installation) == [listed, *EVERYTHING[1:]]


def test_failed_unbinding_is_reported(stage: Stage, portal: Portal, app: App) -> None:
    """Everything is then delivered twice, which is harmless but costs."""
    installation = portal.install()
    rest = Rest(portal.client_endpoint, installation.token().access_token, Deadline(9))
    rest.call("event.bind", event=DELETE, handler=ADDRESS)
    stage.bitrix.fault("event.unbind", Refusal(500, "INTERNAL_SERVER_ERROR"))
    told = (
        "A stale binding of ONOPENLINEMESSAGEDELETE could not be removed: event.unbind was refused"
    )
    assert install(app, installation).json["detail"].startswith(told)


@pytest.mark.parametrize(("times", "subscribed"), [(2, True), (3, False)])
def test_busy_bind_is_retried(
    stage: Stage, portal: Portal, app: App, times: int, *, subscribed: bool
) -> None:
    """Binds of one handler exclude each other, even for two events."""
    stage.bitrix.fault("event.bind", BINDING_BUSY, times=times)
    assert install(app, portal.install()).json["subscribed"] is subscribed
    assert ("problem" in stage.portal(portal)) is not subscribed


def test_missing_permission_is_explained(portal: Portal, app: App) -> None:
    """Without imopenlines, the event does not exist: ERROR_EVENT_NOT_FOUND; others are bound."""
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


def test_rate_limited_install_is_slowed_down(stage: Stage, portal: Portal, app: App) -> None:
    """Bitrix24 does not resend an install, so 503 QUERY_LIMIT_EXCEEDED must not fail it."""
    installation = portal.install()
    portal.limit_rate(burst=2, per_second=4)
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING
    assert len(stage.bitrix.calls_to("event.bind")) > len(EVERYTHING)


@pytest.mark.parametrize("user", [None, "", "one", "-1", True, [], {}, 1.5, 1e999, 2**63])
def test_administrators_profile_may_lack_an_id(
    stage: Stage, portal: Portal, app: App, user: object
) -> None:
    """The id then comes from app.info, never from the request."""
    installation = portal.install()
    profile = OtherResult({"result": {"ID": user, "ADMIN": True}})
    stage.bitrix.fault("profile", profile, times=None)
    lie = install_body(installation, installation.token(), user_id=27)
    assert app.post(lie).json == INSTALLED
    assert bound(installation) == EVERYTHING
    installation.lose_bindings()
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING


@pytest.mark.parametrize(("seconds", "subscribed"), [(0, True), (10, False)])
def test_proof_and_bindings_share_ten_seconds(
    stage: Stage, portal: Portal, seconds: float, *, subscribed: bool
) -> None:
    """After a slow proof, little time is left to bind; Reinstall continues."""
    installation, store, passed = portal.install(), LocalStore(str(stage.store)), 0.0

    def answer_late(exchange: Exchange, effect: Callable[[], Message]) -> None:
        nonlocal passed
        passed = seconds
        exchange.write(effect().encode())

    stage.bitrix.fault("profile", answer_late)
    event = parse_event(decode_body(FORM, installation.install_event(installation.token())))
    ping = Delivery(member_id=portal.member_id, event=event.name, via="online")
    slow = application(stage, portal, store, lambda: passed)
    answer = slow.install(event, "digest", f"{ADDRESS}/", ping, Log(StringIO()), known=False)
    assert answer.body["subscribed"] is subscribed
    assert ("no time was left" in str(answer.body.get("detail"))) is not subscribed


def test_bindings_of_an_interrupted_install_count_as_unchecked(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Its instance was killed after it had stored the portal; the former install was complete."""
    installation = portal.install()
    assert install(app, installation).json == INSTALLED
    assert "checked_at" in stage.portal(portal)

    def interrupt(exchange: Exchange, effect: Callable[[], Message]) -> None:
        interrupted.append(stage.portal(portal))
        exchange.write(effect().encode())

    interrupted: list[Fields] = []
    stage.bitrix.fault("event.get", interrupt)
    install(app, installation)
    assert "checked_at" not in interrupted[0]
    assert "checked_at" in stage.portal(portal)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_next_install_binds_what_failed(stage: Stage, portal: Portal, app: App, after: int) -> None:
    """Whichever call fails."""
    installation = portal.install()
    stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"), after=after)
    answer = install(app, installation)
    assert answer.json["subscribed"] is False
    assert "(INTERNAL_SERVER_ERROR)" in answer.json["detail"]
    assert "drained_at" not in stage.portal(portal)  # there may be no queue
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
    """The token is verified, so events count; missing bindings can be added later."""
    installation = portal.install()
    stage.bitrix.fault("event.get", fault)
    answer = install(app, installation)
    assert (answer.status, answer.json["subscribed"]) == (200, False)
    assert answer.json["detail"].startswith("No event could be bound: ")
    assert why in answer.json["detail"]
    assert accepts(app, installation)
    assert installation.bindings == []
    lasts = why == "not an administrator"
    document = stage.portal(portal)
    assert document["problem"] == (problems.ADMINISTRATOR if lasts else problems.BINDINGS)
    assert not {"bound_as", "drained_at"} & set(document)


@pytest.mark.parametrize("listed", [None, "none", [1, "x", None, {}], {"0": {"event": DELETE}}])
def test_invalid_list_of_bindings_counts_as_empty(
    stage: Stage, portal: Portal, app: App, listed: object
) -> None:
    """Bindings that event.get does not show are added."""
    installation = portal.install()
    stage.bitrix.fault("event.get", OtherResult({"result": listed}))
    assert install(app, installation).json == INSTALLED
    assert bound(installation) == EVERYTHING


def test_function_url_is_bound(stage: Stage, portal: Portal) -> None:
    """Behind a proxy or with its own domain, the function has another URL."""
    url = "https://deletions.example.com/bitrix"
    installation = portal.install()
    install(stage.start(ALLOWED_PORTALS=portal.domain, FUNCTION_URL=url), installation)
    assert {one.handler for one in installation.bindings} == {"", url}


@pytest.mark.parametrize("target", ["/a/b", "/a%20b/%2Fc/", "/a?b=c%20d&e", "/"])
def test_requested_url_is_bound_as_the_caller_sees_it(
    portal: Portal, app: App, target: str
) -> None:
    """Cloud Run terminates TLS, and sets X-Forwarded-Proto; the path's spelling is kept."""
    installation = portal.install()
    body = installation.install_event(installation.token())
    seen = {"X-Forwarded-Proto": "https"}
    app.post(body, address=f"http://f.example.com{target}", headers=seen)
    handlers = {one.handler for one in installation.bindings}
    assert handlers == {"", f"https://f.example.com{target}"}


@pytest.mark.parametrize(("length", "subscribed"), [(180, True), (181, False)])
def test_url_that_event_bind_would_truncate_is_not_bound(
    stage: Stage, portal: Portal, app: App, length: int, *, subscribed: bool
) -> None:
    """Some versions truncate a handler after 180 characters."""
    installation = portal.install()
    address = f"{ADDRESS}/".ljust(length, "x")
    answer = app.post(installation.install_event(installation.token()), address=address)
    assert answer.json["subscribed"] is subscribed
    document = stage.portal(portal)
    noted = (None, 1) if subscribed else (problems.ADDRESS, None)
    assert (document.get("problem"), document.get("bound_as")) == noted
    if not subscribed:
        told = "The function's URL is longer than 180 characters."
        assert answer.json["detail"] == told
        assert installation.bindings == []


def test_a_reinstalled_application_is_accepted_and_its_uninstall_may_come_late(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Deleted and added again, it has a new token; the old one's uninstall may arrive later."""
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


def test_end_of_a_portal_is_a_warning(portal: Portal, app: App) -> None:
    """It needs no more than the application token; Reinstall continues."""
    old = portal.install()
    install(app, old)
    new = old.delete_and_add()
    install(app, new)
    app.post(old.uninstall_event())
    line = app.log_lines[-1]
    assert (line["severity"], line["message"]) == ("INFO", "uninstalled")
    assert app.post(new.uninstall_event()).json == {"status": "uninstalled"}
    line = app.log_lines[-1]
    assert (line["severity"], line["outcome"]) == ("WARNING", "uninstalled")
    assert line["message"] == (
        "The application was uninstalled: nothing from the portal is recorded any more. If that was"
        " not intended, choose Reinstall for the application in Bitrix24, or add it again if it is"
        " gone."
    )
    assert install(app, new).json == INSTALLED
    assert app.log_lines[-1]["severity"] == "INFO"
    assert accepts(app, new)


def test_another_application_that_takes_over_is_a_warning(portal: Portal, app: App) -> None:
    """ALLOWED_PORTALS accepts every application of a portal; the advice restores the former one."""
    right = portal.install("local.right")
    install(app, right)
    wrong = portal.install("local.wrong")
    assert install(app, wrong).json == INSTALLED
    line = app.log_lines[-1]
    assert (line["severity"], line["outcome"]) == ("WARNING", "installed")
    assert line["message"] == (
        "Another application of the portal has taken over; the previous one's token stays accepted"
        " until its uninstall. If that was not intended, delete the new one in Bitrix24,"
        " run `python -m handler portals remove`, and choose Reinstall for the right one."
    )
    remove(app, portal)
    assert install(app, right).json == INSTALLED
    assert app.log_lines[-1]["severity"] == "INFO"
    assert (accepts(app, wrong), accepts(app, right)) == (False, True)


def test_a_lost_answer_of_the_store_hides_neither_warning(
    stage: Stage, portal: Portal, app: App
) -> None:
    """The second attempt finds what the first one wrote."""

    class Lossy(LocalStore):
        lost = 1

        def put(self, document: Document, deadline: Deadline) -> bool:
            written = super().put(document, deadline)
            self.lost -= 1
            return written and self.lost < 0

    first, second = portal.install("local.first"), portal.install("local.second")
    install(app, first)

    def lossy() -> Application:
        return application(stage, portal, Lossy(str(stage.store)))

    def parsed(body: bytes) -> tuple[Event, str]:
        event = parse_event(decode_body(FORM, body))
        return event, token_digest(event.auth.application_token.get_secret_value())

    log, deadline = Log(StringIO()), Deadline(9)
    event, digest = parsed(second.install_event(second.token()))
    ping = Delivery(member_id=portal.member_id, event=event.name, via="online")
    answer = lossy().install(event, digest, f"{ADDRESS}/", ping, log, known=False)
    assert answer.warning.startswith("Another application of the portal has taken over")
    app.post(first.uninstall_event())
    answer = lossy().uninstall(*parsed(second.uninstall_event()), log, deadline)
    assert answer.warning.startswith("The application was uninstalled")


def test_leaked_application_token_is_revoked_by_removing_the_portal_and_adding_the_application(
    portal: Portal, app: App
) -> None:
    """As SECURITY.md says: without `portals remove`, the token is accepted until its uninstall."""
    leaked = portal.install()
    install(app, leaked)
    new = leaked.delete_and_add()
    remove(app, portal)
    assert install(app, new).json == INSTALLED
    assert (accepts(app, leaked), accepts(app, new)) == (False, True)


@pytest.mark.parametrize(
    ("clean", "asked"),
    [("1", True), (1, True), (True, True), ("0", False), ("", False), ([], False)],
)
def test_uninstall_stores_the_request_to_delete_data_and_deletes_nothing(
    stage: Stage, portal: Portal, app: App, clean: object, *, asked: bool
) -> None:
    """`data[CLEAN]` is 1 if the user asked for it; `portals purge` deletes."""
    installation = portal.install()
    install(app, installation)
    assert app.post(installation.event(DELETE, in_portal("ext-msg-1"))).json["recorded"] == 1
    event = {"event": "ONAPPUNINSTALL", "data": {"CLEAN": clean}, "auth": installation.auth(None)}
    answer = app.post(json.dumps(event).encode(), "application/json")
    assert answer.json == {"status": "uninstalled"}
    assert ("clean_requested_at" in stage.portal(portal)) is asked
    assert len(stage.documents) == 2
    assert install(app, installation).json == INSTALLED
    assert "clean_requested_at" not in stage.portal(portal)


def test_install_is_verified_after_another_instances_uninstall(
    stage: Stage, portal: Portal, app: App
) -> None:
    """Cached tokens are not used for events that change which ones are accepted."""
    installation, other = portal.install(), stage.start(ALLOWED_PORTALS=portal.domain)
    install(app, installation)
    assert accepts(other, installation)
    app.post(installation.uninstall_event())
    assert install(other, installation).json == INSTALLED
    assert stage.portal(portal)["active"] is True
    assert accepts(app, installation)


def test_data_of_other_events_is_stored_nowhere(stage: Stage, portal: Portal, app: App) -> None:
    """ONAPPUSERREADY has OAuth tokens in `data`; the stage searches for them."""
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
