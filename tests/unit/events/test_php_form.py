"""Form bodies are decoded exactly like PHP's `parse_str`: byte by byte, keys in order."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FrameType
from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handler.answers import Refused
from handler.events.php_form import MAX_FIELDS, MAX_NESTING, Tree, parse_php_form
from tests import samples
from tests.doubles.bitrix24 import Value, http_build_query
from tests.strategies import TYPED, as_in_a_form

PHP = shutil.which("php")
PHP_SAMPLES = samples.HERE / "php"
VECTORS = json.loads((PHP_SAMPLES / "parse_str.json").read_bytes())

# Everything with a meaning in a body, and neighbours without one.
PIECES = [
    *(b"a", b"b", b"0", b"1", b"=", b"&", b"+", b" ", b".", b"%", b"%2", b"%zz"),
    *(b"\0", b"\t", b"'"),
    *(b"[", b"[", b"]", b"]", b"[]", b"[]", b"[a]", b"[0]", b"[1]", b"[01]", b"[-0]", b"[-5]"),
    *(b"[ ]", b"[\t", b"[ a", b"[\x0b]", b"[\xa0]", b"%5B", b"%5D", b"%00", b"%20", b"%26", b"%3D"),
    *(b"[9223372036854775806]", b"[9223372036854775807]", b"[9223372036854775808]"),
    *(b"[-9223372036854775808]", b"[-9223372036854775809]", b"\xff", b"%C3%A9", "é".encode()),
]

STEPS = [piece for piece in PIECES if piece[:1] == b"[" and piece[-1:] == b"]"]

# A list of [key, value] in hex for each array: what parse_str.php prints.
Shown: TypeAlias = "str | list[list[Shown]]"


def shown(value: "str | Tree") -> Shown:
    """Format a tree like parse_str.php does."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").hex()
    return [[shown(key), shown(inner)] for key, inner in value.items()]


def decoded_by_php(bodies: Sequence[bytes]) -> list[Shown]:
    """Let PHP decode bodies, all in one process, without a php.ini."""
    assert PHP
    answer = subprocess.run(
        [PHP, "-n", PHP_SAMPLES / "parse_str.php"],
        input="".join(f"{body.hex()}\n" for body in bodies).encode(),
        capture_output=True,
        check=True,
    )
    return [json.loads(line) for line in answer.stdout.splitlines()]


needs_php = pytest.mark.skipif(not PHP, reason="compares with PHP itself; there is no php on PATH")


@pytest.mark.parametrize("name", VECTORS)
def test_a_body_decodes_as_php_decoded_it(name: str) -> None:
    """The samples contain what parse_str of PHP 8.2 made of each body."""
    body = VECTORS[name]["body"].encode("utf-8", "surrogateescape")
    assert shown(VECTORS[name]["decoded"]) == shown(parse_php_form(body))


@needs_php
def test_local_php_decodes_the_samples_the_same() -> None:
    """So the samples cannot be made up."""
    bodies = [vector["body"].encode("utf-8", "surrogateescape") for vector in VECTORS.values()]
    assert [shown(vector["decoded"]) for vector in VECTORS.values()] == decoded_by_php(bodies)


@needs_php
def test_random_bodies_decode_as_php_decodes_them() -> None:
    """20,000 bodies of significant characters, the same in each run."""
    chance = random.Random(20_240_502)

    def field() -> bytes:
        if chance.random() < 0.5:  # one more element of an array that others are in
            return b"a" + b"".join(chance.choices(STEPS, k=chance.choice([1, 1, 2]))) + b"=1"
        return b"".join(chance.choices(PIECES, k=chance.randint(1, MAX_NESTING)))

    bodies = [b"&".join(field() for _ in range(chance.randint(1, 6))) for _ in range(20_000)]
    differing = [
        (body, expected, actual)
        for body, expected in zip(bodies, decoded_by_php(bodies), strict=True)
        if expected != (actual := shown(parse_php_form(body)))
    ]
    assert [] == differing


@pytest.mark.parametrize("name", samples.NAMES)
def test_a_sample_decodes_to_what_its_json_says(name: str) -> None:
    """Each recorded request, with brackets percent-encoded as by http_build_query."""
    assert as_in_a_form(samples.typed(name)) == parse_php_form(samples.form(name))


