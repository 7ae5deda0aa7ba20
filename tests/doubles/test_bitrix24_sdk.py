"""The official Python SDK, written by others, works with the stand-in."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from b24pysdk import BitrixApp, BitrixToken
from b24pysdk.constants import B24AppStatus
from b24pysdk.credentials import OAuthEventData
from b24pysdk.errors import (
    BitrixAPIAccessDenied,
    BitrixAPIError,
    BitrixAPIExpiredToken,
    BitrixAPIOperationTimeLimit,
)
from b24pysdk.errors.oauth import BitrixOauthWrongClient
from requests.adapters import HTTPAdapter

from handler.commands import main
from tests.doubles.bitrix24 import (
    OPERATION_TIME_LIMIT,
    WRONG_CLIENT,
    Bitrix24,
    Installation,
    Portal,
)
from tests.doubles.bitrix24_client import DELETE, Handler

DOMAIN = "some-domain.bitrix24.ru"
FUNCTION = "https://function.example.com/"


class Loopback(HTTPAdapter):
    """Redirects the SDK's fixed https URLs to the stand-in, and nowhere else."""

    def __init__(self, bitrix: Bitrix24) -> None:
        super().__init__()
        self.bases = {"oauth.bitrix24.tech": f"{bitrix.oauth_tech_url}/rest/"}

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:  # type: ignore[override] # noqa: ANN401 - requests passes them by name
        url = urlsplit(str(request.url))
        query = f"?{url.query}" if url.query else ""
        request.url = self.bases[url.netloc] + url.path.removeprefix("/rest/") + query
        return super().send(request, **more | {"proxies": {}})


@pytest.fixture
def portal(bitrix: Bitrix24) -> Portal:
    """Add a portal of the OAuth server that the SDK uses."""
    return bitrix.add_portal(DOMAIN)


