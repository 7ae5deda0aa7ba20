"""Steps that cannot easily be undone are confirmed, or at least announced."""

import pytest

from tests.deploy.cloud import FIRST, RUN, SERVICE, Cloud


def test_destroying_asks_for_the_name_of_the_service(deployed: Cloud) -> None:
    """Any other answer, or none, changes nothing."""
    for typed in ("", "\n", "yes\n"):
        code, output = deployed.attempt("--project=my-project", "--destroy", typed=typed)
        assert code == 1
        assert f"To continue, type {SERVICE}: " in output
        assert "use --yes" in output
        assert deployed.changes == []

    deployed.run("--project=my-project", "--destroy", typed=f"{SERVICE}\n")
    assert deployed.state["services"] == {}


def test_destroying_keeps_the_data_and_says_so(deployed: Cloud) -> None:
    """The service and everything around it is removed, but not Firestore; it is idempotent."""
    output = deployed.run("--project=my-project", "--destroy", "--yes")

    state = deployed.state
    gone = ("services", "accounts", "metrics", "policies", "uptime", "dashboards", "sinks")
    assert {kind: state[kind] for kind in gone} == {kind: {} for kind in gone}
    assert [roles for roles in state["bindings"].values() if roles] == []
    assert not [command for command in deployed.changed if command.startswith("firestore")]
    assert list(state["buckets"]) == [f"europe-west1 {SERVICE}-dead-letters"]
    assert "All records in Firestore" in output

    again = deployed.run("--project=my-project", "--destroy", "--yes")
    assert deployed.changes == []
    assert "It does not exist." in again


def test_destroying_in_the_wrong_region_removes_nothing(deployed: Cloud) -> None:
    """The accounts, which the service would lose, have the same names in every region."""
    url = f"https://{SERVICE}-123456789012.us-central1.run.app"
    deployed.state.update(services={}, elsewhere={SERVICE: url})

    code, output = deployed.attempt("--project=my-project", "--destroy", "--yes")

    assert code == 1
    assert f"It is not in europe-west1, but runs at {url}, with the accounts that this" in output
    assert deployed.changes == []


def test_dry_run_of_destroying_asks_nothing(deployed: Cloud) -> None:
    """It says that it would ask."""
    output = deployed.run("--project=my-project", "--destroy", "--dry-run")

    assert f"it would now ask for {SERVICE} to be typed" in output
    assert deployed.changes == []


def test_destroying_removes_what_version_0_1_0_left(old: Cloud) -> None:
    """Its counters and alerts have other names, and its role has no condition."""
    old.run("--project=my-project", "--destroy", "--yes")

    assert old.state["metrics"] == old.state["policies"] == {}
    assert old.state["bindings"][RUN] == []


@pytest.mark.parametrize("exists", [True, False])
def test_another_database_needs_its_name_typed(deployed: Cloud, *, exists: bool) -> None:
    """The question says how many portals stay behind, and that their events will be refused."""
    deployed.state["portals"] = {"(default)": 3, "other": 1}
    if exists:
        deployed.state["databases"]["other"] = "europe-west1\tFIRESTORE_NATIVE\tX"
    command = ("--project=my-project", "--database=other")
    code, output = deployed.attempt(*command)

    assert code == 1
    assert "uses the database (default); active portals in it: 3." in output
    assert f"Active portals in the database other: {1 if exists else 'none'}." in output
    assert "refused until the application is installed there again" in output
    assert deployed.changes == []

    deployed.run(*command, typed="other\n")
    assert deployed.service["env"]["FIRESTORE_DATABASE"] == "other"
    assert deployed.state["bindings"][RUN] == ["roles/datastore.user\tdatabase-other"]


def test_uncountable_portals_are_not_taken_for_none(deployed: Cloud) -> None:
    """An account that may not read documents still gets the question."""
    deployed.state["portals"] = {}
    output = deployed.run("--project=my-project", "--database=other", "--dry-run")

    assert "active portals in it: unknown." in output


def test_location_is_announced_before_the_creation(cloud: Cloud) -> None:
    """It cannot be changed later."""
    output = cloud.run(*FIRST, "--location=eur3")

    said = output.index("It is created in eur3")
    assert (
        said
        < output.index("THE LOCATION CANNOT BE CHANGED LATER")
        < output.index("databases create")
    )
