"""The benchmark's table: each measurement with its reference and its target."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = (
    "functions-framework",
    "gunicorn",
    "pydantic",
    "google-cloud-firestore",
    "grpcio",
)


@dataclass(frozen=True)
class Row:
    """One line; `kept` says whether the target was met, `None` that nothing was measured."""

    what: str
    reference: str
    measured: str
    target: str
    kept: bool | None

    def __str__(self) -> str:
        verdict = {True: "met", False: "**missed**", None: "not measured"}[self.kept]
        return f"| {self.what} | {self.reference} | {self.measured} | {self.target} | {verdict} |"


HEADER: Final = """\
| what | reference | measured | target | |
| --- | --- | --- | --- | --- |"""


def milliseconds(seconds: float) -> str:
    """Format a duration."""
    return f"{seconds * 1_000:,.1f} ms"


def microseconds(seconds: float) -> str:
    """Format a short duration."""
    return f"{seconds * 1_000_000:,.0f} us"


def megabytes(size: int) -> str:
    """Format a size."""
    return f"{size / 1_000_000:.0f} MB"


def times(ratio: float) -> str:
    """Format a ratio."""
    return f"{ratio:.2f} times"


def machine() -> str:
    """Describe the machine and the versions."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpus} CPUs ({_cpu_model()}), {platform.system()}"
        f" {platform.machine()}, Python {platform.python_version()}, {packages}"
    )


def _cpu_model() -> str:
    names: Iterable[str] = ()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(iter(names), platform.processor() or "unknown")
