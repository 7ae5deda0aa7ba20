"""Installs that are not proven: refused, and they leave nothing but a line in the log.

Each goes through the real `handle`, against an existing portal, which must be unchanged
afterwards. A second Bitrix24, the attacker's, listens: nothing may ever call it.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from secrets import token_hex
from threading import Event

import pytest

from handler.bitrix24 import application
from tests.doubles.app import App, Stage, app_info, install_body
from tests.doubles.bitrix24 import (
    Bitrix24,
    Fault,
    Html,
    Installation,
    LostAnswer,
    OtherResult,
    Portal,
    Redirect,
    Refusal,
    Value,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.function import FORM

REFUSED = {
    "error": "install_refused",
    "detail": "The install could not be verified; the function's log says why.",
}
WHAT_TO_DO = ("choose Reinstall for the application in Bitrix24", "try again in a minute")

IF_YOURS = (
    "If it was yours, choose Reinstall for the application in Bitrix24, as an administrator of the"
    " portal, or enter the portal by hand: python -m handler portals add."
)
NOBODY_ALLOWED = (
    "No installs are accepted. Set ALLOWED_PORTALS to the portal's domain, or CLIENT_ID to the"
    " application's, and choose Reinstall for the application in Bitrix24."
)
NOT_ALLOWED = (
    "The portal {} is not in ALLOWED_PORTALS, and the application's client_id is not CLIENT_ID. If"
    " it was yours, set one of them and choose Reinstall for the application in Bitrix24."
)
NO_TOKEN = f"The install has no access_token, so it cannot be confirmed. {IF_YOURS}"
NO_SERVER = f"The install names an OAuth server that is not in BITRIX24_OAUTH_SERVERS. {IF_YOURS}"
NO_SENSE = (
    "The OAuth server does not confirm the install: its answer to app.info is not valid."
    f" {IF_YOURS}"
)
OTHER_PORTAL = f"The access token belongs to a different portal from the install. {IF_YOURS}"
TOO_MANY = "Too many installs at the same time. If it was yours, try again in a minute."


@dataclass
class Scene:
    """A portal with our application installed, and an attacker who imitates it."""

    stage: Stage
    app: App
    ours: Portal
    installation: Installation
    evil: Bitrix24

    @property
    def token(self) -> str:
        """A genuine access token of our administrator."""
        return self.installation.token().access_token

    def app_info(self, **install: Value) -> OtherResult:
        """Build app.info's answer for our portal, with other fields in `install`."""
        return app_info(self.ours, "local.ours", **install)

    def forge(self, token: str | None = None, **auth: Value) -> bytes:
        """Build an install of our portal with a made-up application token, and other changes."""
        made_up, access_token = token_hex(16), token or token_hex(35)
        self.stage.bitrix.remember(made_up, access_token)
        forged: Mapping[str, Value] = {"application_token": made_up, "access_token": access_token}
        return install_body(self.installation, self.installation.token(), **{**forged, **auth})

    def refuse(self, body: bytes, content_type: str = FORM, app: App | None = None) -> str:
        """Check that an install is refused without a trace; return the reason in the log."""
        app = app or self.app
        documents, lines = self.stage.documents, len(app.log_lines)
        answer = app.post(body, content_type)
        assert (answer.status, answer.json) == (403, REFUSED)
        assert self.stage.documents == documents
        (line,) = app.log_lines[lines:]
        assert (line["outcome"], line["severity"]) == ("install_refused", "WARNING")
        reason = str(line["reason"])
        assert any(words in reason for words in WHAT_TO_DO)
        assert self.evil.calls == []
        return reason


@contextmanager
def set_scene(folder: Path) -> Iterator[Scene]:
    """Install our application, genuinely."""
    with Stage(folder) as stage, Bitrix24() as evil:
        ours = stage.bitrix.add_portal("ours.bitrix24.com")
        app = stage.start(ALLOWED_PORTALS="ours.bitrix24.com")
        installation = ours.install("local.ours")
        genuine = installation.install_event(installation.token())
        assert app.post(genuine).json["subscribed"] is True
        yield Scene(stage, app, ours, installation, evil)


