"""Running it again: what stays, what changes, and upgrades from version 0.1.0."""

import copy
from typing import Any

import pytest

from tests.deploy.cloud import ALL, FIRST, HOST, RUN, SERVICE, Cloud

DEPLOY = [f"run deploy {SERVICE}", f"run services update-traffic {SERVICE}"]


def test_a_second_run_only_deploys(deployed: Cloud) -> None:
    """Everything that exists is left alone, whatever options created it."""
    deployed.run(*ALL)

    assert deployed.changed == DEPLOY


def test_an_update_gets_no_traffic_before_it_is_checked(deployed: Cloud) -> None:
    """It is deployed at a separate URL, checked there, and then gets all traffic."""
    deployed.run("--project=my-project")

    assert {"--no-traffic", "--tag=check"} < set(deployed.changes[0])
    asked = [call[-1] for call in deployed.calls if call[0] == "curl" and "--write-out" in call]
    assert asked == [f"https://check---{HOST}/health"]
    assert deployed.service["serving"] == f"{SERVICE}-00002-abc"
    assert deployed.service["checking"] is None


@pytest.mark.parametrize("state", [{"health": ["503"]}, {"check": [(1, "no\n")]}])
def test_a_version_that_fails_its_checks_gets_no_traffic(
    deployed: Cloud, state: dict[str, Any]
) -> None:
    """The previous one keeps serving, and the run says so."""
    deployed.state.update(state)
    code, output = deployed.attempt("--project=my-project")

    assert code == 1
    assert "The previous version keeps serving all traffic." in output
    assert deployed.service["serving"] == f"{SERVICE}-00001-abc"


def test_second_run_keeps_other_settings(deployed: Cloud) -> None:
    """Settings, and the limits on instances, change only if given."""
    before = copy.deepcopy(deployed.service)
    deployed.run("--project=my-project")

    assert deployed.settings() == {"GOOGLE_CLOUD_PROJECT": "my-project"}
    assert deployed.service["env"] == before["env"]
    assert deployed.service["limits"] == before["limits"]
    assert deployed.service["limits"] == {"concurrency": "32", "max-instances": "3"}


def test_settings_of_an_update_that_failed_are_not_taken_for_current(deployed: Cloud) -> None:
    """The service's template has them, but another revision serves: its settings count."""
    deployed.state.update(portals={"(default)": 3, "other": 0}, check=[(1, "no\n"), (0, "")])
    before = copy.deepcopy(deployed.service)
    options = (
        *("--project=my-project", "--database=other", "--portal=two.example.com", "--yes"),
        *("--connectors=livechat", "--concurrency=40", "--max-instances=5"),
    )
    code, _ = deployed.attempt(*options)
    assert code == 1
    assert deployed.service["env"]["FIRESTORE_DATABASE"] == "other"

    status = deployed.run("--project=my-project", "--status")
    assert "Firestore database: (default)\n" in status
    assert "Active portals: 3" in status
    assert "Maximum number of instances: 3\n" in status

    code, output = deployed.attempt(*options[:2])
    assert code == 1
    assert "Firestore database: (default) -> other\n" in output
    assert "To continue, type other: " in output

    deployed.run("--project=my-project")
    assert {name: value for name, value in deployed.service["env"].items() if value} == before[
        "env"
    ]
    assert deployed.service["limits"] == before["limits"]
    assert deployed.service["serving"] == f"{SERVICE}-00003-abc"
    assert deployed.state["bindings"][RUN] == ["roles/datastore.user\tdatabase-(default)"]


def test_after_a_rollback_the_settings_of_what_serves_are_kept(deployed: Cloud) -> None:
    """Of several revisions with traffic, those of the one with the most."""
    deployed.run("--project=my-project", "--retention-days=90")
    first, second = deployed.service["revisions"]
    deployed.service["split"] = {second: 10, first: 90}

    output = deployed.run("--project=my-project")

    assert "Days until a record is deleted: no limit, never deleted\n" in output
    assert f"--to-revisions={first}=90,{second}=10\n" in output
    assert deployed.settings()["RETENTION_DAYS"] == ""


def test_update_shows_how_each_setting_changes(deployed: Cloud) -> None:
    """Dry or not; a portal list visibly replaces the previous one."""
    options = (
        *("--project=my-project", "--concurrency=40", "--max-instances", "5"),
        *("--connectors", "", "--retention-days=90", "--client-id=local.5f"),
        *("--portal", "HTTPS://One.bitrix24.com/", "--portal=two.example.com,three.bitrix24.eu"),
    )
    dry = deployed.run(*options, "--dry-run")
    real = deployed.run(*options)

    for output in (dry, real):
        assert (
            "  Portals that may install the application: mycompany.bitrix24.com"
            " -> one.bitrix24.com,two.example.com,three.bitrix24.eu\n"
        ) in output
        assert "Days until a record is deleted: no limit, never deleted -> 90\n" in output
        assert "Connectors whose deletions are recorded: all\n" in output
        assert "Concurrent requests per instance (running copy): 32 -> 40\n" in output
        assert "Maximum number of instances: 3 -> 5\n" in output
        assert "Version: 0.1.0" in output
    assert deployed.settings() == {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "ALLOWED_PORTALS": "one.bitrix24.com,two.example.com,three.bitrix24.eu",
        "CLIENT_ID": "local.5f",
        "RETENTION_DAYS": "90",
        "THREADS": "40",
    }
    assert {"--concurrency=40", "--max-instances=5"} < set(deployed.changes[1])


