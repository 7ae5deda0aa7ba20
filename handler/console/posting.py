"""A request to a running function, and in plain words why there is no answer."""

import http.client
import time
import urllib.error
import urllib.request

from handler.bitrix24.rest import why_unreached
from handler.console.printing import CommandError

_TIMEOUT_SECONDS = 30


def wait(url: str, seconds: float) -> None:
    """Wait until there is an answer, whatever it is, but no longer than so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()
        except urllib.error.HTTPError:
            return  # it answers: /any/path takes events, but no GET
        except (OSError, ValueError, http.client.HTTPException):
            time.sleep(0.1)
        else:
            return


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """After a redirect, urllib would GET the new address, whose 200 says nothing of the event."""

    def redirect_request(self, *_: object) -> None:
        return None


def post(url: str, body: bytes) -> tuple[int, str]:
    """Post a form; return the status and the text of the answer. Raises `CommandError`."""
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        # urllib calls a body a form, as Bitrix24 does, unless it is told another type.
        with opener.open(url, body, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise CommandError(
            f"{url} does not answer: {why(error)}. Is the function running there?"
        ) from None


def why(error: Exception) -> str:
    """Say in a person's words why there is no answer."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"{_TIMEOUT_SECONDS} seconds were not enough"
    return why_unreached(reason)
