"""What all requests of one function instance share; thread-safe."""

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

# Forged installs must neither flood the OAuth server with requests nor occupy all threads: running
# and waiting proofs together take at most half of the 32 that deploy.sh gives the function.
_MAX_CONCURRENT_PROOFS = 8
_MAX_WAITING_PROOFS = 8


class Instance:
    """One function instance. `open_store`, called for each event, may raise `StoreUnavailable`."""

    def __init__(
        self, settings: Settings, open_store: Callable[[], Store], now: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self.open_store = open_store
        self.now = now
        self.recorder = Recorder(open_store, settings, now)
        self.trusted = TrustedTokens(settings.token_cache_seconds)
        self.proofs = threading.BoundedSemaphore(_MAX_CONCURRENT_PROOFS)
        self.waiting = threading.BoundedSemaphore(_MAX_WAITING_PROOFS)

    @property
    def application(self) -> "Application":
        """Answers the events about the application itself."""
        # Its imports take about 12 ms, which deletions should not pay for.
        from handler.bitrix24.application import Application  # noqa: PLC0415

        return Application(
            self.settings,
            self.open_store,
            self.recorder,
            proofs=self.proofs,
            waiting=self.waiting,
            now=self.now,
        )
