"""The function that Google Cloud runs: `functions-framework --target=handle`."""

import gc
import os

import flask

from handler.flask_adapter import respond
from handler.log import Log
from handler.receiver import Receiver
from handler.settings import SettingError, Settings
from handler.stores.opening import LazyStore

# The first event's imports create many objects and no garbage. At Python 3.13's default threshold,
# collecting takes 10 % of their time; at this one, 4 %.
gc.set_threshold(10_000)

try:
    _settings = Settings.from_environment(os.environ)
except SettingError as error:
    raise SystemExit(f"The function does not start: {error}") from None

_log = Log(level=_settings.log_level, project=_settings.project)
_receiver = Receiver(_settings, LazyStore(_settings), _log)


def handle(request: flask.Request) -> flask.Response:
    """Answer one request to the function's URL."""
    return respond(request, _receiver.receive, _settings.max_body_bytes)
