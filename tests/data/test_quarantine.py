"""`nb.quarantine` splits data exactly: no row lost, no bad row passed, whatever the index and the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbops as nb
from nbops.core.errors import CheckFailed, InvalidInput, NotFound
from nbops.data import expect
from nbops.data.rows import take_rows

RULES = nb.Suite(
    expect.InRange("age", low=0, high=120), expect.NotMissing("age"), expect.OneOf("city", values=["Bern", "Graz"])
)
AGES = [31.0, -5.0, None, 64.0, 500.0, 8.0]
CITIES = ["Bern", "Bern", "Graz", None, "Rom", "bern"]
BAD = [1, 2, 4, 5]


def people() -> pd.DataFrame:
    return pd.DataFrame({"age": AGES, "city": CITIES}, index=[3, 3, 1, 1, 3, 0])


def test_pandas_is_split_by_position_whatever_its_index() -> None:
    frame = people()
    parts = nb.quarantine(frame, suite=RULES)
    assert parts.positions.tolist() == BAD
    pd.testing.assert_frame_equal(parts.failed, frame.iloc[BAD])
    pd.testing.assert_frame_equal(parts.passed, frame.iloc[[0, 3]])


def test_reasons_name_row_rule_and_value() -> None:
    reasons = nb.quarantine(people(), suite=RULES).reasons
    assert isinstance(reasons, pd.DataFrame)
    assert list(reasons.columns) == ["row", "rule", "column", "value", "message"]
    assert list(zip(reasons["row"], reasons["rule"], reasons["value"], strict=True)) == [
        (1, "in-range", "-5.0"), (2, "not-missing", "missing"), (4, "in-range", "500.0"), (4, "one-of", "Rom"),
        (5, "one-of", "bern"),
    ]  # fmt: skip


def test_reasons_of_several_columns_tell_each_value() -> None:
    parts = nb.quarantine(
        {"a": [1, 5], "b": [2, 4]}, suite=[expect.Ordered(["a", "b"]), expect.SumsTo(["a", "b"], total=3)]
    )
    assert parts.reasons["value"] == ["a=5, b=4", "a=5, b=4"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pl.DataFrame({"age": AGES, "city": CITIES}), pl.DataFrame),
        (pl.DataFrame({"age": AGES, "city": CITIES}).lazy(), pl.DataFrame),
        (pa.table({"age": AGES, "city": CITIES}), pa.Table),
        ({"age": AGES, "city": CITIES}, dict),
    ],
    ids=["polars", "lazy", "arrow", "dict"],
)
def test_each_library_keeps_its_own_type(data: Any, kind: type) -> None:
    parts = nb.quarantine(data, suite=RULES)
    assert parts.positions.tolist() == BAD
    for part, ages in ((parts.passed, [31.0, 64.0]), (parts.failed, [-5.0, None, 500.0, 8.0])):
        assert isinstance(part, kind)
        column = part["age"]
        assert (column.to_pylist() if hasattr(column, "to_pylist") else list(column)) == ages
    assert len(parts.reasons["row"]) == 5
    assert isinstance(parts.reasons, kind)


def test_arrays_tensors_and_pairs() -> None:
    x, y = np.array([[1.0, 2.0], [np.nan, 3.0], [5.0, 1e9]]), np.array([0, 1, 0])
    rules = [expect.NotMissing("0"), expect.InRange("1", high=100)]
    parts = nb.quarantine(x, suite=rules)
    np.testing.assert_array_equal(parts.passed, x[:1])
    np.testing.assert_array_equal(parts.failed, x[1:])
    assert parts.reasons["row"] == [1, 2]
    both = nb.quarantine((x, y), suite=rules)
    assert both.passed[1].tolist() == [0]
    assert both.failed[1].tolist() == [1, 0]
    with_label = nb.quarantine(x, label=y, suite=rules)
    assert with_label.passed[0].shape == (1, 2)
    images = np.zeros((4, 2, 2))
    images[2, 0, 1] = np.inf
    assert nb.quarantine(images, suite=expect.Finite("X")).failed.shape == (1, 2, 2)
    import torch

    tensor = torch.tensor([[1.0], [float("nan")]])
    assert nb.quarantine(tensor, suite=expect.NotMissing("0")).failed.shape == (1, 1)


def test_a_relation_without_an_order_is_collected_once() -> None:
    import duckdb

    relation = duckdb.sql("select range as n, hash(range) % 7 as k from range(200000)")
    parts = nb.quarantine(relation, suite=expect.OneOf("k", values=range(1, 7)))
    assert set(parts.failed["k"].to_pylist()) == {0}
    assert 0 not in parts.passed["k"].to_pylist()
    assert len(parts.failed) + len(parts.passed) == 200_000
    lazy = pl.LazyFrame({"n": [1, 2, 3]})
    pair = nb.quarantine((lazy, np.array([0, 1, 0])), suite=expect.InRange("n", high=2))
    assert (pair.passed[0]["n"].to_list(), pair.failed[1].tolist()) == ([1, 2], [0])


def test_a_multi_level_index_is_left_as_it_is() -> None:
    frame = people()
    frame.index = pd.MultiIndex.from_arrays([list("bbaacc"), [1, 1, 2, 2, 1, 1]], names=["x", "y"])
    parts = nb.quarantine(frame, suite=RULES)
    pd.testing.assert_frame_equal(parts.failed, frame.iloc[BAD])
    series = pd.Series([1.0, None, 3.0], index=["a", "a", "b"], name="v")
    pd.testing.assert_series_equal(nb.quarantine(series, suite=expect.NotMissing("v")).passed, series.iloc[[0, 2]])


def test_clean_data_passes_whole() -> None:
    frame = people().iloc[[0, 3]]
    parts = nb.quarantine(frame, suite=RULES)
    pd.testing.assert_frame_equal(parts.passed, frame)
    assert len(parts.failed) == len(parts.reasons) == 0
    assert "every row passed" in str(parts)


def test_a_rule_within_its_share_puts_no_row_away_and_warnings_only_if_asked() -> None:
    frame = people()
    tolerant = expect.InRange("age", low=0, high=120, max_share=0.5)
    assert len(nb.quarantine(frame, suite=tolerant).failed) == 0
    warns = expect.InRange("age", low=0, high=120, severity="warn")
    assert len(nb.quarantine(frame, suite=warns).failed) == 0
    assert nb.quarantine(frame, suite=warns, level="warn").positions.tolist() == [1, 4]
    with pytest.raises(InvalidInput, match="level is 'info'"):
        nb.quarantine(frame, level="info")  # type: ignore[arg-type]


def test_what_no_row_is_to_blame_for_remains() -> None:
    parts = nb.quarantine(people(), suite=[expect.NotMissing("name"), expect.HasType("age", type="text"), *RULES])
    assert [(found.check, found.column) for found in parts.remaining] == [("not-missing", "name"), ("has-type", "age")]
    assert "No row is to blame: not-missing (name): the column is missing" in str(parts).replace("\n", " ")


def test_a_crash_passes_nothing() -> None:
    def breaks(frame: Any) -> bool:
        raise ZeroDivisionError("no luck")

    with pytest.raises(
        CheckFailed, match="rule 'holds' crashed, so no row can be told good: ZeroDivisionError: no luck"
    ):
        nb.quarantine(people(), suite=expect.Holds(function=breaks))


def test_data_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot take rows out of set"):
        take_rows({1, 2}, np.array([0]))
    with pytest.raises(NotFound):
        nb.quarantine(people(), suite=["no-such-check"])


def test_the_checks_that_ship_quarantine_their_rows(workspace: Any) -> None:
    base = pd.DataFrame({"n": np.arange(200.0), "t": ["a", "b"] * 100})
    sick = pd.DataFrame({"n": [5.0, 1e6, 7.0, 5.0], "t": ["a", "b", "z", "a"]})
    parts = nb.quarantine(sick, suite=["outside-baseline", "duplicate-rows"], baseline=base, level="warn")
    assert parts.positions.tolist() == [1, 2, 3]
    mixed = pd.DataFrame({"o": pd.Series([1, "x", 2.5, None, 3], dtype=object)})
    assert nb.quarantine(mixed, suite=["mixed-types"]).positions.tolist() == [1]
    assert nb.quarantine({"a": [None] * 3 + [1.0]}, suite=["missing-values"]).positions.tolist() == [0, 1, 2]
    texts = {"t": ["1"] * 30 + ["x"]}
    assert nb.quarantine(texts, suite=["mixed-types"], level="warn").positions.tolist() == [30]


cells = st.one_of(st.none(), st.floats(-200, 200), st.just(float("inf")))
names = st.sampled_from(["a", "b", "c", "", None])


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, list[bool]]:
    """Return a table with an odd index, and which of its rows are bad by the rules written in plain Python."""
    rows = draw(st.lists(st.tuples(cells, names, st.integers(0, 5)), min_size=0, max_size=25))
    frame = pd.DataFrame(
        {
            "x": pd.Series([row[0] for row in rows], dtype="float64"),
            "t": pd.Series([row[1] for row in rows], dtype=object),
            "k": pd.Series([row[2] for row in rows], dtype="int64"),
        }
    )
    index = draw(st.sampled_from(["range", "same", "text", "multi", "falling", "dates"]))
    if index == "same":
        frame.index = pd.Index([7] * len(rows))
    elif index == "text":
        frame.index = pd.Index([f"r{i % 3}" for i in range(len(rows))])
    elif index == "multi" and rows:
        frame.index = pd.MultiIndex.from_arrays([[i % 2 for i in range(len(rows))], ["z"] * len(rows)])
    elif index == "falling":
        frame.index = pd.Index(range(len(rows), 0, -1))
    elif index == "dates":
        frame.index = pd.to_datetime(["2024-01-01"] * len(rows))
    seen: set[int] = set()
    bad = []
    for x, t, k in rows:
        bad.append((x is not None and not -100 <= x <= 100) or t is None or t == "c" or k in seen)
        seen.add(k)
    return frame, bad


FUZZ = [
    expect.InRange("x", low=-100, high=100), expect.NotMissing("t"), expect.OneOf("t", values=["a", "b", ""]),
    expect.Unique("k"),
]  # fmt: skip


@settings(max_examples=300)
@given(tables())
def test_passed_and_failed_are_the_input_and_no_bad_row_passes(case: tuple[pd.DataFrame, list[bool]]) -> None:
    frame, bad = case
    parts = nb.quarantine(frame, suite=FUZZ)
    assert not [found for found in parts.remaining if len(frame)]
    pd.testing.assert_frame_equal(parts.failed, frame[np.array(bad, np.bool_)])
    pd.testing.assert_frame_equal(parts.passed, frame[~np.array(bad, np.bool_)])


@settings(max_examples=100)
@given(tables(), st.sampled_from(["polars", "arrow", "numpy"]))
def test_the_same_rows_in_every_library(case: tuple[pd.DataFrame, list[bool]], library: str) -> None:
    frame, bad = case
    rows = frame.reset_index(drop=True)
    columns = {"x": rows["x"].tolist(), "t": rows["t"].tolist(), "k": rows["k"].tolist()}
    columns["x"] = [None if value != value else value for value in columns["x"]]
    types = {"x": pl.Float64, "t": pl.String, "k": pl.Int64}
    data: Any = pl.DataFrame(columns, schema=types)
    data = data.to_arrow() if library == "arrow" else data
    if library == "numpy":
        data = {"x": rows["x"].to_numpy(), "t": rows["t"].to_numpy(), "k": rows["k"].to_numpy()}
    parts = nb.quarantine(data, suite=FUZZ)
    assert parts.positions.tolist() == [row for row, is_bad in enumerate(bad) if is_bad]
    assert len(parts.passed["k"]) + len(parts.failed["k"]) == len(frame)


def test_the_card_of_a_quarantine_says_why() -> None:
    text = str(nb.quarantine(people(), suite=RULES))
    assert "4 rows in quarantine" in text
    assert "2 of 5 values are outside 0 to 120" in text
    assert ".reasons" in text
