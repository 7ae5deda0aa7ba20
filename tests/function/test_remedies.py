"""Each remedy that a message names is carried out, and works."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from inspect import get_annotations
from typing import Any

import pytest

from handler.bitrix24 import portal_problems as problems
from handler.tokens import token_digest
from handler.urls import MAX_HANDLER_URL
from tests.commands.shell import Shell
from tests.doubles.app import ADDRESS, App, Stage
from tests.doubles.bitrix24 import Disconnect, Fault, Portal, Redirect, Refusal
from tests.function.life import DELETE, PING, Life

pytestmark = pytest.mark.usefixtures("no_pauses")

REINSTALL = "choose Reinstall for the application"


@pytest.fixture
def shell(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Return a shell for the commands, with the function's store."""
    monkeypatch.setenv("STORE", "local")
    monkeypatch.setenv("LOCAL_STORE_PATH", str(stage.store))
    return Shell(stage.store, capsys)


class Stories:
    """How each problem arises; after the `yield` its cause ends, and the remedy is carried out."""

    def __init__(self, life: Life, shell: Shell) -> None:
        self.life = life
        self.shell = shell

    def _enter_by_hand(self, *where: str) -> None:
        """Enter the portal with its token."""
        token = self.life.installation.application_token
        entered = ("--member-id", self.life.portal.member_id, "--token", token, *where)
        assert self.shell("portals", "add", *entered)[0] == 0

    # The problems of a portal.

    def administrator_leaves(self) -> Iterator[None]:
        self.life.portal.promote(7)
        self.life.portal.dismiss(1)
        self.life.ping(None)
        yield
        self.life.reinstall(7)

    def administrator_is_demoted(self) -> Iterator[None]:
        self.life.portal.promote(7)
        self.life.portal.demote(1)
        self.life.ping()
        yield
        self.life.reinstall(7)

    def _entered_by_hand(self) -> None:
        """Leave only what `portals add` writes without --endpoint."""
        digests = [token_digest(self.life.installation.application_token)]
        path = f"portals/{self.life.portal.member_id}"
        self.life.stage.replace(path, {"token_digests": digests, "active": True})
        self.life.ping()

    def by_hand_and_entered_again(self) -> Iterator[None]:
        self._entered_by_hand()
        yield
        self._enter_by_hand("--endpoint", self.life.portal.client_endpoint)

    def by_hand_and_reinstalled(self) -> Iterator[None]:
        self._entered_by_hand()
        yield
        self.life.reinstall()

    def plan_ends(self) -> Iterator[None]:
        self.life.portal.commercial = False
        self.life.ping()
        yield
        self.life.portal.commercial = True
        self.life.reinstall()

    def permission_is_missing(self) -> Iterator[None]:
        self.life.installation.scope = "crm"
        self.life.installation.lose_bindings(DELETE)
        self.life.pass_time(days=2)
        self.life.ping()
        yield
        self.life.installation.scope = "crm,imopenlines"
        self.life.reinstall()

    def licence_ends(self) -> Iterator[None]:
        yield from self._out_of_reach(Redirect("https://www.bitrix24.com/"))

    def firewall_closes(self) -> Iterator[None]:
        yield from self._out_of_reach(Disconnect())

    def _out_of_reach(self, fault: Fault) -> Iterator[None]:
        """Let every call to the portal end in a fault, until it is in reach again."""
        for method in ("event.offline.get", "profile"):
            self.life.stage.bitrix.fault(method, fault, times=None)
        self.life.ping()
        yield
        self.life.stage.bitrix.clear_faults()
        self.life.reinstall()

    def event_is_not_bound(self) -> Iterator[None]:
        self.life.installation.lose_bindings("ONAPPUNINSTALL")
        self.life.stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
        self.life.pass_time(days=2)
        self.life.ping()
        yield
        self.life.reinstall()

    def url_is_too_long(self) -> Iterator[None]:
        self.life.installation.lose_bindings()
        install = self.life.installation.install_event(self.life.installation.token())
        url = f"{ADDRESS}/".ljust(MAX_HANDLER_URL + 1, "x")
        self.life.app.post(install, address=url)
        yield
        shorter = {"ALLOWED_PORTALS": self.life.portal.domain, "FUNCTION_URL": f"{ADDRESS}/short"}
        self.life.stage.start(**shorter).post(install, address=url)

    # What only `status` finds.

    def _token_is_missing(self) -> None:
        """Lose the tokens, as an edit by hand does."""
        self.life.write(token_digests=[])

    def no_token_and_entered(self) -> Iterator[None]:
        self._token_is_missing()
        yield
        self._enter_by_hand()

    def no_token_and_installed(self) -> Iterator[None]:
        self._token_is_missing()
        yield
        self.life.reinstall()

    def _rows_are_left(self) -> None:
        """Let a drain fail once."""
        self.life.stage.bitrix.fault("event.offline.get", Refusal(500, "INTERNAL_SERVER_ERROR"))
        self.life.ping()

    def rows_left_and_next_deletion(self) -> Iterator[None]:
        self._rows_are_left()
        yield  # the test deletes a message after every remedy

    def rows_left_and_reinstalled(self) -> Iterator[None]:
        self._rows_are_left()
        yield
        self.life.reinstall()
        assert self.life.queue == 0

    def drain_is_killed(self) -> Iterator[None]:
        ended = datetime.now(UTC) - timedelta(seconds=1)
        self.life.write(drain={"until": ended, "nonce": "n", "user": 1})
        yield
        self.life.reinstall()

    def pings_stop(self) -> Iterator[None]:
        self.life.installation.lose_bindings(PING)
        self.life.pass_time(hours=2)
        self.life.delete()
        self.life.app.post(self.life.portal.deliveries[-1].body)  # it arrives online
        yield
        self.life.reinstall()

    def event_is_invalid(self) -> Iterator[None]:
        self.life.app.post(self.life.installation.event(DELETE, {"odd": 1}))
        yield
        (event,) = self.shell.json("quarantine")
        assert self.shell("quarantine", "drop", event["id"])[0] == 0


