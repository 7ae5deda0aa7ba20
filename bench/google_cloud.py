"""The function's requests to Google Cloud other than those to Firestore, against a double."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import client, sample
from bench.database import PROJECT, plain
from bench.server import FUNCTION, SMALLEST, Server
from bench.table import Row
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.google_cloud import google_cloud

_QUESTIONS_AT_MOST: Final = 1
_OK: Final = 200


def metadata_requests(sources: Path) -> Iterator[Row]:
    """Count the requests to the metadata server before the first answer."""
    ours = _ask(sources, FUNCTION, GOOGLE_CLOUD_PROJECT=PROJECT)  # as deploy.sh sets it
    reference = _ask(sources, SMALLEST)
    yield Row(
        "requests to the metadata server before the first answer on Google Cloud (stand-in)",
        f"{len(reference)}: a plain `Client()`",
        f"{len(ours)}",
        f"{_QUESTIONS_AT_MOST}",
        kept=len(ours) <= _QUESTIONS_AT_MOST,
    )


def _ask(sources: Path, source: str, **more: str) -> list[str]:
    with FirestoreDouble() as double, google_cloud(double.host, PROJECT) as (settings, metadata):
        plain("double", double.host)
        with Server(sources, source, **settings, **more) as server, server.connect() as connection:
            status, body = connection.send(client.post(sample.body()))
        if status != _OK:
            raise RuntimeError(f"{source} answered {status}: {body!r}")
        return metadata.questions
