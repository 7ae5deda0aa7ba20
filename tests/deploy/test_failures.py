"""Errors say what to do, and the advice matches the error."""

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
    """Every failed check and every refusal has the right next step."""
    cloud.state.update(**state)
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert expected in output


def test_a_failure_without_a_matching_role_names_none(cloud: Cloud) -> None:
    """Advice about roles would be misleading where none is missing."""
    cloud.state.update(refused={"run deploy": "Build failed; check build logs"})

    assert "roles/run.admin" not in cloud.attempt(*FIRST)[1]


def test_without_gcloud_it_says_where_to_get_it(cloud: Cloud) -> None:
    """The first missing thing is reported first."""
    (cloud.bin / "gcloud").unlink()
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "https://cloud.google.com/sdk/docs/install" in output


def test_invisible_billing_is_not_taken_for_off(cloud: Cloud) -> None:
    """Many who may deploy may not view billing."""
    cloud.state.update(refused={"billing projects describe": "PERMISSION_DENIED"})

    assert "Your account cannot see whether it is" in cloud.run(*FIRST)


def test_project_without_enabled_apis_counts_as_empty(cloud: Cloud) -> None:
    """A dry run works on a new project."""
    disabled = "PERMISSION_DENIED: Cloud Firestore API has not been used in project 1 before"
    commands = ("run services describe", "databases describe", "fields", "metrics describe")
    cloud.state.update(
        refused=dict.fromkeys((*commands, "channels list", "policies list"), disabled)
    )

    output = cloud.run(*FIRST, "--dry-run")

    assert "gcloud firestore databases create" in output
    assert "could not be read" not in output


def test_forbidden_public_access_is_detected(cloud: Cloud) -> None:
    """Gcloud reports success; only a real request shows it."""
    cloud.state.update(health=["403"])
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "constraints/run.managed.requireInvokerIam" in output
    assert "paste" not in output


def test_a_function_that_does_not_start_points_to_its_log(cloud: Cloud) -> None:
    """An error in the function is not taken for forbidden access."""
    cloud.state.update(health=["503"])
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "HTTP 503" in output
    assert f"gcloud run services logs read {SERVICE}" in output


def test_the_check_waits_for_a_new_service(cloud: Cloud) -> None:
    """A URL that does not answer immediately is tried again."""
    cloud.state.update(health=["000", "404", "503", "200"])

    assert "It answers 200." in cloud.run(*FIRST)


def test_the_deep_check_is_shown_and_decides(cloud: Cloud) -> None:
    """It gets the URL, a connector that is recorded, and the token on standard input."""
    cloud.state.update(check=[(1, "The function answered HTTP 503: no\n")])
    code, output = cloud.attempt(*FIRST, "--connectors=telegrambot,livechat")

    assert (code, "The function answered HTTP 503" in output) == (1, True)
    assert "The function's log says why: gcloud run services logs read" in output
    (call,) = [index for index, call in enumerate(cloud.calls) if "deploy/check.py" in call]
    assert cloud.calls[call][2:4] == ["my-project", "(default)"]
    assert cloud.calls[call][5] == "telegrambot"
    assert cloud.inputs[call] == "ya29.token"

    assert "Skipped (--skip-deep-check)." in cloud.run(*FIRST, "--skip-deep-check")


def test_new_account_is_waited_for(cloud: Cloud) -> None:
    """Its role is granted once Google Cloud knows the account."""
    cloud.state.update(unknown_accounts=2)
    output = cloud.run(*FIRST)

    assert len(cloud.state["bindings"]) == 2
    assert output.count("retrying in 30 seconds") == 2


def test_new_role_is_waited_for(cloud: Cloud) -> None:
    """The deployment is retried, with a notice."""
    cloud.state.update(refused={"run deploy": "PERMISSION_DENIED"}, refused_times=3)
    output = cloud.run(*FIRST)

    assert output.count("retrying in 30 seconds") == 3


def test_refused_deployment_is_not_retried_without_a_new_role(deployed: Cloud) -> None:
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
def test_invalid_options_are_reported_first(cloud: Cloud, options: tuple[str, ...]) -> None:
    """A typing error costs nothing: exit code 2, and gcloud is not even called."""
    code, output = cloud.attempt(*options)

    assert code == 2, output
    assert "./deploy.sh --help lists the options." in output
    assert cloud.calls == []


def test_a_first_deployment_needs_to_know_which_installs_to_accept(cloud: Cloud) -> None:
    """Without either option, the function would refuse every install."""
    code, output = cloud.attempt("--project=my-project")

    assert code == 2
    assert "A first deployment needs --portal" in output
    assert cloud.changes == []
