"""Google's own Firestore emulator, as a process of the tests.

It keeps its documents in memory only: `stop` loses them, `pause` does not.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, Self

from tests.doubles.function import free_port

JAR_VARIABLE: Final = "FIRESTORE_EMULATOR_JAR"
_JAR_OF_GCLOUD: Final = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
_MAIN_CLASS: Final = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
_SMALLEST_JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")

# For a cold disk and a busy machine; otherwise it takes about two seconds.
_START_SECONDS: Final = 60.0


class EmulatorMissing(Exception):  # noqa: N818 - it names the state
    """The emulator is not on this machine; the message says what is missing."""


@cache
def find_jar() -> Path:
    """Return the emulator's jar; raises `EmulatorMissing`."""
    if not shutil.which("java"):
        raise EmulatorMissing("Google's Firestore emulator cannot run here: no java on PATH")
    if named := os.environ.get(JAR_VARIABLE):
        jar, origin = Path(named), JAR_VARIABLE
    elif gcloud := shutil.which("gcloud"):
        jar, origin = _sdk_root(gcloud) / _JAR_OF_GCLOUD, "gcloud"
    else:
        raise EmulatorMissing(
            f"Google's Firestore emulator was not found: no gcloud on PATH, no {JAR_VARIABLE}"
        )
    if not jar.is_file():
        raise EmulatorMissing(f"Google's Firestore emulator is not where {origin} says: {jar}")
    return jar


class Emulator:
    """The emulator on its own port, for the duration of a `with` block."""

    def __init__(self, jar: Path, port: int | None = None) -> None:
        self.host = f"127.0.0.1:{port or free_port()}"
        self._jar = jar
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, empty, on the same port each time, and wait until it listens."""
        address, _, port = self.host.rpartition(":")
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                [  # noqa: S607 - whichever java the machine has
                    "java",
                    *_SMALLEST_JVM,
                    "-cp",
                    str(self._jar),
                    _MAIN_CLASS,
                    f"--host={address}",
                    f"--port={port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            give_up = time.monotonic() + _START_SECONDS
            while not _listens(address, int(port)):
                if self._process.poll() is not None or time.monotonic() > give_up:
                    self.stop()
                    output.seek(0)
                    raise RuntimeError(f"The emulator did not start: {output.read()!r}")
                time.sleep(0.05)

    def stop(self) -> None:
        """Kill it, even if it is paused: it has nothing to save."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Make it hang: connections stay open and new ones are accepted, but nothing answers.

        It returns once every thread has stopped: until then, one could still answer.
        """
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it continue after `pause`, with all its documents."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)


def _sdk_root(gcloud: str) -> Path:
    with tempfile.TemporaryDirectory() as configuration:
        answer = subprocess.run(
            [gcloud, "info", "--format=value(installation.sdk_root)"],
            env={**os.environ, "CLOUDSDK_CONFIG": configuration},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
    return Path(answer.stdout.strip())


def _listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False