@pytest.fixture(scope="module")
def lasting_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Share one scene between all tests: no refused install may affect the next."""
    with set_scene(tmp_path_factory.mktemp("scene")) as scene:
        yield scene


@pytest.fixture
def scene(lasting_scene: Scene) -> Iterator[Scene]:
    """Return the scene, and check afterwards that the genuine portal's events are accepted."""
    lasting_scene.stage.bitrix.calls.clear()
    yield lasting_scene
    lasting_scene.stage.bitrix.clear_faults()
    event = lasting_scene.installation.test_event({})
    assert lasting_scene.app.post(event).status == 200


@pytest.fixture
def own_scene(tmp_path: Path) -> Iterator[Scene]:
    """Return a separate scene for a test that changes it."""
    with set_scene(tmp_path) as scene:
        yield scene


def stranger(scene: Scene, domain: str = "strange.bitrix24.com") -> Installation:
    """Install an application at the attacker's own portal, as an administrator."""
    return scene.stage.bitrix.add_portal(domain).install()


class TestTokens:
    """The access token must be valid, and the portal's own."""

    def test_installs_need_a_setting(self, scene: Scene) -> None:
        """Without ALLOWED_PORTALS and CLIENT_ID, even a genuine install is refused, unasked."""
        newcomer = stranger(scene)
        body = newcomer.install_event(newcomer.token())
        assert NOBODY_ALLOWED == scene.refuse(body, app=scene.stage.start())
        assert scene.stage.bitrix.calls == []

    @pytest.mark.parametrize("token", [None, "", ["x"], {"x": "y"}])
    def test_an_install_without_access_token_proves_nothing(
        self, scene: Scene, token: Value
    ) -> None:
        """A member_id is not a secret; an array counts as absent."""
        assert NO_TOKEN == scene.refuse(scene.forge(access_token=token))
        assert scene.stage.bitrix.calls == []

    def test_made_up_access_token_is_refused(self, scene: Scene) -> None:
        """The OAuth server answers 401 invalid_token; the portal is not called."""
        assert "(invalid_token)" in scene.refuse(scene.forge())
        assert [call.method for call in scene.stage.bitrix.calls] == ["app.info"]

    def test_an_expired_access_token_is_refused(self, scene: Scene) -> None:
        """The OAuth server answers 401 expired_token: a captured request is useful for an hour."""
        token = scene.installation.token(expires_in=0)
        assert "has expired" in scene.refuse(scene.forge(token.access_token))

    def test_another_portals_token_does_not_confirm_ours(self, scene: Scene) -> None:
        """The attacker's own valid token with our member_id: app.info returns another one."""
        token = stranger(scene).token()
        assert OTHER_PORTAL == scene.refuse(scene.forge(token.access_token))

    def test_our_token_does_not_confirm_another_portal(self, scene: Scene) -> None:
        """Nor is anything stored under the member_id in the install."""
        member_id = stranger(scene).portal.member_id
        token = scene.installation.token()
        assert OTHER_PORTAL == scene.refuse(scene.forge(token.access_token, member_id=member_id))

    def test_portal_that_is_not_allowed_is_refused(self, scene: Scene) -> None:
        """Everything is genuine, but the portal is not in ALLOWED_PORTALS."""
        foreign = stranger(scene)
        reason = scene.refuse(foreign.install_event(foreign.token()))
        assert NOT_ALLOWED.format("strange.bitrix24.com") == reason

    @pytest.mark.parametrize(
        "domain",
        [
            "ours.bitrix24.com.evil.example",
            "x.ours.bitrix24.com",
            "ours.bitrix24.co",
            "bitrix24.com",
        ],
    )
    def test_a_portal_whose_domain_only_looks_like_ours_is_refused(
        self, scene: Scene, domain: str
    ) -> None:
        """Complete domains are compared."""
        foreign = stranger(scene, domain)
        assert NOT_ALLOWED.format(domain) == scene.refuse(foreign.install_event(foreign.token()))

    def test_domain_in_the_request_is_ignored(self, scene: Scene) -> None:
        """Another portal that claims our domain: only the OAuth server's answer counts."""
        foreign = stranger(scene)
        body = install_body(foreign, foreign.token(), domain="ours.bitrix24.com")
        assert NOT_ALLOWED.format("strange.bitrix24.com") == scene.refuse(body)

    def test_another_application_of_the_same_portal_is_refused(self, scene: Scene) -> None:
        """With CLIENT_ID alone, a token issued to another application fails."""
        other = scene.ours.install("local.other")
        only_ours = scene.stage.start(CLIENT_ID="local.ours")
        reason = scene.refuse(other.install_event(other.token()), app=only_ours)
        assert NOT_ALLOWED.format("ours.bitrix24.com") == reason

    @pytest.mark.parametrize("client_id", ["LOCAL.OURS", "local.ours ", "local.our", ""])
    def test_a_client_id_is_compared_exactly(self, scene: Scene, client_id: str) -> None:
        """Including case and spaces."""
        only_ours = scene.stage.start(CLIENT_ID="local.ours")
        other = scene.ours.install("local.other")
        scene.stage.bitrix.fault("app.info", app_info(scene.ours, client_id))
        scene.refuse(other.install_event(other.token()), app=only_ours)
        assert scene.stage.bitrix.calls_to("profile") == []


