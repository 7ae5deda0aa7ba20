"""Opens a command's store, and shows which one it is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from handler.console.printing import CommandError
from handler.deadline import Deadline
from handler.portal import PORTALS
from handler.settings import Settings
from handler.stores.interface import Store, StoreError
from handler.stores.opening import open_store

# A store that can be reached answers well within this; a notice is printed meanwhile.
_ANSWER_SECONDS = 15
_NOTICE_SECONDS = 3


class StoreOpener:
    """Opens the store that the settings name, once, and says on stderr which one it is.

    Firestore first gets a small request: an unreachable database is reported within
    `answer_seconds`, with what to check, and a slow one after `notice_seconds`.
    """

    def __init__(
        self,
        settings: Settings,
        answer_seconds: float = _ANSWER_SECONDS,
        notice_seconds: float = _NOTICE_SECONDS,
    ) -> None:
        self._settings = settings
        self._answer_seconds = answer_seconds
        self._notice_seconds = notice_seconds
        self._store: Store | None = None

    def __call__(self, *, create: bool = False) -> Store:
        """Return the store; a missing embedded store is created only with `create`.

        Raises `StoreUnavailable`, or `CommandError` if the store does not answer.
        """
        if self._store is None:
            if self._settings.store == "firestore":
                with _notice_after(self._notice_seconds, "Waiting for the store to answer ..."):
                    self._store = self._open(create=create)
                    self._ask(self._store)
            else:
                self._store = self._open(create=create)
        return self._store

    def _open(self, *, create: bool) -> Store:
        store = open_store(self._settings, create=create)
        print(f"Store: {store.name}", file=sys.stderr)
        return store

    def _ask(self, store: Store) -> None:
        try:
            store.names(PORTALS, Deadline(self._answer_seconds), limit=1)
        except StoreError as problem:
            raise CommandError(f"{problem}. {self._advice()}") from None

    def _advice(self) -> str:
        if self._settings.emulator_host:
            return (
                f"Check that the emulator is running at FIRESTORE_EMULATOR_HOST="
                f"{self._settings.emulator_host}, or unset that variable."
            )
        return (
            "Check that GOOGLE_CLOUD_PROJECT and FIRESTORE_DATABASE name an existing database,"
            " that your credentials are valid and may read it (`gcloud auth application-default"
            " login`, role roles/datastore.user), and that this machine can reach"
            " firestore.googleapis.com."
        )


@contextmanager
def _notice_after(seconds: float, text: str) -> Iterator[None]:
    """Print a text on stderr if the block takes longer than `seconds`."""
    timer = Timer(seconds, print, [text], {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
