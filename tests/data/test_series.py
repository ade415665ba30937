"""Checks of series in time: each on a sick table, and all of them on healthy series of many kinds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import CheckResult, Verdict
from nbops.data.frames import read
from nbops.data.leaf import SERIES, Located, Sample
from nbops.data.series.lines import lines_of
from nbops.data.series.steps import steps_of
from nbops.store.workspace import Workspace


def run(check: str, table: Any, **options: Any) -> list[CheckResult]:
    """Return the results of one check of series; time is column ``t``."""
    label = options.pop("label", None)
    outcome: Any = nb.checks[check](Sample(read(table, label=label)), time="t", **options)
    return [outcome] if isinstance(outcome, CheckResult) else list(outcome)


def rows(found: CheckResult) -> list[int]:
    return np.flatnonzero(found.mask()).tolist() if isinstance(found, Located) else []


def hourly(n: int = 400, seed: int = 0, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"t": pd.date_range("2024-01-01", periods=n, freq="h"), "x": rng.normal(size=n), **columns})


# ---- time-order


def test_rows_out_of_order_without_time_and_twice() -> None:
    table = hourly()
    order = [*range(10), 30, *range(10, 30), *range(31, 400)]
    missing, early, again = run("time-order", table.iloc[order])
    assert (missing.verdict, again.verdict) == ("pass", "pass")
    assert (early.verdict, rows(early)) == ("warn", list(range(11, 31)))
    table.loc[5, "t"] = pd.NaT
    twice = pd.concat([table, table.iloc[[7]].assign(x=9.0)]).sort_values("t", kind="stable")
    missing, early, again = run("time-order", twice)
    assert (missing.value, early.verdict) == (1 / 401, "pass")
    assert (again.verdict, rows(again)) == ("warn", [7])


def test_an_order_that_runs_backwards_is_one_and_each_series_has_its_own() -> None:
    back = hourly().iloc[::-1]
    assert {found.verdict for found in run("time-order", back)} == {"pass"}
    two = pd.concat([hourly().assign(s="a"), hourly().assign(s="b")])
    assert {found.verdict for found in run("time-order", two, series="s")} == {"pass"}
    assert [found.verdict for found in run("time-order", two)] == ["pass", "warn", "warn"]


def test_the_hour_that_comes_twice_is_named() -> None:
    local = pd.date_range("2024-10-20", periods=300, freq="h", tz="Europe/Berlin").tz_localize(None)
    again = run("time-order", hourly(300).assign(t=local))[2]
    assert "clocks are put back" in again.message
    assert again.fix.startswith("Keep times in UTC")


def test_events_may_share_a_time() -> None:
    rng = np.random.default_rng(0)
    moments = np.sort(rng.integers(0, 500, 400)).astype("M8[s]")
    assert {found.verdict for found in run("time-order", hourly().assign(t=moments))} == {"pass"}


# ---- time-gaps


@pytest.mark.parametrize("freq", ["min", "h", "D", "W", "MS", "QS", "YS", "B"])
def test_steady_series_have_no_gaps_and_a_missing_stretch_is_one(freq: str) -> None:
    table = hourly(200).assign(t=pd.date_range("1800-01-01", periods=200, freq=freq, unit="s"))
    (whole,) = run("time-gaps", table)
    assert (whole.verdict, whole.value) == ("pass", 0.0)
    (gap,) = run("time-gaps", table.drop(index=range(50, 70)))
    assert gap.verdict == "warn"
    assert gap.evidence == {"gaps": 1, "series": 1}
    assert gap.value == pytest.approx(20 / 200, rel=0.5)


def test_nights_and_weekends_are_the_calendar_and_single_rows_that_lack_are_not() -> None:
    table = hourly(2000)
    open_hours = table[(table.t.dt.hour >= 9) & (table.t.dt.hour < 20) & (table.t.dt.day_of_week < 5)]
    assert run("time-gaps", open_hours)[0].verdict == "pass"
    lost = np.random.default_rng(0).choice(np.arange(1, 1999), 30, replace=False)
    (found,) = run("time-gaps", table.drop(index=lost))
    assert (found.verdict, found.value) == ("warn", 0.015)


def test_the_series_with_the_gap_is_named_and_irregular_ones_are_left_out() -> None:
    many = pd.concat([hourly(100).assign(s=name) for name in "abc"], ignore_index=True)
    (found,) = run("time-gaps", many.drop(index=range(150, 160)), series="s")
    assert "of b is from 2024-01-03T01:00:00 to" in found.message
    rng = np.random.default_rng(0)
    events = hourly().assign(t=np.cumsum(rng.exponential(100, 400)).astype("M8[s]"))
    assert run("time-gaps", events)[0].verdict == "skipped"
    lines = lines_of(read(events), "t", None)
    assert steps_of(lines, lines.order) is None


# ---- values


def test_a_hanging_sensor_is_found_and_a_dry_month_is_not() -> None:
    table = hourly()
    table.loc[100:129, "x"] = 0.5
    (found,) = run("frozen-values", table)
    assert (found.verdict, rows(found)) == ("warn", list(range(100, 130)))
    assert "30 times 0.5 from 2024-01-05T04:00:00" in found.message
    sun = np.maximum(0, np.sin(np.arange(400) / 24 * 2 * np.pi)) * np.random.default_rng(0).uniform(0.5, 1, 400)
    assert run("frozen-values", hourly(x=sun))[0].verdict == "pass"
    assert run("frozen-values", hourly(x=np.random.default_rng(0).poisson(0.2, 400)))[0].verdict == "pass"


def test_equal_values_do_not_run_from_one_series_into_the_next() -> None:
    a, b = hourly(50), hourly(50, seed=1)
    a.loc[47:, "x"] = b.loc[:2, "x"] = 1.0
    both = pd.concat([a.assign(s="a"), b.assign(s="b")])
    assert run("frozen-values", both, series="s")[0].verdict == "pass"


def test_a_spike_within_the_range_of_the_whole_is_found_and_an_edge_is_none() -> None:
    season = 40 * np.sin(np.arange(2000) / 1000 * np.pi) + np.random.default_rng(0).normal(size=2000)
    spiked = season.copy()
    spiked[1000] += 30  # the season itself reaches 40
    (found,) = run("spikes", hourly(2000, x=spiked))
    assert (found.verdict, rows(found)) == ("warn", [1000])
    season[1200:] += 30
    assert run("spikes", hourly(2000, x=season))[0].verdict == "pass"
    (jump,) = run("level-shift", hourly(2000, x=season))
    assert jump.verdict == "warn"
    assert jump.evidence["rows"] == [1200]
    assert jump.message == "the level moves by +28.62 at 2024-02-20 and stays"
    assert run("level-shift", hourly(2000, x=spiked))[0].verdict == "pass"


def test_a_series_that_stops_is_named() -> None:
    many = pd.concat([hourly(300).assign(s=name) for name in "abcdefgh"], ignore_index=True)
    (found,) = run("series-ends", many[(many.s != "c") | (many.t < "2024-01-05")], series="s")
    assert found.message == "1 of 8 series end early (12.5 %): c"
    assert run("series-ends", many, series="s")[0].verdict == "pass"
    spread = pd.concat([hourly(50 + 30 * i).assign(s=str(i)) for i in range(8)])
    assert run("series-ends", spread, series="s")[0].verdict == "skipped"
    assert run("series-ends", many)[0].verdict == "skipped"


@pytest.mark.parametrize("kind", ["walk", "noise", "slow"])
def test_the_label_of_a_later_row_is_found_and_that_of_an_earlier_one_is_not(kind: str) -> None:
    rng = np.random.default_rng(0)
    y = {"walk": np.cumsum(rng.normal(size=400)), "noise": rng.normal(size=400),
         "slow": np.sin(np.arange(400) / 60) * 10 + 0.01 * np.cumsum(rng.normal(size=400))}[kind]  # fmt: skip
    table = hourly(y=y, two=pd.Series(y).shift(-2) * 3 + 1, past=pd.Series(y).shift(1), same=2 * y)
    found = {one.column: one for one in run("look-ahead", table, label="y")}
    assert found["two"].verdict == "fail"
    assert "2 rows later" in found["two"].message
    assert {found[name].verdict for name in ("x", "past", "same")} == {"pass"}
    assert run("look-ahead", table)[0].verdict == "skipped"


def healthy(seed: int, n: int) -> pd.DataFrame:
    rng, k = np.random.default_rng(seed), np.arange(n)
    season = np.sin(k / 24 * 2 * np.pi)
    return pd.DataFrame({
        "t": pd.date_range("2023-01-01", periods=n, freq=["h", "D", "min", "MS", "B"][seed % 5]),
        "walk": np.cumsum(rng.normal(size=n)), "noise": rng.normal(size=n), "season": 5 * season + rng.normal(size=n),
        "heavy": rng.standard_t(3, size=n), "count": rng.poisson(0.3, n), "sales": rng.poisson(30 * (1.5 + season)),
        "rain": np.where(rng.random(n) < 0.7, 0, rng.gamma(0.6, 5, n)), "lognormal": rng.lognormal(0, 1, n),
        "price": np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))), 2), "counter": np.cumsum(rng.poisson(3, n)),
        "sun": np.maximum(0, season) * rng.uniform(0.7, 1, n), "y": np.cumsum(rng.normal(size=n)),
    })  # fmt: skip


def test_healthy_series_of_twelve_kinds_raise_hardly_an_alarm() -> None:
    alarms: Counter[tuple[str, str]] = Counter()
    for seed in range(15):
        for n in (60, 1500):
            for check in SERIES:
                found = run(check, healthy(seed, n), label="y")
                alarms.update((check, one.column) for one in found if one.verdict not in ("pass", "skipped"))
    assert sum(alarms.values()) <= 4, alarms  # of 1,500 judgements


# ---- by nb.check


def test_nb_check_runs_them_where_time_is_given(workspace: Workspace) -> None:
    table = hourly(100).assign(s="a")
    report = nb.check(table.drop(index=range(50, 70)), time="t", series="s")
    assert {found.check for found in report.results} >= set(SERIES)
    assert report.of("time-gaps")[0].verdict == Verdict.WARN
    assert not {found.check for found in nb.check(table).results} & set(SERIES)
    only = nb.check(table, suite={"spikes": {"chance": 0.01}}, time="t")
    assert {found.check for found in only.results} == {"spikes"}
    assert nb.check(table, suite=["spikes"]).results[0].message == "no time was given"


def test_bad_times_are_refused_with_the_remedy(workspace: Workspace) -> None:
    table = hourly(30).assign(text="2024-01-01")
    with pytest.raises(NotFound, match="'when'"):
        nb.check(table, time="when")
    with pytest.raises(NotFound, match="'station'"):
        nb.check(table, time="t", series="station")
    with pytest.raises(InvalidInput, match="time column 'text' holds text.*\n.*pd.to_datetime"):
        nb.check(table, time="text")
    with pytest.raises(InvalidInput, match="no time is given"):
        nb.check(table, series="text")


@pytest.mark.parametrize("n", [0, 1, 2, 11, 13])
def test_short_and_empty_tables_are_answered(n: int, workspace: Workspace) -> None:
    report = nb.check(hourly(n).assign(y=1.0), time="t", label="y")
    assert {found.verdict for found in report.results if found.check in SERIES} <= {Verdict.PASS, Verdict.SKIPPED}
    gaps = nb.check(hourly(n).assign(x=np.nan, t=pd.NaT), time="t")
    assert {found.verdict for found in gaps.results if found.check in SERIES} <= {"pass", "skipped", "warn"}