def test_a_later_run_changes_how_long_backups_and_dead_letters_are_kept(deployed: Cloud) -> None:
    """Old -> new, and only if given."""
    output = deployed.run(
        "--project=my-project", "--backups=30", "--dead-letter-days=500", "--retention-days=20"
    )
    assert "Days: 7 -> 30" in output
    assert "Days: 400 -> 500" in output

    output = deployed.run("--project=my-project")
    assert "Days: 500 -> 20" in output, "no number was given, so it follows --retention-days"


def test_point_in_time_recovery_can_be_switched_on_later(deployed: Cloud) -> None:
    """And then stays on."""
    databases = deployed.state["databases"]
    databases["(default)"] = databases["(default)"].replace("ENABLED", "DISABLED")

    assert "Point-in-time recovery: off -> on" in deployed.run(*FIRST, "--pitr")
    assert databases["(default)"].endswith("ENABLED")


def test_one_run_upgrades_version_0_1_0(old: Cloud) -> None:
    """Its exemption of event_at is removed, its role gets a condition, its alerts new content."""
    output = old.run(*FIRST, "--alert-email=ops@example.com")

    exempt = old.state["exempt"]["(default)"]
    assert "projects/p/x/collectionGroups/deletions/fields/event_at" not in exempt
    assert "projects/p/x/collectionGroups/quarantine/fields/event_at" in exempt
    assert "deletions, event_at: not indexed -> indexed" in output
    assert old.state["bindings"][RUN] == ["roles/datastore.user\tdatabase-(default)"]
    assert "every database -> database-(default) only" in output
    policies = old.state["policies"]
    assert len(policies) == 6
    assert "-" not in [policy["content"] for policy in policies.values()]
    assert f"{SERVICE}-dead-letters" in old.state["sinks"]
    assert old.service["env"]["THREADS"] == "16", "what is not given stays"

    assert set(old.state["metrics"]) == {f"{SERVICE}-outcomes", f"{SERVICE}-known-forbidden"}

    old.run(*FIRST, "--alert-email=ops@example.com")
    assert old.changed == DEPLOY


def test_counters_of_version_0_1_0_stay_as_long_as_its_alerts_use_them(old: Cloud) -> None:
    """A run without an address does not replace the alerts, so it leaves their counters."""
    old.run(*FIRST)

    assert {f"{SERVICE}-not-recorded", f"{SERVICE}-install-refused"} < set(old.state["metrics"])


def test_wide_role_is_removed_only_when_the_new_version_serves(old: Cloud) -> None:
    """The old version needs its database while it still has the traffic."""
    old.run(*FIRST)

    taken = next(i for i, command in enumerate(old.changed) if "remove-iam" in command)
    assert taken > old.changed.index(DEPLOY[1])
    assert "--condition=None" in old.changes[taken]


def test_existing_database_is_left_alone(cloud: Cloud) -> None:
    """A different location is mentioned, not enforced."""
    cloud.state.update(databases={"(default)": "eur3\tFIRESTORE_NATIVE\tX"})
    output = cloud.run(*FIRST)

    assert "firestore databases create" not in cloud.changed
    assert "It exists, in eur3." in output
    assert "It is not in europe-west1." in output
    assert "If another application has collections with these names" in output


def test_a_database_in_datastore_mode_is_refused(cloud: Cloud) -> None:
    """The function cannot use it; the message asks for another one."""
    cloud.state.update(databases={"(default)": "eur3\tDATASTORE_MODE\tX"})
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "--database NAME" in output


def test_a_named_database_is_remembered_by_the_service(cloud: Cloud) -> None:
    """A later run without --database does not create a second one."""
    cloud.run(*FIRST, "--database=deletions", "--location=eur3")
    cloud.run(*FIRST)

    assert list(cloud.state["databases"]) == ["deletions"]
    assert cloud.changed == DEPLOY
    assert cloud.service["env"]["FIRESTORE_DATABASE"] == "deletions"


@pytest.mark.parametrize(
    "command",
    [
        *("services enable", "service-accounts create", "add-iam-policy-binding"),
        *("databases create", "indexes fields update", "ttls update", "schedules create"),
        *("buckets create", "sinks create", "run deploy", "metrics create", "dashboards create"),
        *("channels create", "policies create", "uptime create"),
    ],
)
def test_interrupted_run_is_completed_by_the_same_command(
    cloud: Cloud, deployed_state: dict[str, Any], command: str
) -> None:
    """After any step, the result is that of an uninterrupted run."""
    cloud.state.update(refused={command: "UNAVAILABLE: try later"})
    code, output = cloud.attempt(*ALL)
    assert code == 1
    assert "Stopped at: " in output
    assert "try again in a few minutes" in output
    assert "run the same command again to complete it" in output

    cloud.state.update(refused={})
    cloud.run(*ALL)

    again = {**cloud.state, "services": {}, "refused": {}}
    whole = {**deployed_state, "services": {}, "refused": {}}
    assert again == whole
    assert cloud.service["env"] == deployed_state["services"][SERVICE]["env"]
