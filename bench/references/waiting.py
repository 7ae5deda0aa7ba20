"""A hello world that waits, as a function does for Firestore."""

import time
from typing import Final

import flask

WAIT_SECONDS: Final = 0.005


def handle(_request: flask.Request) -> str:
    """Say hello, later."""
    time.sleep(WAIT_SECONDS)
    return "Hello World"
