"""Runs commands on an embedded store, like a person at a shell."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from handler.commands import main
from handler.console.portal_option import NO_PORTAL
from handler.deadline import Deadline
from handler.records.documents import Delivery
from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Document, Fields
from handler.stores.sqlite import LocalStore
from tests.samples import in_portal

MOMENT = datetime(2026, 3, 17, 12, tzinfo=UTC)

FITS = json.dumps(in_portal("a"))


class Shell:
    """Runs commands in this process, with access to their store."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.store = LocalStore(str(path))
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, stdout and stderr.

        The line on stderr that names the store is left out.
        """
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err.removeprefix(f"Store: {self.path}\n")

    def json(self, *arguments: str) -> list[Any]:
        """Run a command that prints JSON lines; it may report that there are no portals."""
        code, out, err = self(*arguments, "--json")
        assert (0, "") == (code, err.removeprefix(f"{NO_PORTAL}\n"))
        return [json.loads(line) for line in out.splitlines()]

    def records(self, *flags: str) -> list[Any]:
        """Run `deletions`; its messages about other records have separate tests."""
        code, out, _ = self("deletions", "--json", *flags)
        assert code == 0
        return [json.loads(line) for line in out.splitlines()]

    def usage_error(self, *arguments: str) -> str:
        """Run an invalid command; return the error after the usage."""
        code, out, err = self(*arguments)
        assert (2, "") == (code, out)
        return err.splitlines()[-1]

    def record(self, member_id: str, *message_ids: str) -> None:
        """Record deletions like the function."""
        delivery = Delivery(member_id=member_id, event="ONOPENLINEMESSAGEDELETE", via="online")
        recorder = Recorder(lambda: self.store, Settings(), lambda: datetime.now(UTC))
        recorder.record(recorder.read(delivery, in_portal(*message_ids)).documents, Deadline(5))

    def write(self, path: str, **fields: Any) -> None:  # noqa: ANN401
        """Write a document."""
        document: Fields = fields
        assert self.store.put(Document(path, document), Deadline(5))

    def fields(self, path: str) -> Fields | None:
        """Read a document."""
        document = self.store.get(path, Deadline(5))
        return document.fields if document else None
