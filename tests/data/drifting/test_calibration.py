"""Stable data stays quiet, small changes are found, and single bad values decide nothing: at any number of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nbops.data.drifting.comparing import compare
from nbops.data.drifting.counting import tally
from nbops.data.drifting.found import ColumnDrift
from nbops.data.drifting.judging import ALPHA, LIMITS, judge
from nbops.data.frames import read
from nbops.data.profiling import profile_frame

LETTERS = np.array([f"v{i}" for i in range(150)])
ZIPF = 1 / np.arange(1, 151)


def columns(random: np.random.Generator, rows: int) -> dict[str, Any]:
    """Return 50 columns of all sorts: smooth, heavy-tailed, tied, rare, with gaps, categories, free text, times."""
    table: dict[str, Any] = {}
    for i in range(8):
        table[f"normal {i}"] = random.normal(size=rows)
        table[f"heavy {i}"] = random.standard_cauchy(rows)
        table[f"zeros {i}"] = np.where(random.random(rows) < 0.9, 0.0, random.exponential(size=rows))
        table[f"count {i}"] = random.poisson(1.5, rows)
    for i in range(4):
        table[f"rare {i}"] = (random.random(rows) < 0.004).astype(np.int64)
        table[f"gaps {i}"] = np.where(random.random(rows) < 0.01, np.nan, random.normal(size=rows))
        table[f"letter {i}"] = LETTERS[random.choice(150, rows, p=ZIPF / ZIPF.sum())]
    table["text"] = np.char.add("t", random.integers(0, 10**6, rows).astype(str))
    table["flag"] = random.random(rows) < 0.5
    table["day"] = np.datetime64("2024-01-01") + random.integers(0, 365, rows)
    table["infinite"] = np.where(random.random(rows) < 0.002, np.inf, random.normal(size=rows))
    table["id"] = random.permutation(10 * rows)[:rows]
    table["float32"] = random.normal(size=rows).astype(np.float32)
    return table


def compared(reference: dict[str, Any], current: dict[str, Any]) -> list[ColumnDrift]:
    profile, frame = profile_frame(read(reference)), read(current)
    found = [
        compare(name, told, profile["rows"], tally(frame.column(name), told), LIMITS, with_details=False)
        for name, told in profile["columns"].items()
    ]
    return judge(found, alpha=ALPHA)


def drifted(reference: dict[str, Any], current: dict[str, Any]) -> list[str]:
    return [column.name for column in compared(reference, current) if column.is_drifted]


def false_alarms(splits: int, rows: int, current_rows: int) -> int:
    """Return in how many of so many splits of one sample any of the 50 columns is said to have drifted."""
    alarms = 0
    for seed in range(splits):
        table = columns(np.random.default_rng([rows, current_rows, seed]), rows + current_rows)
        assert len(table) == 50
        before = {name: values[:rows] for name, values in table.items()}
        alarms += bool(drifted(before, {name: values[rows:] for name, values in table.items()}))
    return alarms


@pytest.mark.parametrize(("rows", "current_rows"), [(200, 200), (1000, 1000), (2000, 150), (150, 2000)])
def test_halves_of_the_same_data_are_not_told_apart(rows: int, current_rows: int) -> None:
    """One alarm of chance in 60 splits would be 1.7 %; two would be a tool that cries wolf."""
    assert false_alarms(60, rows, current_rows) <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rows", [200, 1000])
def test_three_hundred_splits_of_fifty_stable_columns_raise_three_alarms_at_most(rows: int) -> None:
    """A tool that alarms in 4 % of them would pass with a chance of 0.2 %; `make bench` looks at a thousand."""
    assert false_alarms(300, rows, rows) <= 3


@pytest.mark.slow
def test_large_halves_of_the_same_data_are_not_told_apart() -> None:
    assert false_alarms(60, 10_000, 10_000) <= 1


# ---- power: 50 columns, one of which changes -------------------------------------------------------------------------


def _changed(random: np.random.Generator, case: str, rows: int) -> tuple[Any, Any]:
    if case == "0.1 sigma":
        return random.normal(size=rows), random.normal(0.1, size=rows)
    if case == "1 pp missing":
        return random.normal(size=rows), np.where(random.random(rows) < 0.01, np.nan, random.normal(size=rows))
    known = LETTERS[random.integers(0, 20, 2 * rows)]
    return known[:rows], np.where(random.random(rows) < 0.005, "new", known[rows:])


@pytest.mark.parametrize("case", ["0.1 sigma", "1 pp missing", "a new category of 0.5 %"])
def test_small_changes_are_found_beside_49_stable_columns(case: str) -> None:
    found, rows = 0, 10_000
    stable = np.random.default_rng(1).normal(size=(2 * rows, 49))
    profile = profile_frame(read(stable[:rows]))["columns"]
    frame = read(stable[rows:])
    quiet = [compare(name, told, rows, tally(frame.column(name), told), LIMITS) for name, told in profile.items()]
    for seed in range(40):
        before, now = _changed(np.random.default_rng([2, seed]), case, rows)
        told = profile_frame(read({"x": before}))["columns"]["x"]
        one = compare("x", told, rows, tally(read({"x": now}).column("x"), told), LIMITS)
        found += judge([*quiet, one], alpha=ALPHA)[-1].is_drifted
    assert found >= 38


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_power_grows_with_rows_and_the_score_keeps_its_meaning(limit: float) -> None:
    effects = []
    for rows in (500, 5000, 50_000):
        random = np.random.default_rng(rows)
        (column,) = compared({"x": random.normal(size=rows)}, {"x": random.normal(0.5, size=rows)})
        assert column.is_drifted
        effects.append(column.effect)
    assert max(effects) - min(effects) < 0.06  # 2 Φ(0.25) − 1 = 0.197, whatever the number of rows


# ---- single bad values -----------------------------------------------------------------------------------------------

ROWS = 50_000


@pytest.mark.parametrize("bad", [1e4, -1e300, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("side", ["reference", "current"])
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.1, 1.0])
def test_one_bad_value_in_50_000_changes_no_verdict(bad: float, side: str, shift: float) -> None:
    random = np.random.default_rng(9)
    before, now = random.normal(size=ROWS), random.normal(shift, size=ROWS)
    (clean,) = compared({"x": before}, {"x": now})
    assert clean.is_drifted == (shift >= 0.1)
    spoilt = (before if side == "reference" else now).copy()
    spoilt[777] = bad
    (dirty,) = compared({"x": spoilt if side == "reference" else before}, {"x": spoilt if side == "current" else now})
    assert dirty.verdict == clean.verdict
    effects = [next(a.effect for a in column.aspects if a.name == "distribution") for column in (clean, dirty)]
    assert effects[1] == pytest.approx(effects[0], abs=0.001)


def test_a_hundred_outliers_do_not_hide_a_shift() -> None:
    random = np.random.default_rng(9)
    before, now = random.normal(size=ROWS), random.normal(1, size=ROWS)
    before[:100] = 1e4
    (column,) = compared({"x": before}, {"x": now})
    assert column.effect == pytest.approx(0.383, abs=0.01)