@given(TYPED)
@example({"a&auth[x": "&auth[application_token]=stolen", "b": ["=", "+", "%26", "\0"]})
def test_what_http_build_query_writes_is_read_back(data: dict[str, Value]) -> None:
    """No text in the data can become a separate field."""
    whole: dict[str, Value] = {"event": "X", "data": data, "ts": 1}
    assert as_in_a_form(whole) == parse_php_form(http_build_query(whole).encode())


@given(st.binary(max_size=60))
def test_bytes_that_are_not_utf8_round_trip(value: bytes) -> None:
    """Nothing is replaced: two different bodies never become the same."""
    quoted = "".join(f"%{byte:02x}" for byte in value)
    tree = parse_php_form(f"a={quoted}".encode())
    assert {"a": value.decode("utf-8", "surrogateescape")} == tree


def test_a_thousand_fields_are_accepted() -> None:
    """Unlike PHP, which drops fields over its limit, and a deletion with them."""
    assert MAX_FIELDS == len(parse_php_form(b"&".join(b"a%d=" % n for n in range(1_000))))


@pytest.mark.parametrize("field", [b"a[]=1", b"a=1", b"=", b"a"])
def test_a_thousand_and_one_fields_are_refused(field: bytes) -> None:
    """Every field counts, even a repeated one, or one that PHP drops."""
    with pytest.raises(Refused) as refused:
        parse_php_form(b"&".join([field] * 1_001))
    assert 400 == refused.value.answer.status
    detail = "The body has more than 1000 fields."
    assert {"error": "malformed_body", "detail": detail} == refused.value.answer.body


def test_empty_fields_do_not_count() -> None:
    """PHP skips them, too."""
    assert {"a": "1"} == parse_php_form(b"&" * 2_000 + b"a=1")


@pytest.mark.parametrize("filling", [b"", b"k", b"x" * 200])
def test_sixteen_levels_of_brackets_are_accepted_and_seventeen_refused(filling: bytes) -> None:
    """Long names, which are not cached, have the same limit."""
    step = b"[" + filling + b"]"
    parse_php_form(b"a" + step * 16 + b"=1")
    with pytest.raises(Refused) as refused:
        parse_php_form(b"a" + step * 17 + b"=1")
    assert 400 == refused.value.answer.status
    detail = "A field is nested more than 16 levels deep."
    assert {"error": "malformed_body", "detail": detail} == refused.value.answer.body


def test_cached_name_means_the_same() -> None:
    """Names are cached between bodies; indexes are not."""
    body = b"a[]=1&a[]=2&b[k]=3"
    assert (
        parse_php_form(body) == parse_php_form(body) == {"a": {"0": "1", "1": "2"}, "b": {"k": "3"}}
    )


# The approximate size of the bodies.
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "opening brackets": lambda n: b"a" + b"[" * n,
    "opening brackets, encoded": lambda n: b"a" + b"%5B" * (n // 3),
    "opening brackets that one closes": lambda n: b"a" + b"[" * n + b"]",
    "closing brackets": lambda n: b"a" + b"]" * n,
    "brackets in a value": lambda n: b"a=" + b"[" * n,
    "ampersands": lambda n: b"&" * n,
    "equals signs": lambda n: b"=" * n,
    "percent signs": lambda n: b"%" * n,
    "leading spaces": lambda n: b" " * n + b"a",
    "a thousand long names": lambda n: b"&".join([b"a" + b"[" * (n // 1_000 - 2)] * 1_000),
    "fields of one array": lambda n: b"&".join(b"a[%d]=" % i for i in range(n // 100)),
    "indexes of one array": lambda n: b"&".join([b"a[]="] * (n // 100)),
    "indexes and keys of one array": lambda n: b"&".join([b"a[]=", b"a[0]="] * (n // 200)),
}


def work(body: bytes) -> int:
    """Count the calls made for decoding, and the bytes that each may scan."""
    done = 0

    def count(_frame: FrameType, what: str, function: object) -> None:
        nonlocal done
        if what in ("call", "c_call"):
            of = getattr(function, "__self__", None)
            done += 1 + (len(of) if isinstance(of, bytes) else 0)

    sys.setprofile(count)
    try:
        parse_php_form(body)
    finally:
        sys.setprofile(None)
    return done


@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_body_is_twice_the_work(kind: str) -> None:
    """Bodies are decoded before any token is checked, so the cost must not be quadratic."""
    for half, whole in pairwise(work(HOSTILE[kind](size)) for size in (20_000, 40_000, 80_000)):
        assert whole <= 2.2 * half
