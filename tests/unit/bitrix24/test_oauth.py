"""Confirming a token with Bitrix24's OAuth server."""

import pytest

from handler.bitrix24.oauth import confirm
from handler.bitrix24.rest import Bitrix24Error
from handler.deadline import Deadline
from handler.events.envelope import Auth
from handler.settings import Settings


def test_event_without_access_token_causes_no_request() -> None:
    """Robots, workflows and agents send none."""
    auth = Auth.model_validate({"member_id": "m", "application_token": "t"})

    with pytest.raises(Bitrix24Error, match=r"^the event has no access token$"):
        confirm(auth, Settings(), Deadline(1))