REMEDIES: list[tuple[str, Callable[[Stories], Iterator[None]]]] = [
    (problems.NO_TOKEN, Stories.administrator_leaves),
    (problems.BY_HAND, Stories.by_hand_and_entered_again),
    (problems.BY_HAND, Stories.by_hand_and_reinstalled),
    (problems.ADMINISTRATOR, Stories.administrator_is_demoted),
    (problems.PLAN, Stories.plan_ends),
    (problems.PERMISSION, Stories.permission_is_missing),
    (problems.MOVED, Stories.licence_ends),
    (problems.SILENT, Stories.firewall_closes),
    (problems.BINDINGS, Stories.event_is_not_bound),
    (problems.ADDRESS, Stories.url_is_too_long),
    ("Enter one with `python -m handler portals add`", Stories.no_token_and_entered),
    ("or install the application.", Stories.no_token_and_installed),
    ("The next deletion in an open line continues it", Stories.rows_left_and_next_deletion),
    (REINSTALL, Stories.rows_left_and_reinstalled),
    (REINSTALL, Stories.drain_is_killed),
    (REINSTALL, Stories.pings_stop),
    ("`python -m handler quarantine drop ID`", Stories.event_is_invalid),
]


@pytest.mark.parametrize(("text", "story"), REMEDIES, ids=[story.__name__ for _, story in REMEDIES])
def test_remedy_works(
    life: Life, shell: Shell, text: str, story: Callable[[Stories], Iterator[None]]
) -> None:
    """After it, nothing needs attention, and the queue is recorded at the next deletion's ping."""
    life.delete()
    told = story(Stories(life, shell))
    next(told)
    (need,) = status(shell, code=1)["portals"][0]["needs"]
    assert text in need

    assert next(told, "done") == "done"
    life.delete()
    (ping,) = (one for one in life.installation.bindings if one.event == PING)
    token = life.installation.token(ping.user_id)
    answer = life.app.post(life.installation.offline_ping(token), address=ping.handler)

    assert answer.json["recorded"] > 0
    assert status(shell, code=0)["well"] is True
    assert life.queue == 0
    recorded = [path for path in life.stage.documents if "/deletions/" in path]
    assert len(recorded) == life.deleted


def test_every_problem_has_a_remedy_above() -> None:
    """A new one needs a row."""
    stated = {getattr(problems, name) for name in get_annotations(problems) if name.isupper()}
    assert problems.PLAN in stated
    assert stated <= {text for text, _ in REMEDIES}


def status(shell: Shell, *, code: int) -> dict[str, Any]:
    """Run `status`."""
    found = shell("status", "--json")
    assert found[0] == code, found
    return json.loads(found[1])  # type: ignore[no-any-return]


class TestRefusedInstalls:
    """The log says what to do, and then the portal's events are accepted."""

    @pytest.mark.parametrize("settings", [{}, {"ALLOWED_PORTALS": "another.bitrix24.com"}])
    @pytest.mark.parametrize(
        "remedy", [{"ALLOWED_PORTALS": "ours.bitrix24.com"}, {"CLIENT_ID": "local.ours"}]
    )
    def test_setting_and_reinstall(
        self, stage: Stage, portal: Portal, settings: dict[str, str], remedy: dict[str, str]
    ) -> None:
        """Whichever of the two settings is used."""
        app, installation = stage.start(**settings), portal.install("local.ours")
        assert app.post(installation.install_event(installation.token())).status == 403
        assert f"and {REINSTALL}" in app.log_lines[-1]["reason"]
        again = stage.start(**remedy).post(installation.install_event(installation.token()))
        assert again.json == {"status": "installed", "subscribed": True}

    @pytest.mark.parametrize("by_hand", [True, False])
    def test_reinstall_by_an_administrator_or_by_hand(
        self, app: App, portal: Portal, shell: Shell, *, by_hand: bool
    ) -> None:
        """An employee's install proves too little."""
        installation = portal.install("local.ours")
        assert app.post(installation.install_event(installation.token(27))).status == 403
        reason = app.log_lines[-1]["reason"]
        assert f"{REINSTALL} in Bitrix24, as an administrator" in reason
        assert "python -m handler portals add" in reason
        if by_hand:
            token = installation.application_token
            shell("portals", "add", "--member-id", portal.member_id, "--token", token)
        else:
            app.post(installation.install_event(installation.token()))
        assert app.post(installation.test_event({})).status == 200
