"""Alerts, counters, the dashboard, and --status."""

import json

import pytest

from tests.deploy.cloud import FIRST, HOST, SERVICE, Cloud
from tests.doubles.function import ROOT

DATA = ROOT / "deploy"
ALERTS = sorted(path.stem for path in (DATA / "alerts").glob("*.json"))
CHANNEL = "projects/my-project/notificationChannels/77"


def test_every_alert_in_the_folder_is_created(cloud: Cloud) -> None:
    """As in its file, for this service, with everything filled in."""
    cloud.run(*FIRST, "--alert-email=ops@example.com", "--uptime-check")

    made = [json.loads(text) for text in cloud.inputs if '"combiner"' in text]
    assert len(made) == len(ALERTS) == 7
    assert all(policy["displayName"].startswith(f"{SERVICE}: ") for policy in made)
    assert all(policy["documentation"]["content"] for policy in made)
    assert [text for text in cloud.inputs if "@O_" in text or "@HOST" in text] == []
    health = next(policy for policy in made if "/health" in policy["displayName"])
    assert HOST in health["conditions"][0]["conditionThreshold"]["filter"]


def test_alerts_cover_every_outcome_that_needs_attention() -> None:
    """And the deploy check triggers none."""
    text = {name: (DATA / "alerts" / f"{name}.json").read_text() for name in ALERTS}

    for outcome in ("not_recorded", "portal_problem", "unprocessable_event", "install_refused"):
        assert f'jsonPayload.outcome=\\"{outcome}\\"' in text[outcome.replace("_", "-")]
    assert 'outcome=\\"uninstalled\\" AND severity=WARNING' in text["portal-problem"]
    assert "httpRequest.status=429" in text["instance-limit"]
    assert "-known-forbidden" in text["known-portal-forbidden"]
    assert "jsonPayload.known=true" in (DATA / "metrics/known-forbidden.json").read_text()
    assert "NOT jsonPayload.member_id=~" in text["not-recorded"]


def test_any_notification_channel_is_accepted(cloud: Cloud) -> None:
    """Slack, PagerDuty, a telephone: alone, or in addition to an e-mail address."""
    cloud.run(*FIRST, f"--alert-channel={CHANNEL}")
    policies = cloud.state["policies"]
    assert {policy["channels"] for policy in policies.values()} == {CHANNEL}
    assert "channels" not in cloud.state

    cloud.run(*FIRST, "--alert-email=ops@example.com")
    email = "projects/p/notificationChannels/1"
    assert {policy["channels"] for policy in policies.values()} == {f"{CHANNEL},{email}"}
    assert len(policies) == 6


@pytest.mark.parametrize(("ga", "group"), [(True, "monitoring"), (False, "alpha")])
def test_released_commands_are_used_where_gcloud_has_them(
    cloud: Cloud, group: str, *, ga: bool
) -> None:
    """Otherwise those of the track that has them."""
    cloud.state.update(ga=ga)
    cloud.run(*FIRST, "--alert-email=ops@example.com")

    policies = [call for call in cloud.changes if "policies" in call]
    channels = [call for call in cloud.changes if "channels" in call]
    assert {call[1] for call in policies} == {group}
    assert {call[1] for call in channels} == {"monitoring" if ga else "beta"}


def test_dashboard_and_counters_are_always_created(cloud: Cloud) -> None:
    """They cost nothing, and charts need counters that already exist."""
    cloud.run(*FIRST)

    assert cloud.state["dashboards"] == {SERVICE: "dashboard-1"}
    assert set(cloud.state["metrics"]) == {f"{SERVICE}-outcomes", f"{SERVICE}-known-forbidden"}
    used = (DATA / "dashboard.json").read_text()
    for name in ("outcomes", "known-forbidden"):
        assert f"logging.googleapis.com/user/@O_service@-{name}" in used


def test_status_shows_the_deployment_and_the_dead_letters(deployed: Cloud) -> None:
    """Version, revision, traffic, settings, database, dead letters; nothing is changed."""
    deployed.state.update(portals={"(default)": 2}, letters={"a": "", "b": ""})
    output = deployed.run("--project=my-project", "--status")

    assert deployed.changes == []
    for line in (
        "Version that answers: 0.1.0",
        f"Traffic: {SERVICE}-00001-abc=100",
        f"Latest revision that started: {SERVICE}-00001-abc",
        "Portals that may install the application: mycompany.bitrix24.com",
        "Days until a record is deleted: no limit, never deleted",
        "Days for which message texts are kept: none, no text is stored",
        "Location: europe-west1",
        "Active portals: 2",
        "Lines in the last 400 days: 2 ",
    ):
        assert f"\n  {line}" in output


def test_status_of_nothing_is_an_error(cloud: Cloud) -> None:
    """Which says where it looked."""
    code, output = cloud.attempt("--project=my-project", "--status")

    assert code == 1
    assert f"There is no service {SERVICE} in europe-west1 of my-project." in output


def test_status_of_version_0_1_0_says_what_is_missing(old: Cloud) -> None:
    """It had no log of dead letters."""
    code, output = old.attempt("--project=my-project", "--status")

    assert code == 1
    assert "run ./deploy.sh once" in output
