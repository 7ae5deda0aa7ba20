"""`make fuzz`: a coverage-guided search for a body that causes a 5xx.

What it finds belongs in tests/samples/fuzz/, which tests/soak/test_fuzz_regressions.py replays.
"""

import sys
import tempfile
from pathlib import Path

import atheris

from tests import samples

with atheris.instrument_imports(include=["handler"]):
    from tests.soak.fuzz.target import seeds, send

_SEEDS = samples.HERE / "fuzz"


def _fuzz_one(data: bytes) -> None:
    if send(data) >= 500:
        raise AssertionError(data)


def main() -> None:
    """Fuzz, starting with the samples; arguments are libFuzzer's, such as -max_total_time=60."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, str(_SEEDS), *sys.argv[1:]], _fuzz_one)
        atheris.Fuzz()


main()
