"""Self-repair: what a year does to a portal, and the pings that repair it."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler.bitrix24 import portal_problems as problems
from handler.commands import main
from handler.tokens import token_digest
from tests.doubles.app import event_body
from tests.doubles.bitrix24 import (
    Disconnect,
    Fault,
    Installation,
    OtherResult,
    Redirect,
    Refusal,
    Silence,
)
from tests.doubles.bitrix24.faults import Exchange
from tests.doubles.bitrix24.http_message import Message
from tests.doubles.function import Response, environment
from tests.function.life import DELETE, PING, Life

pytestmark = pytest.mark.usefixtures("no_pauses")

EMPTY = {"status": "recovered", "recorded": 0, "duplicates": 0, "quarantined": 0, "ignored": 0}


CHECK = ["app.info", "profile", "event.get"]
DRAIN = ["event.offline.get"]
RESERVED = "event.offline.list"


class TestChecks:
    """The bindings are checked once a day, and every ten minutes while there is a problem."""

    @pytest.mark.parametrize(
        ("hours", "problem", "checked"),
        [(23.9, None, False), (24.1, None, True), (0.1, "Any.", False), (0.2, "Any.", True)],
    )
    def test_ping_checks_the_bindings_when_due(
        self, life: Life, hours: float, problem: str | None, *, checked: bool
    ) -> None:
        """And a successful check ends a problem."""
        life.pass_time(hours=hours)
        if problem:
            life.write(problem=problem)
        assert life.ping().json == EMPTY
        assert (life.asked[:3] == CHECK) is checked
        assert ("problem" in life.document) is bool(problem and not checked)
        assert "asked_at" not in life.document  # that is for other look-ups
        again = life.ping()
        assert again.json == EMPTY
        assert life.asked == DRAIN

    @pytest.mark.parametrize("event", [DELETE, PING, "ONAPPUNINSTALL", ""])
    def test_lost_bindings_are_bound_again(self, life: Life, event: str) -> None:
        """Portals lose them in updates and restores, without notice."""
        life.installation.lose_bindings(event)
        life.pass_time(days=2)
        assert life.ping().json == EMPTY
        events = sorted(one.event for one in life.installation.bindings)
        assert events == sorted([DELETE, DELETE, PING, "ONAPPUNINSTALL"])

    def test_a_checks_answer_names_other_hosts_in_the_log(self, life: Life) -> None:
        """They may be an earlier deployment, which still gets every event."""
        elsewhere = replace(life.installation.bindings[0], handler="https://old.example.com/")
        life.installation.bindings.append(elsewhere)
        life.pass_time(days=2)
        assert life.ping().json == EMPTY
        assert life.app.log_lines[-1]["other_hosts"] == ["old.example.com"]

    def test_message_events_are_bound_only_with_keep_text_days(self, life: Life) -> None:
        """Bound by the next check with the setting; unbound without it."""
        messages = ["ONOPENLINEMESSAGEADD", "ONOPENLINEMESSAGEUPDATE"]
        with_texts = life.stage.start(ALLOWED_PORTALS="ours.bitrix24.com", KEEP_TEXT_DAYS="7")
        for app, bound in ((with_texts, messages), (life.app, [])):
            life.pass_time(days=2)
            assert app.post(life.installation.offline_ping(life.installation.token())).json == EMPTY
            events = {(one.event, one.user_id) for one in life.installation.bindings}
            assert [event for event in messages if (event, 0) in events] == bound
            assert len(life.installation.bindings) == 4 + len(bound)

    def test_fields_that_another_revision_wrote_survive(self, life: Life) -> None:
        """Two revisions serve at the same time during a rollout."""
        life.write(newer="field", newest={"a": 1})
        life.pass_time(days=2)
        life.ping()
        assert (life.document["newer"], life.document["newest"]) == ("field", {"a": 1})

    def test_check_without_the_oauth_server_is_repeated_later(self, life: Life) -> None:
        """Until then, the queue is drained, and nothing is changed."""
        life.pass_time(days=2)
        before = list(life.installation.bindings)
        life.delete()
        life.stage.bitrix.fault("app.info", Refusal(503, "OVERLOADED"), times=2)
        answer = life.ping()
        assert answer.json["recorded"] == 1
        assert answer.json["detail"].startswith("The portal could not be checked: ")
        assert (life.asked[0], life.ping().json) == ("app.info", EMPTY)
        assert life.asked == DRAIN
        life.pass_time(minutes=11)
        life.ping()
        assert life.asked == ["app.info", *DRAIN]
        assert life.installation.bindings == before
        assert "problem" not in life.document

    def test_an_oauth_server_that_hangs_leaves_time_to_drain(self, life: Life) -> None:
        """The check is repeated later; the next ping may not come for days."""
        life.pass_time(days=2)
        life.delete()
        life.stage.bitrix.fault("app.info", Silence())
        assert life.ping().json["recorded"] == 1
        assert life.queue == 0

    @pytest.mark.parametrize(
        ("fault", "problem", "then"),
        [
            (Refusal(401, "insufficient_scope"), problems.PERMISSION, DRAIN),
            (Disconnect(), problems.SILENT, []),
            (OtherResult({"result": {"ADMIN": True}}), None, ["event.get", *DRAIN, RESERVED]),
        ],
    )
    def test_a_check_without_the_administrators_profile(
        self, life: Life, fault: Fault, problem: str | None, then: list[str]
    ) -> None:
        """A portal that does not answer is not drained; an id is in app.info, too."""
        life.pass_time(days=2)
        life.stage.bitrix.fault("profile", fault)
        life.ping()
        assert life.asked == ["app.info", "profile", *then]
        assert life.document.get("problem") == problem
        assert life.document["bound_as"] == 1

    def test_all_that_a_ping_could_not_do_is_in_the_answer(self, life: Life) -> None:
        """The check failed; then the portal did not answer, and its address was looked up."""
        life.pass_time(days=2)
        life.installation.lose_bindings("ONAPPUNINSTALL")
        life.stage.bitrix.fault("app.info", Refusal(503, "OVERLOADED"))
        life.stage.bitrix.fault("event.offline.get", Disconnect())
        life.stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
        assert life.ping().json["detail"] == (
            "The portal could not be checked: app.info was refused (HTTP 503) (OVERLOADED)."
            " ONAPPUNINSTALL could not be bound: event.bind was refused (HTTP 500)"
            " (INTERNAL_SERVER_ERROR)."
        )

    def test_check_asks_no_unknown_oauth_server(self, life: Life) -> None:
        """The token is sent only where BITRIX24_OAUTH_SERVERS allows it."""
        life.pass_time(days=2)
        auth = life.installation.auth(life.installation.token())
        answer = life.app.post(
            event_body(PING, None, auth | {"server_endpoint": "https://theirs.example.com/rest/"})
        )
        assert answer.json["detail"] == (
            "The portal could not be checked: the event names an OAuth server that is not in"
            " BITRIX24_OAUTH_SERVERS."
        )

    def test_missing_binding_is_a_problem_until_it_is_bound(self, life: Life) -> None:
        """The log reports its beginning and its end."""
        life.installation.lose_bindings("ONAPPUNINSTALL")
        life.pass_time(days=2)
        life.stage.bitrix.fault("event.bind", Refusal(500, "INTERNAL_SERVER_ERROR"))
        assert "ONAPPUNINSTALL could not be bound" in life.ping().json["detail"]
        assert life.document["problem"] == problems.BINDINGS
        life.pass_time(minutes=11)
        assert life.ping().json == EMPTY
        assert not {"problem", "problem_since", "problem_logged_at"} & set(life.document)
        assert life.outcomes == ["portal_problem", "portal_well"]
        outcomes = {one["outcome"]: one for one in life.app.log_lines}
        begun, ended = outcomes["portal_problem"], outcomes["portal_well"]
        assert (begun["severity"], begun["message"]) == ("ERROR", problems.BINDINGS)
        assert (ended["severity"], ended["message"]) == ("INFO", f"Resolved: {problems.BINDINGS}")
        where = {"event": PING, "member_id": life.portal.member_id, "domain": "ours.bitrix24.com"}
        assert begun.items() >= where.items() <= ended.items()


class TestAdministrators:
    """The token of a ping is that of the user that it is bound as."""

    @pytest.mark.parametrize("change", ["demote", "dismiss"])
    def test_leaving_administrator_is_a_problem_until_another_one_reinstalls(
        self, life: Life, change: str
    ) -> None:
        """The suggested remedy works: bound as the new one, and everything is drained."""
        life.portal.promote(7)
        life.delete()
        getattr(life.portal, change)(1)
        (pinged,) = [life.ping(None if change == "dismiss" else 1)]
        assert pinged.json["recorded"] == 0
        expected = problems.NO_TOKEN if change == "dismiss" else problems.ADMINISTRATOR
        assert life.document["problem"] == expected
        assert "choose Reinstall" in expected
        assert life.queue == 1
        assert life.document["queue_left"]["rows"] == "more than 0"  # type: ignore[index, call-overload] # a map
        life.ping(None if change == "dismiss" else 1)
        assert life.outcomes == ["portal_problem"]  # once, while it lasts

        assert life.reinstall(7).json == {"status": "installed", "subscribed": True}
        assert (life.users_of(PING), life.users_of("ONAPPUNINSTALL")) == ([7], [7])
        assert life.queue == 0
        assert life.document["bound_as"] == 7
        assert not {"problem", "queue_left"} & set(life.document)
        assert life.outcomes == ["portal_problem", "portal_well"]

    @pytest.mark.parametrize(("failed", "bound_as"), [("ONAPPUNINSTALL", 7), (PING, 1)])
    def test_bound_as_is_the_user_of_the_pings_binding(
        self, life: Life, failed: str, bound_as: int
    ) -> None:
        """Whether or not another event could be bound."""
        life.portal.promote(7)
        after = [PING, "ONAPPUNINSTALL"].index(failed)  # these two are bound anew, in this order
        refusal = Refusal(500, "INTERNAL_SERVER_ERROR")
        life.stage.bitrix.fault("event.bind", refusal, after=after)
        assert f"{failed} could not be bound" in life.reinstall(7).json["detail"]
        assert life.users_of(PING) == [bound_as]
        assert life.document["bound_as"] == bound_as

    def test_a_check_by_a_demoted_user_binds_nothing(self, life: Life) -> None:
        """An employee binds only as themselves, so every deletion would name that employee."""
        life.installation.lose_bindings()
        life.portal.demote(1)
        life.pass_time(days=2)
        assert life.ping().json["detail"] == problems.ADMINISTRATOR
        assert life.installation.bindings == []
        assert life.asked == ["app.info", "profile"]

    def test_reinstall_waits_for_no_rows(self, life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that it does not find itself are announced by a ping."""
        pauses: list[float] = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        assert life.reinstall().json == {"status": "installed", "subscribed": True}
        assert pauses == [0]

    def test_a_plan_that_has_ended_is_a_problem(self, life: Life) -> None:
        """ACCESS_DENIED has three meanings, each with its own remedy."""
        life.portal.commercial = False
        life.delete()
        life.ping()
        assert life.document["problem"] == problems.PLAN
        life.portal.commercial = True
        life.pass_time(minutes=11)
        assert life.ping().json["recorded"] == 1
        assert "problem" not in life.document

    def test_transient_error_is_not_a_problem(self, life: Life) -> None:
        """It is in the answer, and the next ping continues."""
        life.delete()
        life.stage.bitrix.fault("event.offline.get", Refusal(429, "OPERATION_TIME_LIMIT"))
        assert "in a few minutes" in life.ping().json["detail"]
        assert "problem" not in life.document
        assert life.ping().json["recorded"] == 1


