"""The OAuth servers' only method here: app.info, by GET or POST."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.doubles.bitrix24.request import Answer, authorised

if TYPE_CHECKING:
    from tests.doubles.bitrix24.installation import Token
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.portal import Portal


def app_info(
    portal: "Portal | None", token: "Token | None", params: "Mapping[str, Value]"
) -> Answer:
    """Tell whose token it is: the application's `client_id`, and the portal that confirms it.

    `install` is what to trust for `domain` and `client_endpoint`. Types as the official Python SDK
    reads them: `expires` is ISO text, `installed` a boolean, `scope` comma-separated.
    """
    token = authorised(portal, token, params)
    app, its = token.installation, token.installation.portal
    return Answer(
        {
            "client_id": app.client_id,
            "scope": app.scope,
            "expires": datetime.fromtimestamp(token.expires, UTC).isoformat(timespec="seconds"),
            "user_id": token.user_id,
            "install": {
                "installed": True,
                "version": str(app.version),
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
