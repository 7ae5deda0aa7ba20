"""Nested data as in PHP, for property tests, and what remains of it in a form."""

from hypothesis import strategies as st

from tests.doubles.bitrix24 import Value

# In brackets, PHP keeps every key except those that are empty, end early or look empty.
KEYS = st.sampled_from(
    ["DATA", "connector", "id", "0", "1", "01", "a.b", "a[", "&", "=%26", "+ ", "é"]
)
TEXT = st.text(st.sampled_from("aZ0é€😀 +&=%[]\0\n\"'\\~"), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers() | TEXT | st.text(max_size=3)
TYPED = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def as_in_a_form(value: Value) -> Value:
    """Return what remains of a value in a form: text, and no nulls, lists or empty arrays."""
    if isinstance(value, list):
        value = {str(index): inner for index, inner in enumerate(value)}
    if isinstance(value, dict):
        pairs = ((key, as_in_a_form(inner)) for key, inner in value.items() if inner is not None)
        return {key: inner for key, inner in pairs if inner != {}}
    return str(int(value)) if isinstance(value, bool) else str(value)