class TestRenamed:
    """A portal is renamed: its member_id stays, its domain and endpoint change."""

    @pytest.mark.parametrize("old_address", [None, Disconnect(), Silence()])
    def test_the_next_ping_finds_it(self, life: Life, old_address: Fault | None) -> None:
        """The old address redirects or does not answer; app.info has the new one."""
        life.delete()
        former = life.document["client_endpoint"]
        life.portal.rename("renamed.bitrix24.com", old_address=old_address)
        assert life.ping().json == EMPTY | {"recorded": 1}
        assert life.queue == 0
        assert life.document["domain"] == "renamed.bitrix24.com"
        assert former != life.document["client_endpoint"] == life.portal.client_endpoint
        assert "problem" not in life.document

    @pytest.mark.parametrize("by_hand", [True, False])
    def test_it_is_found_though_the_event_names_the_old_domain(
        self, life: Life, *, by_hand: bool
    ) -> None:
        """By its redirect alone; even if `domain` or the client is unknown."""
        life.portal.rename("renamed.bitrix24.com")
        auth = life.installation.auth(life.installation.token())
        if by_hand:
            fields = {name: life.document[name] for name in ("token_digests", "active")}
            former = {"client_endpoint": life.document["client_endpoint"]}
            times = {name: datetime.now(UTC) for name in ("checked_at", "drained_at")}
            path = f"portals/{life.portal.member_id}"
            life.stage.replace(path, {**fields, **former, **times})
        life.delete()
        old = {**auth, "domain": "ours.bitrix24.com"}
        assert life.app.post(event_body(PING, [], old)).json["recorded"] == 1
        assert life.document["domain"] == "renamed.bitrix24.com"
        assert life.document["client_id"] == "local.ours"

    def test_a_portal_that_has_answered_is_not_looked_up(self, life: Life) -> None:
        """Only a later call failed."""
        life.delete()
        life.stage.bitrix.fault("event.offline.clear", Disconnect())
        assert "detail" in life.ping().json
        assert life.asked == ["event.offline.get", "event.offline.clear"]

    def test_address_is_looked_up_once_an_hour(self, life: Life) -> None:
        """A portal whose licence has ended redirects as well, but has no other address."""
        gone = Redirect("https://www.bitrix24.com/")
        for method in ("event.offline.get", "profile"):
            life.stage.bitrix.fault(method, gone, times=None)
        assert "redirect" in life.ping().json["detail"]
        assert life.document["problem"] == problems.MOVED
        assert life.asked.count("app.info") == 1
        life.write(checked_at=datetime.now(UTC))
        life.ping()
        assert "app.info" not in life.asked
        life.stage.bitrix.clear_faults()
        life.pass_time(hours=1)
        assert life.ping().json == EMPTY
        assert life.outcomes == ["portal_problem", "portal_well"]

    def test_event_with_another_domain_causes_a_look_up_once_an_hour(self, life: Life) -> None:
        """It may be the portal's own domain, which the OAuth server does not know."""
        auth = {**life.installation.auth(life.installation.token()), "domain": None}
        assert life.app.post(event_body(PING, [], auth)).json == EMPTY
        assert life.asked == DRAIN
        auth |= {"domain": "crm.example.com"}
        ping = event_body(PING, [], auth)
        assert [life.app.post(ping).json for _ in range(2)] == [EMPTY] * 2
        assert life.asked.count("app.info") == 1
        assert life.document["domain"] == "ours.bitrix24.com"

    def test_silent_portal_without_another_address_is_called_once(self, life: Life) -> None:
        """The OAuth server is unavailable, too."""
        life.stage.bitrix.fault("event.offline.get", Disconnect(), times=None)
        life.stage.bitrix.fault("app.info", Refusal(503, "OVERLOADED"), times=None)
        life.ping()
        assert life.asked == [*DRAIN, "app.info"]

    def test_single_lost_call_is_not_a_problem(self, life: Life) -> None:
        """The portal is called again at the OAuth server's address."""
        life.delete()
        life.stage.bitrix.fault("event.offline.get", Disconnect())
        assert life.ping().json["recorded"] == 1
        assert "problem" not in life.document
        life.delete()
        life.stage.bitrix.fault("event.offline.get", Disconnect())
        assert "cannot be reached" in life.ping().json["detail"]  # looked up within this hour
        assert "problem" not in life.document


