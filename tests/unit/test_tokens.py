"""The application token is compared as a digest, and cached for a while."""

import hashlib

import pytest

from handler.portal import Portal
from handler.tokens import TrustedTokens, accepts, token_digest

DIGEST = token_digest("831c76b092f9f135d9b6b36c3a720757")
PORTAL = Portal(member_id="m", active=True, token_digests=[DIGEST])


class Clock:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("token", ["831c76b092f9f135d9b6b36c3a720757", "é", ""])
def test_a_digest_is_the_sha256_of_the_token(token: str) -> None:
    """In lower-case hex, as from `sha256sum`, to enter a portal by hand."""
    assert hashlib.sha256(token.encode()).hexdigest() == token_digest(token)


def test_a_token_of_any_characters_has_its_own_digest() -> None:
    """Bitrix24's have 32 hex digits; hmac.compare_digest alone fails on any but ASCII."""
    tokens = ["\udcff", "\udcfe", "?", "\ufffd", "\ud800", "é", "e\u0301", "\\udcff"]
    assert len(tokens) == len({token_digest(token) for token in tokens})


@pytest.mark.parametrize("place", [0, 1])
def test_any_of_a_portals_tokens_is_accepted(place: int) -> None:
    """The newest and the previous one."""
    digests = [token_digest("x"), token_digest("y")]
    digests[place] = DIGEST
    assert accepts(Portal(member_id="m", active=True, token_digests=digests), DIGEST) is True


@pytest.mark.parametrize(
    "portal",
    [
        None,
        Portal(member_id="m"),
        Portal(member_id="m", active=True),
        Portal(member_id="m", active=True, token_digests=[]),
        Portal(member_id="m", active=True, token_digests=["", "é", DIGEST[:-1], DIGEST + "0"]),
        Portal(member_id="m", active=True, token_digests=[DIGEST.upper()]),
        Portal(member_id="m", active=True, token_digests=["831c76b092f9f135d9b6b36c3a720757"]),
        Portal(member_id="m", active=False, token_digests=[DIGEST]),
        Portal(member_id="m", token_digests=[DIGEST]),
    ],
)
def test_nothing_else_is_accepted(portal: Portal | None) -> None:
    """Unknown, uninstalled, without tokens, or another portal's."""
    assert accepts(portal, DIGEST) is False


def test_a_verified_token_is_trusted_for_its_time() -> None:
    """Then the store is read again."""
    clock = Clock()
    trusted = TrustedTokens(60, clock)
    assert trusted.get("m", DIGEST) is None
    trusted.trust(PORTAL, DIGEST)
    assert trusted.get("m", DIGEST) is PORTAL
    clock.now += 59.9
    assert trusted.get("m", DIGEST) is PORTAL
    clock.now += 0.1
    assert trusted.get("m", DIGEST) is None
    trusted.trust(PORTAL, DIGEST)
    assert trusted.get("m", DIGEST) is PORTAL


def test_a_token_is_trusted_for_its_own_portal_only() -> None:
    """And no other token with it."""
    trusted = TrustedTokens(60, Clock())
    trusted.trust(PORTAL, DIGEST)
    assert trusted.get("n", DIGEST) is None
    assert trusted.get("m", token_digest("x")) is None


def test_nothing_is_cached_for_zero_seconds() -> None:
    """`TOKEN_CACHE_SECONDS=0` reads the store for every event."""
    trusted = TrustedTokens(0, Clock())
    trusted.trust(PORTAL, DIGEST)
    assert trusted.get("m", DIGEST) is None


def test_a_portal_is_forgotten_with_all_its_tokens() -> None:
    """After an uninstall; other portals stay trusted."""
    trusted = TrustedTokens(60, Clock())
    other = Portal(member_id="n", active=True)
    for portal, digest in ((PORTAL, "a"), (PORTAL, "b"), (other, "a")):
        trusted.trust(portal, digest)
    trusted.forget("m")
    trusted.forget("unknown")
    assert [None, None, other] == [
        trusted.get("m", "a"),
        trusted.get("m", "b"),
        trusted.get("n", "a"),
    ]


def test_the_oldest_goes_when_there_are_too_many() -> None:
    """16,000 take about 35 MB; trusting one again makes it the newest."""
    trusted = TrustedTokens(60, Clock())
    for number in range(16_000):
        trusted.trust(PORTAL, f"{number}")
    trusted.trust(PORTAL, "1")
    for newer in ("one more", "another"):
        trusted.trust(PORTAL, newer)
    kept = [digest for digest in map(str, range(16_000)) if trusted.get("m", digest)]
    assert ["1", *map(str, range(3, 16_000))] == kept
    assert trusted.get("m", "one more") is PORTAL
