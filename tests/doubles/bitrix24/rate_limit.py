"""Bitrix24's limit of request intensity: a bucket that leaks (page limits)."""

from time import monotonic


class RateLimit:
    """Lets `burst` calls through, and then `per_second`, for each source address.

    0 per second makes it deterministic.
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._levels: dict[str, tuple[float, float]] = {}

    def allows(self, source: str) -> bool:
        """Count a call, unless its bucket is full."""
        now = monotonic()
        level, at = self._levels.get(source, (0.0, now))
        level = max(0.0, level - (now - at) * self._per_second)
        allowed = level + 1 <= self._burst
        self._levels[source] = (level + allowed, now)
        return allowed
