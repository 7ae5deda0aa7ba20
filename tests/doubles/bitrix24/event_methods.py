"""event.bind, event.get, event.unbind and event.test.

Sources: the pages of apidocs.bitrix24.com of the same names, and the class Api.Event of the
module `rest`, which decides where a page says less.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.doubles.bitrix24 import errors
from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.installation import Binding
from tests.doubles.bitrix24.php import intval
from tests.doubles.bitrix24.request import Answer, Request

if TYPE_CHECKING:
    from tests.doubles.bitrix24.php import Value

EVENT_SCOPES = {
    "ONOPENLINEMESSAGEADD": "imopenlines",
    "ONOPENLINEMESSAGEUPDATE": "imopenlines",
    "ONOPENLINEMESSAGEDELETE": "imopenlines",
    "ONIMCONNECTORMESSAGEDELETE": "imconnector",
    "ONOFFLINEEVENT": "",
    "ONAPPINSTALL": "",
    "ONAPPUNINSTALL": "",
    "ONAPPTEST": "",
}
"""The permission that each event needs; any other event does not exist here."""


def event_bind(request: Request) -> Answer:
    """Register a handler, or an offline binding; binding twice is an error.

    `options.minTimeout` is stored and ignored: see `Portal.announce`.
    """
    event, handler = request.text("EVENT").upper(), request.text("HANDLER")
    user_id = intval(request.text("AUTH_TYPE"))
    if user_id and user_id != request.token.user_id:
        request.require_admin("Event binding with AUTH_TYPE requires administrator access rights")
    if not user_id and not request.token.admin:
        user_id = request.token.user_id
    if _offline(request):
        request.require_admin("Offline events binding requires administrator access rights")
        handler, user_id = "", 0
    else:
        _check_handler(handler)
    permission = EVENT_SCOPES.get(event)
    if permission is None or permission not in {"", *request.app.scope.split(",")}:
        raise RestError(400, "ERROR_EVENT_NOT_FOUND", "Event not found")
    number = request.portal.next_binding_id()
    bound = Binding(number, event, handler, user_id, request.params.get("OPTIONS"))
    if any(bound.same_as(other) for other in request.app.bindings):
        text = "Unable to set event handler: Handler already binded"
        raise RestError(400, "ERROR_CORE", text)
    request.app.bindings.append(bound)
    return Answer(result=True)


def _offline(request: Request) -> bool:
    return request.text("EVENT_TYPE").lower() == "offline"


def _check_handler(handler: str) -> None:
    if not handler:
        errors.miss_argument("HANDLER")
    if "." not in (urlsplit(handler).hostname or ""):
        raise RestError(400, "ERROR_WRONG_HANDLER_URL", "Wrong handler URL")


def event_get(request: Request) -> Answer:
    """List the application's bindings, to an administrator all of them, to others their own.

    `auth_type` is text. One event and handler may be listed for several users.
    """
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
            listed.append({"event": bound.event, "connector_id": "", "offline": 1})
    return Answer(listed)


def event_unbind(request: Request) -> Answer:
    """Remove bindings by event and handler; an omitted parameter matches everything.

    Without `auth_type` every user's binding goes; 0 means those that were bound without one.
    """
    event, handler = request.text("EVENT").upper(), request.text("HANDLER")
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
        if (bound.event, bound.handler) == (event, handler) and user_id in {None, bound.user_id}
    ]
    request.app.bindings[:] = [bound for bound in request.app.bindings if bound not in gone]
    return Answer({"count": len(gone)})


def event_test(request: Request) -> Answer:
    """Send ONAPPTEST with the parameters as QUERY, to the handlers bound to it (page test-handler).

    The recipients are chosen while the call is answered; the POST comes after the answer:
    `Portal.wait_for_deliveries`.
    """
    app, portal = request.app, request.portal
    query = {key: value for key, value in request.given.items() if key != "auth"}
    data: Mapping[str, Value] = {"QUERY": query, "LANGUAGE_ID": "en"}
    posts = portal.announce("ONAPPTEST", data, request.token.user_id, only=app)
    return Answer(1, afterwards=lambda: portal.post_all(posts))