@pytest.fixture
def loopback(bitrix: Bitrix24, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """Redirect every request of the SDK to the stand-in."""
    made = Loopback(bitrix)
    made.bases[DOMAIN] = portal.client_endpoint
    monkeypatch.setattr(requests.Session, "get_adapter", lambda *_, **__: made)
    return made


@pytest.fixture
def token(app: Installation, loopback: Loopback) -> Iterator[BitrixToken]:
    """Return an administrator's token as an SDK object."""
    yield sdk_token(app)
    loopback.close()


def sdk_token(app: Installation, user: int = 1, expires_in: int = 3600) -> BitrixToken:
    """Return a token as an SDK object."""
    issued = app.token(user, expires_in=expires_in)
    return BitrixToken(
        domain=DOMAIN,
        auth_token=issued.access_token,
        refresh_token=None,
        bitrix_app=BitrixApp(client_id=app.client_id, client_secret="never sent"),
    )


def bound(token: BitrixToken) -> list[tuple[str, bool, str | None, int | None]]:
    """Return the bindings as parsed by the SDK."""
    events = token.get_client().event.get().values
    return [(one.event, one.offline, one.handler, one.auth_type) for one in events]


def test_oauth_server_confirms_a_token(app: Installation, token: BitrixToken) -> None:
    """app.info by GET, with a trailing slash; `expires` as ISO text, `scope` as text."""
    info = token.get_app_info().result
    assert (info.client_id, info.user_id, info.scope) == (app.client_id, 1, ["imopenlines"])
    assert info.install.installed is True
    assert info.install.status is B24AppStatus.LOCAL
    assert info.install.member_id == app.portal.member_id
    assert info.install.domain == DOMAIN
    assert info.install.client_endpoint == app.portal.client_endpoint


def test_profile_is_the_tokens_user(app: Installation, token: BitrixToken) -> None:
    """The method profile."""
    client = token.get_client()
    assert (client.profile().value.bitrix_id, client.profile().value.admin) == (1, True)
    assert sdk_token(app, user=27).get_client().profile().value.admin is False


def test_events_are_bound_listed_and_unbound(app: Installation, token: BitrixToken) -> None:
    """`auth_type` is text; unbinding with 0 leaves those that name a user."""
    client = token.get_client()
    assert client.event.bind(DELETE, FUNCTION).result is True
    assert client.event.bind(DELETE, FUNCTION, auth_type=1).result is True
    assert client.event.bind(DELETE, event_type="offline").result is True
    expected = [
        (DELETE, False, FUNCTION, 0),
        (DELETE, False, FUNCTION, 1),
        (DELETE, True, None, None),
    ]
    assert bound(token) == expected
    with pytest.raises(BitrixAPIError, match="already binded"):
        client.event.bind(DELETE, FUNCTION).result  # noqa: B018 - the SDK calls when it is read
    assert client.event.unbind(DELETE, FUNCTION, auth_type=0).value == 1
    assert bound(token) == expected[1:]
    assert client.event.get().values[-1].delete() is True
    assert client.event.unbind(DELETE, FUNCTION).value == 1
    assert app.bindings == []


def test_queue_is_read_reserved_cleared_and_removed(app: Installation, token: BitrixToken) -> None:
    """event.offline.list, -get and -clear, and a batch of exact ids."""
    client = token.get_client()
    client.event.bind(DELETE, event_type="offline").result  # noqa: B018 - the SDK calls when it is read
    for _ in range(4):
        app.portal.delete_message()
    rows = client.event.offline.list(order={"ID": "ASC"}).values
    assert [row.bitrix_pk for row in rows] == [1, 2, 3, 4]
    assert rows[0].event_data["DATA"][0]["im"]["chat_id"] == 1807
    assert rows[0].event_additional == {"user_id": "27"}
    reserved = client.event.offline.get(clear=False, limit=1).result
    assert client.event.offline.clear(reserved["process_id"], bitrix_id=[1]).result is True
    commands = [("event.offline.get", {"filter": {"ID": number}}) for number in (2, 3)]
    taken = token.call_batch(commands)["result"]["result"]
    assert [one["events"][0]["ID"] for one in taken] == ["2", "3"]
    window = {">=ID": 4, "<=ID": 9, "EVENT_NAME": DELETE}
    assert [row.bitrix_pk for row in client.event.offline.get(filter=window).values] == [4]
    assert app.portal.queue(app) == []


def test_a_renamed_portal_is_followed(
    portal: Portal, loopback: Loopback, token: BitrixToken
) -> None:
    """The SDK takes the new domain from the 302; the handler asks app.info instead."""
    former = portal.client_endpoint
    portal.rename("new-name.bitrix24.ru")
    loopback.bases |= {DOMAIN: former, "new-name.bitrix24.ru": portal.client_endpoint}
    assert token.get_client().profile().value.bitrix_id == 1
    assert token.domain == "new-name.bitrix24.ru"
    assert token.get_app_info().result.install.domain == "new-name.bitrix24.ru"


def test_errors_are_recognised(bitrix: Bitrix24, app: Installation, token: BitrixToken) -> None:
    """Three kinds of ACCESS_DENIED, an expired token, 429, and an error whose status is 200."""
    client = token.get_client()
    with pytest.raises(BitrixAPIAccessDenied, match="Access denied!"):
        sdk_token(app, user=27).get_client().event.offline.list().result  # noqa: B018 - it calls
    with pytest.raises(BitrixAPIExpiredToken):
        sdk_token(app, expires_in=0).get_client().profile().result  # noqa: B018 - it calls
    bitrix.fault("event.offline.list", OPERATION_TIME_LIMIT)
    with pytest.raises(BitrixAPIOperationTimeLimit):
        client.event.offline.list().result  # noqa: B018 - the SDK calls when it is read
    bitrix.fault("app.info", WRONG_CLIENT)
    with pytest.raises(BitrixOauthWrongClient):
        token.get_app_info()
    app.portal.dismiss(1)
    with pytest.raises(BitrixAPIAccessDenied, match="can't be authorized"):
        client.profile().result  # noqa: B018 - the SDK calls when it is read
    other = sdk_token(app, user=27).get_client()
    app.portal.commercial = False
    with pytest.raises(BitrixAPIAccessDenied, match="commercial plans"):
        other.profile().result  # noqa: B018 - the SDK calls when it is read


def read(body: bytes) -> OAuthEventData:
    """Parse an event with the SDK, like its integration with Flask."""
    return OAuthEventData.from_dict(parse_qs(body.decode(), keep_blank_values=True))


def test_the_stand_ins_events_are_read(
    app: Installation, handler: Handler, token: BitrixToken
) -> None:
    """With a user's token, and without one."""
    client = token.get_client()
    client.event.bind(DELETE, handler.url).result  # noqa: B018 - the SDK calls when it is read
    deleted = app.portal.delete_message("ext-1")[0]
    app.portal.customer_deletes("ext-2", user_id=None)
    ours, theirs = (read(delivery.body) for delivery in app.portal.deliveries)
    assert ours.data["DATA"][0]["im"]["message_id"] == str(deleted.im_message_id)
    assert (ours.is_system, theirs.is_system) == (False, True)
    assert theirs.data["DATA"]["message"]["id"] == "ext-2"
    assert ours.auth.application_token == theirs.auth.application_token == app.application_token
    assert ours.auth.member_id == app.portal.member_id
    for body in (app.install_event(app.token()), app.offline_ping(app.token()), app.test_event({})):
        assert read(body).auth.oauth_token.refresh_token


@pytest.mark.parametrize("shape", ["portal", "customer"])
def test_events_of_send_are_read(handler: Handler, shape: str) -> None:
    """In the current form, with a user's token."""
    assert main(["send", "--url", handler.url, "--shape", shape, "--message-id", "ext-1"]) == 0
    event = read(handler.requests[0].body)
    assert (event.event, event.is_system, event.auth.user_id) == (DELETE, False, 27)
    messages = event.data["DATA"]
    message = messages if shape == "customer" else messages[0]
    assert message["message"]["id"] == "ext-1"


def test_the_documentations_sample_is_refused(handler: Handler) -> None:
    """It names its handler `eventId`, and has no user: the body of old servers."""
    assert main(["send", "--url", handler.url, "--shape", "documentation"]) == 0
    with pytest.raises(OAuthEventData.ValidationError, match="event_handler_id"):
        read(handler.requests[0].body)
