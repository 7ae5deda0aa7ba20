"""The reference lists exactly the outcomes that the log can have."""

import ast
import re
from collections.abc import Iterator

from tests.doubles.function import ROOT

_ROOMS = ("", "bitrix24", "events", "records")
_NAME = re.compile(r"[a-z_]+")
_NOT_LOGGED = {"up"}  # /health


def _outcomes() -> Iterator[str]:
    """Find each literal `status`, `error` and `outcome` in the code that answers requests."""
    for room in _ROOMS:
        for path in sorted((ROOT / "handler" / room).glob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                for value in _values(node):
                    if isinstance(value, ast.Name):
                        yield _constant(value.id)
                    elif isinstance(value, ast.Constant) and _NAME.fullmatch(str(value.value)):
                        yield str(value.value)


def _values(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            said = isinstance(key, ast.Constant) and key.value in ("status", "error")
            if said and isinstance(value, ast.Constant):
                yield value
    elif isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called == "Refused":
            yield node.args[1]
        yield from (one.value for one in node.keywords if one.arg == "outcome")


def _constant(name: str) -> str:
    """Return the value of a named constant, such as `NOT_RECORDED`."""
    constant = re.compile(rf'^{name}(?:: Final)? = "([a-z_]+)"$', re.MULTILINE)
    sources = [path.read_text() for path in (ROOT / "handler").rglob("*.py")]
    found = {text for source in sources for text in constant.findall(source)}
    (text,) = found
    return str(text)


def test_the_reference_has_each_outcome_of_the_log() -> None:
    """With its meaning and what to do."""
    _, _, section = (ROOT / "docs/reference.md").read_text().partition("\n## Outcomes\n")
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    listed = [outcome for row in rows for outcome in re.findall(r"`([a-z_]+)`", row[0])]

    assert sorted(set(_outcomes()) - _NOT_LOGGED) == sorted(listed)
    assert all(len(row) == 4 and all(map(str.strip, row)) for row in rows)
