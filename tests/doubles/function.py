"""The function as a separate process: functions-framework with gunicorn, on loopback."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
FORM = "application/x-www-form-urlencoded"
_START_SECONDS = 60

_ports = random.SystemRandom()  # not a test's seed, which could give two servers one port


@dataclass(frozen=True)
class Response:
    """The function's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401
        return json.loads(self.body)


class Function:
    """A running function; `settings` are added to the usual environment variables."""

    command: Sequence[str] = ("--target=handle",)
    folder = ROOT

    def __init__(self, log: Path, **settings: str) -> None:
        self._log = log
        self._settings = settings
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it serves; also again, on the same port."""
        command = [sys.executable, "-m", "functions_framework", *self.command]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host=127.0.0.1", f"--port={self.port}"],
                cwd=self.folder,
                env=environment(**self._settings),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.request("GET", "/health")
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, self._log.read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it like Cloud Run, and wait."""
        self._process.terminate()
        self._process.wait(_START_SECONDS)

    def kill(self) -> None:
        """Kill it, including its worker; another thread may start it again meanwhile."""
        process = self._process
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_START_SECONDS)

    def post(
        self, body: bytes, content_type: str = FORM, path: str = "/", **headers: str
    ) -> Response:
        """Send one event."""
        return self.request("POST", path, body, {"Content-Type": content_type, **headers})

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Response(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    @property
    def log(self) -> str:
        """Its output so far."""
        return self._log.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none from outside."""
    kept = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_FILE")
    return {name: os.environ[name] for name in kept if name in os.environ} | settings


def free_port() -> int:
    """Return a port that nothing listens on, for a server that may be down now and then.

    None of those that the system lends to outgoing connections (from 32768 on Linux): one of them
    could be in use when the server comes back, or could connect to itself.
    """
    while True:
        port = _ports.randrange(15_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
