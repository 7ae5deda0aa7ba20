"""`time`, which is in every answer of REST (page limits)."""

from datetime import UTC, datetime


def timing(started: float, finished: float) -> dict[str, float | str]:
    """Return it for a call, from its start and finish in Unix seconds."""
    return {
        "start": started,
        "finish": finished,
        "duration": finished - started,
        "processing": finished - started,
        "date_start": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "date_finish": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        "operating": 0,
    }
