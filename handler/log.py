"""The log: one JSON line per event on stdout, in Cloud Logging's format."""

import json
import re
import sys
import threading
from typing import Final, TextIO

SEVERITIES: Final = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}

# Cloud Logging cuts entries at 256 KB, including the envelope.
MAX_LINE_BYTES: Final = 100_000

_TRACE = re.compile(r"(?:00-)?([0-9a-f]{32})(?:[-/;].*)?", re.IGNORECASE | re.ASCII)


class Log:
    """Writes lines at or above a severity; `trace` links them to their request."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        level: str = "INFO",
        project: str | None = None,
        trace: str | None = None,
    ) -> None:
        self._stream = stream or sys.stdout
        self._level = level
        self._project = project
        self._trace = trace

    def for_request(self, trace_header: str) -> "Log":
        """Return a log for one request, from its X-Cloud-Trace-Context or traceparent header."""
        match = _TRACE.fullmatch(trace_header)
        if not match:
            return self
        trace = match[1].lower()
        if self._project:
            trace = f"projects/{self._project}/traces/{trace}"
        return Log(self._stream, level=self._level, trace=trace)

    def __call__(self, severity: str, message: str, **fields: object) -> None:
        """Write one line; fields that are `None` are left out."""
        if SEVERITIES[severity] < SEVERITIES[self._level]:
            return
        line: dict[str, object] = {"severity": severity, "message": message}
        if self._trace:
            line["logging.googleapis.com/trace"] = self._trace
        line.update((name, value) for name, value in fields.items() if value is not None)
        text = json.dumps(line, separators=(",", ":")) + "\n"
        with _one_line_at_a_time:
            self._stream.write(text)
            self._stream.flush()


def count(number: int | str, noun: str) -> str:
    """Format a count: 1 deletion, 2 deletions, more than 2 deletions."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_one_line_at_a_time = threading.Lock()
