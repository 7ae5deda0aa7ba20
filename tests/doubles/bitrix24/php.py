"""Form bodies as PHP writes them (events) and reads them (REST parameters)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl, quote_plus

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | Mapping[str, Value] | None"
"""What JSON and PHP's arrays have in common."""

_Tree: TypeAlias = "dict[str, str | _Tree]"


def http_build_query(data: Mapping[str, Value]) -> str:
    """Write a form body: null and empty arrays vanish, booleans become 1 and 0, a space becomes +.

    Source: php.net/http_build_query, with its default RFC 1738 encoding (which escapes `~` too).
    """
    return "&".join(f"{name}={value}" for name, value in _pairs(data, ""))


def _pairs(data: Mapping[str, Value], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{prefix}%5B{_urlencode(key)}%5D" if prefix else _urlencode(key)
        if value is None:
            continue
        if isinstance(value, bool):
            yield name, str(int(value))
        elif isinstance(value, str | int | float):
            yield name, _urlencode(str(value))
        elif isinstance(value, Mapping):
            yield from _pairs(value, name)
        else:
            yield from _pairs({str(index): item for index, item in enumerate(value)}, name)


def _urlencode(text: str) -> str:
    return quote_plus(text, safe="").replace("~", "%7E")


def parse_str(body: str) -> dict[str, Value]:
    """Read a form body: `a[b]=1`, `a[]=1`, `a[0]=1`; every value is a string.

    Source: php.net/parse_str; its odder corners (broken brackets, dots in names) are left out.
    """
    tree: _Tree = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        head, rest = re.fullmatch(r"([^\[]*)(.*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
        branch, key = tree, head
        for step in re.findall(r"\[([^\]]*)\]", rest):
            inner = branch.get(key)
            if not isinstance(inner, dict):
                inner = branch[key] = {}
            branch, key = inner, step or str(len(inner))
        branch[key] = value
    return {key: _with_lists(value) for key, value in tree.items()}


def _with_lists(value: "str | _Tree") -> Value:
    if isinstance(value, str):
        return value
    return as_php_array({key: _with_lists(item) for key, item in value.items()})


def as_php_array(items: Mapping[str, Value]) -> Value:
    """Return a list if the keys are 0, 1, 2 and so on, or if there are none, as PHP does."""
    if list(items) == [str(number) for number in range(len(items))]:
        return list(items.values())
    return items


def intval(value: Value) -> int:
    """Convert as PHP does: leading digits count, everything else is 0."""
    found = re.match(r"\s*([+-]?\d+)", str(int(value) if isinstance(value, bool) else value))
    return int(found[1]) if found else 0
