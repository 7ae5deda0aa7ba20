"""The function as a process on a stand-in for Google Cloud: TLS, and tokens."""

import subprocess
import sys
from pathlib import Path

from grpc import StatusCode

from handler.deadline import Deadline
from handler.stores.interface import Document
from handler.tokens import token_digest
from tests.conftest import firestore_at
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import ROOT, Function, environment
from tests.doubles.google_cloud import google_cloud
from tests.samples import form, typed

AUTH = typed("portal-one-message")["auth"]


def test_deletions_are_recorded_with_the_token_of_the_functions_account(
    double: FirestoreDouble, project: str, tmp_path: Path
) -> None:
    """One request to the metadata server, and one more after Firestore rejects the token."""
    digests = [token_digest(AUTH["application_token"])]
    portal = Document(f"portals/{AUTH['member_id']}", {"token_digests": digests, "active": True})
    firestore_at(double.host, project).put(portal, Deadline(20))
    with google_cloud(double.host, project) as (cloud, metadata):
        settings = {**cloud, "GOOGLE_CLOUD_PROJECT": project}
        with Function(tmp_path / "log", **settings) as function:
            assert [] == metadata.questions
            metadata.token = "a"

            for recorded in (1, 0):
                answer = function.post(form("portal-one-message")).json
                assert {"recorded": recorded, "duplicates": 1 - recorded} == {
                    name: answer[name] for name in ("recorded", "duplicates")
                }
                assert "Bearer a" == double.headers["authorization"]
            assert 1 == len(metadata.questions)

            metadata.token = "b"
            double.refuse("Commit", StatusCode.UNAUTHENTICATED)
            assert 200 == function.post(form("portal-one-message")).status
            assert "Bearer b" == double.headers["authorization"]
            assert 2 == len(metadata.questions)
        for token in ("Bearer", AUTH["application_token"]):
            assert token not in function.log


def test_neither_grpc_nor_a_thread_exists_before_gunicorn_forks() -> None:
    """functions-framework imports main.py before the fork, which gRPC does not survive."""
    code = "import sys, threading, main; print('grpc' in sys.modules, threading.active_count())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment(GOOGLE_CLOUD_PROJECT="a-project"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "False 1\n" == told.stdout
