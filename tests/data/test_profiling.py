"""A profile tells what is in each column, exactly or with a stated estimate."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbops.core.codec import decode, encode
from nbops.data.columns import hashes
from nbops.data.frames import read
from nbops.data.profiling import EXACT_ROWS, profile_frame, value_counts


def test_profile_of_numbers_text_flags_and_times() -> None:
    table = {
        "n": [1.0, None, 3.0, math.inf],
        "t": ["né", "a", "a", None],
        "f": [True, None, True, False],
        "d": np.array(["2024-01-02", "2024-01-01", "NaT", "2024-01-02"], "datetime64[D]"),
    }
    profile = profile_frame(read(table))
    assert profile["rows"] == 4
    assert profile["columns"] == {
        "n": {"dtype": "float64", "missing": 1, "distinct": 3, "distinct_exact": True, "min": 1.0, "max": 3.0,
              "mean": 2.0, "std": 1.0, "infinite": 1},
        "t": {"dtype": "text", "missing": 1, "distinct": 2, "distinct_exact": True, "values": {"a": 2, "né": 1},
              "min_length": 1, "max_length": 2, "mean_length": pytest.approx(4 / 3)},
        "f": {"dtype": "bool", "missing": 1, "distinct": 2, "distinct_exact": True, "values": {"True": 2, "False": 1},
              "min": False, "max": True, "mean": pytest.approx(2 / 3), "std": pytest.approx(math.sqrt(2) / 3),
              "infinite": 0},
        "d": {"dtype": "date", "missing": 1, "distinct": 2, "distinct_exact": True, "min": "2024-01-01",
              "max": "2024-01-02"},
    }  # fmt: skip
    assert decode(encode(profile), dict) == profile


def test_profile_agrees_with_pandas_on_real_data(digits: tuple[np.ndarray, np.ndarray]) -> None:
    frame = pd.DataFrame(digits[0])
    told = profile_frame(read(digits[0]))["columns"]
    real = frame.describe()
    for name in frame.columns:
        column = told[str(name)]
        assert column["mean"] == pytest.approx(real.loc["mean", name])
        assert (column["min"], column["max"]) == (real.loc["min", name], real.loc["max", name])
        assert column["distinct"] == frame[name].nunique()


def test_profile_of_nothing_but_missing_and_of_no_rows() -> None:
    profile = profile_frame(read({"a": [math.nan, math.nan], "b": [None, None], "t": pd.Series(["", None])}))
    assert profile["columns"]["a"] | {"dtype": ""} == {
        "dtype": "", "missing": 2, "distinct": 0, "distinct_exact": True, "min": None, "max": None, "mean": None,
        "std": None, "infinite": 0,
    }  # fmt: skip
    assert profile["columns"]["b"]["missing"] == 2
    assert profile["columns"]["t"]["values"] == {"": 1}
    assert profile_frame(read({"a": np.zeros(0), "t": pd.Series([], dtype="str")}))["rows"] == 0


def test_huge_numbers_do_not_overflow() -> None:
    big = np.finfo(np.float64).max
    column = profile_frame(read({"a": [big, big, -big]}))["columns"]["a"]
    assert column["mean"] == pytest.approx(big / 3)
    assert math.isfinite(column["std"])
    assert profile_frame(read({"a": np.array([2**64 - 1], np.uint64)}))["columns"]["a"]["max"] == 2**64 - 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.int16])
def test_distinct_integers_are_exact_at_the_limits_of_their_type(dtype: type) -> None:
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, info.max - 1, info.max, info.max], dtype)
    assert profile_frame(read({"a": values}))["columns"]["a"]["distinct"] == 4


def test_distinct_of_many_rows_is_an_estimate_that_says_so() -> None:
    count = 2 * EXACT_ROWS
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(count / 2), 2))
    column = profile_frame(read({"a": values}))["columns"]["a"]
    assert not column["distinct_exact"]
    assert column["distinct"] == pytest.approx(count / 2, rel=0.01)
    text = profile_frame(read({"a": values.astype(str)}))["columns"]["a"]
    assert text["distinct"] == pytest.approx(count / 2, rel=0.01)
    assert "values" not in text


def test_a_profile_is_the_same_each_time() -> None:
    frame = {"a": np.random.default_rng(0).normal(size=EXACT_ROWS * 2), "t": ["x", "y"] * EXACT_ROWS}
    assert profile_frame(read(frame)) == profile_frame(read(frame))


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=30), max_size=60))
def test_text_is_counted_as_python_counts_it(cells: list[str | None]) -> None:
    column = read({"a": pd.Series(cells, dtype="str")}).columns[0]
    present = [cell for cell in cells if cell is not None]
    assert value_counts(column, limit=100) == {cell: present.count(cell) for cell in present}
    codes = hashes(column)
    assert len(set(codes.tolist())) == len(set(cells))


def test_long_text_is_hashed_whole() -> None:
    long = "x" * 70_000
    column = read({"a": [long, long + "y", "z" + long[1:], long, "x" * 65_536, "x" * 65_535]}).columns[0]
    codes = hashes(column).tolist()
    assert codes[0] == codes[3]
    assert len(set(codes)) == 5


def test_two_values_in_one_bucket_are_told_apart() -> None:
    """Some of thousands of texts share the sixteen bits by which values are first grouped."""
    texts = [str(number) for number in range(3000)]
    assert value_counts(read({"a": texts}).columns[0], limit=3000) == dict.fromkeys(texts, 1)
    assert value_counts(read({"a": texts}).columns[0], limit=2999) is None
