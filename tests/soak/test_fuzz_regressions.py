"""Bodies that once caused an error, and those that fuzzing may find."""

from pathlib import Path

import pytest

from tests import samples
from tests.soak.fuzz.target import send

REGRESSIONS = sorted((samples.HERE / "fuzz").iterdir())


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.name)
def test_body_that_once_caused_an_error_is_refused(path: Path) -> None:
    """The answer says so to the sender."""
    assert send(path.read_bytes()) in {400, 403, 422}
