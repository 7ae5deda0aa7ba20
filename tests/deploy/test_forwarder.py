"""The forwarder as functions-framework runs it, from Eventarc's event to the receiver."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1.types import Document
from google.events.cloud.firestore import DocumentEventData
from standardwebhooks import Webhook

from tests.deploy.cloud import BASH
from tests.deploy.test_script import gcloud_output, offline_gcloud
from tests.doubles.function import ROOT, Function
from tests.doubles.gcloud import FakeCloud, answer, refuse
from tests.doubles.loopback import Receiver

EXAMPLE = ROOT / "examples/on-deletion"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATH = "projects/p/databases/(default)/documents/portals/{}/deletions/5f2c"


class Forwarder(Function):
    """The forwarder in place of our function."""

    command = ("--target=on_deletion", "--signature-type=cloudevent")
    folder = EXAMPLE


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Serve on loopback."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def forwarder(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forwarder]:
    """Run the forwarder like Cloud Run."""
    log = tmp_path_factory.mktemp("forwarder") / "log"
    settings = {"WEBHOOK_URL": f"{receiver.url}/hook", "WEBHOOK_SECRET": SECRET}
    with Forwarder(log, **settings) as forwarder:
        yield forwarder


def event(portal: str = "a223") -> bytes:
    """Return Firestore's event for a new record."""
    at = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    fields: dict[str, Any] = {
        "origin": {"string_value": "portal"},
        "line_id": {"integer_value": 128},
        "text_cut": {"boolean_value": True},
        "event_at": {"timestamp_value": at},
        "text": {"string_value": "Grüße"},
        "files": {"array_value": {"values": [{"string_value": "a.pdf"}]}},
    }
    document = {"name": PATH.format(portal), "fields": fields, "create_time": at}
    serialized: bytes = DocumentEventData.serialize(DocumentEventData(value=document))
    # Firestore's own document message has the same shape.
    inner = Document(name=PATH.format(portal), fields=fields, create_time=at)
    assert DocumentEventData.deserialize(serialized).value.name == inner.name
    return serialized


def deliver(forwarder: Forwarder, body: bytes) -> int:
    """Deliver an event like Eventarc; return the status."""
    headers = {
        "content-type": "application/protobuf",
        "ce-id": "1",
        "ce-source": "//firestore.googleapis.com/projects/p/databases/(default)",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.firestore.document.v1.created",
    }
    return forwarder.request("POST", "/", body, headers).status


def test_a_record_arrives_signed_with_its_id(forwarder: Forwarder, receiver: Receiver) -> None:
    """The library's own verification accepts it; it has every kind of value."""
    receiver.status["POST"] = 204
    receiver.requests.clear()

    assert deliver(forwarder, event()) == 200

    (request,) = receiver.requests
    assert request.headers["webhook-id"] == "5f2c"
    assert Webhook(SECRET).verify(request.body, dict(request.headers)) == {
        "type": "openline.message.deleted",
        "timestamp": "2026-11-25T10:00:00+00:00",
        "data": {
            "id": "5f2c",
            "origin": "portal",
            "line_id": 128,
            "text_cut": True,
            "event_at": "2026-11-25T10:00:00+00:00",
            "text": "Grüße",
            "files": ["a.pdf"],
        },
    }


def test_the_made_up_portals_of_the_deployment_are_skipped(
    forwarder: Forwarder, receiver: Receiver
) -> None:
    """Deploying a new version sends nothing to the receiver."""
    receiver.requests.clear()

    assert deliver(forwarder, event("deploy-check-1f")) == 200
    assert receiver.requests == []


@pytest.mark.parametrize(("status", "answer"), [(500, 500), (302, 500), (404, 500), (410, 200)])
def test_rejected_record_is_delivered_again(
    forwarder: Forwarder, receiver: Receiver, status: int, answer: int
) -> None:
    """An error makes Eventarc retry; with 410, a receiver asks for no more."""
    receiver.status["POST"] = status
    receiver.requests.clear()

    assert deliver(forwarder, event()) == answer
    assert len(receiver.requests) == 1


