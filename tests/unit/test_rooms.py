"""The dependencies between the packages of handler/, read from the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.function import ROOT

MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "handler").rglob("*.py"))

# What a package may import from handler/, apart from itself.
GROUND = ("answers", "deadline", "log", "urls")
EVENTS = (*GROUND, "events")
STORES = (*GROUND, "settings", "stores")
RECORDS = (*EVENTS, "portal", "records", "settings", "stores", "tokens")
ALLOWED = {
    "events": EVENTS,
    "stores": STORES,
    "records": RECORDS,
    "bitrix24": (*RECORDS, "bitrix24"),
}

# External modules that may be imported in one place only.
ONLY: dict[str, str | tuple[str, ...]] = {
    "flask": "handler/flask_adapter.py",
    "grpc": "handler/stores/firestore_channel.py",
    "google": "handler/stores/",
    "sqlite3": "handler/stores/",
    "http.client": ("handler/bitrix24/rest.py", "handler/stores/access_token.py"),
}


def imports(module: Path) -> Iterator[str]:
    """Return the full name of everything that a module imports, at any level."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_package_imports_from_above(module: Path) -> None:
    """Events and stores import nothing above them, records no Bitrix24, nothing the commands."""
    room = module.parts[1] if len(module.parts) > 2 else ""
    used = {name.split(".")[1] for name in imports(module) if name.startswith("handler.")}

    assert used <= set(ALLOWED.get(room, used))
    assert room == "commands" or module.name == "__main__.py" or "commands" not in used
    assert room in ("commands", "console") or "console" not in used


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_external_modules_are_imported_in_one_place(module: Path) -> None:
    """Flask, gRPC, SQLite, HTTP; `posting` plays Bitrix24 for `send`, so it may use HTTP."""
    known = {
        outside
        for outside in ONLY
        for name in imports(module)
        if name == outside or name.startswith(f"{outside}.")
    }

    if module.name != "posting.py":
        assert {outside for outside in known if not str(module).startswith(ONLY[outside])} == set()
