"""Decodes form bodies with PHP's bracket nesting, exactly as PHP's `parse_str` does.

Bitrix24 builds them with PHP's `http_build_query`, so PHP's own parsing is the right one. It works
on bytes, in time linear in the body's length: the body is split before it is unquoted (an encoded
`&` or `[` in a value stays text), and names are scanned forward only.
tests/unit/events/test_php_form.py compares it with PHP itself.
"""

import re
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from handler.answers import malformed_body

Tree: TypeAlias = "dict[str, str | Tree]"

# The handler's limits for a body, form or JSON. PHP's own are 1,000 (it drops the rest, which
# would lose deletions) and 64; Bitrix24's events need about 30 fields and 5 levels.
MAX_FIELDS = 1_000
MAX_NESTING = 16

# Field names repeat from event to event, so parsed names are cached: at most this many, and only
# short ones, so that a stranger's names cannot fill the memory.
_CACHED_NAMES = 512
_CACHED_NAME_BYTES = 128

_PHP_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_PHP_INT_MIN, _PHP_INT_MAX = -(2**63), 2**63 - 1
_NONE_YET = _PHP_INT_MIN  # PHP's own mark for an array without integer keys
_NAME_TO_UNDERSCORE = bytes.maketrans(b" .[", b"___")

# The keys that lead into the tree; `None` stands for PHP's `[]`, the next free index.
_Path: TypeAlias = tuple[str | None, ...]


def parse_php_form(body: bytes) -> Tree:
    """Decode a form body into nested dictionaries of text.

    Bytes that are not UTF-8 become lone surrogates (PEP 383): different bytes stay different, and
    the models can tell that this is not text. A list is a dictionary with the keys "0", "1", ...

    Raises `Refused` (400) over MAX_FIELDS fields or MAX_NESTING levels of brackets.
    """
    # parse_str takes a C string: a raw NUL ends it.
    fields = [field for field in body.partition(b"\0")[0].split(b"&") if field]
    if len(fields) > MAX_FIELDS:
        raise malformed_body(f"The body has more than {MAX_FIELDS} fields.")
    tree: Tree = {}
    indexes = _NextIndexes()
    for field in fields:
        name, _, value = field.partition(b"=")
        path = _cached_path(name) if len(name) <= _CACHED_NAME_BYTES else _path(name)
        if path:
            _insert(tree, path, _text(_unquote(value)), indexes)
    return tree


def _path(quoted_name: bytes) -> _Path:
    """Split a field's name into keys; empty if PHP drops the field."""
    name = _unquote(quoted_name).partition(b"\0")[0].lstrip(b" ")
    first, _, rest = name.partition(b"[")
    if not first:
        return ()
    if b"]" not in rest:
        return (_text(name.translate(_NAME_TO_UNDERSCORE)),)
    path: list[str | None] = [_text(first.translate(_NAME_TO_UNDERSCORE))]
    bracket = len(first)
    while name[bracket : bracket + 1] == b"[":
        start = bracket + 1
        # PHP skips one white-space character, so `[ ]` is `[]`, but keeps it in a key.
        skipped = start + name[start : start + 1].isspace()
        end = name.find(b"]", skipped)
        if end == -1:
            break
        path.append(None if end == skipped else _text(name[start:end]))
        if len(path) > MAX_NESTING + 1:
            raise malformed_body(f"A field is nested more than {MAX_NESTING} levels deep.")
        bracket = end + 1
    return tuple(path)


_cached_path = lru_cache(_CACHED_NAMES)(_path)


def _insert(tree: Tree, path: _Path, value: str, indexes: "_NextIndexes") -> None:
    for step in path[:-1]:
        key = indexes.resolve(tree, step)
        if key is None:
            return
        below = tree.get(key)
        if not isinstance(below, dict):
            below = tree[key] = {}
        tree = below
    key = indexes.resolve(tree, path[-1])
    if key is not None:
        tree[key] = value


class _NextIndexes:
    """The next index for `[]`, for each array that a body uses it in.

    It is the largest integer key so far plus one. Bitrix24 never sends `[]`, so an array is scanned
    only when it first gets one, and tracked from then on.
    """

    def __init__(self) -> None:
        # By `id()`. Each array is held beside its index, so that its `id()` cannot be reused after
        # the body has overwritten it.
        self._next: dict[int, tuple[Tree, int]] = {}

    def resolve(self, array: Tree, step: str | None) -> str | None:
        """Return the key for one step into an array; `None` if PHP has no index left."""
        tracked = self._next.get(id(array))
        if step is None:
            index = tracked[1] if tracked else max(map(_index_after, array), default=_NONE_YET)
            index = 0 if index == _NONE_YET else index
            if index > _PHP_INT_MAX:
                return None
            self._next[id(array)] = (array, index + 1)
            return str(index)
        if tracked:
            self._next[id(array)] = (array, max(tracked[1], _index_after(step)))
        return step


def _index_after(key: str) -> int:
    if _PHP_INTEGER.fullmatch(key) and _PHP_INT_MIN <= int(key) <= _PHP_INT_MAX:
        return int(key) + 1
    return _NONE_YET


def _unquote(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
