"""The REST methods of a portal, and app.info of the OAuth server.

Sources: the pages of apidocs.bitrix24.com of the same names, and the class Api.Event of the
module `rest`, which decides where a page says less.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import errors
from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.installation import Binding
from tests.doubles.bitrix24.offline_queue import (
    GET_FIELDS,
    LIST_FIELDS,
    Row,
    Source,
    conditions,
    sequence,
)
from tests.doubles.bitrix24.php import intval

if TYPE_CHECKING:
    from tests.doubles.bitrix24.installation import Installation, Token
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.portal import Portal

PAGE = 50
"""IRestService::LIST_LIMIT."""

EVENT_SCOPES = {
    "ONOPENLINEMESSAGEADD": "imopenlines",
    "ONOPENLINEMESSAGEUPDATE": "imopenlines",
    "ONOPENLINEMESSAGEDELETE": "imopenlines",
    "ONIMCONNECTORMESSAGEDELETE": "imconnector",
    "ONOFFLINEEVENT": "",
    "ONAPPINSTALL": "",
    "ONAPPUNINSTALL": "",
    "ONAPPUPDATE": "",
    "ONAPPTEST": "",
}
"""The permission that each event needs; any other event does not exist here."""


@dataclass(frozen=True)
class Request:
    """One call: whose token, and the parameters, with their names as given and in upper case."""

    portal: "Portal"
    token: "Token"
    given: "Mapping[str, Value]"
    params: "Mapping[str, Value]"

    @property
    def app(self) -> "Installation":
        return self.token.installation

    @property
    def source(self) -> Source:
        return self.app.source(self.text("AUTH_CONNECTOR"))

    def text(self, name: str) -> str:
        value = self.params.get(name)
        return str(value) if isinstance(value, str | int) else ""

    def require_admin(self, reason: str = "") -> None:
        if not self.token.admin:
            raise errors.access_denied(reason)


@dataclass(frozen=True)
class Answer:
    """A method's result, with `total` and `next` for lists, and what to do once it is sent."""

    result: "Value"
    paging: "Mapping[str, Value]" = field(default_factory=dict)
    afterwards: Callable[[], object] | None = None


def profile(request: Request) -> Answer:
    """Tell who the token's user is; `ADMIN` is a boolean."""
    token = request.token
    return Answer(
        {
            "ID": str(token.user_id),
            "ADMIN": token.admin,
            "NAME": "Vadim",
            "LAST_NAME": "Valeev",
            "PERSONAL_GENDER": "",
            "TIME_ZONE": "",
        }
    )


def feature_get(request: Request) -> Answer:
    """Tell whether the plan has a feature; an unknown code may well answer Y, says the page."""
    code = request.text("CODE")
    if code in {"", "0"}:
        raise RestError(400, "CODE_EMPTY", "CODE can't be empty")
    portal = request.portal
    known = {
        "rest_offline_extended": portal.offline_extended,
        "rest_auth_connector": portal.auth_connector,
    }
    return Answer({"value": "Y" if known.get(code, True) else "N"})


def event_bind(request: Request) -> Answer:
    """Register a handler, or an offline binding; binding twice is an error."""
    event, handler = request.text("EVENT").upper(), request.text("HANDLER")
    user_id = intval(request.text("AUTH_TYPE"))
    if user_id and user_id != request.token.user_id:
        request.require_admin("Event binding with AUTH_TYPE requires administrator access rights")
    if not user_id and not request.token.admin:
        user_id = request.token.user_id
    if not event:
        errors.miss_argument("EVENT")
    if _offline(request):
        request.require_admin("Offline events binding requires administrator access rights")
        handler, user_id = "", 0
        if event == "ONOFFLINEEVENT":
            errors.refuse_argument("Offline event cannot be registered for this event.")
    else:
        _check_handler(handler)
    permission = EVENT_SCOPES.get(event)
    if permission is None or permission not in {"", *request.app.scope.split(",")}:
        raise RestError(400, "ERROR_EVENT_NOT_FOUND", "Event not found")
    number = request.portal.next_binding_id()
    connector = request.text("AUTH_CONNECTOR")
    bound = Binding(number, event, handler, user_id, connector, request.params.get("OPTIONS"))
    if any(bound.same_as(other) for other in request.app.bindings):
        text = "Unable to set event handler: Handler already binded"
        raise RestError(400, "ERROR_CORE", text)
    request.app.bindings.append(bound)
    return Answer(result=True)


