"""What the function answers, and the refusals that end a request early."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: a status and a JSON object.

    `log` holds what only the log is told about the request: names and counts, never a
    token and never an unverified text of more than a sensible length.
    """

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, object] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """The `status` of a success or the `error` of a failure: what logs are searched by."""
        return str(self.body.get("status") or self.body.get("error"))


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """The request ends here, with this answer.

    `detail` says what is wrong and, where possible, what to do. It must not quote the
    request: whoever sent it may hold no valid token.
    """

    def __init__(
        self,
        status: int,
        error: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        log: Mapping[str, object] | None = None,
        **more: object,
    ) -> None:
        super().__init__(detail)
        body = {"error": error, "detail": detail, **more}
        self.answer = Answer(status, body, headers or {}, log or {})


def malformed_body(detail: str) -> Refused:
    """Refuse a body that cannot be decoded."""
    return Refused(400, "malformed_body", detail)