class TestReplays:
    """Captured requests are useless once their token is revoked."""

    def test_a_captured_install_is_refused_after_the_uninstall(self, own_scene: Scene) -> None:
        """The OAuth server answers NOT_INSTALLED, although the token has not expired."""
        captured = own_scene.installation.install_event(own_scene.installation.token())
        own_scene.app.post(own_scene.installation.uninstall_event())
        own_scene.installation.uninstall(deliver=False)
        assert "not installed (NOT_INSTALLED)" in own_scene.refuse(captured)
        assert own_scene.stage.portal(own_scene.ours)["active"] is False

    def test_a_former_applications_install_does_not_come_back(self, own_scene: Scene) -> None:
        """After adding the application again and a late uninstall, the old install is refused."""
        old = own_scene.installation
        captured = old.install_event(old.token())
        new = old.delete_and_add()
        assert own_scene.app.post(new.install_event(new.token())).status == 200
        assert own_scene.app.post(old.uninstall_event()).status == 200
        own_scene.refuse(captured)
        assert own_scene.app.post(new.test_event({})).status == 200

    def test_a_refused_install_does_not_reactivate_a_portal(self, own_scene: Scene) -> None:
        """The application token of an uninstalled portal is not enough."""
        own_scene.app.post(own_scene.installation.uninstall_event())
        known = own_scene.installation.application_token
        own_scene.refuse(own_scene.forge(application_token=known))


