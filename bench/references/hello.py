"""The least that functions-framework can serve."""

import flask


def handle(_request: flask.Request) -> str:
    """Say hello."""
    return "Hello World"
