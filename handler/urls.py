"""URLs: which may be called, how a REST endpoint ends, and which two are the same."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

# Some versions of event.bind truncate longer handler URLs.
MAX_HANDLER_URL: Final = 180

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# DNS allows 253 characters. Bitrix24's tokens have 32 hexadecimal digits or more.
_HOST = re.compile(r"(?=.{1,253}$)[\w-]{1,63}(\.[\w-]{1,63})*")
_LIKE_TOKEN = re.compile("[0-9a-f]{32}")

_DOMAIN = re.compile(r"(?:https?://)?([\w-]+(?:\.[\w-]+)*(?::\d{1,5})?)\.?(?:[/?#].*)?")


def domain_in(text: str) -> str:
    """Return the domain in pasted text, a domain or a URL, in lower case.

    Raises `ValueError` if there is none.
    """
    found = _DOMAIN.fullmatch(text.strip().lower())
    if not found:
        raise ValueError(f"{text!r} is not a domain: use one such as mycompany.bitrix24.com")
    return found[1]


def is_secure_url(url: str) -> bool:
    """Return whether a URL is https, or http to localhost, with a valid port and no user name."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        port_is_valid
        and bool(parts.hostname)
        and parts.username is None
        and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))
    )


def rest_endpoint(url: str) -> str:
    """Return a portal's REST endpoint with a trailing slash, to append method names to.

    Raises `ValueError` if no token may be sent there.
    """
    if not is_secure_url(url):
        raise ValueError("use https://…/rest/ (plain http for localhost only)")
    return url.rstrip("/") + "/"


def host_of(url: str) -> str:
    """Return a URL's host in lower case; empty if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_plausible_host(host: str) -> bool:
    """Return whether a host may be logged: a name or address of a sensible length, not a token."""
    return bool(_HOST.fullmatch(host)) and not _LIKE_TOKEN.search(host)


def same_address(one: str, other: str) -> bool:
    """Return whether two URLs lead to the same handler, even if they are spelled differently.

    Differences in the scheme, a default port, percent-encoding or trailing slashes do not count.
    """
    return _normalized(one) == _normalized(other)


def _normalized(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return (url,)
    plain_port = None if port in (80, 443) else port
    return (host_of(url), plain_port, unquote(parts.path).rstrip("/"), unquote(parts.query))
