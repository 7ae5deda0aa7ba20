"""The application token: the only proof that an event comes from the portal it names.

The digest of `auth[application_token]` is compared with those of the tokens the portal was
installed with. The body is not signed, so nothing else can be checked.
"""

import hashlib
import hmac
import threading
import time
from collections.abc import Callable

from handler.portal import Portal

# A cached token takes about 2 kB; portals beyond this number cost a read per event.
_MAX_TRUSTED = 16_000


def token_digest(token: str) -> str:
    """Return the lower-case hex SHA-256 of a token, which may hold any characters."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def accepts(portal: Portal | None, digest: str) -> bool:
    """Return whether a portal accepts the token with this digest, compared in constant time.

    A portal that is unknown, inactive or without tokens accepts none; an empty digest never
    matches.
    """
    if not digest or portal is None or not portal.active or not portal.token_digests:
        return False
    given = digest.encode()
    matches = [hmac.compare_digest(known.encode(), given) for known in portal.token_digests]
    return any(matches)


class TrustedTokens:
    """A cache of recently verified tokens, with their portals.

    Only accepted tokens are cached, so strangers cannot fill it. Refusals are not, so a portal is
    accepted as soon as it is stored.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._trusted: dict[tuple[str, str], tuple[Portal, float]] = {}

    def get(self, member_id: str, digest: str) -> Portal | None:
        """Return the portal of a token that is currently trusted, or `None`."""
        found = self._trusted.get((member_id, digest))
        return found[0] if found and self._clock() < found[1] else None

    def trust(self, portal: Portal, digest: str) -> None:
        """Trust a token that has just been verified, for TOKEN_CACHE_SECONDS."""
        with self._lock:
            self._trusted.pop((portal.member_id, digest), None)
            while len(self._trusted) >= _MAX_TRUSTED:
                del self._trusted[next(iter(self._trusted))]
            self._trusted[portal.member_id, digest] = portal, self._clock() + self._seconds

    def forget(self, member_id: str) -> None:
        """Forget a portal's tokens, so that the next event reads the store."""
        with self._lock:
            for key in [key for key in self._trusted if key[0] == member_id]:
                del self._trusted[key]
