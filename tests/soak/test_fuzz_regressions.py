"""Bodies that were once too much for some part of the function, and what fuzzing may find."""

from pathlib import Path

import pytest

from tests import samples
from tests.soak.fuzz.target import send

REGRESSIONS = sorted((samples.HERE / "fuzz").iterdir())


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.name)
def test_a_body_that_was_once_too_much_is_refused(path: Path) -> None:
    """With an answer that tells the sender so."""
    assert send(path.read_bytes()) in {400, 403, 422}
