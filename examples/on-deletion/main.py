"""Forwards each new record of a deletion to a URL, signed according to Standard Webhooks.

Eventarc calls it when Firestore creates portals/{portal}/deletions/{id}: at least once per record,
with retries for up to a day. `webhook-id` is the record's id, so that the receiver can recognise
repeats. The record comes with the event: this function does not read any database.
"""

import json
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import functions_framework
from google.events.cloud.firestore import DocumentEventData, Value
from standardwebhooks import Webhook

TIMEOUT_SECONDS = 20
# The made-up portals that deploy.sh checks a new version with.
CHECK_PREFIX = "deploy-check-"

_URL = os.environ["WEBHOOK_URL"]
_WEBHOOK = Webhook(os.environ["WEBHOOK_SECRET"])


@functions_framework.cloud_event
def on_deletion(event: Any) -> None:  # noqa: ANN401 - functions-framework's CloudEvent is untyped
    """Forward one record; Eventarc retries after an exception."""
    document = DocumentEventData.deserialize(event.data).value
    _, portal, _, record_id = document.name.partition("/documents/")[2].split("/")
    if portal.startswith(CHECK_PREFIX):
        return
    record = {name: _plain(value) for name, value in document.fields.items()}
    body = {
        "type": "openline.message.deleted",
        "timestamp": document.create_time.isoformat(),
        "data": {"id": record_id, **record},
    }
    _post(record_id, json.dumps(body, ensure_ascii=False))


def _plain(value: Value) -> object:
    """Convert a field's value for JSON; timestamps become text."""
    kind = Value.pb(value).WhichOneof("value_type")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "timestamp_value":
        return value.timestamp_value.isoformat()
    return getattr(value, kind)


def _post(record_id: str, body: str) -> None:
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": record_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": _WEBHOOK.sign(record_id, now, body),
    }
    request = urllib.request.Request(_URL, body.encode(), headers)  # noqa: S310 - the operator's own
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()
        # With 410, the receiver asks for no more attempts.
        if refusal.code != HTTPStatus.GONE:
            raise


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: it would turn the POST into a GET at an unknown URL."""

    def redirect_request(self, *_: object) -> None:
        return None
