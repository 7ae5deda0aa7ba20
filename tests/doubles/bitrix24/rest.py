"""The REST methods of a portal.

Sources: the pages of apidocs.bitrix24.com of the same names, and the module `rest`.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.doubles.bitrix24 import batch, errors
from tests.doubles.bitrix24.errors import RestError
from tests.doubles.bitrix24.event_methods import event_bind, event_get, event_test, event_unbind
from tests.doubles.bitrix24.offline_methods import (
    event_offline_clear,
    event_offline_get,
    event_offline_list,
)
from tests.doubles.bitrix24.request import Answer, Request, authorised

if TYPE_CHECKING:
    from tests.doubles.bitrix24.installation import Token
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.portal import Portal


def profile(request: Request) -> Answer:
    """Return the token's user; `ADMIN` is a boolean."""
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


METHODS: dict[str, Callable[[Request], Answer]] = {
    "profile": profile,
    "event.bind": event_bind,
    "event.get": event_get,
    "event.unbind": event_unbind,
    "event.test": event_test,
    "event.offline.list": event_offline_list,
    "event.offline.get": event_offline_get,
    "event.offline.clear": event_offline_clear,
}


def call(
    portal: "Portal",
    method: str,
    token: "Token | None",
    params: "Mapping[str, Value]",
) -> Answer:
    """Call a method of a portal; the token, if any, is the portal's own."""
    if portal.rate_limit and not portal.rate_limit.allows():
        raise errors.query_limit_exceeded()
    if method not in {*METHODS, "batch"}:
        raise errors.method_not_found()
    token = authorised(portal, token, params)
    if token.user_id in portal.gone:
        raise errors.user_not_authorised()
    if not portal.commercial:
        raise errors.no_commercial_plan()
    if method != "batch":
        return METHODS[method](Request(token, params))

    def carry_out(inner: str, its_params: "Mapping[str, Value]") -> Answer:
        if inner == "batch" or (inner.startswith("event.offline.") and not portal.batch_offline):
            text = "Method is not allowed for batch usage"
            raise RestError(400, "ERROR_BATCH_METHOD_NOT_ALLOWED", text)
        if inner not in METHODS:
            raise errors.method_not_found()
        return METHODS[inner](Request(token, its_params))

    return batch.run(Request(token, params), carry_out)
