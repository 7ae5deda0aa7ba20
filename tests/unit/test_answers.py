"""Answers know their outcome, and refusals are answers."""

from handler.answers import Answer, Refused, malformed_body


def test_the_outcome_is_the_status_of_a_success() -> None:
    """To search the log by."""
    assert Answer(200, {"status": "recorded", "recorded": 1}).outcome == "recorded"


def test_the_outcome_is_the_error_of_a_failure() -> None:
    """With a sentence, and any other helpful fields."""
    answer = Refused(422, "unprocessable_event", "It does not fit.", fields=["data"]).answer
    assert answer.outcome == "unprocessable_event"
    assert (422, {}, {}) == (answer.status, answer.headers, answer.log)
    assert {
        "error": "unprocessable_event",
        "detail": "It does not fit.",
        "fields": ["data"],
    } == answer.body


def test_refusal_may_set_headers_and_log_fields() -> None:
    """Log fields stay out of the answer."""
    refused = Refused(503, "busy", "Later.", headers={"Retry-After": "1"}, log={"reason": "x"})
    assert {"Retry-After": "1"} == refused.answer.headers
    assert {"reason": "x"} == refused.answer.log
    assert {"error": "busy", "detail": "Later."} == refused.answer.body
    assert str(refused) == "Later."


def test_a_malformed_body_is_the_callers_fault() -> None:
    """One code for everything that cannot be decoded."""
    answer = malformed_body("Broken.").answer
    assert 400 == answer.status
    assert {"error": "malformed_body", "detail": "Broken."} == answer.body
