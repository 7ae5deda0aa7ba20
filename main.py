"""The function that Google Cloud runs: `functions-framework --target=handle`."""

import os

import flask

from handler.dispatch import Receiver
from handler.endpoint import respond
from handler.log import Log
from handler.open_store import LazyStore
from handler.settings import SettingError, Settings

try:
    _settings = Settings.from_environment(os.environ)
except SettingError as error:
    raise SystemExit(f"The function does not start: {error}") from None

_log = Log(level=_settings.log_level, project=_settings.project)
_receiver = Receiver(_settings, LazyStore(_settings), _log)


def handle(request: flask.Request) -> flask.Response:
    """Answer one request to the function's URL."""
    return respond(request, _receiver.receive, _settings.max_body_bytes)
