"""A function under functions-framework and gunicorn, as a process to measure."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from compileall import compile_dir
from pathlib import Path
from typing import Final, Self

from bench.client import Connection
from tests.doubles.function import ROOT, environment, free_port

FUNCTION: Final = "main.py"
HELLO: Final = "hello.py"
WAITING: Final = "waiting.py"
SMALLEST: Final = "smallest.py"

_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.002

# As set by deploy.sh: one thread per concurrent request.
THREADS: Final = 32

# Linux only: writing this file resets a process's peak memory.
_PEAK: Final = Path("/proc/self/clear_refs")


class NotMeasurable(Exception):  # noqa: N818 - it names the state
    """The machine does not report a process's usage."""


class Sources:
    """A copy of the function and the references, compiled as in a deployment."""

    def __enter__(self) -> Path:
        self._directory = tempfile.TemporaryDirectory()
        copy = Path(self._directory.name)
        shutil.copy2(ROOT / FUNCTION, copy)
        shutil.copytree(ROOT / "handler", copy / "handler")
        for reference in (HELLO, WAITING, SMALLEST):
            shutil.copy2(Path(__file__).parent / "references" / reference, copy)
        if not compile_dir(copy, quiet=1):
            raise RuntimeError("The sources do not compile.")
        return copy

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()


class Server:
    """One of the sources, served on loopback by a new process for as long as a `with` lasts.

    `settings` are its environment variables.
    """

    def __init__(self, sources: Path, source: str, **settings: str) -> None:
        self.port = free_port()
        self._sources = sources
        self._command = [
            *(sys.executable, "-m", "functions_framework", "--target=handle"),
            *(f"--source={source}", "--host=127.0.0.1", f"--port={self.port}"),
        ]
        self._environment = environment(**{"THREADS": str(THREADS), **settings})

    def __enter__(self) -> Self:
        self._output = tempfile.TemporaryFile()
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._sources,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # a graceful end takes a second
        self._process.wait()
        self._output.close()

    def connect(self) -> Connection:
        """Connect as soon as it listens."""
        while True:
            try:
                return Connection(self.port)
            except ConnectionRefusedError:
                pass
            if self._process.poll() is not None or self.age > _START_SECONDS:
                self._output.seek(0)
                raise RuntimeError(f"It did not start: {self._output.read().decode()}")
            time.sleep(_POLL_SECONDS)

    @property
    def age(self) -> float:
        """Seconds since the process was started."""
        return time.perf_counter() - self.started

    @property
    def worker(self) -> "Worker":
        """The process that gunicorn forked to answer requests; raises `NotMeasurable`."""
        if not _PEAK.exists():
            raise NotMeasurable("needs Linux's /proc")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while not (pids := children.read_text().split()):
            time.sleep(_POLL_SECONDS)
        return Worker(int(pids[0]))


class Worker:
    """A process, as measured by Linux."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    @property
    def cpu_seconds(self) -> float:
        """CPU time so far, of all threads, in user and kernel mode.

        It is utime + stime of /proc/PID/stat, but to the nanosecond: clock_getcpuclockid(3).
        """
        return time.clock_gettime((~self._pid << 3) | 2)

    def hold_to_one_cpu(self) -> None:
        """Limit it to one CPU, including all threads that it starts."""
        os.sched_setaffinity(self._pid, {min(os.sched_getaffinity(0))})

    def forget_peak(self) -> None:
        """Reset `peak_memory` to the current usage."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> int:
        """The maximum of resident bytes since `forget_peak`."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"No {name} in /proc/{self._pid}/status")
