"""Settings come from the environment; an invalid one is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler import VERSION
from handler.settings import SettingError, Settings
from handler.urls import is_secure_url

read = Settings.from_environment
NAMES = [
    *("GOOGLE_CLOUD_PROJECT", "FIRESTORE_DATABASE", "FIRESTORE_EMULATOR_HOST", "K_SERVICE"),
    *("K_REVISION", "STORE", "LOCAL_STORE_PATH", "ALLOWED_PORTALS", "CLIENT_ID", "CONNECTORS"),
    *("RETENTION_DAYS", "KEEP_TEXT_DAYS", "TOKEN_CACHE_SECONDS", "STORE_DEADLINE_SECONDS"),
    *("MAX_BODY_BYTES", "FUNCTION_URL", "BITRIX24_OAUTH_SERVERS", "LOG_LEVEL"),
]


def test_nothing_needs_to_be_set() -> None:
    """The defaults are those in docs/reference.md."""
    defaults = Settings(
        project=None,
        database="(default)",
        emulator_host=None,
        on_google_cloud=False,
        service="bitrix24-deletions",
        revision=VERSION,
        store="firestore",
        local_store_path=".data/deletions.sqlite3",
        allowed_portals=frozenset(),
        client_id=None,
        connectors=frozenset(),
        retention_days=None,
        keep_text_days=None,
        token_cache_seconds=60,
        store_deadline_seconds=8,
        max_body_bytes=262_144,
        function_url=None,
        oauth_servers=("https://oauth.bitrix.info", "https://oauth.bitrix24.tech"),
        log_level="INFO",
    )
    assert defaults == read({})
    assert defaults == read(dict.fromkeys(NAMES, " "))


def test_everything_can_be_set() -> None:
    """White space around a value does not matter, nor do empty items in lists."""
    settings = read(
        {
            "GOOGLE_CLOUD_PROJECT": " my-project ",
            "FIRESTORE_DATABASE": "deletions",
            "FIRESTORE_EMULATOR_HOST": "localhost:8085",
            "STORE": "local",
            "LOCAL_STORE_PATH": "/data/x.sqlite3",
            "ALLOWED_PORTALS": "a.bitrix24.com, https://B.Bitrix24.de/,,",
            "CLIENT_ID": "local.1",
            "CONNECTORS": "livechat, MyConnector ,",
            "RETENTION_DAYS": "365",
            "KEEP_TEXT_DAYS": "30",
            "TOKEN_CACHE_SECONDS": "0",
            "STORE_DEADLINE_SECONDS": "2.5",
            "MAX_BODY_BYTES": "1000",
            "FUNCTION_URL": "https://example.com/f?x=1",
            "BITRIX24_OAUTH_SERVERS": "https://oauth.example.com/BX/, http://127.0.0.1:8000",
            "LOG_LEVEL": "debug",
        }
    )
    assert settings == Settings(
        project="my-project",
        database="deletions",
        emulator_host="localhost:8085",
        store="local",
        local_store_path="/data/x.sqlite3",
        allowed_portals=frozenset({"a.bitrix24.com", "b.bitrix24.de"}),
        client_id="local.1",
        connectors=frozenset({"livechat", "myconnector"}),
        retention_days=365,
        keep_text_days=30,
        token_cache_seconds=0,
        store_deadline_seconds=2.5,
        max_body_bytes=1000,
        function_url="https://example.com/f?x=1",
        oauth_servers=("https://oauth.example.com/BX", "http://127.0.0.1:8000"),
        log_level="DEBUG",
    )


def test_cloud_run_is_recognised() -> None:
    """It sets K_SERVICE to the service's name."""
    settings = read({"K_SERVICE": "handle", "K_REVISION": "handle-00007"})
    assert (True, "handle", "handle-00007") == (
        settings.on_google_cloud,
        settings.service,
        settings.revision,
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("RETENTION_DAYS", ["1", "99999", "07"]),
        ("KEEP_TEXT_DAYS", ["1", "366"]),
        ("TOKEN_CACHE_SECONDS", ["0", "0.5", "86400"]),
        ("STORE_DEADLINE_SECONDS", ["0.1", "60"]),
        ("MAX_BODY_BYTES", ["1", "33554432"]),
        ("FUNCTION_URL", ["http://localhost:8080", "https://a.run.app/" + "x" * 162]),
        ("BITRIX24_OAUTH_SERVERS", ["http://localhost", "http://[::1]:1", "https://a"]),
        ("STORE", ["firestore", "local"]),
        ("ALLOWED_PORTALS", ["a.bitrix24.com", "https://a.bitrix24.com/", "intranet:8443"]),
        ("FIRESTORE_EMULATOR_HOST", ["127.0.0.1:8085", "[::1]:8085", "my-host.x:1", "[::1]:65535"]),
    ],
)
def test_limits_are_inclusive(name: str, values: list[str]) -> None:
    """At both ends."""
    for value in values:
        read({name: value})


