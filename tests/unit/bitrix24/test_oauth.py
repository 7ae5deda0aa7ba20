"""Whose token it is: what Bitrix24's OAuth server is asked, and what needs no question."""

import pytest

from handler.bitrix24.oauth import confirm
from handler.bitrix24.rest import Bitrix24Error
from handler.deadline import Deadline
from handler.events.envelope import Auth
from handler.settings import Settings


def test_an_event_without_an_access_token_is_not_asked_about() -> None:
    """Robots, workflows and agents bring none."""
    auth = Auth.model_validate({"member_id": "m", "application_token": "t"})

    with pytest.raises(Bitrix24Error, match=r"^the event has no access token$"):
        confirm(auth, Settings(), Deadline(1))
