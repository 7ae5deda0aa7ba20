"""The dependencies within handler/, read from the imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.function import ROOT

MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "handler").rglob("*.py"))

# From top to bottom, as in CONTRIBUTING.md: each imports only from layers below its own.
LAYERS = (
    *({"__main__"}, {"commands"}, {"console"}),
    *({"flask_adapter"}, {"receiver"}, {"dispatch"}, {"instance"}),
    *({"bitrix24"}, {"records"}, {"tokens"}, {"portal"}, {"stores"}, {"events", "settings"}),
    {"answers", "deadline", "log", "urls", "VERSION"},
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

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
def test_no_module_imports_from_above(module: Path) -> None:
    """Nor from beside it; and the stores know no events."""
    room = module.with_suffix("").parts[1]
    used = {name.split(".")[1] for name in imports(module) if name.startswith("handler.")} - {room}

    assert {name for name in used if LAYER_OF[name] <= LAYER_OF[room]} == set()
    assert room != "stores" or "events" not in used


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
