"""Opening the store that the settings name."""

from handler.once import Once
from handler.settings import Settings
from handler.stores.interface import Store


def lazy_store(settings: Settings) -> Once[Store]:
    """Return what opens the store when it is first asked, as `open_store` does.

    Firestore's client takes longer to import than all the rest together, and what is refused
    before it is needed should not wait for it. It must not be opened before functions-framework
    forks its worker.
    """
    return Once(lambda: open_store(settings))


def open_store(settings: Settings) -> Store:
    """Open the store that the settings name; raises `StoreUnavailable`."""
    if settings.store == "local":
        from handler.stores.sqlite import LocalStore  # noqa: PLC0415 - imported only where it is used

        return LocalStore(settings.local_store_path)

    from handler.stores.firestore import Firestore  # noqa: PLC0415 - the same

    return Firestore.connect(
        settings.project,
        settings.database,
        settings.emulator_host,
        on_google_cloud=settings.on_google_cloud,
    )
