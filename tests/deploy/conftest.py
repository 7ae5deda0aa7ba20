"""Projects to deploy to: empty, fully deployed, and as version 0.1.0 left it."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.cloud import ALL, HOST, RUN, SERVICE, Cloud, served


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """Return an empty project."""
    with served(tmp_path / "bin") as cloud:
        yield cloud


@pytest.fixture(scope="session")
def deployed_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Deploy everything once, for all tests that start from there."""
    with served(tmp_path_factory.mktemp("deployed") / "bin") as cloud:
        cloud.run(*ALL)
        return cloud.state


@pytest.fixture
def deployed(cloud: Cloud, deployed_state: dict[str, Any]) -> Cloud:
    """Return a project where everything is deployed."""
    cloud.state = copy.deepcopy(deployed_state)
    return cloud


@pytest.fixture
def old(cloud: Cloud) -> Cloud:
    """Return a project as deploy.sh of version 0.1.0 left it."""
    group = "projects/p/x/collectionGroups/"
    build = RUN.replace("-run@", "-build@")
    policy = {"content": "-", "channels": "projects/p/notificationChannels/1"}
    revision = f"{SERVICE}-00001-abc"
    template = {
        "env": {
            "GOOGLE_CLOUD_PROJECT": "my-project",
            "FUNCTION_URL": f"https://{HOST}",
            "ALLOWED_PORTALS": "mycompany.bitrix24.com",
            "THREADS": "16",
        },
        "limits": {"concurrency": "16", "max-instances": "3"},
    }
    cloud.state.update(
        apis=dict.fromkeys(
            f"{api}.googleapis.com"
            for api in (
                *("run", "cloudbuild", "artifactregistry", "firestore"),
                *("iam", "logging", "monitoring", "storage"),
            )
        ),
        accounts={
            email.removeprefix("serviceAccount:"): email.removeprefix("serviceAccount:")
            for email in (RUN, build)
        },
        bindings={RUN: ["roles/datastore.user\t"], build: ["roles/run.builder\t"]},
        databases={"(default)": "europe-west1\tFIRESTORE_NATIVE\tPOINT_IN_TIME_RECOVERY_DISABLED"},
        exempt={
            "(default)": [
                *(f"{group}{name}/fields/event_at" for name in ("deletions", "quarantine")),
                *(f"{group}{name}/fields/expires_at" for name in ("deletions", "quarantine")),
                f"{group}quarantine/fields/payload",
            ]
        },
        ttls={
            f"(default) {name}": f"{group}{name}/fields/expires_at"
            for name in ("deletions", "quarantine")
        },
        metrics={
            f"{SERVICE}-{name}": f"{SERVICE}-{name}" for name in ("not-recorded", "install-refused")
        },
        channels={"ops@example.com": "projects/p/notificationChannels/1"},
        policies={
            f"{SERVICE}: a deletion was not recorded": {
                "name": "projects/p/alertPolicies/1",
                **policy,
            },
            f"{SERVICE}: an install was refused": {"name": "projects/p/alertPolicies/2", **policy},
        },
        services={
            SERVICE: {
                **template,
                "revisions": {revision: copy.deepcopy(template)},
                "serving": revision,
                "checking": None,
            }
        },
    )
    return cloud