def test_real_gcloud_accepts_its_deployment(tmp_path: Path) -> None:
    """Each command that a dry run prints gets as far as "no active account"."""
    environment = offline_gcloud(tmp_path)
    options = ("--project=my-project", "--url=https://example.com/hook?a=1,2", "--dry-run")
    done = subprocess.run(
        [BASH, EXAMPLE / "deploy.sh", *options], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("  $ ")]
    commands = [shlex.split(line)[2:] for line in lines]

    assert len(commands) == 10
    said = gcloud_output(environment, commands)
    assert [each for each in said if "active account" not in each] == []


class ForwarderCloud(FakeCloud):
    """A Google Cloud project as the forwarder's deploy.sh sees it."""

    def gcloud(self, words: list[str]) -> None:
        match words:
            case ["eventarc", "triggers", "list"]:
                _, _, wanted = self.flags["filter"].partition("name~/triggers/")
                name = wanted.split("$")[0]
                found = [each for (_, named), each in self.triggers.items() if named == name]
                answer("\n".join(found))
            case ["eventarc", "triggers", "describe", name]:
                if (self.flags["location"], name) not in self.triggers:
                    refuse("NOT_FOUND: Resource not found.")
            case ["eventarc", "triggers", "create", name]:
                (database,) = re.findall(
                    r"--event-filters=database=(\S+)", " ".join(self.arguments)
                )
                where = (self.flags["location"], database, self.flags["destination-run-region"])
                self.triggers[where[0], name] = "\t".join(where)
            case ["eventarc", "triggers", "delete", name]:
                del self.triggers[self.flags["location"], name]
            case ["secrets", "describe", _]:
                refuse("NOT_FOUND: Secret not found.")
            case ["secrets" | "run", *_]:
                pass
            case _:
                super().gcloud(words)

    @property
    def triggers(self) -> dict[Any, Any]:
        return self.things("triggers")


@pytest.mark.parametrize("location", ["europe-west1", "eur3"])
def test_a_trigger_of_another_database_is_reported(tmp_path: Path, location: str) -> None:
    """It would go on firing, and one in the same location even prevent the new one."""
    databases = {"(default)": "europe-west1", "other": location}
    cloud = ForwarderCloud(databases=databases)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def run(*options: str) -> tuple[int, str]:
        cloud.calls.clear()
        script = str(EXAMPLE / "deploy.sh")
        command = [script, "--project=p", "--url=https://example.com", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    (tmp_path / "bash").symlink_to(shutil.which(BASH) or BASH)
    with cloud.serve(tmp_path, "gcloud", "sleep") as server:
        assert run() == (0, "")
        assert run() == (0, ""), "again with the same database"
        code, error = run("--database=other")
        assert code == 1
        assert "new records of the database (default) to the function in europe-west1" in error
        assert [call[1:4] for call in cloud.calls] == [
            ["iam", "service-accounts", "describe"],
            ["eventarc", "triggers", "list"],
        ]

        cloud.ask(shlex.split(error.splitlines()[-1]))
        assert run("--database=other") == (0, "")
        assert cloud.triggers == {(location, "on-deletion"): f"{location}\tother\teurope-west1"}
        server.shutdown()


def test_real_gcloud_accepts_how_it_looks_for_triggers(tmp_path: Path) -> None:
    """A dry run does not print it."""
    script = (EXAMPLE / "deploy.sh").read_text()
    (command,) = re.findall(r"\$\((gcloud eventarc triggers list .*?)\)\n", script, re.DOTALL)
    filled = command.replace("\\\n", " ").replace("$project", "my-project")
    words = shlex.split(filled)[1:]

    (said,) = gcloud_output(offline_gcloud(tmp_path), [words])
    assert "active account" in said


def test_its_deployment_needs_a_project_and_an_https_url() -> None:
    """Anything else is reported immediately."""
    for options in ((), ("--project=p",), ("--project=p", "--url=http://example.com")):
        script = [EXAMPLE / "deploy.sh", *options]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr


def test_its_requirements_are_pinned_with_hashes() -> None:
    """Separately: it is deployed from its own folder."""
    text = (EXAMPLE / "requirements.txt").read_text()
    pinned = json.dumps(text).count("==")

    assert pinned > 20
    assert "://" not in text
    for name in (EXAMPLE / "requirements.in").read_text().splitlines():
        assert f"\n{name.split()[0]}==" in f"\n{text}"
