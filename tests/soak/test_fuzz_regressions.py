"""The bodies that fuzzing starts from: samples, and those that once caused an error."""

from pathlib import Path

import pytest

from tests import samples
from tests.soak.fuzz.target import seeds, send

REGRESSIONS = sorted((samples.HERE / "fuzz").iterdir())


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.name)
def test_body_that_once_caused_an_error_is_refused(path: Path) -> None:
    """The answer says so to the sender."""
    assert send(path.read_bytes()) in {400, 403, 422}


def test_fuzzer_finds_nothing_wrong_with_what_it_starts_from() -> None:
    """Otherwise, it would end before it has looked for anything."""
    assert {send(seed) for seed in seeds()} == {200, 400, 422}
