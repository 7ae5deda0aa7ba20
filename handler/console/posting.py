"""Sends a request to a running function, and explains why there is no answer."""

import http.client
import time
import urllib.error
import urllib.request

from handler.bitrix24.rest import describe_failure
from handler.console.printing import CommandError
from handler.deadline import Deadline

_TIMEOUT_SECONDS = 30


def wait(url: str, seconds: float) -> None:
    """Wait for any answer, at most `seconds`."""
    patience = Deadline(seconds)
    while remaining := patience.remaining:
        try:
            urllib.request.urlopen(url, timeout=min(remaining, _TIMEOUT_SECONDS)).close()
        except urllib.error.HTTPError:
            return  # it answers: /any/path accepts events, but not GET
        except (OSError, ValueError, http.client.HTTPException):
            time.sleep(0.1)
        else:
            return


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """After a redirect, urllib would GET the new URL, whose 200 says nothing about the event."""

    def redirect_request(self, *_: object) -> None:
        return None


def post(url: str, body: bytes) -> tuple[int, str]:
    """Post a form; return the status and the text of the answer. Raises `CommandError`."""
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        try:
            # By default, urllib declares a body to be a form, as Bitrix24 does.
            answer = opener.open(url, body, timeout=_TIMEOUT_SECONDS)
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            return answer.status, answer.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CommandError(
            f"{url} does not answer: {why(error)}. Is the function running there?"
        ) from None


def why(error: Exception) -> str:
    """Explain why there is no answer."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"it timed out after {_TIMEOUT_SECONDS} seconds"
    return describe_failure(reason)
