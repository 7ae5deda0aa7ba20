"""The errors that REST answers: HTTP status, `error` and `error_description`.

Codes and texts: apidocs.bitrix24.com, "System Error Codes" and the tables of the event.* pages.
"""

from typing import NoReturn


class RestError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error
        self.description = description


def refuse_argument(description: str) -> NoReturn:
    """Raise ERROR_ARGUMENT."""
    raise RestError(400, "ERROR_ARGUMENT", description)


def miss_argument(name: str) -> NoReturn:
    """Raise ERROR_ARGUMENT for a parameter that is null or empty."""
    refuse_argument(f"Argument '{name}' is null or empty")


def access_denied(reason: str = "") -> RestError:
    """Return ACCESS_DENIED: the token's user is not an administrator."""
    return RestError(403, "ACCESS_DENIED", f"Access denied! {reason}".rstrip())


def no_commercial_plan() -> RestError:
    """Return ACCESS_DENIED: the portal's plan no longer includes REST."""
    return RestError(403, "ACCESS_DENIED", "REST is available only on commercial plans.")


def user_not_authorised() -> RestError:
    """Return ACCESS_DENIED: the token's user was dismissed."""
    text = "Current user can't be authorized in this context"
    return RestError(403, "ACCESS_DENIED", text)


def refuse_license(feature: str) -> NoReturn:
    """Raise WRONG_LICENSE: the portal's plan lacks a feature."""
    text = f"This feature is not enabled for the current license: {feature}"
    raise RestError(403, "WRONG_LICENSE", text)


def method_not_found() -> RestError:
    """Return ERROR_METHOD_NOT_FOUND; a portal checks the method before the token."""
    return RestError(404, "ERROR_METHOD_NOT_FOUND", "Method not found!")


def no_auth() -> RestError:
    """Return NO_AUTH_FOUND: no access token at all."""
    return RestError(401, "NO_AUTH_FOUND", "Wrong authorization data")


def invalid_token() -> RestError:
    """Return invalid_token: never issued, or issued by another portal or OAuth server."""
    return RestError(401, "invalid_token", "Unable to get application by token")


def expired_token() -> RestError:
    """Return expired_token."""
    return RestError(401, "expired_token", "The access token provided has expired.")


def not_installed() -> RestError:
    """Return NOT_INSTALLED (its status 401 is that of the module oauth, class Provider)."""
    return RestError(401, "NOT_INSTALLED", "Application not installed")


def query_limit_exceeded() -> RestError:
    """Return QUERY_LIMIT_EXCEEDED: the rate limit."""
    return RestError(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
