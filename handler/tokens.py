"""The application token: the only proof that an event comes from the portal that it names.

`auth[application_token]` is compared as a digest with the digests of the tokens that the portal
was installed with. Nothing signs the body, so nothing else can be checked.
"""

import hashlib
import hmac
import threading
import time
from collections.abc import Callable

from handler.portal import Portal

# A trusted token takes about 2 kB, and one too many costs a read for each event of each portal.
_MAX_TRUSTED = 16_000


def token_digest(token: str) -> str:
    """Return the lower-case hex SHA-256 of a token, of whatever characters it is made."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def accepts(portal: Portal | None, digest: str) -> bool:
    """Tell whether a portal accepts the token with this digest, in constant time.

    A portal that is unknown, inactive or has no tokens accepts none; nothing matches nothing.
    """
    if not digest or portal is None or not portal.active or not portal.token_digests:
        return False
    given = digest.encode()
    matches = [hmac.compare_digest(known.encode(), given) for known in portal.token_digests]
    return any(matches)


class TrustedTokens:
    """The tokens that this instance has verified lately, with their portals.

    Only accepted tokens get in, so strangers cannot fill it; refusals are not kept at all, so
    that a portal is accepted from the moment on that it is stored.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._trusted: dict[tuple[str, str], tuple[Portal, float]] = {}

    def get(self, member_id: str, digest: str) -> Portal | None:
        """Return the portal of a token that is trusted at the moment."""
        portal, end = self._trusted.get((member_id, digest), (None, 0.0))
        return portal if self._clock() < end else None

    def trust(self, portal: Portal, digest: str) -> None:
        """Trust a token that has just been verified, for as long as the settings say."""
        with self._lock:
            self._trusted.pop((portal.member_id, digest), None)
            while len(self._trusted) >= _MAX_TRUSTED:
                del self._trusted[next(iter(self._trusted))]
            self._trusted[portal.member_id, digest] = portal, self._clock() + self._seconds

    def forget(self, member_id: str) -> None:
        """Ask the store about a portal again."""
        with self._lock:
            for key in [key for key in self._trusted if key[0] == member_id]:
                del self._trusted[key]