class TestOtherApplications:
    """The portal's `client_id` is that of the newest token's application."""

    def test_after_another_applications_uninstall_the_first_one_is_served_again(
        self, life: Life
    ) -> None:
        """Only its token is accepted then."""
        other = life.portal.install("local.other")
        life.app.post(other.install_event(other.token()))
        assert life.document["client_id"] == "local.other"
        life.app.post(other.uninstall_event())
        assert "client_id" not in life.document
        life.delete()
        life.pass_time(days=2)
        assert life.ping().json == EMPTY | {"recorded": 1}
        assert life.document["client_id"] == "local.ours"

    def test_late_uninstall_of_the_former_application_does_not_change_it(self, life: Life) -> None:
        """It was deleted and added again."""
        added = life.installation.delete_and_add(client_id="local.again")
        life.app.post(added.install_event(added.token()))
        life.app.post(life.installation.uninstall_event(clean=True))
        assert life.document["client_id"] == "local.again"

    def test_application_whose_new_token_was_entered_by_hand_is_served(
        self, life: Life, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the log recommends if ONAPPINSTALL could not be verified."""
        added = life.installation.delete_and_add(client_id="local.again")
        settings = environment(STORE="local", LOCAL_STORE_PATH=str(life.stage.store))
        monkeypatch.setattr(os, "environ", settings)
        where = ("--member-id", life.portal.member_id, "--token", added.application_token)
        assert main(["portals", "add", *where]) == 0
        life.pass_time(days=2)
        ping = added.offline_ping(added.token())
        assert life.app.post(ping).json == EMPTY
        assert life.document["client_id"] == "local.again"
        assert len(added.bindings) == 4

    def test_a_check_does_not_undo_an_install_of_another_application(self, life: Life) -> None:
        """The check began before."""
        other = life.portal.install("local.other")

        def install(exchange: Exchange, effect: Callable[[], Message]) -> None:
            waiting = pool.submit(life.app.post, other.install_event(other.token()))
            while life.document["client_id"] == "local.ours":
                assert not waiting.done()
            exchange.write(effect().encode())

        life.stage.bitrix.fault("event.get", install)
        life.pass_time(days=2)
        with ThreadPoolExecutor() as pool:
            assert life.ping().json == EMPTY
        assert life.document["client_id"] == "local.other"


class TestForgedPings:
    """What a leaked application token can do: delay a drain, nothing else."""

    def forge(self, life: Life, installation: Installation, user: int = 1) -> Response:
        """Ping for our portal, with a valid token of another application or portal."""
        token = installation.token(user)
        auth = {**life.installation.auth(token), "domain": "evil.example.com"}
        return life.app.post(event_body(PING, [], auth))

    @pytest.mark.parametrize("where", ["another portal", "another application"])
    def test_an_answer_for_another_portal_or_application_moves_nothing(
        self, life: Life, where: str
    ) -> None:
        """Nor does it end a problem, or drain anything."""
        portal = life.portal
        if where == "another portal":
            portal = life.stage.bitrix.add_portal("evil.bitrix24.com")
        life.write(problem="Any.", problem_logged_at=datetime.now(UTC))
        life.pass_time(minutes=15)
        life.delete()
        before = life.document
        answer = self.forge(life, portal.install("local.evil"))
        told = "The access token belongs to a different portal or application."
        assert answer.json["detail"].startswith(told)
        kept = ("domain", "client_endpoint", "client_id", "problem", "bound_as", "checked_at")
        assert {name: before[name] for name in kept} == {name: life.document[name] for name in kept}
        assert life.asked == ["app.info"]
        assert life.queue == 1

    def test_client_id_is_set_by_an_administrators_token_only(self, life: Life) -> None:
        """A portal entered by hand has none yet; an employee's token proves too little."""
        known = ("token_digests", "active", "domain", "client_endpoint")
        path = f"portals/{life.portal.member_id}"
        life.stage.replace(path, {name: life.document[name] for name in known})
        self.forge(life, life.portal.install("local.evil"), user=27)
        assert "client_id" not in life.document
        life.pass_time(minutes=11)
        assert life.ping().json == EMPTY
        assert life.document["client_id"] == "local.ours"

    def test_portal_without_endpoint_makes_no_request(self, life: Life) -> None:
        """The endpoint in the request is not trusted; the problem says what to do."""
        digests = [token_digest(life.installation.application_token)]
        path = f"portals/{life.portal.member_id}"
        life.stage.replace(path, {"token_digests": digests, "active": True})
        assert life.ping().json["detail"] == problems.BY_HAND
        assert life.asked == []


class TestReminders:
    """While a problem lasts, the first event after a day reports it again."""

    def test_any_event_reminds_once_a_day(self, life: Life) -> None:
        """Across all instances: the time is in the portal's document."""
        life.portal.demote(1)
        life.ping()
        other = life.stage.start(ALLOWED_PORTALS="ours.bitrix24.com")
        body = life.installation.event(DELETE, {"odd": 1})
        for app in (life.app, other):
            app.post(body)
        assert life.outcomes == ["portal_problem"]
        life.pass_time(days=1.1)
        restarted = life.stage.start(ALLOWED_PORTALS="ours.bitrix24.com")
        for app in (restarted, other, restarted):
            assert app.post(body).status == 422
        told = [line for line in restarted.log_lines if line["outcome"] == "portal_problem"]
        assert [(line["message"], line["event"]) for line in told] == [
            (problems.ADMINISTRATOR, DELETE)
        ]
        assert [line["outcome"] for line in other.log_lines].count("portal_problem") == 0

    def test_uninstalled_portal_has_no_problem(self, life: Life) -> None:
        """It needs no attention."""
        life.portal.demote(1)
        life.ping()
        life.app.post(life.installation.uninstall_event())
        assert "problem" not in life.document
        assert life.outcomes == ["portal_problem", "portal_well"]
        *_, ended, _ = life.app.log_lines
        assert (ended["outcome"], ended["event"]) == ("portal_well", "ONAPPUNINSTALL")
