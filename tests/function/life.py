"""A portal with the application installed, and what happens to it later."""

from datetime import datetime, timedelta

from handler.stores.interface import Fields, Value
from tests.doubles.app import App, Stage
from tests.doubles.bitrix24 import Installation
from tests.doubles.function import Response

DELETE = "ONOPENLINEMESSAGEDELETE"
PING = "ONOFFLINEEVENT"


class Life:
    """A portal with the application installed, and the function's only instance."""

    def __init__(self, stage: Stage, app: App, installation: Installation) -> None:
        self.stage = stage
        self.app = app
        self.portal = installation.portal
        self.installation = installation
        self.deleted = 0

    def reinstall(self, user: int = 1) -> Response:
        """Choose Reinstall as an administrator."""
        return self.app.post(self.installation.install_event(self.installation.token(user)))

    def ping(self, user: int | None = 1) -> Response:
        """Ping with a user's token, or with none."""
        token = self.installation.token(user) if user else None
        return self.app.post(self.installation.offline_ping(token))

    def delete(self) -> None:
        """Delete a message that only the queue reports."""
        self.portal.delete_message(deliver=False)
        self.deleted += 1

    def write(self, **fields: Value) -> None:
        """Change the portal's document by hand."""
        self.stage.write(f"portals/{self.portal.member_id}", fields)

    def pass_time(self, **duration: float) -> None:
        """Let time pass for the portal's document."""
        document = self.stage.portal(self.portal)
        passed = timedelta(**duration)
        ends = {name: time for name, time in document.items() if isinstance(time, datetime)}
        self.write(**{name: time - passed for name, time in ends.items()})

    @property
    def document(self) -> Fields:
        return self.stage.portal(self.portal)

    @property
    def queue(self) -> int:
        return len(self.portal.queue(self.installation))

    @property
    def asked(self) -> list[str]:
        """The methods called since this was last read."""
        methods = [call.method for call in self.stage.bitrix.calls]
        self.stage.bitrix.calls.clear()
        return methods

    @property
    def outcomes(self) -> list[str]:
        """The outcomes of all log lines about problems."""
        told = [str(line["outcome"]) for line in self.app.log_lines]
        return [outcome for outcome in told if outcome.startswith("portal_")]

    def users_of(self, event: str) -> list[int]:
        return [one.user_id for one in self.installation.bindings if one.event == event]