@pytest.mark.parametrize(
    ("name", "values", "hint"),
    [
        ("STORE", ["redis", "Local"], "use firestore or local."),
        (
            "ALLOWED_PORTALS",
            ["ftp://a.bitrix24.com", "a.com b.com", "https://", "a@b.com", "a..b", "/", ","],
            "use domains such as mycompany.bitrix24.com, separated by commas.",
        ),
        (
            "FIRESTORE_EMULATOR_HOST",
            [
                *("http://localhost:8085", "localhost", "localhost:", ":8085", "a:b"),
                *("localhost:8085/", "localhost:0", "localhost:65536", "localhost:99999"),
            ],
            "use host:port, such as localhost:8085, without http://.",
        ),
        (
            "RETENTION_DAYS",
            ["0", "-1", "100000", "1.5", "1e2", "x", "1_0", "٣", "9" * 5_000],
            "use a whole number of days from 1 to 99999.",
        ),
        ("CONNECTORS", [",", ", ,"], "use names, separated by commas."),
        ("KEEP_TEXT_DAYS", ["0", "367", "x"], "use a whole number of days from 1 to 366."),
        (
            "TOKEN_CACHE_SECONDS",
            ["-0.1", "86400.1", "nan", "inf", "x", "9" * 5_000],
            "use a number of seconds from 0 to 86400.",
        ),
        (
            "STORE_DEADLINE_SECONDS",
            ["0", "0.09", "60.1", "nan"],
            "use a number of seconds from 0.1 to 60.",
        ),
        (
            "MAX_BODY_BYTES",
            ["0", "33554433", "1 MB"],
            "use a whole number of bytes from 1 to 33554432.",
        ),
        (
            "FUNCTION_URL",
            [
                *(
                    "x",
                    "ftp://a",
                    "https://",
                    "http://:80",
                    "https://a:0",
                    "https://a/" + "x" * 171,
                ),
                *("https://a.run.app/ x", "https://a.run\n.app"),
            ],
            "use the function's http(s) URL, at most 180 characters.",
        ),
        ("FUNCTION_URL", ["https://[a", "https://a:b", "https://a:65536"], ""),
        (
            "BITRIX24_OAUTH_SERVERS",
            [
                ",",
                "oauth.bitrix.info",
                "http://oauth.bitrix.info",
                "https://a, http://b",
                "https://[",
            ],
            "use https URLs, separated by commas (plain http for localhost only).",
        ),
        ("LOG_LEVEL", ["LOUD", "20"], "use one of DEBUG, INFO, WARNING, ERROR, CRITICAL."),
    ],
)
def test_invalid_setting_is_named(name: str, values: list[str], hint: str) -> None:
    """With its value, and a hint at valid ones."""
    for value in values:
        with pytest.raises(SettingError) as raised:
            read({name: value})
        start = f"{name}={value!r} is not valid: "
        assert start == str(raised.value)[: len(start)]
        assert hint in ("", str(raised.value)[len(start) :])


def test_the_embedded_store_is_refused_on_cloud_run() -> None:
    """Its disk does not outlive the instance."""
    assert read({"STORE": "firestore", "K_SERVICE": "handle"}).store == "firestore"
    with pytest.raises(SettingError) as raised:
        read({"STORE": "local", "K_SERVICE": "handle"})
    assert (
        "STORE='local' is not valid: Cloud Run has no persistent disk; leave STORE unset to use"
        " Firestore." == str(raised.value)
    )


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.text(max_size=8)
        | st.text(st.sampled_from("htps:/[]@.,1e-_ \udcffé%"), max_size=12)
        | st.sampled_from(["https://", "http://", "https://[", "//"]).flatmap(
            lambda start: st.text(st.characters(), max_size=6).map(lambda rest: start + rest)
        )
        | st.integers().map(str)
        | st.floats().map(str),
    )
)
def test_any_environment_gives_settings_or_a_setting_error(environment: dict[str, str]) -> None:
    """And no other exception at start-up."""
    try:
        settings = read(environment)
    except SettingError as problem:
        name = str(problem).partition("=")[0]
        assert name in environment
    else:
        assert 0.1 <= settings.store_deadline_seconds <= 60
        assert 0 <= settings.token_cache_seconds <= 86_400
        assert all(map(is_secure_url, settings.oauth_servers))
