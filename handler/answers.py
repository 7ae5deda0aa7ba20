"""The function's answers, and refusals that end a request early."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """One HTTP answer: a status and a JSON object.

    `log` holds fields for the log alone: names and counts, never a token, and unverified text only
    if it is short. `warning` is a sentence for the log alone, on a success that may be unintended.
    """

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    log: Mapping[str, object] = field(default_factory=dict)
    warning: str = ""

    @property
    def outcome(self) -> str:
        """The `status` of a success or the `error` of a failure, to search the log by."""
        return str(self.body.get("status") or self.body.get("error"))


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """Ends a request early, with an answer.

    `detail` says what is wrong and, where possible, what to do. It must not quote the request,
    whose sender may have no valid token.
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
