"""The function in this process, for tests that do not need a separate one."""

import io
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any, Self

import functions_framework
import pytest

from handler.deadline import Deadline
from handler.stores.interface import Document, Fields
from handler.stores.sqlite import LocalStore
from tests.doubles.bitrix24 import (
    Bitrix24,
    Delivery,
    Installation,
    OtherResult,
    Portal,
    Token,
    Value,
    http_build_query,
)
from tests.doubles.function import FORM, ROOT, Response, environment

ADDRESS = "https://function.example.com"
"""Where the function seems to be called: Bitrix24 takes no handler without a dot in its host."""

INSTALL_DATA: Mapping[str, Value] = {"VERSION": 1, "ACTIVE": "Y", "INSTALLED": "Y"}


class App:
    """One instance of the function; `settings` are added to the usual environment."""

    def __init__(self, store: Path, **settings: str) -> None:
        self.store = store
        self.answers: list[Response] = []
        self._out = io.StringIO()
        usual = {"STORE": "local", "LOCAL_STORE_PATH": str(store)}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(self._out):
            patch.setattr(os, "environ", environment(**usual | settings))
            self._app = functions_framework.create_app(  # type: ignore[no-untyped-call] # no types
                "handle", str(ROOT / "main.py")
            )

    def post(
        self,
        body: bytes,
        content_type: str = FORM,
        address: str = f"{ADDRESS}/",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one event; thread-safe."""
        with self._app.test_client() as client:
            sent = {"Content-Type": content_type, **(headers or {})}
            answer = client.post(address, data=body, headers=sent)
            response = Response(answer.status_code, dict(answer.headers), answer.data)
        self.answers.append(response)
        return response

    @property
    def log(self) -> str:
        """Its output so far."""
        return self._out.getvalue()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Its output as JSON lines; there must be nothing else."""
        return [json.loads(line) for line in self.log.splitlines()]


class Stage:
    """Bitrix24 and instances of the function that share a store, for as long as a block lasts.

    Leaving it proves that no token that was issued has got into a log, an answer or a document.
    """

    def __init__(self, folder: Path) -> None:
        self.bitrix = Bitrix24()
        self.apps: list[App] = []
        self.store = folder / "store.sqlite3"

    def __enter__(self) -> Self:
        self.bitrix.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bitrix.__exit__(kind)
        said = [text for app in self.apps for text in (app.log, *map(whole_text, app.answers))]
        assert not leaked(self.bitrix.secrets, [*said, stored_text(self.store)])

    def start(self, **settings: str) -> App:
        """Start an instance that uses the stand-in's OAuth servers."""
        servers = {"BITRIX24_OAUTH_SERVERS": self.bitrix.oauth_servers}
        app = App(self.store, **servers | settings)
        self.apps.append(app)
        return app

    def clear(self) -> None:
        """Forget all faults, calls and documents."""
        self.bitrix.clear_faults()
        self.bitrix.calls.clear()
        LocalStore(str(self.store)).delete(self.documents, Deadline(5))

    @property
    def documents(self) -> dict[str, Fields]:
        """Every document in the store, by path."""
        return stored(self.store)

    def portal(self, portal: Portal) -> Fields:
        """Return a portal's document."""
        return self.documents[f"portals/{portal.member_id}"]

    def write(self, path: str, fields: Fields) -> None:
        """Write fields of a document by hand, even while the function changes it."""
        store = LocalStore(str(self.store))
        stored = False
        while not stored:
            found = store.get(path, Deadline(5))
            written = {**(found.fields if found else {}), **fields}
            stored = store.put(Document(path, written, found and found.version), Deadline(5))

    def replace(self, path: str, fields: Fields) -> None:
        """Replace an existing document."""
        store = LocalStore(str(self.store))
        found = store.get(path, Deadline(5))
        assert store.put(Document(path, fields, found and found.version), Deadline(5))


def install_body(installation: Installation, token: Token | None, **changes: Value) -> bytes:
    """Build an ONAPPINSTALL with other fields in `auth`; `None` omits one."""
    auth = installation.auth(token, refresh=token is not None) | changes
    return event_body("ONAPPINSTALL", INSTALL_DATA, auth)


def event_body(name: str, data: Value, auth: Mapping[str, Value]) -> bytes:
    """Build the body of any event with any `auth`."""
    return http_build_query({"event": name, "data": data, "ts": 1773752400, "auth": auth}).encode()


def app_info(portal: Portal, client_id: Value = "local.1", **install: Value) -> OtherResult:
    """Build an app.info answer for a portal, with other fields in `install`."""
    known: Mapping[str, Value] = {
        "member_id": portal.member_id,
        "domain": portal.domain,
        "client_endpoint": portal.client_endpoint,
    }
    return OtherResult({"result": {"client_id": client_id, "install": {**known, **install}}})


def whole_text(answer: Response | Delivery) -> str:
    """Return everything readable in an answer, including its headers."""
    if isinstance(answer, Delivery):
        return answer.answer.decode()
    return f"{answer.headers} {answer.body.decode()}"


def leaked(secrets: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Return the secrets that appear in any of the texts."""
    everything = "\n".join(texts)
    return [secret for secret in secrets if secret in everything]


def stored(store: Path) -> dict[str, Fields]:
    """Return every document of an embedded store, by path."""
    opened = LocalStore(str(store))
    found = {path: opened.get(path, Deadline(5)) for path, _ in _rows(store)}
    return {path: document.fields for path, document in found.items() if document}


def stored_text(store: Path) -> str:
    """Return the whole contents of an embedded store's file."""
    return "\n".join(f"{path} {fields}" for path, fields in _rows(store)) if store.exists() else ""


def _rows(store: Path) -> list[tuple[str, str]]:
    LocalStore(str(store))  # creates the file, and its table, if they are missing
    with closing(sqlite3.connect(store)) as file:
        return file.execute("SELECT collection || '/' || name, fields FROM documents").fetchall()
