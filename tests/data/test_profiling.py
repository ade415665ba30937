"""A profile tells what is in each column, exactly or with a stated estimate."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nbops.core.codec import decode, encode
from nbops.data.bins import quantile_bins
from nbops.data.columns import Column, hashes
from nbops.data.frames import read
from nbops.data.profiles import counting, numbers, passing, texts
from nbops.data.profiling import profile_column, profile_frame, value_counts

SHARES = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]


def told(data: Any, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = profile_frame(read(data))["columns"][name]
    return found


def test_profile_of_numbers_text_flags_and_times() -> None:
    table = {
        "n": [1.0, None, 3.0, math.inf, 0.0, -1.0],
        "t": ["né", "a", "a", None, "a", "né"],
        "f": [True, None, True, False, True, True],
        "d": np.array(["2024-01-02", "2024-01-01", "NaT", "2024-01-02", "2024-01-02", "2024-01-02"], "datetime64[D]"),
    }
    profile = profile_frame(read(table))
    assert profile["rows"] == 6
    columns = profile["columns"]
    assert columns["n"].items() >= {
        "dtype": "float64", "missing": 1, "distinct": 5, "distinct_exact": True, "min": -1.0, "max": 3.0, "mean": 0.75,
        "std": pytest.approx(np.std([1, 3, 0, -1])), "infinite": 1, "zeros": 1, "negative": 1,
        "edges": [-1.0, 0.0, 1.0, 3.0], "counts": [1, 1, 1, 1], "common": [],
    }.items()  # fmt: skip
    assert columns["t"] == {
        "dtype": "text", "missing": 1, "distinct": 2, "distinct_exact": True, "values": {"a": 3, "né": 2},
        "min_length": 1, "max_length": 2, "mean_length": 1.4, "lengths": {"edges": [1, 2], "counts": [3, 2]},
        "meaning": {"type": "category", "sure": "likely"},
    }  # fmt: skip
    assert columns["f"] == {
        "dtype": "bool", "missing": 1, "distinct": 2, "distinct_exact": True, "values": {"True": 4, "False": 1},
        "min": False, "max": True, "mean": 0.8, "std": pytest.approx(0.4), "infinite": 0,
        "meaning": {"type": "boolean", "sure": "certain"},
    }  # fmt: skip
    assert columns["d"] == {
        "dtype": "date", "missing": 1, "distinct": 2, "distinct_exact": True, "min": "2024-01-01", "max": "2024-01-02",
        "edges": [1704067200.0, 1704153600.0], "counts": [1, 4], "meaning": {"type": "date", "sure": "certain"},
    }  # fmt: skip
    assert decode(encode(profile), dict) == profile


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint16"])
@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
def test_figures_agree_with_scipy_and_numpy(dtype: str, rows: int) -> None:
    values = (np.random.default_rng(rows).gamma(2, 9, size=rows)).astype(dtype)
    wide = values.astype(np.float64)
    column = told({"a": values})
    assert (column["min"], column["max"]) == (wide.min(), wide.max())
    assert (column["mean"], column["std"]) == (pytest.approx(wide.mean()), pytest.approx(wide.std()))
    if wide.std() > 0:
        assert column["skew"] == pytest.approx(stats.skew(wide))
        assert column["kurtosis"] == pytest.approx(stats.kurtosis(wide))
    else:
        assert column["skew"] is column["kurtosis"] is None
    assert list(column["quantiles"]) == [str(share) for share in SHARES]
    assert list(column["quantiles"].values()) == pytest.approx(np.quantile(wide, SHARES))
    assert (column["edges"], column["counts"]) == quantile_bins(values)
    assert column["distinct"] == len(np.unique(values))


def test_profile_agrees_with_pandas_on_real_data(digits: tuple[np.ndarray, np.ndarray]) -> None:
    frame = pd.DataFrame(digits[0])
    columns = profile_frame(read(digits[0]))["columns"]
    real = frame.describe()
    for name in frame.columns:
        column = columns[str(name)]
        assert column["mean"] == pytest.approx(real.loc["mean", name])
        assert (column["min"], column["max"]) == (real.loc["min", name], real.loc["max", name])
        assert column["quantiles"]["0.25"] == real.loc["25%", name]
        assert column["distinct"] == frame[name].nunique()


def test_profile_of_nothing_but_missing_and_of_no_rows() -> None:
    profile = profile_frame(read({"a": [math.nan, math.nan], "b": [None, None], "t": pd.Series(["", None])}))
    assert profile["columns"]["a"].items() >= {
        "missing": 2, "distinct": 0, "distinct_exact": True, "min": None, "max": None, "mean": None, "std": None,
        "infinite": 0, "quantiles": {}, "edges": [], "counts": [],
    }.items()  # fmt: skip
    assert profile["columns"]["a"]["meaning"]["type"] == "empty"
    assert profile["columns"]["b"]["missing"] == 2
    assert profile["columns"]["t"]["values"] == {"": 1}
    assert profile_frame(read({"a": np.zeros(0), "t": pd.Series([], dtype="str")}))["rows"] == 0


def test_huge_and_tiny_numbers_neither_overflow_nor_vanish() -> None:
    big = np.finfo(np.float64).max
    column = told({"a": [big, big, -big]})
    assert column["mean"] == pytest.approx(big / 3)
    assert column["std"] == pytest.approx(big * (math.sqrt(8) / 3))
    assert column["skew"] == pytest.approx(stats.skew([1.0, 1.0, -1.0]))
    small = told({"a": [1e-300, 2e-300, 9e-300]})
    assert small["skew"] == pytest.approx(stats.skew([1.0, 2.0, 9.0]))
    assert told({"a": np.array([2**64 - 1, 2**64 - 2], np.uint64)})["edges"] == [2**64 - 2, 2**64 - 1]
    beyond = told({"a": [2**70, 1, None, -(2**70), 2.5, Decimal("1e400")]})
    assert (beyond["dtype"], beyond["distinct"], beyond["missing"]) == ("object", 5, 1)
    assert (beyond["min"], beyond["max"], beyond["negative"], beyond["infinite"]) == (-(2.0**70), 2.0**70, 1, 1)
    assert beyond["meaning"]["type"] == "huge-number"
    assert "min" not in told({"a": [2**70, "x"]})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64, np.int16])
def test_distinct_integers_are_exact_at_the_limits_of_their_type(dtype: type) -> None:
    info = np.iinfo(dtype)
    values = np.array([info.min, info.min + 1, info.max - 1, info.max, info.max], dtype)
    assert told({"a": values})["distinct"] == 4


def test_zero_has_one_sign() -> None:
    column = told({"a": [-0.0, 0.0, -0.0, 1.0]})
    assert str(column["edges"]) == "[0.0, 1.0]"
    assert (column["min"], column["distinct"], column["zeros"], column["negative"]) == (0.0, 2, 3, 0)
    assert str(column["min"]) == "0.0"


def test_common_numbers_are_told_with_their_counts() -> None:
    values = np.concatenate([np.full(30, -999.0), np.zeros(20), np.random.default_rng(0).normal(size=950)])
    assert told({"a": values})["common"] == [[-999.0, 30], [0.0, 20]]


def test_decimals_have_figures_and_all_their_digits_tell_them_apart() -> None:
    column = told({"a": [Decimal("1.10"), Decimal("1.1"), Decimal("1.1000000000000000000001"), None]})
    assert (column["dtype"], column["missing"], column["distinct"]) == ("decimal", 1, 2)
    assert (column["min"], column["max"]) == (1.1, 1.1)


def test_zones_and_durations_are_seconds() -> None:
    moments = pd.Series(pd.to_datetime(["2024-01-01 00:00:00.0", "2024-01-01 00:00:00.5"], utc=True))
    column = told({"a": moments.dt.tz_convert("Europe/Berlin")})
    assert column["edges"] == [1704067200.0, 1704067200.5]
    assert told({"a": np.array([90, 30], "timedelta64[s]")})["edges"] == [30.0, 90.0]


def test_tensors_are_counted_over_all_cells() -> None:
    column = told({"X": np.arange(24.0).reshape(2, 3, 4)}, "X")
    assert (column["cells"], column["edges"][-1], sum(column["counts"])) == (24, 23.0, 24)


def test_mixed_and_nested_values_are_told_apart() -> None:
    column = told({"a": [1, "x", None, "x"]})
    assert column.items() >= {"dtype": "object", "distinct": 2, "kinds": {"number": 1, "text": 2}}.items()
    assert column["meaning"]["type"] == "mixed"
    nested = told({"a": [[1, 2], [1, 2], {"b": 1}]})
    assert nested["distinct"] == 2


def test_many_texts_have_their_commonest_named() -> None:
    cells = [f"v{i}" for i in range(500)] + ["often"] * 9 + ["twice"] * 2 + [None] * 4
    column = told({"a": cells})
    assert "values" not in column
    assert (column["distinct"], column["distinct_exact"], len(column["top"])) == (502, True, texts.TOP)
    assert list(column["top"].items())[:2] == [("often", 9), ("twice", 2)]
    assert set(list(column["top"].values())[2:]) == {1}


def test_the_order_of_rows_changes_no_digit() -> None:
    rng = np.random.default_rng(0)
    table = {"n": rng.lognormal(size=5000), "t": rng.integers(0, 900, 5000).astype(str)}
    order = rng.permutation(5000)
    first = profile_frame(read(table))
    other = profile_frame(read({name: values[order] for name, values in table.items()}))
    assert encode(first) == encode(other)


def test_threads_and_pieces_change_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = {f"n{i}": rng.normal(size=9000) for i in range(40)} | {"t": rng.integers(0, 5000, 9000).astype(str)}
    frame = read(table)
    whole = encode(profile_frame(frame))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert encode(profile_frame(frame)) == whole
    text = frame.column("t")
    assert text.offsets is not None
    for size in (1, 4000, 8999):
        pieces = [text_part(text, start, min(start + size, 9000)) for start in range(0, 9000, size)][:3]
        cut = text_part(text, 0, sum(piece.rows for piece in pieces))
        at_once = passing.pass_over(lambda c=cut: [c], cut.rows).figures  # type: ignore[misc]
        assert passing.pass_over(lambda p=pieces: p, cut.rows).figures == at_once  # type: ignore[misc]


def text_part(column: Column, start: int, stop: int) -> Column:
    offsets = column.offsets
    assert offsets is not None
    data = column.values[offsets[start] : offsets[stop]]
    return Column(column.name, "text", data, None, offsets[start : stop + 1] - offsets[start])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what is too much to be exact begin at 1,000 values."""
    for module in (counting, numbers, texts):
        monkeypatch.setattr(module, "EXACT_VALUES", 1000)


