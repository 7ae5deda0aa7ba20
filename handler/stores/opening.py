"""Opens the store that the settings name."""

import threading

from handler.settings import Settings
from handler.stores.interface import Store


class LazyStore:
    """Opens the store once, on first use; if that fails, the next call tries again.

    Firestore's client takes longer to import than everything else together, so a request that is
    refused without it should not wait for it. Nor may it be opened before functions-framework forks
    its worker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._store: Store | None = None

    def __call__(self) -> Store:
        """Return the store, always the same one; raises `StoreUnavailable`."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self._settings)
            return self._store


def open_store(settings: Settings, *, create: bool = True) -> Store:
    """Open the store that the settings name; raises `StoreUnavailable`.

    Without `create`, an embedded store must already exist.
    """
    if settings.store == "local":
        from handler.stores.sqlite import LocalStore  # noqa: PLC0415 - imported only where it is used

        return LocalStore(settings.local_store_path, create=create)

    from handler.stores.firestore import Firestore  # noqa: PLC0415 - the same

    return Firestore.connect(
        settings.project,
        settings.database,
        settings.emulator_host,
        on_google_cloud=settings.on_google_cloud,
    )
