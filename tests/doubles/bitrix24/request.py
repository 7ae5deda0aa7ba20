"""One call of a REST method: its token and its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.doubles.bitrix24 import errors

if TYPE_CHECKING:
    from tests.doubles.bitrix24.installation import Installation, Token
    from tests.doubles.bitrix24.php import Value
    from tests.doubles.bitrix24.portal import Portal


@dataclass(frozen=True)
class Request:
    """One call: its token, and its parameters, with their names as given and in upper case."""

    token: "Token"
    given: "Mapping[str, Value]"

    @property
    def params(self) -> "Mapping[str, Value]":
        return {name.upper(): value for name, value in self.given.items()}

    @property
    def app(self) -> "Installation":
        return self.token.installation

    @property
    def portal(self) -> "Portal":
        return self.app.portal

    def text(self, name: str) -> str:
        value = self.params.get(name)
        return str(value) if isinstance(value, str | int) else ""

    def require_admin(self, reason: str = "") -> None:
        if not self.token.admin:
            raise errors.access_denied(reason)


@dataclass(frozen=True)
class Answer:
    """A method's result, with `total` and `next` for lists, and what to do after sending it."""

    result: "Value"
    paging: "Mapping[str, Value]" = field(default_factory=dict)
    afterwards: Callable[[], object] | None = None


def authorised(
    portal: "Portal | None", token: "Token | None", params: "Mapping[str, Value]"
) -> "Token":
    """Return the call's token if it is valid and the portal's own; raises `RestError`."""
    if not params.get("auth"):
        raise errors.no_auth()
    if token is None or token.installation.portal is not portal:
        raise errors.invalid_token()
    if token.expires <= portal.bitrix.clock():
        raise errors.expired_token()
    if not token.installation.installed:
        raise errors.not_installed()
    return token
