"""Settings, read once from the environment, with their defaults and the reasons for them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from handler import VERSION
from handler.log import SEVERITIES
from handler.urls import MAX_HANDLER_URL, domain_in, is_secure_url

T = TypeVar("T")

# Cloud Run rejects longer requests.
MAX_REQUEST_BYTES: Final = 33_554_432

# Google's clients accept any text, and then wait until they time out.
_HOST_AND_PORT: Final = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}")
_MAX_PORT: Final = 65_535

# The two servers that confirm installs; bitrix24.tech serves portals in the ru, by, kz, uz, am, az,
# ge and kg zones.
OFFICIAL_OAUTH_SERVERS: Final = ("https://oauth.bitrix.info", "https://oauth.bitrix24.tech")


class SettingError(Exception):
    """A setting is not valid; the message names it and says what to use."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings and their defaults. Durations are in seconds."""

    project: str | None = None
    database: str = "(default)"
    emulator_host: str | None = None
    on_google_cloud: bool = False
    # As shown in Error Reporting; Cloud Run sets K_SERVICE and K_REVISION.
    service: str = "bitrix24-deletions"
    revision: str = VERSION
    store: str = "firestore"
    local_store_path: str = ".data/deletions.sqlite3"
    allowed_portals: frozenset[str] = frozenset()
    client_id: str | None = None
    connectors: frozenset[str] = frozenset()
    retention_days: int | None = None
    # How long the texts of messages are kept, so that a record can show them; off by default.
    keep_text_days: int | None = None
    # How long a removed portal's events may still be accepted; without a cache, each event costs a
    # read.
    token_cache_seconds: float = 60
    # Bitrix24 calls slow handlers less often; past this, the records go to the log as dead letters.
    store_deadline_seconds: float = 8
    # About a hundred times the longest event that Bitrix24 is known to send.
    max_body_bytes: int = 262_144
    function_url: str | None = None
    oauth_servers: tuple[str, ...] = OFFICIAL_OAUTH_SERVERS
    log_level: str = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; an empty variable counts as not set.

        Raises `SettingError` for the first invalid one.
        """
        read = _Reader(environment)
        return cls(
            project=read("GOOGLE_CLOUD_PROJECT", str, None),
            database=read("FIRESTORE_DATABASE", str, cls.database),
            emulator_host=read("FIRESTORE_EMULATOR_HOST", _host_and_port, None),
            on_google_cloud=read("K_SERVICE", bool, default=False),
            service=read("K_SERVICE", str, cls.service),
            revision=read("K_REVISION", str, cls.revision),
            store=read("STORE", _store(environment), cls.store),
            local_store_path=read("LOCAL_STORE_PATH", str, cls.local_store_path),
            allowed_portals=read("ALLOWED_PORTALS", _domains, cls.allowed_portals),
            client_id=read("CLIENT_ID", str, None),
            connectors=read("CONNECTORS", _lower_names, cls.connectors),
            retention_days=read("RETENTION_DAYS", parse_whole(1, 99_999, " of days"), None),
            keep_text_days=read("KEEP_TEXT_DAYS", parse_whole(1, 366, " of days"), None),
            token_cache_seconds=read(
                "TOKEN_CACHE_SECONDS", parse_cache_seconds, cls.token_cache_seconds
            ),
            store_deadline_seconds=read(
                "STORE_DEADLINE_SECONDS", _seconds(0.1, 60), cls.store_deadline_seconds
            ),
            max_body_bytes=read(
                "MAX_BODY_BYTES", parse_whole(1, MAX_REQUEST_BYTES, " of bytes"), cls.max_body_bytes
            ),
            function_url=read("FUNCTION_URL", _function_url, None),
            oauth_servers=read("BITRIX24_OAUTH_SERVERS", _oauth_servers, cls.oauth_servers),
            log_level=read("LOG_LEVEL", _log_level, cls.log_level),
        )


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, name: str, parse: Callable[[str], T], default: T) -> T:
        text = self._environment.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as problem:
            raise SettingError(f"{name}={text!r} is not valid: {problem}") from None


def parse_whole(low: int, high: int, of_unit: str = "") -> Callable[[str], int]:
    """Return a parser of whole numbers in this range; it raises `ValueError`."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= len(str(high)):
            number = int(text)
            if low <= number <= high:
                return number
        raise ValueError(f"use a whole number{of_unit} from {low} to {high}.")

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1
        if not low <= number <= high:
            raise ValueError(f"use a number of seconds from {low:g} to {high:g}.")
        return number

    return parse


def parse_cache_seconds(text: str) -> float:
    """Parse TOKEN_CACHE_SECONDS; raises `ValueError`."""
    return _seconds(0, 86_400)(text)


def _store(environment: Mapping[str, str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in ("firestore", "local"):
            raise ValueError("use firestore or local.")
        if text == "local" and environment.get("K_SERVICE"):
            raise ValueError(
                "Cloud Run has no persistent disk; leave STORE unset to use Firestore."
            )
        return text

    return parse


def _names(text: str) -> frozenset[str]:
    names = frozenset(filter(None, map(str.strip, text.split(","))))
    if not names:  # this must not mean all of them
        raise ValueError("use names, separated by commas.")
    return names


def _lower_names(text: str) -> frozenset[str]:
    return _names(text.lower())


def _domains(text: str) -> frozenset[str]:
    try:
        return frozenset(map(domain_in, _names(text)))
    except ValueError:
        raise ValueError(
            "use domains such as mycompany.bitrix24.com, separated by commas."
        ) from None


def _host_and_port(text: str) -> str:
    if not _HOST_AND_PORT.fullmatch(text) or not 0 < int(text.rpartition(":")[2]) <= _MAX_PORT:
        raise ValueError("use host:port, such as localhost:8085, without http://.")
    return text


def _function_url(text: str) -> str:
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.port == 0
        or [text] != text.split()
        or len(text) > MAX_HANDLER_URL
    ):
        raise ValueError(f"use the function's http(s) URL, at most {MAX_HANDLER_URL} characters.")
    return text


def _oauth_servers(text: str) -> tuple[str, ...]:
    servers = tuple(server.strip().rstrip("/") for server in text.split(",") if server.strip())
    if not servers or not all(map(is_secure_url, servers)):
        raise ValueError("use https URLs, separated by commas (plain http for localhost only).")
    return servers


def _log_level(text: str) -> str:
    if text.upper() not in SEVERITIES:
        raise ValueError(f"use one of {', '.join(SEVERITIES)}.")
    return text.upper()
