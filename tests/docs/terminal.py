"""`make pictures`: a terminal with `make run`, a deletion and `deletions --follow`, as an SVG.

Everything in the picture is what the commands printed, when they printed it; long pauses are cut
short. Lines appear one after the other; without animation (print, reduced motion) all are there.
"""

import os
import shlex
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from itertools import islice
from typing import IO, cast

from tests.doubles.function import ROOT, free_port

PICTURE = ROOT / "docs" / "pictures" / "terminal.svg"

_COLUMNS = 96
_CHARACTER = 7.8  # pixels of width
_LINE = 19  # pixels of height
_LONGEST_PAUSE = 1.2  # seconds

# `make pictures` sets these, and the `make run` below it would print that it enters a directory.
_OUTER_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}

_STYLE = """
    rect { fill: #0d1117; }
    text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #d1d7e0;
           white-space: pre; }
    .command { fill: #7ee787; font-weight: 600; }
    @media (prefers-reduced-motion: no-preference) {
      @media screen { g text { opacity: 0; animation: appear 1ms forwards; } }
    }
    @keyframes appear { to { opacity: 1; } }
"""


class Recording:
    """Lines of a terminal with the time at which each was printed, in seconds."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str, str]] = []
        self._time = 0.5
        self._last = time.monotonic()

    def command(self, text: str) -> None:
        """Show a command, typed at the prompt."""
        if self.lines:
            self._add("", "output")
        self._add(f"$ {text}", "command")

    def output(self, text: str) -> None:
        """Show a line of a command's output."""
        self._add(text.rstrip("\n"), "output")

    def svg(self) -> str:
        """Draw the recording."""
        width = round(_COLUMNS * _CHARACTER + 32)
        height = len(self.lines) * _LINE + 32
        texts = "\n".join(
            f'    <text x="16" y="{16 + _LINE * number}" class="{kind}"'
            f' style="animation-delay: {when:.2f}s">{escape(line) or " "}</text>'
            for number, (when, line, kind) in enumerate(self.lines, start=1)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" role="img" aria-labelledby="title">\n'
            '  <title id="title">A terminal: make run, a deletion, deletions --follow</title>\n'
            f"  <style>{_STYLE}  </style>\n"
            f'  <rect width="{width}" height="{height}" rx="8"/>\n'
            f"  <g>\n{texts}\n  </g>\n</svg>\n"
        )

    def _add(self, text: str, kind: str) -> None:
        now = time.monotonic()
        self._time += min(now - self._last, _LONGEST_PAUSE) + (0.8 if kind == "command" else 0.05)
        self._last = now
        for line in textwrap.wrap(text, _COLUMNS, drop_whitespace=False) or [""]:
            self.lines.append((self._time, line, kind))


def main() -> None:
    """Record the commands and write the picture."""
    recording = Recording()
    port = free_port()
    command = f"make run PORT={port}"
    recording.command(command.replace(f" PORT={port}", ""))
    with _running(shlex.split(command)) as output:
        curl = _until_serving(output, recording)
        recording.command(curl)
        answer = subprocess.run(["/bin/sh", "-c", curl], capture_output=True, text=True, check=True)
        recording.output(answer.stdout)
        store = {"STORE": "local", "LOCAL_STORE_PATH": f".data/try-{port}.sqlite3"}
        settings = " ".join(f"{name}={value}" for name, value in store.items())
        recording.command(f"{settings} python -m handler deletions --follow")
        follow = [".venv/bin/python", "-m", "handler", "deletions", "--follow"]
        with _running(follow, **store) as rows:
            for row in islice(rows, 3):  # the store and two records
                recording.output(row)
    picture = recording.svg().replace(str(port), "8080").replace(f"{ROOT}/", "")
    PICTURE.write_text(picture)


def _until_serving(output: IO[str], recording: Recording) -> str:
    """Record what `make run` prints; return the curl line that it ends with."""
    for line in output:
        recording.output(line)
        if line.startswith("curl "):
            return line.strip()
    raise SystemExit("make run ended before it served.")


@contextmanager
def _running(command: list[str], **variables: str) -> Iterator[IO[str]]:
    inherited = {name: value for name, value in os.environ.items() if name not in _OUTER_MAKE}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**inherited, **variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield cast("IO[str]", process.stdout)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