def _offline(request: Request) -> bool:
    kind = request.text("EVENT_TYPE").lower()
    if kind not in {"", "online", "offline"}:
        errors.refuse_argument("Value must be one of {online|offline}")
    return kind == "offline"


def _check_handler(handler: str) -> None:
    if not handler:
        errors.miss_argument("HANDLER")
    url = urlsplit(handler)
    if url.scheme not in {"http", "https"}:
        raise RestError(400, "ERROR_UNSUPPORTED_PROTOCOL", "Unsupported handler protocol")
    if "." not in (url.hostname or ""):
        raise RestError(400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL")


def event_get(request: Request) -> Answer:
    """List the application's bindings; whoever is no administrator sees only his own."""
    listed: list[Value] = []
    for bound in request.app.bindings:
        if not request.token.admin and bound.user_id != request.token.user_id:
            continue
        if bound.handler:
            online: dict[str, Value] = {
                "handler": bound.handler,
                "auth_type": str(bound.user_id),
                "offline": 0,
            }
            listed.append({"event": bound.event, **online})
        else:
            listed.append({"event": bound.event, "connector_id": bound.connector, "offline": 1})
    return Answer(listed)


def event_unbind(request: Request) -> Answer:
    """Remove bindings by event and handler, of any `auth_type` unless one is named."""
    event, handler = request.text("EVENT").upper(), request.text("HANDLER")
    if not event:
        errors.miss_argument("EVENT")
    offline = _offline(request)
    if offline:
        request.require_admin("Offline events unbinding requires administrator access rights")
        handler = ""
    elif not handler:
        errors.miss_argument("HANDLER")
    user_id = None if request.token.admin or offline else request.token.user_id
    if "AUTH_TYPE" in request.params and not offline:
        asked = intval(request.text("AUTH_TYPE"))
        if asked != user_id:
            request.require_admin(
                "Event unbinding with AUTH_TYPE requires administrator access rights"
            )
        user_id = asked
    gone = [
        bound
        for bound in request.app.bindings
        if (bound.event, bound.handler) == (event, handler)
        and user_id in {None, bound.user_id}
        and (not offline or bound.connector == request.text("AUTH_CONNECTOR"))
    ]
    request.app.bindings[:] = [bound for bound in request.app.bindings if bound not in gone]
    return Answer({"count": len(gone)})


def event_test(request: Request) -> Answer:
    """Send ONAPPTEST with the parameters as QUERY, to the handlers bound to it (page test-handler).

    Who is told is decided while the call is answered; the POST comes after the answer:
    `Portal.wait_for_deliveries`.
    """
    app, portal = request.app, request.portal
    query = {key: value for key, value in request.given.items() if key != "auth"}
    data: Mapping[str, Value] = {"QUERY": query, "LANGUAGE_ID": "en"}
    posts = portal.announce("ONAPPTEST", data, request.token.user_id, by=app, only=app)
    return Answer(1, afterwards=lambda: portal.post_all(posts))


def event_offline_list(request: Request) -> Answer:
    """Read the queue, 50 rows from `start`, without changing anything; on every plan."""
    request.require_admin()
    tests = conditions(request.params.get("FILTER"), LIST_FIELDS, arrays=True)
    order = sequence(request.params.get("ORDER", {"ID": "ASC"}), LIST_FIELDS)
    found = request.portal.offline.select(request.source, tests, order)
    start = max(0, intval(request.params.get("START")))
    page = found[start : start + PAGE]
    paging: dict[str, Value] = {"total": len(found)}
    if start + len(page) < len(found):
        paging["next"] = start + len(page)
    return Answer([dict(row) for row in page], paging)


def event_offline_get(request: Request) -> Answer:
    """Take rows: deleted at once (`clear=1`, the default), or reserved under a process id.

    Reserved rows come again only with their `process_id`; `clear=1` then deletes the whole batch,
    whatever `limit` left out of the answer. Arrays as values of `filter` are refused.
    """
    request.require_admin()
    params, source, queue = request.params, request.source, request.portal.offline
    clear = intval(params.get("CLEAR", 1)) != 0
    if not clear and not request.portal.offline_extended:
        errors.refuse_license("extended offline events handling")
    limit = intval(params.get("LIMIT", PAGE))
    if limit <= 0:
        errors.refuse_argument("Value must be positive integer")
    asked = request.text("PROCESS_ID").strip() if params.get("PROCESS_ID") is not None else None
    tests = conditions(params.get("FILTER"), GET_FIELDS, arrays=asked is not None)
    order = sequence(params.get("ORDER", {"TIMESTAMP_X": "ASC"}), GET_FIELDS)
    error = "1" if intval(params.get("ERROR")) == 1 else "0"
    found = [
        row
        for row in queue.select(source, tests, order)
        if (row["PROCESS_ID"], row["ERROR"]) == (asked or "", error)
    ][:limit]
    process_id = queue.reserve(found) if asked is None else asked
    events: list[Value] = [_without_state(row) for row in found]
    if clear and found:
        queue.clear(source, process_id)
    shown = None if clear and asked is None else process_id
    return Answer({"process_id": shown, "events": events})


def _without_state(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in {"PROCESS_ID", "ERROR"}}


def event_offline_clear(request: Request) -> Answer:
    """Delete reserved rows of a process: by `message_id`, else by `id`, else all.

    An empty array means all, too: the class Api.Event takes it for no list.
    """
    request.require_admin()
    if request.params.get("PROCESS_ID") is None:
        errors.miss_argument("PROCESS_ID")
    process_id = request.text("PROCESS_ID").strip()
    for name, kind in (("MESSAGE_ID", "MESSAGE_ID values"), ("ID", "integers")):
        values = request.params.get(name)
        if values is None:
            continue
        wrong = f"Value must be array of {kind}"
        if not isinstance(values, list | Mapping):
            errors.refuse_argument(wrong)
        given = list(values.values()) if isinstance(values, Mapping) else values
        texts = [str(intval(item)) if name == "ID" else str(item).strip() for item in given]
        if any(len(text) != 32 if name == "MESSAGE_ID" else int(text) <= 0 for text in texts):
            errors.refuse_argument(wrong)
        request.portal.offline.clear(request.source, process_id, name if texts else "", texts)
        return Answer(result=True)
    request.portal.offline.clear(request.source, process_id)
    return Answer(result=True)


METHODS: dict[str, Callable[[Request], Answer]] = {
    "profile": profile,
    "feature.get": feature_get,
    "event.bind": event_bind,
    "event.get": event_get,
    "event.unbind": event_unbind,
    "event.test": event_test,
    "event.offline.list": event_offline_list,
    "event.offline.get": event_offline_get,
    "event.offline.clear": event_offline_clear,
}


def call(
    portal: "Portal", method: str, token: "Token | None", params: "Mapping[str, Value]"
) -> Answer:
    """Call a method of a portal; the token, if any, is the portal's own."""
    if portal.rate_limit and not portal.rate_limit.allows():
        raise errors.query_limit_exceeded()
    if method not in METHODS:
        raise errors.method_not_found()
    upper = {name.upper(): value for name, value in params.items()}
    request = Request(portal, _valid(portal, token, params), params, upper)
    if "AUTH_CONNECTOR" in upper and not portal.auth_connector:
        errors.refuse_license("auth_connector")
    return METHODS[method](request)


def app_info(
    portal: "Portal | None", token: "Token | None", params: "Mapping[str, Value]"
) -> Answer:
    """Tell whose token it is: the application's `client_id`, and the portal that confirms it.

    `install` is what to trust for `domain` and `client_endpoint`. Types of its values: inferred.
    """
    token = _valid(portal, token, params)
    app, its = token.installation, token.installation.portal
    return Answer(
        {
            "client_id": app.client_id,
            "scope": app.scope,
            "expires": token.expires,
            "user_id": token.user_id,
            "install": {
                "installed": True,
                "version": app.version,
                "status": app.status,
                "scope": app.scope,
                "domain": its.domain,
                "uri": f"https://{its.domain}",
                "client_endpoint": its.client_endpoint,
                "member_id": its.member_id,
                "member_type": "b24",
            },
        }
    )


def _valid(
    portal: "Portal | None", token: "Token | None", params: "Mapping[str, Value]"
) -> "Token":
    if not params.get("auth"):
        raise errors.no_auth()
    if token is None or token.installation.portal is not portal:
        raise errors.invalid_token()
    if token.expires <= portal.bitrix.clock():
        raise errors.expired_token()
    if not token.installation.installed:
        raise errors.not_installed()
    return token
