"""Failures say what to do, and the advice fits the failure."""

from typing import Any

import pytest

from tests.deploy.cloud import FIRST, SERVICE, Cloud


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"version": "400.0.0"}, "gcloud components update"),
        ({"account": ""}, "gcloud auth login"),
        ({"projects": {}}, "Is the ID right"),
        ({"billing": "False"}, "console.cloud.google.com/billing/linkedaccount"),
        ({"refused": {"services enable": "PERMISSION_DENIED"}}, "serviceUsageAdmin on my-project"),
        ({"refused": {"service-accounts create": "PERMISSION_DENIED"}}, "serviceAccountAdmin"),
        ({"refused": {"run services describe": "PERMISSION_DENIED: no"}}, "PERMISSION_DENIED: no"),
        ({"refused": {"databases describe": "PERMISSION_DENIED"}}, "roles/datastore.owner"),
        ({"refused": {"run deploy": "requireInvokerIam"}}, "constraints/run.managed"),
        ({"refused": {"run deploy": "PERMISSION_DENIED"}}, "roles/run.admin"),
        ({"refused": {"run deploy": "Build failed; check build logs"}}, "cloud-build/builds"),
        ({"refused": {"run deploy": "RESOURCE_EXHAUSTED"}}, "iam-admin/quotas?project=my-project"),
        ({"refused": {"run deploy": "UNAVAILABLE"}}, "try again in a few minutes"),
        ({"refused": {"run deploy": "odd"}}, "The message above says why."),
    ],
)
def test_each_failure_says_what_to_do(cloud: Cloud, state: dict[str, Any], expected: str) -> None:
    """No preflight check and no refusal is without a next step, or has a wrong one."""
    cloud.state.update(**state)
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert expected in output


def test_a_failure_without_a_matching_role_names_none(cloud: Cloud) -> None:
    """Advice about roles where no role is missing would lead astray."""
    cloud.state.update(refused={"run deploy": "Build failed; check build logs"})

    assert "roles/run.admin" not in cloud.attempt(*FIRST)[1]


def test_without_gcloud_it_says_where_to_get_it(cloud: Cloud) -> None:
    """The first thing missing is the first thing said."""
    (cloud.bin / "gcloud").unlink()
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "https://cloud.google.com/sdk/docs/install" in output


def test_billing_that_may_not_be_seen_is_not_taken_for_off(cloud: Cloud) -> None:
    """Many who may deploy may not look at billing."""
    cloud.state.update(refused={"billing projects describe": "PERMISSION_DENIED"})

    assert "Your account cannot see it" in cloud.run(*FIRST)


def test_before_its_apis_are_enabled_a_project_is_taken_for_empty(cloud: Cloud) -> None:
    """A dry run works on a project where nothing was ever done."""
    disabled = "PERMISSION_DENIED: Cloud Firestore API has not been used in project 1 before"
    commands = ("run services describe", "databases describe", "fields", "metrics describe")
    cloud.state.update(
        refused=dict.fromkeys((*commands, "channels list", "policies list"), disabled)
    )

    output = cloud.run(*FIRST, "--dry-run")

    assert "gcloud firestore databases create" in output
    assert "could not be read" not in output


def test_public_access_that_is_forbidden_is_found_out(cloud: Cloud) -> None:
    """Gcloud says that all is well; only a real request tells."""
    cloud.state.update(health=["403"])
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "constraints/run.managed.requireInvokerIam" in output
    assert "paste" not in output


def test_a_function_that_does_not_start_points_to_its_log(cloud: Cloud) -> None:
    """An error of the function is not taken for a forbidden access."""
    cloud.state.update(health=["503"])
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "HTTP 503" in output
    assert f"gcloud run services logs read {SERVICE}" in output


def test_the_check_waits_for_a_new_service(cloud: Cloud) -> None:
    """An address that does not answer at once is asked again."""
    cloud.state.update(health=["000", "404", "503", "200"])

    assert "It answers 200." in cloud.run(*FIRST)


