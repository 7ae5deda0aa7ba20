"""`make pictures`: the pictures of the report in docs/, from a made-up month."""

import tempfile
from pathlib import Path
from typing import Final

from tests.browser import month
from tests.browser.chromium import Chromium
from tests.browser.conftest import make_report
from tests.doubles.function import ROOT

_FOLDER: Final = ROOT / "docs/pictures"


def main() -> None:
    """Create them."""
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        store = Path(folder) / "store.sqlite3"
        month.write_store(store)
        page = make_report(store, "--since=2026-03-01", "--until=2026-03-31")
        # The time of creation changes with each run.
        html = page.read_text()
        before, _, rest = html.partition("Generated on <time>")
        page.write_text(f"{before}Generated on <time>2026-04-01 09:00{rest[16:]}")
        for scheme in ("light", "dark"):
            browser.show(1180, 1620, prefers_color_scheme=scheme)
            browser.open(page)
            picture = browser.picture()
            (_FOLDER / f"report-{scheme}.png").write_bytes(picture)


if __name__ == "__main__":
    main()
