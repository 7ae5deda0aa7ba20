"""Bitrix24's limit of request intensity: a bucket that leaks (page limits)."""

from dataclasses import dataclass, field
from time import monotonic


@dataclass
class RateLimit:
    """Lets `burst` calls through, and then `per_second`; 0 per second makes it deterministic."""

    burst: int
    per_second: float
    _level: float = 0.0
    _at: float = field(default_factory=monotonic)

    def allows(self) -> bool:
        """Count a call, unless the bucket is full."""
        now = monotonic()
        self._level = max(0.0, self._level - (now - self._at) * self.per_second)
        self._at = now
        if self._level + 1 > self.burst:
            return False
        self._level += 1
        return True