def test_the_deep_check_is_shown_and_decides(cloud: Cloud) -> None:
    """It gets the address, a connector that is recorded, and the token on its standard input."""
    cloud.state.update(check=[(1, "The function answered HTTP 503: no\n")])
    code, output = cloud.attempt(*FIRST, "--connectors=telegrambot,livechat")

    assert (code, "The function answered HTTP 503" in output) == (1, True)
    assert "Its log says why: gcloud run services logs read" in output
    (call,) = [index for index, call in enumerate(cloud.calls) if "deploy/check.py" in call]
    assert cloud.calls[call][2:4] == ["my-project", "(default)"]
    assert cloud.calls[call][5] == "telegrambot"
    assert cloud.inputs[call] == "ya29.token"

    assert "Skipped (--skip-deep-check)." in cloud.run(*FIRST, "--skip-deep-check")


def test_a_new_account_that_is_not_known_everywhere_is_waited_for(cloud: Cloud) -> None:
    """Its role is given as soon as Google Cloud knows the account."""
    cloud.state.update(unknown_accounts=2)
    output = cloud.run(*FIRST)

    assert len(cloud.state["bindings"]) == 2
    assert output.count("retrying in 30 seconds") == 2


def test_a_new_role_that_is_not_known_everywhere_is_waited_for(cloud: Cloud) -> None:
    """The deployment is tried again, with a word."""
    cloud.state.update(refused={"run deploy": "PERMISSION_DENIED"}, refused_times=3)
    output = cloud.run(*FIRST)

    assert output.count("retrying in 30 seconds") == 3


def test_a_refused_deployment_is_not_repeated_where_no_role_is_new(deployed: Cloud) -> None:
    """Then a role is really missing."""
    deployed.state.update(refused={"run deploy": "PERMISSION_DENIED"})
    code, output = deployed.attempt("--project=my-project")

    assert code == 1
    assert "retrying" not in output
    assert len(deployed.changes) == 1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--portal=a.bitrix24.com",),
        ("--project=My Project",),
        ("--project",),
        ("--project", "--dry-run"),
        (*FIRST, "--nonsense"),
        (*FIRST, "nonsense"),
        (*FIRST, "--dry-run=yes"),
        (*FIRST, "--portal=portal"),
        (*FIRST, "--portal=a.com@LOG_LEVEL=x"),
        (*FIRST, "--region=mars"),
        (*FIRST, "--service=a-name-that-is-far-too-long"),
        (*FIRST, "--location=Paris"),
        (*FIRST, "--database=x"),
        (*FIRST, "--client-id=a b"),
        (*FIRST, "--connectors=a@b"),
        (*FIRST, "--retention-days=-1"),
        (*FIRST, "--keep-text-days=367"),
        (*FIRST, "--dead-letter-days=3651"),
        (*FIRST, "--backups=99"),
        (*FIRST, "--concurrency=0"),
        (*FIRST, "--concurrency=1001"),
        (*FIRST, "--concurrency="),
        (*FIRST, "--max-instances=many"),
        (*FIRST, "--alert-email=nobody"),
        (*FIRST, "--alert-channel=slack"),
        (*FIRST, "--status", "--destroy"),
    ],
)
def test_wrong_options_are_said_before_anything_is_asked(
    cloud: Cloud, options: tuple[str, ...]
) -> None:
    """A typing error costs nothing: exit code 2, and gcloud is not even called."""
    code, output = cloud.attempt(*options)

    assert code == 2, output
    assert "./deploy.sh --help lists the options." in output
    assert cloud.calls == []


def test_a_first_deployment_needs_to_know_which_installs_to_accept(cloud: Cloud) -> None:
    """Without either setting the function would refuse every install."""
    code, output = cloud.attempt("--project=my-project")

    assert code == 2
    assert "A first deployment needs --portal" in output
    assert cloud.changes == []