class TestDestinations:
    """Nothing in the request decides where the function connects to."""

    @pytest.mark.parametrize(
        "named",
        [
            "{evil}/rest/",
            "{evil}/oauth/rest/",
            "{oauth}.evil/rest/",
            "{oauth}.evil.example.com/rest/",
            "{oauth}@{evil_host}/rest/",
            "{oauth}/rest/../../../portals/1/rest/",
            "{oauth}/rest/../",
            "{oauth}/rest/?x=",
            "{oauth}/rest/#",
            "{oauth}\\@{evil_host}/",
            "{oauth}\n/rest/",
            " {oauth}/rest/",
            "{oauth}/restless/",
            "{oauth}/X/",
            "//{evil_host}/rest/",
            "https://oauth.bitrix.info/rest/",
            "http://169.254.169.254/",
            "file:///etc/passwd",
        ],
    )
    def test_only_configured_oauth_servers_are_asked(self, scene: Scene, named: Value) -> None:
        """A server_endpoint that is not exactly one of them is not even connected to."""
        hosts = {"oauth": scene.stage.bitrix.oauth_url, "evil": scene.evil.url}
        hosts["evil_host"] = scene.evil.url.removeprefix("http://")
        if isinstance(named, str):
            named = named.format(**hosts)
        reason = scene.refuse(scene.forge(scene.token, server_endpoint=named))
        assert NO_SERVER == reason
        assert scene.stage.bitrix.calls == []

    def test_wrong_oauth_server_does_not_confirm(self, scene: Scene) -> None:
        """Each knows only its own tokens."""
        named = f"{scene.stage.bitrix.oauth_tech_url}/rest/"
        assert "invalid_token" in scene.refuse(scene.forge(scene.token, server_endpoint=named))

    def test_an_attackers_portal_is_never_called(self, scene: Scene) -> None:
        """An attacker's own Bitrix24 would confirm anything, at any address."""
        twin = scene.evil.add_portal("ours.bitrix24.com", member_id=scene.ours.member_id)
        theirs = twin.install("local.ours")
        token = theirs.token()
        scene.stage.bitrix.remember(*scene.evil.secrets)
        assert NO_SERVER == scene.refuse(theirs.install_event(token))
        named = scene.ours.server_endpoint
        reason = scene.refuse(install_body(theirs, token, server_endpoint=named))
        assert "invalid_token" in reason

    def test_the_endpoint_that_the_request_claims_is_not_called(self, scene: Scene) -> None:
        """There, everyone could be an administrator; every employee can get a token."""
        token = scene.installation.token(user_id=27).access_token
        endpoint = f"{scene.evil.url}/portals/1/rest/"
        reason = scene.refuse(scene.forge(token, client_endpoint=endpoint))
        assert "not an administrator" in reason

    @pytest.mark.parametrize(
        "endpoint",
        [
            "http://metadata.google.internal/computeMetadata/v1/",
            "http://ours.bitrix24.com/rest/",
            "https://ours.bitrix24.com@evil.example.com/rest/",
            "file:///etc/passwd",
            "",
            5,
            None,
            ["https://ours.bitrix24.com/rest/"],
        ],
    )
    def test_only_https_endpoints_are_called(self, scene: Scene, endpoint: Value) -> None:
        """Whatever app.info says; `unit/test_urls.py` has tricky URLs."""
        scene.stage.bitrix.fault("app.info", scene.app_info(client_endpoint=endpoint))
        assert NO_SENSE == scene.refuse(scene.forge(scene.token))
        assert scene.stage.bitrix.calls_to("profile") == []

    @pytest.mark.parametrize("host", ["ours bitrix24.com", "ours..bitrix24.com", "a\x7f"])
    def test_invalid_host_is_refused_clearly(self, scene: Scene, host: str) -> None:
        """A valid URL that cannot be connected to is not a bug in the function."""
        endpoint = f"https://{host}/rest/"
        scene.stage.bitrix.fault("app.info", scene.app_info(client_endpoint=endpoint))
        assert "cannot be reached" in scene.refuse(scene.forge(scene.token))


class TestMemberIds:
    """Only the member_id that the OAuth server confirms, exactly, becomes a document's name."""

    @pytest.mark.parametrize(
        "change",
        [
            str.upper,
            lambda member_id: f" {member_id}",
            lambda member_id: f"{member_id} ",
            lambda member_id: member_id[:-1],
            lambda member_id: f"{member_id}0",
            lambda member_id: f"{member_id}%00",
            lambda _: "портал",
        ],
    )
    def test_similar_member_id_is_not_ours(
        self, scene: Scene, change: Callable[[str], str]
    ) -> None:
        """In case, spaces or look-alikes, even with a valid token of ours."""
        member_id = change("abcdef" + scene.ours.member_id)
        scene.stage.bitrix.fault(
            "app.info", scene.app_info(member_id=f"abcdef{scene.ours.member_id}")
        )
        reason = scene.refuse(scene.forge(scene.token, member_id=member_id))
        assert OTHER_PORTAL == reason

    def test_last_of_repeated_fields_counts_everywhere(self, scene: Scene) -> None:
        """As in PHP: all parts of the function see the same portal."""
        foreign = stranger(scene)
        token = foreign.token().access_token
        ours, theirs = scene.ours.member_id, foreign.portal.member_id
        twice = b"&auth%5Bmember_id%5D="
        body = scene.forge(token, member_id=theirs) + twice + ours.encode()
        assert OTHER_PORTAL == scene.refuse(body)
        body = scene.forge(token, member_id=ours) + twice + theirs.encode()
        assert NOT_ALLOWED.format("strange.bitrix24.com") == scene.refuse(body)

    def test_last_of_repeated_access_tokens_counts(self, scene: Scene) -> None:
        """A valid token hidden before or after another one does not confirm it."""
        body = scene.forge(scene.token) + b"&auth%5Baccess_token%5D=" + b"0" * 70
        assert "(invalid_token)" in scene.refuse(body)
        body = scene.forge(scene.token) + b"&auth%5Baccess_token%5D%5Bx%5D=0"
        assert NO_TOKEN == scene.refuse(body)


