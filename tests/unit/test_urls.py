"""Tokens go nowhere but over https, or to this machine."""

import pytest

from handler.urls import is_secure_url


@pytest.mark.parametrize(
    "url",
    [
        "https://oauth.bitrix.info",
        "https://a.bitrix24.com/rest/",
        "https://a:8443/",
        "http://localhost:1",
        "http://127.0.0.1/",
        "http://[::1]:80",
        "HTTPS://A.B/",
    ],
)
def test_https_is_secure_and_http_to_this_machine_is(url: str) -> None:
    """Where tokens may be sent."""
    assert is_secure_url(url) is True


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "https:", "https://", "https://:443", "https:///rest", "//a.b", "javascript:1"),
        *("http://a.bitrix24.com", "http://localhost.a.b", "http://127.0.0.2", "ftp://localhost"),
        *("https://user@a.b", "https://user:password@a.b", "https://@a.b"),
        *("https://a:0", "https://a:65536", "https://a:x", "https://[::1", "https://[x]/"),
        *("https://a℀b",),
    ],
)
def test_nothing_else_is_secure(url: str) -> None:
    """Neither another host in plain text, nor a URL that says two things."""
    assert is_secure_url(url) is False