@pytest.mark.usefixtures("small")
def test_above_the_limit_figures_are_near_and_say_so() -> None:
    values = np.random.default_rng(0).lognormal(1, 2, size=300_000)
    values[:5000] = 0.0
    values[5000:9000] *= -1
    column = told({"a": values})
    assert set(column["approximate"]) == {"distinct", "zeros", "quantiles", "edges", "common"}
    assert not column["distinct_exact"]
    assert column["distinct"] == pytest.approx(len(np.unique(values)), rel=0.01)
    assert (column["min"], column["max"]) == (values.min(), values.max())
    assert (column["zeros"], column["negative"]) == (5000, 4000)
    assert list(column["quantiles"].values()) == pytest.approx(np.quantile(values, SHARES), rel=0.004)
    assert (column["mean"], column["std"]) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert column["skew"] == pytest.approx(stats.skew(values), rel=1e-6)
    assert column["kurtosis"] == pytest.approx(stats.kurtosis(values), rel=1e-6)
    assert sum(column["counts"]) == len(values)
    upto = [int((values <= edge).sum()) for edge in column["edges"]]
    assert np.cumsum(column["counts"]).tolist() == upto, "counts are exact in whatever edges"


@pytest.mark.usefixtures("small")
def test_above_the_limit_pieces_change_no_digit() -> None:
    values = np.random.default_rng(0).normal(size=700_000)
    whole = profile_column(Column("a", "float64", values))
    for size in (99_991, 300_000):
        pieces = [Column("a", "float64", values[i : i + size]) for i in range(0, len(values), size)]
        found = passing.pass_over(lambda p=pieces: p, len(values)).figures  # type: ignore[misc]
        assert encode({**whole, "meaning": 0}) == encode({**found, "meaning": 0})
    huge = profile_column(Column("a", "float64", np.array([1e200, -1e200] * 600)))
    assert huge["kurtosis"] is None


