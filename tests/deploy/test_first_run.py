"""The first deployment: what a dry run says, and that a run does it."""

import pytest

from tests import samples
from tests.deploy.cloud import ALL, FIRST, HOST, RUN, SERVICE, Cloud, printed
from tests.doubles.gcloud import PYTHON

DRY_RUN = samples.HERE / "deploy" / "dry-run.txt"
NOTHING = samples.HERE / "deploy" / "dry-run-of-nothing.txt"


def test_a_dry_run_prints_each_changing_command_in_order_and_runs_none(cloud: Cloud) -> None:
    """The dry run is a document: word for word the reviewed sample."""
    output = cloud.run(*ALL, "--dry-run")

    assert cloud.changes == []
    assert [call for call in cloud.calls if call[0] in ("curl", PYTHON)] == []
    assert output == DRY_RUN.read_text()


def test_a_dry_run_needs_nothing_at_all(cloud: Cloud) -> None:
    """Without options, gcloud or an account, it shows an empty project, and says so."""
    (cloud.bin / "gcloud").unlink()
    (cloud.bin / "curl").unlink()
    output = cloud.run("--dry-run")

    assert cloud.calls == []
    assert output == NOTHING.read_text()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"account": ""}, "gcloud has no account"),
        ({"projects": {}}, "Is the ID right"),
    ],
)
def test_dry_run_without_access_says_so_and_continues(
    cloud: Cloud, state: dict[str, object], reason: str
) -> None:
    """It shows what would be done in an empty project, with a placeholder in the URL."""
    cloud.state.update(state)
    output = cloud.run(*FIRST, "--dry-run")

    assert reason in output
    assert "No project was read" in output
    assert f"https://{SERVICE}-PROJECT_NUMBER.europe-west1.run.app" in output
    assert ["gcloud", "firestore", "databases", "create"] in [call[:4] for call in printed(output)]
    assert cloud.changes == []


def test_dry_run_treats_unreadable_resources_as_missing(cloud: Cloud) -> None:
    """One refused read does not end it, and is reported."""
    cloud.state.update(refused={"databases describe": "PERMISSION_DENIED: no"})
    output = cloud.run(*FIRST, "--dry-run")

    assert "(could not be read, so this is shown as if nothing existed: ERROR:" in output
    assert "firestore databases create" in output


def test_everyone_who_can_read_the_records_or_logs_is_listed(cloud: Cloud) -> None:
    """With the role that allows it; an account that may not read the roles learns how to."""
    command = (*FIRST, "--dry-run")
    listed = cloud.run(*command).partition("these have one now:\n")[2].partition("\n\n")[0]
    assert listed.splitlines() == [
        "    user:me@example.com, roles/owner",
        "    group:support@example.com, roles/logging.viewer",
        "    group:support@example.com, roles/datastore.viewer",
    ]

    cloud.state.update(refused={"get-iam-policy": "PERMISSION_DENIED: no"})
    unread = "(not read; to list them: gcloud projects get-iam-policy my-project)"
    assert unread in cloud.run(*command)


def test_a_run_does_what_the_dry_run_printed(cloud: Cloud) -> None:
    """The printed commands, pasted into a shell, are those that run, argument by argument."""
    announced = printed(cloud.run(*ALL, "--dry-run"))
    output = cloud.run(*ALL)

    new, real = "projects/my-project/notificationChannels/NEW", "projects/p/notificationChannels/1"
    content = [word for call in cloud.changes for word in call if "=content=" in word]
    assert [[_named(word, new, real) for word in call] for call in announced] == [
        [_named(word, real, real) for word in call] for call in cloud.changes
    ]
    assert printed(output) == cloud.changes
    assert len(content) == 7


def _named(word: str, old: str, new: str) -> str:
    # An alert's checksum covers its channels, too.
    return "content" if "=content=" in word else word.replace(old, new)


def test_the_first_deployment_ends_with_the_address_and_the_next_step(cloud: Cloud) -> None:
    """The operator sees the URL to paste into Bitrix24, and that it was reached."""
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
    assert {"--concurrency=32", "--max-instances=3"} < set(cloud.changes[-4])


def test_the_account_may_use_its_own_database_and_no_other(cloud: Cloud) -> None:
    """The role has a condition on the database's name."""
    cloud.run(*FIRST, "--database=deletions")

    (grant,) = [call for call in cloud.changes if f"--member={RUN}" in call]
    name = "projects/my-project/databases/deletions"
    assert grant[-2:] == [
        "--role=roles/datastore.user",
        f'--condition=expression=resource.name=="{name}",title=database-deletions',
    ]


def test_texts_are_kept_only_if_asked_for(cloud: Cloud) -> None:
    """Then there is a setting; the expiry is always prepared."""
    cloud.run(*FIRST, "--keep-text-days=30")

    assert cloud.settings()["KEEP_TEXT_DAYS"] == "30"
    assert "(default) openline_messages" in cloud.state["ttls"]


@pytest.mark.parametrize(
    ("location", "place"),
    [("europe-west1", "europe-west1"), ("eur3", "eu"), ("nam5", "us"), ("nam7", "us")],
)
def test_dead_letters_stay_near_the_database(cloud: Cloud, location: str, place: str) -> None:
    """In their own bucket, for 400 days; log buckets have different multi-regions."""
    cloud.run(*FIRST, f"--location={location}")

    name = f"{SERVICE}-dead-letters"
    assert cloud.state["buckets"] == {f"{place} {name}": "400"}
    assert cloud.state["sinks"] == {
        name: f"logging.googleapis.com/projects/my-project/locations/{place}/buckets/{name}"
    }


@pytest.mark.parametrize(
    ("options", "days"),
    [
        (("--retention-days=90",), "90"),
        (("--retention-days=900",), "400"),
        (("--retention-days=90", "--dead-letter-days=100"), "100"),
    ],
)
def test_dead_letters_are_not_kept_longer_than_records(
    cloud: Cloud, options: tuple[str, ...], days: str
) -> None:
    """Unless they have their own number of days."""
    cloud.run(*FIRST, *options)

    assert list(cloud.state["buckets"].values()) == [days]


@pytest.mark.parametrize(
    ("options", "seconds"), [("--backups", 604_800), ("--backups=30", 2_592_000)]
)
def test_backups_are_kept_as_long_as_requested(cloud: Cloud, options: str, seconds: int) -> None:
    """By default for a week."""
    cloud.run(*FIRST, options)

    assert cloud.state["backups"] == {"(default)": f"schedule-1\t{seconds}s"}
