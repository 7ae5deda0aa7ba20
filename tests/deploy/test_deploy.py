"""deploy.sh, without a cloud: a stand-in records what would be run, and real gcloud parses it."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import samples
from tests.doubles.function import ROOT
from tests.doubles.gcloud import FakeCloud

SCRIPT = ROOT / "deploy.sh"
DRY_RUN = samples.HERE / "deploy" / "dry-run.txt"
READS = {"version", "list", "describe", "list-configs", "get-iam-policy"}
# What deploy.sh needs beside gcloud and curl; the tests give it nothing else.
TOOLS = ("awk", "bash", "cat", "dirname", "env", "grep", "mktemp", "rm", "sed", "tr", "wc")
SERVICE = "bitrix24-deletions"
HOST = f"{SERVICE}-123456789012.europe-west1.run.app"
FIRST = ("--project=my-project", "--portal=mycompany.bitrix24.com")
ALL = (*FIRST, "--alert-email=ops@example.com", "--uptime-check", "--backups")


class Cloud(FakeCloud):
    """A Google Cloud project, and the script that works on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            version="528.0.0",
            account="me@example.com",
            billing="True",
            projects={"my-project": "123456789012"},
            health=["200"],
        )
        self.bin = folder
        for tool in TOOLS:
            (folder / tool).symlink_to(shutil.which(tool) or tool)

    @property
    def service(self) -> dict[str, Any]:
        service: dict[str, Any] = self.state["services"][SERVICE]
        return service

    def run(self, *options: str, env: dict[str, str] | None = None) -> str:
        """Run the script, which must succeed."""
        code, output = self.attempt(*options, env=env)
        assert code == 0, output
        return output

    def attempt(self, *options: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Run the script; `calls` is then what this run called."""
        self.calls.clear()
        done = subprocess.run(
            [SCRIPT, *options],
            env={"PATH": str(self.bin)} | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def changes(self) -> list[list[str]]:
        gcloud = [call for call in self.calls if call[0] == "gcloud"]
        return [call for call in gcloud if not READS.intersection(call)]

    @property
    def changed(self) -> list[str]:
        """Each changing command as its words, without flags."""
        return [
            " ".join(word for word in call[1:] if not word.startswith("--"))
            for call in self.changes
        ]

    def settings(self) -> dict[str, str]:
        """Tell which environment variables the deployment of this run set."""
        (deploy,) = [call for call in self.changes if call[1:3] == ["run", "deploy"]]
        (flag,) = [word for word in deploy if word.startswith("--update-env-vars=^@^")]
        pairs = flag.removeprefix("--update-env-vars=^@^").split("@")
        return dict(pair.split("=", 1) for pair in pairs)


def printed(output: str) -> list[list[str]]:
    """Read the commands that a run printed, as a shell would."""
    joined = output.replace("\\\n", " ")
    lines = [line.strip() for line in joined.splitlines()]
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith("$ ")]


@contextmanager
def served(folder: Path) -> Iterator[Cloud]:
    """Give an empty project, on a PATH of its own."""
    folder.mkdir()
    cloud = Cloud(folder)
    with cloud.serve(folder, "gcloud", "curl", "sleep") as server:
        yield cloud
        server.shutdown()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Give a project where nothing was ever done."""
    with served(tmp_path / "bin") as cloud:
        yield cloud


@pytest.fixture(scope="session")
def deployed_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Deploy everything once, for all the tests that begin there."""
    with served(tmp_path_factory.mktemp("deployed") / "bin") as cloud:
        cloud.run(*ALL)
        return cloud.state


@pytest.fixture
def deployed(cloud: Cloud, deployed_state: dict[str, Any]) -> Cloud:
    """Give a project where everything was deployed once."""
    cloud.state = copy.deepcopy(deployed_state)
    return cloud


def test_a_dry_run_prints_each_changing_command_in_order_and_runs_none(cloud: Cloud) -> None:
    """The dry run is a document: word for word the sample that a person has read."""
    output = cloud.run(*ALL, "--dry-run")

    assert cloud.changes == []
    assert [call for call in cloud.calls if call[0] == "curl"] == []
    assert output == DRY_RUN.read_text()


def test_a_run_does_what_the_dry_run_printed(cloud: Cloud) -> None:
    """What is printed, pasted into a shell, is what is run, argument by argument."""
    announced = printed(cloud.run(*ALL, "--dry-run"))
    output = cloud.run(*ALL)

    real_name = "projects/p/notificationChannels/1"
    named = [
        [word.replace("projects/my-project/notificationChannels/NEW", real_name) for word in call]
        for call in announced
    ]
    assert cloud.changes == named
    assert printed(output)[: len(named)] == named


def test_the_first_deployment_ends_with_the_address_and_the_next_step(cloud: Cloud) -> None:
    """Whoever ran it knows what to paste into Bitrix24, and that it was reached."""
    output = cloud.run(*FIRST)

    assert [call[-1] for call in cloud.calls if call[0] == "curl"] == [f"https://{HOST}/health"]
    assert f"\n    https://{HOST}\n" in output
    assert "initial installation path" in output
    assert cloud.settings() == {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "FUNCTION_URL": f"https://{HOST}",
        "ALLOWED_PORTALS": "mycompany.bitrix24.com",
        "THREADS": "32",
    }


def test_a_second_run_only_deploys(deployed: Cloud) -> None:
    """Everything that is there is left alone, whatever options made it."""
    deployed.run(*ALL)

    assert deployed.changed == [f"run deploy {SERVICE}"]


def test_a_second_run_keeps_what_it_is_not_given(deployed: Cloud) -> None:
    """Settings, and the limits on instances, change only when given."""
    before = copy.copy(deployed.service["env"])
    deployed.run("--project=my-project")

    (deploy,) = deployed.changes
    assert deployed.settings() == {"GOOGLE_CLOUD_PROJECT": "my-project"}
    assert deployed.service["env"] == before
    assert not [word for word in deploy if word.startswith(("--concurrency", "--max-instances"))]


def test_a_later_run_changes_and_clears_settings(deployed: Cloud) -> None:
    """Concurrency and THREADS are one number; an empty value clears; a list is replaced."""
    deployed.run(
        *("--project=my-project", "--concurrency=40", "--max-instances", "5"),
        *("--connectors", "", "--retention-days=90", "--client-id=local.5f"),
        *("--portal", "HTTPS://One.bitrix24.com/", "--portal=two.example.com,three.bitrix24.eu"),
    )

    assert deployed.settings() == {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "ALLOWED_PORTALS": "one.bitrix24.com,two.example.com,three.bitrix24.eu",
        "CLIENT_ID": "local.5f",
        "CONNECTORS": "",
        "RETENTION_DAYS": "90",
        "THREADS": "40",
    }
    assert {"--concurrency=40", "--max-instances=5"} < set(deployed.changes[0])


def test_every_option_is_an_environment_variable_and_options_win(cloud: Cloud) -> None:
    """A pipeline deploys with variables alone."""
    variables = {
        "DEPLOY_PROJECT": "my-project",
        "DEPLOY_PORTAL": "a.bitrix24.com",
        "DEPLOY_ALERT_EMAIL": "ops@example.com",
        "DEPLOY_UPTIME_CHECK": "1",
        "DEPLOY_BACKUPS": "1",
        "DEPLOY_DRY_RUN": "1",
    }
    output = cloud.run("--portal=mycompany.bitrix24.com", env=variables)

    assert output == DRY_RUN.read_text()


def test_a_database_that_is_there_is_left_alone(cloud: Cloud) -> None:
    """A location that differs is said, not forced."""
    cloud.state.update(databases={"(default)": "eur3\tFIRESTORE_NATIVE"})
    output = cloud.run(*FIRST)

    assert "firestore databases create" not in cloud.changed
    assert "it is there, in eur3" in output
    assert "not in europe-west1: a location is for ever" in output


def test_a_database_in_datastore_mode_is_refused(cloud: Cloud) -> None:
    """The function could not use it, so another one is asked for."""
    cloud.state.update(databases={"(default)": "eur3\tDATASTORE_MODE"})
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "--database NAME" in output


def test_a_named_database_is_remembered_by_the_service(cloud: Cloud) -> None:
    """A later run without --database makes no second one."""
    cloud.run(*FIRST, "--database=deletions", "--location=eur3")
    cloud.run(*FIRST)

    assert cloud.state["databases"] == {"deletions": "eur3\tFIRESTORE_NATIVE"}
    assert cloud.changed == [f"run deploy {SERVICE}"]
    assert cloud.service["env"]["FIRESTORE_DATABASE"] == "deletions"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"version": "400.0.0"}, "gcloud components update"),
        ({"account": ""}, "gcloud auth login"),
        ({"projects": {}}, "Is the ID right"),
        ({"billing": "False"}, "console.cloud.google.com/billing/linkedaccount"),
        ({"refused": {"services enable": "PERMISSION_DENIED"}}, "serviceUsageAdmin"),
        ({"refused": {"service-accounts create": "PERMISSION_DENIED"}}, "serviceAccountAdmin"),
        ({"refused": {"run services describe": "PERMISSION_DENIED: no"}}, "PERMISSION_DENIED: no"),
        ({"refused": {"databases describe": "PERMISSION_DENIED"}}, "roles/datastore.owner"),
        ({"refused": {"run deploy": "requireInvokerIam"}}, "roles/run.admin"),
    ],
)
def test_each_failure_says_what_to_do(cloud: Cloud, state: dict[str, Any], expected: str) -> None:
    """No preflight check and no refusal leaves a person without a next step."""
    cloud.state.update(**state)
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert expected in output


def test_without_gcloud_it_says_where_to_get_it(cloud: Cloud) -> None:
    """The first thing missing is the first thing said."""
    (cloud.bin / "gcloud").unlink()
    code, output = cloud.attempt(*FIRST)

    assert code == 1
    assert "https://cloud.google.com/sdk/docs/install" in output


def test_billing_that_may_not_be_seen_is_not_taken_for_off(cloud: Cloud) -> None:
    """Many who may deploy may not look at billing."""
    cloud.state.update(refused={"billing projects describe": "PERMISSION_DENIED"})
    assert "may not see it" in cloud.run(*FIRST)


def test_before_its_apis_are_enabled_a_project_is_taken_for_empty(cloud: Cloud) -> None:
    """A dry run works on a project where nothing was ever done."""
    disabled = "PERMISSION_DENIED: Cloud Firestore API has not been used in project 1 before"
    commands = ("run services describe", "databases describe", "fields", "metrics describe")
    cloud.state.update(
        refused=dict.fromkeys((*commands, "channels list", "policies list"), disabled)
    )

    output = cloud.run(*FIRST, "--dry-run")

    assert "gcloud firestore databases create" in output


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
    assert "it answers 200" in cloud.run(*FIRST)


def test_a_new_account_that_is_not_known_everywhere_is_waited_for(cloud: Cloud) -> None:
    """Its role is given as soon as Google Cloud knows the account."""
    cloud.state.update(unknown_accounts=2)
    cloud.run(*FIRST)

    assert len(cloud.state["bindings"]) == 2


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
        (*FIRST, "--concurrency=0"),
        (*FIRST, "--concurrency=1001"),
        (*FIRST, "--max-instances=many"),
        (*FIRST, "--alert-email=nobody"),
        (*FIRST, "--rollback=other-service-00001-abc"),
        (*FIRST, "--canary", "--promote"),
    ],
)
def test_wrong_options_are_said_before_anything_is_asked(
    cloud: Cloud, options: tuple[str, ...]
) -> None:
    """A typing error costs nothing: exit code 2, and gcloud is not even called."""
    code, output = cloud.attempt(*options)

    assert code == 2, output
    assert "--help" in output
    assert cloud.calls == []


def test_a_first_deployment_without_portal_is_explained(cloud: Cloud) -> None:
    """Nothing is made that would then refuse every install."""
    code, output = cloud.attempt("--project=my-project")

    assert code == 2
    assert "refuses every install" in output
    assert cloud.changes == []


@pytest.mark.parametrize(
    "command",
    [
        "service-accounts create bitrix24-deletions-build",
        "databases create",
        "fields update expires_at",
        "run deploy",
        "policies create",
    ],
)
def test_a_failure_in_the_middle_is_completed_by_the_next_run(
    cloud: Cloud, deployed_state: dict[str, Any], command: str
) -> None:
    """Wherever it stopped, the same command again ends where an undisturbed run ends."""
    cloud.state.update(refused={command: "UNAVAILABLE: try later"})
    code, output = cloud.attempt(*ALL)
    assert code == 1
    assert "Stopped at: " in output
    assert "run again, completes it" in output

    cloud.state.update(refused={})
    cloud.run(*ALL)

    again = {**cloud.state, "services": {**cloud.state["services"], SERVICE: {}}}
    whole = {**deployed_state, "services": {SERVICE: {}}, "refused": {}}
    assert again == whole
    assert cloud.service["env"] == deployed_state["services"][SERVICE]["env"]


def test_a_canary_gets_no_traffic_until_it_is_promoted(deployed: Cloud) -> None:
    """It is checked at its own address; promoting moves all traffic and frees the tag."""
    stable = deployed.service["serving"]
    output = deployed.run("--project=my-project", "--canary")
    assert deployed.service["serving"] == stable
    assert {"--no-traffic", "--tag=canary"} < set(deployed.changes[0])
    assert deployed.calls[-1][-1] != f"https://{HOST}/health"
    assert f"https://canary---{HOST}" in output

    deployed.run("--project=my-project", "--promote")
    assert deployed.changed == [f"run services update-traffic {SERVICE}"]
    assert deployed.service["serving"] == f"{SERVICE}-00002-abc"
    assert deployed.service["canary"] is None

    deployed.run("--project=my-project")
    assert deployed.changed == [f"run deploy {SERVICE}"]
    assert deployed.service["serving"] == f"{SERVICE}-00003-abc"


@pytest.mark.parametrize("option", ["--canary", "--promote", "--rollback"])
def test_without_a_service_there_is_no_canary_and_no_way_back(cloud: Cloud, option: str) -> None:
    """Cloud Run refuses a first deployment without traffic, so it is not tried."""
    code, output = cloud.attempt(*FIRST, option)

    assert code == 1
    assert "First deploy it" in output
    assert cloud.changes == []


def test_only_a_canary_that_is_the_latest_revision_is_promoted(deployed: Cloud) -> None:
    """What gets the traffic is what was tried."""
    code, output = deployed.attempt("--project=my-project", "--promote")
    assert (code, "There is no canary" in output) == (1, True)

    deployed.run("--project=my-project", "--canary")
    deployed.service["revisions"].append(f"{SERVICE}-00003-abc")
    code, output = deployed.attempt("--project=my-project", "--promote")
    assert (code, "no longer the latest" in output) == (1, True)


def test_a_rollback_goes_to_the_ready_revision_before_and_ends_with_the_next_deployment(
    deployed: Cloud,
) -> None:
    """A revision that never became ready is passed over; deploying serves the newest again."""
    for _ in range(2):
        deployed.run("--project=my-project")
    deployed.state.update(broken=[f"{SERVICE}-00002-abc"])

    deployed.run("--project=my-project", "--rollback")
    assert deployed.service["serving"] == f"{SERVICE}-00001-abc"

    code, output = deployed.attempt("--project=my-project", "--rollback")
    assert (code, "--rollback=REVISION" in output) == (1, True)

    deployed.run("--project=my-project", f"--rollback={SERVICE}-00003-abc")
    assert deployed.service["serving"] == f"{SERVICE}-00003-abc"

    deployed.run("--project=my-project")
    assert deployed.changed == [
        f"run deploy {SERVICE}",
        f"run services update-traffic {SERVICE}",
    ]
    assert deployed.service["serving"] == f"{SERVICE}-00004-abc"


def test_destroying_keeps_the_data_and_says_so(deployed: Cloud) -> None:
    """The service and all around it goes; no command touches Firestore; twice is as good."""
    output = deployed.run("--project=my-project", "--destroy")

    state = deployed.state
    gone = ("services", "accounts", "bindings", "metrics", "policies", "uptime")
    assert {kind: state[kind] for kind in gone} == {kind: {} for kind in gone}
    assert not [command for command in deployed.changed if command.startswith("firestore")]
    assert "Kept: every record in Firestore" in output

    deployed.run("--project=my-project", "--destroy")
    assert deployed.changes == []


def test_another_address_is_added_to_the_alerts(deployed: Cloud) -> None:
    """An alert that exists gets one more channel and loses none."""
    deployed.run(*FIRST, "--uptime-check", "--alert-email=second@example.com")

    assert len(deployed.state["policies"]) == 3
    for value in deployed.state["policies"].values():
        assert value.endswith("Channels/1;projects/p/notificationChannels/2")


def test_the_help_tells_every_option() -> None:
    """What the parser accepts is what the help explains."""
    shown = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    source = SCRIPT.read_text()
    accepted = re.findall(r'^(?:VALUE_OPTIONS|SWITCHES)="([^"]*)"', source, re.MULTILINE)

    options = " ".join(accepted).split()
    assert len(options) == 19
    assert [option for option in options if f"--{option}" not in shown] == []


def test_the_script_is_clean_and_fits_old_bash() -> None:
    """Shellcheck and shfmt have nothing to say, and nothing is newer than bash 3.2."""
    tools = Path(sys.executable).parent
    subprocess.run([tools / "shellcheck", SCRIPT], check=True)
    subprocess.run([tools / "shfmt", "--diff", SCRIPT], check=True)

    newer = r"declare -[An]|local -[An]|mapfile|readarray|\$\{\w+(,|\^|@)|&>>|\|&|coproc"
    assert re.findall(newer, SCRIPT.read_text()) == []


def offline_gcloud(folder: Path) -> dict[str, str]:
    """Make an environment in which real gcloud parses, finds no account, and reaches nobody."""
    if not shutil.which("gcloud"):
        pytest.skip("gcloud is not installed: its own parser cannot check the commands")
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CLOUDSDK_CONFIG": str(folder),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }


def gcloud(environment: dict[str, str], *arguments: str) -> str:
    """Run the real gcloud."""
    program = shutil.which("gcloud") or "gcloud"
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_real_gcloud_accepts_every_command(deployed: Cloud, tmp_path: Path) -> None:
    """Each command line, read or change, gets as far as "no active account"."""
    environment = offline_gcloud(tmp_path)
    collected: dict[str, list[str]] = {}
    finished = copy.deepcopy(deployed.state)

    def collect(*options: str) -> None:
        deployed.run(*options)
        calls = [call[1:] for call in deployed.calls if call[0] == "gcloud"]
        collected.update({shlex.join(call): call for call in calls})

    collect("--project=my-project", "--canary")
    collect("--project=my-project", "--promote")
    collect("--project=my-project", "--rollback")
    collect(*FIRST, "--alert-email=second@example.com")
    collect("--project=my-project", "--destroy")
    deployed.state.update({kind: {} for kind in finished if isinstance(finished[kind], dict)})
    deployed.state.update(projects=finished["projects"])
    collect(*ALL, "--connectors=a,b", "--database=other")

    where = "value(installation.sdk_root,basic.python_location)"
    root, python = gcloud(environment, "info", f"--format={where}").split()
    bad = ["run", "deploy", "--no-such-flag"]
    done = subprocess.run(
        [python, Path(__file__).with_name("parse_with_gcloud.py"), root],
        env=environment,
        input=json.dumps([*collected.values(), bad]),
        capture_output=True,
        text=True,
        check=True,
    )
    *said, said_of_bad = json.loads(done.stdout)
    assert said_of_bad.startswith("exit code 2: ")
    assert len(said) > 60
    local = {"version", "auth"}
    wrong = [
        (command, answer)
        for command, answer in zip(collected, said, strict=True)
        if not ("active account" in answer or (command.split()[0] in local and " 0: " in answer))
    ]
    assert wrong == []


def test_only_what_runs_is_uploaded(tmp_path: Path) -> None:
    """Gcloud's own list for .gcloudignore: main.py, requirements.txt and handler, no more."""
    environment = offline_gcloud(tmp_path / "config")
    source = tmp_path / "source"
    wanted = ["handler/__init__.py", "handler/commands/send.py", "main.py", "requirements.txt"]
    unwanted = [
        *("deploy.sh", "README.md", "pyproject.toml", "requirements-dev.txt", "tests/main.py"),
        *("handler/__pycache__/a.cpython-313.pyc", "handler/commands/__pycache__/b.pyc"),
        *(".venv/lib/main.py", ".git/config", ".data/records.json", "tests/handler/x.py"),
    ]
    for name in (*wanted, *unwanted):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shutil.copy(ROOT / ".gcloudignore", source)

    listed = gcloud(environment, "meta", "list-files-for-upload", str(source))
    assert sorted(listed.split()) == wanted
