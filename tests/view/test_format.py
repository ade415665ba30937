"""Numbers, durations, sizes and text for the eye."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.view import format as f


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.97134, "0.9713"), (2.0, "2"), (1797, "1,797"), (4096.0, "4,096"), (0.000123456, "0.0001235"), (0, "0"),
        (0.0, "0"), (3.1e38, "3.1e38"), (1e-5, "1e-5"), (math.nan, "NaN"), (-math.inf, "-∞"), (None, "—"),
        (True, "True"), ("Adam", "Adam"), (-1234.5, "-1,234"),
    ],
)  # fmt: skip
def test_numbers_have_four_digits_and_separators(value: object, shown: str) -> None:
    assert f.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0004, "0.4 ms"), (0.041, "41 ms"), (3.21, "3.21 s"), (134, "2 min 14 s"), (120, "2 min"), (59.999, "60 s"),
        (3900, "1 h 5 min"), (180_000, "2 d 2 h"), (None, "—"), (math.nan, "—"),
    ],
)  # fmt: skip
def test_durations_carry_their_unit(seconds: float | None, shown: str) -> None:
    assert f.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (512, "512 B"), (1_800_000_000, "1.8 GB"), (2.5e13, "25 TB"), (None, "—")]
)
def test_sizes_carry_their_unit(count: float | None, shown: str) -> None:
    assert f.size(count) == shown


def test_a_share_is_shown_in_per_cent() -> None:
    assert f.quantity(0.042, "share") == "4.2 %"
    assert f.quantity(12, "rows") == "12 rows"
    assert f.quantity(None, "rows") == "—"


@pytest.mark.parametrize(
    ("count", "noun", "shown"),
    [(1, "run", "1 run"), (2000, "run", "2,000 runs"), (3, "diagnosis", "3 diagnoses"), (2, "alias", "2 aliases"),
     (2, "entry", "2 entries"), (2, "day", "2 days")],
)  # fmt: skip
def test_plurals(count: int, noun: str, shown: str) -> None:
    assert f.plural(count, noun) == shown


def test_text_cannot_steer_a_terminal() -> None:
    assert f.text("a\x1b[31mred\nnext\u202eback\x00") == "a [31mred next back"


@given(st.text(max_size=60), st.integers(min_value=1, max_value=30))
def test_cut_never_exceeds_the_limit(line: str, limit: int) -> None:
    shown = f.cut(f.text(line), limit)
    assert f.columns(shown) <= limit
    assert f.columns(f.text(line)) > limit or shown == f.text(line)


def test_cut_keeps_both_ends_and_counts_wide_characters_twice() -> None:
    assert f.cut("a-very-long-name.onnx", 11) == "a-ver….onnx"
    assert f.columns("手書き") == 6
    assert f.columns(f.cut("手書き数字データ", 9)) <= 9


def test_a_cell_is_named_by_its_id_and_a_terminal_line_not_at_all() -> None:
    assert f.cell("3fa8b2c1-77aa-4bcd-9e10-0123456789ab") == "cell 3fa8b2c1"
    assert f.cell("source-0123456789ab") == ""
    assert f.cell(None) == ""
    assert f.when(None) == "—"


@given(st.text(max_size=200), st.integers(min_value=8, max_value=40))
def test_wrapped_lines_fit_and_lose_no_word(line: str, limit: int) -> None:
    clean = f.text(line)
    rows = f.wrap(clean, limit, indent="  ")
    assert all(f.columns(row) <= limit for row in rows)
    assert "".join("".join(rows).split()) == "".join(clean.split())
