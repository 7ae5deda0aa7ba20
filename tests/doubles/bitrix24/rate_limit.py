"""Bitrix24's rate limit: a leaky bucket (page limits)."""

from time import monotonic


class RateLimit:
    """Lets `burst` calls through, and then `per_second`; 0 per second makes it deterministic.

    Bitrix24 counts each source address separately; here all calls come from one.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._level = 0.0
        self._at = monotonic()

    def allows(self) -> bool:
        """Count a call, unless the bucket is full."""
        now = monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self._per_second)
        self._at = now
        allowed = self._level + 1 <= self._burst
        self._level += allowed
        return allowed
