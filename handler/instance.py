"""What all requests of one instance of the function share, in any number of threads at once."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from handler.records.recorder import Recorder
from handler.settings import Settings
from handler.stores.interface import Store
from handler.tokens import TrustedTokens

if TYPE_CHECKING:
    from handler.bitrix24.application import Application

# Forged installs must neither take all threads from the events (deploy.sh gives it 16) nor make
# this function a flood of questions to the OAuth server.
_PROOFS_AT_ONCE = 8


class Instance:
    """One instance. `open_store` may raise `StoreUnavailable`; it is asked for each event."""

    def __init__(
        self, settings: Settings, open_store: Callable[[], Store], now: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.open_store = open_store
        self.now = now
        self.recorder = Recorder(open_store, settings, now)
        self.trusted = TrustedTokens(settings.token_cache_seconds)
        self.proofs = threading.BoundedSemaphore(_PROOFS_AT_ONCE)

    @property
    def application(self) -> "Application":
        """What answers the events about the application itself."""
        # It imports what only installs need, for some 12 ms; deletions should not pay for that.
        from handler.bitrix24.application import Application  # noqa: PLC0415

        return Application(
            self.settings, self.open_store, self.recorder, proofs=self.proofs, now=self.now
        )
