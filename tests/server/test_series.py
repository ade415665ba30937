"""What a chart gets: never more than it can show, never an extreme less."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbops.core.protocols import Points
from nbops.server.series import chart_series


def points(values: list[float], steps: list[int] | None = None) -> Points:
    at = np.asarray(steps if steps is not None else range(len(values)), dtype="<i8")
    return Points(run="r", metric="m", steps=at.tobytes(), times_ms=at.tobytes(),
                  values=np.asarray(values, dtype="<f8").tobytes())  # fmt: skip


def test_few_points_come_as_they_are() -> None:
    got = chart_series(points([1.0, 0.5, 0.25]), px=100)
    assert got["steps"] == [0, 1, 2]
    assert got["values"] == [1.0, 0.5, 0.25]
    assert got["marks"] == []
    assert got["count"] == 3


def test_no_points() -> None:
    got = chart_series(points([]), px=100)
    assert (got["steps"], got["values"], got["marks"], got["count"]) == ([], [], [], 0)


def test_a_lone_spike_survives() -> None:
    values = [0.0] * 100_000
    values[77_777], values[3] = 9.0, -9.0
    got = chart_series(points(values), px=200)
    assert len(got["steps"]) <= 4 * 200
    assert got["values"][got["steps"].index(77_777)] == 9.0
    assert got["values"][got["steps"].index(3)] == -9.0
    assert (got["steps"][0], got["steps"][-1]) == (0, 99_999)


def test_nan_is_a_gap_with_a_mark() -> None:
    values = [float(i) for i in range(10_000)]
    values[5_000] = math.nan
    values[9_000] = math.inf
    values[20] = -math.inf
    got = chart_series(points(values), px=100)
    assert got["marks"] == [[20, "-Infinity"], [5_000, "NaN"], [9_000, "Infinity"]]
    assert got["values"][got["steps"].index(5_000)] is None
    assert got["nonfinite"] == 3


def test_all_nan() -> None:
    got = chart_series(points([math.nan] * 5_000), px=100)
    assert set(got["values"]) == {None}
    assert got["marks"][0] == [0, "NaN"]
    assert len(got["marks"]) <= 100
    assert got["nonfinite"] == 5_000


def test_steps_logged_out_of_order_are_drawn_in_order() -> None:
    got = chart_series(points([3.0, 1.0, 2.0], steps=[30, 10, 20]), px=100)
    assert got["steps"] == [10, 20, 30]
    assert got["values"] == [1.0, 2.0, 3.0]


def test_each_point_keeps_its_cell_when_steps_are_put_in_order() -> None:
    logged = points([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], steps=[0, 10, 20, 5, 10, 15])
    got = chart_series(replace(logged, cells=((0, "a#x1"), (3, "b#x2"))), px=100)
    assert got["steps"] == [0, 5, 10, 10, 15, 20]
    assert got["cells"] == [[0, "a", "x1"], [5, "b", "x2"], [10, "a", "x1"], [10, "b", "x2"], [20, "a", "x1"]]


def test_cells_of_many_points_are_those_of_the_points_that_are_shown() -> None:
    logged = points([float(i % 7) for i in range(100_000)])
    got = chart_series(replace(logged, cells=((0, "a#x1"), (60_010, ""), (60_011, "b#x2"))), px=50)
    assert [name for _, name, _ in got["cells"]] == ["a", "b"]
    begins = got["cells"][1][0]
    assert begins == next(step for step in got["steps"] if step > 60_010)
    assert chart_series(logged, px=50)["cells"] == []
    interleaved = tuple((i, "ab"[i % 2] + "#x") for i in range(100_000))
    assert len(chart_series(replace(logged, cells=interleaved), px=50)["cells"]) <= 250


def test_one_step_logged_many_times() -> None:
    got = chart_series(points([float(i) for i in range(2_000)], steps=[7] * 2_000), px=100)
    assert min(got["values"]) == 0.0
    assert max(got["values"]) == 1_999.0
    assert len(got["steps"]) <= 4


def test_steps_at_both_ends_of_what_an_integer_holds() -> None:
    steps = [-(2**63), *range(1_000), 2**63 - 1]
    got = chart_series(points([float(i) for i in range(1_002)], steps=steps), px=10)
    assert got["steps"] == sorted(got["steps"])
    assert (got["values"][0], got["values"][-1]) == (0.0, 1_001.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.just(math.nan), min_size=1, max_size=400),
    st.integers(min_value=1, max_value=20),
)
def test_extremes_of_every_column_are_kept(values: list[float], px: int) -> None:
    got = chart_series(points(values), px=px)
    kept = [v for v in got["values"] if v is not None]
    finite = [v for v in values if math.isfinite(v)]
    assert len(got["steps"]) <= max(4 * px, 5 * px)
    assert got["nonfinite"] == len(values) - len(finite)
    if finite:
        assert max(kept) == pytest.approx(max(finite), rel=1e-7)
        assert min(kept) == pytest.approx(min(finite), rel=1e-7)
    else:
        assert kept == []
    assert bool(got["marks"]) == (len(finite) < len(values))
