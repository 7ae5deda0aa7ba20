"""Tokens are sent only over https or to localhost; a domain is found in pasted text."""

import pytest

from handler.urls import domain_in, host_of, is_secure_url, rest_endpoint, same_address


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
def test_https_and_http_to_localhost_are_secure(url: str) -> None:
    """Tokens may be sent there."""
    assert is_secure_url(url) is True


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "https:", "https://", "https://:443", "https:///rest", "//a.b", "javascript:1"),
        *("http://a.bitrix24.com", "http://localhost.a.b", "http://127.0.0.2", "ftp://localhost"),
        *("https://user@a.b", "https://user:password@a.b", "https://@a.b"),
        *("http://169.254.169.254/", "http://127.0.0.1.a.b/", "http://2130706433/"),
        *("http://[::ffff:127.0.0.1]/", "file:///etc/passwd", "gopher://127.0.0.1/"),
        *("http://127.0.0.1:0/", "http://127.0.0.1:99999/", "http://127.0.0.1:x/"),
        *("https://a:0", "https://a:65536", "https://a:x", "https://[::1", "https://[x]/"),
        *("https://a℀b",),
    ],
)
def test_nothing_else_is_secure(url: str) -> None:
    """Neither plain http to another host, nor an ambiguous URL."""
    assert is_secure_url(url) is False


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_rest_endpoint_ends_with_one_slash(slashes: str) -> None:
    """The method's name follows it."""
    assert rest_endpoint(f"https://a.bitrix24.com/BX{slashes}") == "https://a.bitrix24.com/BX/"


def test_rest_endpoint_without_tls_is_refused() -> None:
    """Tokens are sent there."""
    with pytest.raises(ValueError, match=r"^use https://…/rest/"):
        rest_endpoint("http://a.bitrix24.com/rest/")


@pytest.mark.parametrize(
    "text",
    [
        *("a.bitrix24.com", "https://a.bitrix24.com/", "http://A.Bitrix24.com"),
        *(" a.bitrix24.com. ", "https://a.bitrix24.com/crm/?x=https://b", "a.bitrix24.com?x"),
        "HTTPS://a.bitrix24.com#x",
    ],
)
def test_the_domain_is_found_in_what_people_paste(text: str) -> None:
    """Most copy it from the browser's address bar."""
    assert domain_in(text) == "a.bitrix24.com"


@pytest.mark.parametrize("text", ["intranet", "portal.example.com:8443", "портал.рф"])
def test_self_hosted_portal_may_be_anywhere(text: str) -> None:
    """In any network, on any port, with any name."""
    assert text == domain_in(f"https://{text}/")


@pytest.mark.parametrize("text", ["", "https://", "ftp://a.b", "a b", "a@b.c", "a..b", "a:b", "/a"])
def test_what_has_no_domain_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match=r"is not a domain: use one such as mycompany"):
        domain_in(text)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://F.run.app:443/a%20b/?c=%41", True),
        ("http://f.run.app:80/a b?c=A", True),
        ("https://f.run.app/a bX?c=A", False),
        ("https://f.run.app/a/b?c=A", False),
        ("https://f.run.app:8443/a b?c=A", False),
        ("https://f.run.app/a b", False),
        ("https://g.run.app/a b?c=A", False),
        ("https://[f.run.app/a b?c=A", False),
    ],
)
def test_spellings_of_one_url_are_recognised(other: str, *, same: bool) -> None:
    """Bitrix24 compares URLs literally, and would call the same handler twice."""
    assert same is same_address("https://f.run.app/a%20b?c=A", other)


def test_invalid_url_has_no_host() -> None:
    """And raises nothing."""
    assert ("f.run.app", "", "") == tuple(map(host_of, ("https://F.run.app/", "https://[", "x")))


def test_invalid_urls_are_compared_literally() -> None:
    """A binding's handler is any text that was once bound."""
    assert same_address("https://f:x/", "https://f:x/") is True
    assert same_address("https://f:x/", "https://f:x") is False
