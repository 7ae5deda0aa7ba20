"""Addresses: which may be called, how a REST endpoint ends, which are one and the same."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

# A handler's address longer than this is cut by some versions of event.bind.
MAX_HANDLER_URL: Final = 180

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_DOMAIN = re.compile(r"(?:https?://)?([\w-]+(?:\.[\w-]+)*(?::\d{1,5})?)\.?(?:[/?#].*)?")


def domain_in(text: str) -> str:
    """Return the domain in what people paste: a domain or an address, in lower case.

    Raises `ValueError` where there is none.
    """
    found = _DOMAIN.fullmatch(text.strip().lower())
    if not found:
        raise ValueError(f"{text!r} is not a domain: use one as in mycompany.bitrix24.com")
    return found[1]


def is_secure_url(url: str) -> bool:
    """Tell whether a URL is https, or plain http to this machine, and nothing odd besides."""
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
    """Return a portal's REST endpoint with the slash at its end that method names follow.

    Raises `ValueError` if no token may be sent there.
    """
    if not is_secure_url(url):
        raise ValueError("give https://…/rest/ (plain http to this machine only)")
    return url.rstrip("/") + "/"


def host_of(url: str) -> str:
    """Return a URL's host in lower case; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def same_address(one: str, other: str) -> bool:
    """Tell whether two URLs lead to the same handler: they may differ in how they are spelled.

    That is: in the scheme, a default port, percent-encoding, or slashes at the end of the path.
    """
    return _unspelled(one) == _unspelled(other)


def _unspelled(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return (url,)
    plain_port = None if port in (80, 443) else port
    return (host_of(url), plain_port, unquote(parts.path).rstrip("/"), unquote(parts.query))