@pytest.mark.usefixtures("small")
def test_above_the_limit_texts_are_counted_in_a_sample_and_scaled_up() -> None:
    values = np.random.default_rng(0).integers(0, 3, size=50_000).astype(str)
    column = told({"a": values})
    assert column["approximate"] == ["distinct", "values", "lengths"]
    assert column["distinct"] == pytest.approx(3, abs=1)
    assert column["values"]["1"] == pytest.approx(50_000 / 3, rel=0.2)
    many = told({"a": np.arange(50_000).astype(str)})
    assert many["distinct"] == pytest.approx(50_000, rel=0.02)
    assert (many["approximate"], len(many["top"])) == (["distinct", "top", "lengths"], texts.TOP)


def test_sampled_rows_are_spread_and_within() -> None:
    picks = counting.sample_rows(1_000_003, 1000)
    assert len(np.unique(picks)) == 1000
    assert (np.diff(picks) > 0).all()
    assert (picks[0] < 1001, picks[-1] < 1_000_003, picks[-1] > 998_000) == (True, True, True)
    assert counting.sample_rows(5, 10).tolist() == [0, 1, 2, 3, 4]


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=30), max_size=60))
def test_text_is_counted_as_python_counts_it(cells: list[str | None]) -> None:
    column = read({"a": pd.Series(cells, dtype="str")}).columns[0]
    present = [cell for cell in cells if cell is not None]
    assert value_counts(column, limit=100) == {cell: present.count(cell) for cell in present}
    codes = hashes(column)
    assert len(set(codes.tolist())) == len(set(cells))


@given(st.lists(st.integers(0, 40), max_size=80), st.integers(1, 12))
def test_the_commonest_are_those_that_sorting_gives(values: list[int], limit: int) -> None:
    distinct, found, counts = counting.commonest(np.sort(np.array(values, np.uint64)), limit=limit)
    real = sorted(((values.count(v), v) for v in set(values)), key=lambda pair: (-pair[0], pair[1]))[:limit]
    assert distinct == len(set(values))
    assert list(zip(counts.tolist(), found.tolist(), strict=True)) == real


def test_long_text_is_hashed_whole() -> None:
    long = "x" * 70_000
    column = read({"a": [long, long + "y", "z" + long[1:], long, "x" * 65_536, "x" * 65_535]}).columns[0]
    codes = hashes(column).tolist()
    assert codes[0] == codes[3]
    assert len(set(codes)) == 5


def test_two_values_in_one_bucket_are_told_apart() -> None:
    """Some of thousands of texts share the sixteen bits by which values are first grouped."""
    cells = [str(number) for number in range(3000)]
    assert value_counts(read({"a": cells}).columns[0], limit=3000) == dict.fromkeys(cells, 1)
    assert value_counts(read({"a": cells}).columns[0], limit=2999) is None
