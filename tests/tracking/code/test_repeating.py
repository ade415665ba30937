"""Which cells may run again without a further effect on a name."""

from __future__ import annotations

import pytest

from nbops.tracking.code.repeating import is_repeatable, parts_set


@pytest.mark.parametrize(
    ("source", "repeatable"),
    [
        ("df['a'] = df['b'] * 2", True),
        ("df['a'] = df['a'] * 2", False),
        ("df['a'] = 1\ndf['b'] = df['a']", True),
        ("df['b'] = df['a']\ndf['a'] = 1", False),
        ("df.index = range(3)", True),
        ("df.index = df.index + 1", False),
        ("df['a'] += 1", False),
        ("df = df.dropna()", False),
        ("df += 1", False),
        ("del df['a']", False),
        ("if wide:\n    df['a'] = df['b']", True),
        ("%time df['a'] = df['b']", True),
        ("df[", False),
    ],
)
def test_is_repeatable(source: str, repeatable: bool) -> None:
    assert is_repeatable(source, "df") is repeatable


def test_parts_set() -> None:
    assert parts_set("df['a'] = 1\ndf.b.c = 2\nother['d'] = 3", "df") == {"df['a']", "df.b.c"}
    assert parts_set("df = {}\ndf['a'] = 1", "df") == set()
    assert parts_set("df[", "df") == set()
