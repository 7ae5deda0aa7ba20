"""Log lines in Cloud Logging's format."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.log import SEVERITIES, Log

TRACE = "105445aa7843bc8bf206b12000100000"


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the lines that were written."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object() -> None:
    """Including line feeds and other alphabets; a field without a value is omitted."""
    stream = io.StringIO()
    Log(stream)("INFO", "a\nb é \udcff", outcome="ok", event=None, recorded=0)
    line = r'{"severity":"INFO","message":"a\nb \u00e9 \udcff","outcome":"ok","recorded":0}'
    assert f"{line}\n" == stream.getvalue()


@pytest.mark.parametrize("level", SEVERITIES)
def test_only_lines_of_the_level_and_above_are_written(level: str) -> None:
    """According to LOG_LEVEL."""
    stream = io.StringIO()
    log = Log(stream, level=level).for_request(TRACE)
    for severity in SEVERITIES:
        log(severity, "x")
    expected = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert expected[expected.index(level) :] == [line["severity"] for line in logged(stream)]


def test_the_log_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Where Cloud Run reads it."""
    Log()("INFO", "x")
    assert {"severity": "INFO", "message": "x"} == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "header",
    [
        TRACE,
        f"{TRACE}/1",
        f"{TRACE}/12345;o=1",
        f"{TRACE};o=1",
        f"{TRACE.upper()}/1",
        f"00-{TRACE}-00f067aa0ba902b7-01",
    ],
)
def test_a_request_is_found_by_its_trace(header: str) -> None:
    """X-Cloud-Trace-Context is TRACE/SPAN;o=OPTIONS, traceparent is 00-TRACE-SPAN-FLAGS."""
    stream = io.StringIO()
    Log(stream, project="p").for_request(header)("INFO", "x")
    Log(stream).for_request(header)("INFO", "x")
    assert [f"projects/p/traces/{TRACE}", TRACE] == [
        line["logging.googleapis.com/trace"] for line in logged(stream)
    ]


@pytest.mark.parametrize(
    "header",
    ["", "x", TRACE[1:], f"{TRACE}0", f"01-{TRACE}-1-1", f"{TRACE} ", f" {TRACE}", f"{TRACE}/1\n"],
)
def test_invalid_trace_is_omitted(header: str) -> None:
    """A stranger's header does not get into the log."""
    stream = io.StringIO()
    Log(stream, project="p").for_request(header)("INFO", "x")
    assert [{"severity": "INFO", "message": "x"}] == logged(stream)


def test_each_line_is_flushed() -> None:
    """An instance may be stopped after any request."""

    class Stream(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    stream = Stream()
    Log(stream)("INFO", "x")
    assert stream.flushed == stream.getvalue() != ""


def test_lines_of_many_threads_do_not_mix() -> None:
    """Each line is written in one piece."""

    class Slow(io.StringIO):
        """A stream on which separate pieces would mix."""

        def write(self, text: str) -> int:
            return sum(super(Slow, self).write(character) for character in text)

    stream = Slow()
    log = Log(stream)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: log("INFO", "x" * 50, number=n), range(200)))
    assert sorted(range(200)) == sorted(int(str(line["number"])) for line in logged(stream))