ODD_ANSWERS: list[object] = [
    None,
    [],
    "result",
    {"result": None},
    {"result": "yes"},
    {"result": []},
    {"result": {}},
    {"result": {"client_id": "local.ours"}},
    {"result": {"client_id": "local.ours", "install": None}},
    {"result": {"client_id": "local.ours", "install": []}},
    {"result": {"client_id": "local.ours", "install": "installed"}},
    {"result": {"client_id": "local.ours", "install": {}}},
    {"install": {}},
    {},
]


class TestOddAnswers:
    """Invalid answers from an OAuth server or a portal confirm nothing."""

    @pytest.mark.parametrize("answer", ODD_ANSWERS)
    def test_an_answer_of_another_shape_confirms_nothing(
        self, scene: Scene, answer: object
    ) -> None:
        """app.info's answer is validated completely before it is used."""
        scene.stage.bitrix.fault("app.info", OtherResult(answer))
        scene.refuse(scene.forge())
        assert [call.method for call in scene.stage.bitrix.calls] == ["app.info"]

    @pytest.mark.parametrize("field", ["member_id", "domain"])
    @pytest.mark.parametrize("value", [None, "", True, 1.5, [], ["x"], {"x": "y"}, "x" * 1001])
    def test_a_field_of_another_type_confirms_nothing(
        self, scene: Scene, field: str, value: Value
    ) -> None:
        """Everything that is stored must be text."""
        scene.stage.bitrix.fault("app.info", scene.app_info(**{field: value}))
        assert NO_SENSE == scene.refuse(scene.forge())

    @pytest.mark.parametrize("client_id", [None, "", True, [], {}])
    def test_application_without_client_id_is_refused(self, scene: Scene, client_id: Value) -> None:
        """Nor does it match an unset CLIENT_ID."""
        scene.stage.bitrix.fault("app.info", app_info(scene.ours, client_id))
        assert NO_SENSE == scene.refuse(scene.forge())

    @pytest.mark.parametrize(
        "profile",
        [
            None,
            [],
            "ADMIN",
            {"ID": "1"},
            {"ID": "1", "ADMIN": "true"},
            {"ID": "1", "ADMIN": "Y"},
            {"ID": "1", "ADMIN": 1},
            {"ID": "1", "ADMIN": [True]},
            {"ID": "1", "admin": True},
        ],
    )
    def test_only_true_means_administrator(self, scene: Scene, profile: object) -> None:
        """`profile` returns ADMIN as a boolean; nothing else counts."""
        scene.stage.bitrix.fault("profile", OtherResult({"result": profile}))
        assert "not an administrator" in scene.refuse(scene.forge(scene.token))

    @pytest.mark.parametrize("method", ["app.info", "profile"])
    @pytest.mark.parametrize(
        ("fault", "why"),
        [
            (Html(status=502), "not JSON (HTTP 502)"),
            (LostAnswer(), "cannot be reached"),
            (Refusal(403, "WRONG_LICENSE"), "plan"),
        ],
    )
    def test_an_answer_that_fails_confirms_nothing(
        self, scene: Scene, method: str, fault: Fault, why: str
    ) -> None:
        """For every kind of failure, the log has a plain reason."""
        scene.stage.bitrix.fault(method, fault)
        assert why in scene.refuse(scene.forge(scene.token))

    @pytest.mark.parametrize("method", ["app.info", "profile"])
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed(self, scene: Scene, method: str, status: int) -> None:
        """A redirect could lead the token anywhere."""
        elsewhere = f"{scene.evil.url}/oauth/rest/app.info"
        scene.stage.bitrix.fault(method, Redirect(elsewhere, status))
        assert f"answered with a redirect (HTTP {status})" in scene.refuse(scene.forge(scene.token))


