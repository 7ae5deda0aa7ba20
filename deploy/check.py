"""The deep check of deploy.sh: sends a made-up deletion through the whole function.

    check.py PROJECT DATABASE URL CONNECTOR    check, and remove what the check stored
    check.py PROJECT DATABASE                  print how many active portals the database has

An access token for Firestore comes on standard input. It runs with the Python bundled with gcloud,
so it uses only the standard library.
"""

import hashlib
import http.client
import json
import secrets
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

# The forwarder (examples/on-deletion), the alerts and the dead letters exclude it.
PREFIX = "deploy-check-"
GROUPS = ("deletions", "openline_messages", "quarantine")
TIMEOUT_SECONDS = 30
# A new role can take minutes to take effect.
TRIES = 16
PAUSE_SECONDS = 15
ACTIVE = {
    "fieldFilter": {
        "field": {"fieldPath": "active"},
        "op": "EQUAL",
        "value": {"booleanValue": True},
    }
}


class CheckError(Exception):
    """The check failed; the message says why and what to do."""


class Documents:
    """Firestore's documents over REST, with the operator's account."""

    def __init__(
        self,
        project: str,
        database: str,
        token: str,
        host: str = "https://firestore.googleapis.com",
    ) -> None:
        self.project = project
        self.database = database
        self._base = f"{host}/v1/projects/{project}/databases/{database}/documents"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return Firestore's answer; raises `CheckError` unless it is a success."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - https, but to a test's own server
            self._base + path, data, self._headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise CheckError(
                f"Your account could not use the documents of {self.database}: {error}. The account"
                " needs roles/datastore.user; --skip-deep-check skips this check."
            ) from error

    def active_portals(self) -> int:
        """Count the portals whose events are accepted."""
        query = {"from": [{"collectionId": "portals"}], "where": ACTIVE}
        count = {"aggregations": [{"alias": "portals", "count": {}}], "structuredQuery": query}
        answer = self.call("POST", ":runAggregationQuery", {"structuredAggregationQuery": count})
        return int(answer[0]["result"]["aggregateFields"]["portals"]["integerValue"])

    def below(self, portal: str, group: str) -> Iterator[str]:
        """Return the path of each document of a made-up portal's collection."""
        answer = self.call("GET", f"/portals/{portal}/{group}?mask.fieldPaths=member_id")
        for document in answer.get("documents", []):
            yield document["name"].partition("/documents")[2]


def check(
    documents: Documents, url: str, connector: str, pause: Callable[[float], None] = time.sleep
) -> None:
    """Create a made-up portal, send the function a deletion of it, and look for its record.

    The made-up portal and its records are always removed. Raises `CheckError`.
    """
    portal = PREFIX + secrets.token_hex(8)
    token = secrets.token_hex(16)
    digest = {"stringValue": hashlib.sha256(token.encode()).hexdigest()}
    fields = {
        "member_id": {"stringValue": portal},
        "active": {"booleanValue": True},
        "token_digests": {"arrayValue": {"values": [digest]}},
    }
    stored = True
    try:
        try:
            documents.call("POST", f"/portals?documentId={portal}", {"fields": fields})
        except CheckError as error:
            # It can only have been stored if there was no answer.
            stored = not isinstance(error.__cause__, urllib.error.HTTPError)
            raise
        _send(documents, url, _event(portal, token, connector), pause)
        if len(list(documents.below(portal, "deletions"))) != 1:
            raise CheckError(f"The function did not store the sample in {documents.database}.")
    finally:
        if stored:
            _remove(documents, portal)


def _event(portal: str, token: str, connector: str) -> bytes:
    return urlencode(
        {
            "event": "ONOPENLINEMESSAGEDELETE",
            "data[CONNECTOR]": connector,
            "data[LINE]": 1,
            "data[DATA][0][im][chat_id]": 1,
            "data[DATA][0][im][message_id]": 1,
            "data[DATA][0][message][id]": 1,
            "data[DATA][0][chat][id]": 1,
            "ts": int(time.time()),
            "auth[member_id]": portal,
            "auth[domain]": "deploy-check.invalid",
            "auth[application_token]": token,
        }
    ).encode()


def _send(documents: Documents, url: str, body: bytes, pause: Callable[[float], None]) -> None:
    for left in range(TRIES)[::-1]:
        status, answer = _post(url, body)
        if status == 200 and '"recorded"' in answer:  # noqa: PLR2004 - HTTP's own number
            return
        if status != 503 or not left:  # noqa: PLR2004 - the same
            break
        print("  not stored yet (a new role can take minutes to take effect): retrying")  # noqa: T201
        sys.stdout.flush()
        pause(PAUSE_SECONDS)
    name = documents.database
    reason = {
        403: f"It did not find the made-up portal. Does it use a database other than {name}?",
        503: f"It could not use {name}. Does its account have roles/datastore.user for it?",
    }.get(status, "It did not store the sample.")
    raise CheckError(f"The function answered HTTP {status}: {answer.strip()[:500]}\n{reason}")


def _post(url: str, body: bytes) -> tuple[int, str]:
    try:
        try:
            answer = urllib.request.urlopen(url, body, timeout=TIMEOUT_SECONDS)  # noqa: S310
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error)


def _remove(documents: Documents, portal: str) -> None:
    try:
        for group in GROUPS:
            for path in documents.below(portal, group):
                documents.call("DELETE", path)
        documents.call("DELETE", f"/portals/{portal}")
    except CheckError as error:
        raise CheckError(
            f"The made-up portal {portal} could not be removed: {error}\nRemove it: "
            f"GOOGLE_CLOUD_PROJECT={documents.project} FIRESTORE_DATABASE='{documents.database}'"
            f" python -m handler portals purge {portal} --yes"
        ) from error


def main(arguments: list[str]) -> int:
    """Run the check or the count; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    documents = Documents(arguments[0], arguments[1], sys.stdin.read().strip())
    try:
        if len(arguments) == 2:  # noqa: PLR2004 - as the module's docstring says
            print(documents.active_portals())  # noqa: T201
        else:
            check(documents, arguments[2], arguments[3])
    except CheckError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
