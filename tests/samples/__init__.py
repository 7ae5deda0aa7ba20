"""Requests as Bitrix24 sends them: `<name>.form`, and the same data as `<name>.json`."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.form"))


def form(name: str) -> bytes:
    """Return the body of a request, as it is on the wire."""
    return (HERE / f"{name}.form").read_bytes().strip()


def typed(name: str) -> dict[str, Any]:
    """Return what a request says, its lists being lists."""
    return json.loads((HERE / f"{name}.json").read_bytes())  # type: ignore[no-any-return]