class TestEchoes:
    """The answering host could put the token into its answer; the stage searches the log for it."""

    @pytest.mark.parametrize("method", ["app.info", "profile"])
    @pytest.mark.parametrize(
        "echo",
        [
            lambda token: Refusal(401, token, token),
            lambda token: Refusal(401, f"E_{token}"),
            lambda token: Html(page=f"<h1>{token}</h1>"),
            lambda token: Redirect(f"https://evil.example.com/?{token}"),
            lambda token: OtherResult({"error": [token], "error_description": {token: token}}),
            lambda token: OtherResult({"result": {token: token, "ADMIN": token}}),
            lambda token: OtherResult({token: token}),
        ],
    )
    @pytest.mark.parametrize("token", ["", "f00d" * 8, "letters_only_" * 4])
    def test_an_echoed_token_reaches_no_log(
        self, scene: Scene, method: str, echo: Callable[[str], Fault], token: str
    ) -> None:
        """As code, text, page, location or key; with tokens of any length."""
        token = token or scene.token
        if method == "profile":
            scene.stage.bitrix.fault("app.info", scene.app_info())
        scene.stage.bitrix.fault(method, echo(token))
        scene.refuse(scene.forge(token))
        assert token not in scene.app.log

    def test_the_application_token_of_a_portal_reaches_no_log(self, scene: Scene) -> None:
        """A portal knows its own, and could send it as an error code."""
        scene.stage.bitrix.fault("profile", Refusal(403, scene.installation.application_token))
        assert "profile was refused (HTTP 403)" in scene.refuse(scene.forge(scene.token))


class Gate:
    """A fault: silence until the test ends it."""

    def __init__(self) -> None:
        self.opened = Event()

    def __call__(self, _exchange: Exchange, _effect: Callable[[], Message]) -> None:
        self.opened.wait(9)


class TestFloods:
    """Forged installs block neither threads nor other requests."""

    @pytest.mark.parametrize(("installs", "wait_seconds", "asked"), [(12, None, 8), (20, 60, 16)])
    def test_forged_installs_do_not_delay_events(
        self,
        scene: Scene,
        monkeypatch: pytest.MonkeyPatch,
        installs: int,
        wait_seconds: float | None,
        asked: int,
    ) -> None:
        """Eight are verified at a time and eight more wait, but not for long; deletions continue.

        The others are refused at once: half of the function's 32 threads stay free.
        """
        if wait_seconds:
            monkeypatch.setattr(application, "_WAIT_SECONDS", wait_seconds)
        silence = Gate()
        scene.stage.bitrix.fault("app.info", silence, times=8)
        documents, lines = scene.stage.documents, len(scene.app.log_lines)
        bodies = [scene.forge() for _ in range(installs)]
        with ThreadPoolExecutor(installs) as pool:
            forged = [pool.submit(scene.app.post, body) for body in bodies]
            refused_soon = islice(as_completed(forged), 4)
            assert [one.result().status for one in refused_soon] == [403] * 4
            assert [line["reason"] for line in scene.app.log_lines[lines:]] == [TOO_MANY] * 4
            assert scene.app.post(scene.installation.test_event({})).status == 200
            assert sum(one.done() for one in forged) == 4
            silence.opened.set()
        assert [one.result().status for one in forged] == [403] * installs
        assert len(scene.stage.bitrix.calls_to("app.info")) == asked
        assert scene.stage.documents == documents

    def test_next_install_succeeds_after_a_flood(self, own_scene: Scene) -> None:
        """Each refusal releases its place, for any reason."""
        for _ in range(5):
            assert "(invalid_token)" in own_scene.refuse(own_scene.forge())
        new = own_scene.ours.install()
        assert own_scene.app.post(new.install_event(new.token())).status == 200
