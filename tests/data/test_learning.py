"""`nb.learn`: rules that hold, that find what is planted, and whose false alarms are as rare as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import nbops as nb
from nbops.core.errors import CheckFailed, InvalidInput, NotFound
from nbops.data import expect
from nbops.data.frames import read
from nbops.data.learned.columns import shape
from nbops.data.rules.base import Rule
from nbops.data.rules.facts import Facts
from nbops.data.rules.judging import judge_all


def orders(rows: int, *, seed: int = 0) -> pd.DataFrame:
    """Return a healthy table with a key, categories, quantities, a code, dates, gaps and a dependency."""
    rng = np.random.default_rng(seed)
    towns = np.array([f"T{i}" for i in range(12)])
    town = rng.integers(0, 12, rows)
    start = np.datetime64("2023-01-01") + rng.integers(0, 365, rows)
    return pd.DataFrame(
        {
            "id": np.arange(1000, 1000 + rows),
            "amount": rng.normal(100, 15, rows),
            "wealth": rng.pareto(1.1, rows),
            "items": rng.poisson(30, rows),
            "town": towns[town],
            "region": np.array(["N", "E", "S"])[town % 3],
            "code": [f"{chr(65 + i % 26)}{chr(65 + i % 7)}-{n:04d}" for i, n in enumerate(rng.integers(0, 9999, rows))],
            "note": ["x" * n for n in rng.integers(5, 60, rows)],
            "rate": np.where(rng.random(rows) < 0.05, np.nan, rng.random(rows)),
            "ordered": start,
            "shipped": start + rng.integers(0, 9, rows),
            "paid": rng.random(rows) < 0.5,
        }
    )


def rule(suite: Any, code: str, column: str) -> Rule | None:
    return next((r for r in suite if r.code == code and r.about == column), None)


@pytest.fixture(scope="module")
def suite() -> Any:
    return nb.learn(orders(3000), name="orders")


def test_it_learns_what_a_person_would_write(suite: Any) -> None:
    assert rule(suite, "unique", "id") is not None
    assert rule(suite, "has-type", "id") == expect.HasType(
        "id", type="int", false_alarms=rule(suite, "has-type", "id").false_alarms
    )  # type: ignore[union-attr]
    towns = rule(suite, "one-of", "town")
    assert isinstance(towns, expect.OneOf)
    assert set(towns.values) == {f"T{i}" for i in range(12)}
    assert isinstance(code := rule(suite, "matches", "code"), expect.Matches)
    assert code.pattern == r"[A-Z]{2}\-\d{4}"
    missing = rule(suite, "not-missing", "rate")
    assert missing is not None
    assert 0.05 < missing.max_share < 0.12
    assert rule(suite, "not-missing", "id").max_share == 0  # type: ignore[union-attr]
    assert isinstance(determined := rule(suite, "determines", "town"), expect.Determines)
    assert determined.other == "region"
    assert rule(suite, "ordered", "ordered, shipped") is not None
    assert rule(suite, "not-in-future", "shipped") is not None
    amount = rule(suite, "in-range", "amount")
    assert isinstance(amount, expect.InRange)
    assert amount.max_share == 0
    assert isinstance(rule(suite, "length-in-range", "note"), expect.LengthInRange)


def test_heavy_tails_get_a_share_instead_of_a_wide_range(suite: Any) -> None:
    wealth = rule(suite, "in-range", "wealth")
    assert wealth is not None
    assert 0 < wealth.max_share <= 0.01


def test_every_rule_says_its_rate_and_none_is_above_the_limit(suite: Any) -> None:
    assert all(r.false_alarms is not None and 0 < r.false_alarms <= 0.01 for r in suite)
    assert suite.false_alarms is not None
    assert max(r.false_alarms for r in suite) <= suite.false_alarms < 0.1


def test_the_baseline_itself_passes(suite: Any, workspace: Any) -> None:
    assert nb.check(orders(3000), suite=suite).status == "pass"


def test_what_is_planted_is_found(suite: Any, workspace: Any) -> None:
    sick = orders(3000, seed=1)
    sick.loc[5, "id"] = sick.loc[4, "id"]
    sick.loc[6, "town"] = "Atlantis"
    sick.loc[7, "region"] = "W"
    sick.loc[8, "code"] = "AB 1234"
    sick.loc[9, "amount"] = 10_000.0
    sick.loc[10, "shipped"] = pd.Timestamp("2022-01-01")
    sick.loc[:900, "rate"] = np.nan
    report = nb.check(sick, suite=suite)
    broken = {(r.check, r.column) for r in report.results if r.verdict == "fail"}
    assert broken == {
        ("unique", "id"), ("one-of", "town"), ("one-of", "region"), ("determines", "town"), ("matches", "code"),
        ("in-range", "amount"), ("ordered", "ordered, shipped"), ("not-missing", "rate"),
    }  # fmt: skip
    alarms = report.of("in-range")[0].evidence["false_alarms"]
    assert 0 < alarms <= 0.01


def test_false_alarms_are_as_rare_as_they_say() -> None:
    wrong = tried = 0
    for seed in range(12):
        learned = nb.learn(orders(1200, seed=seed), false_alarm_rate=0.01)
        for other in range(4):
            fresh = orders(1200, seed=100 + 4 * seed + other)
            results = list(judge_all(learned.rules, Facts(read(fresh))))
            wrong += sum(found.verdict == "fail" for found in results)
            tried += len(results)
    assert tried > 1000
    assert wrong / tried < 0.01


def test_a_rule_that_would_be_wrong_too_often_is_left_out() -> None:
    rng = np.random.default_rng(0)
    few = {"t": [f"c{i}" for i in rng.zipf(1.6, 400) % 190], "x": rng.random(400)}
    learned = nb.learn(few, false_alarm_rate=0.005)
    for dropped in learned.dropped:
        assert dropped.false_alarms > 0.005
    assert (
        "one-of" in {dropped.rule.code for dropped in learned.dropped}
        or rule(learned, "one-of", "t") is None
        or (
            rule(learned, "one-of", "t").max_share > 0  # type: ignore[union-attr]
        )
    )


def test_with_time_a_trend_is_not_taken_for_a_range() -> None:
    rng = np.random.default_rng(0)
    rows = 2000
    frame = pl.DataFrame(
        {
            "day": np.datetime64("2022-01-01") + np.arange(rows) // 4,
            "price": 100 + np.arange(rows) * 0.5 + rng.normal(0, 5, rows),
            "size": rng.normal(50, 5, rows),
        }
    )
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=1)
    by_time = nb.learn(shuffled, time="day")
    price, size = rule(by_time, "in-range", "price"), rule(by_time, "in-range", "size")
    assert isinstance(size, expect.InRange)
    later = 100 + rows * 0.5 + 100
    assert price is None or price.high > later  # type: ignore[attr-defined]
    assert rule(nb.learn(shuffled), "in-range", "price") is not None


def test_the_same_data_gives_the_same_suite_in_any_library() -> None:
    frame = orders(500)
    first = nb.learn(frame)
    assert nb.learn(frame) == first
    assert nb.learn(pl.from_pandas(frame)).rules == first.rules
    assert nb.learn(pl.from_pandas(frame).to_arrow()).rules == first.rules


def test_rules_of_the_label_hold_in_training_only(workspace: Any) -> None:
    frame = orders(500)
    learned = nb.learn(frame, label="paid")
    assert {r.environments for r in learned if "paid" in r.needs} == {("training",)}
    assert nb.check(frame.drop(columns="paid"), suite=learned, environment="serving").status == "pass"
    assert nb.check(frame, suite=learned, environment="training").status == "pass"


def test_a_learned_schema_stops_a_later_step(workspace: Any) -> None:
    frame = orders(500)
    reviewed = nb.Suite.from_yaml(nb.learn(frame).to_yaml())
    with pytest.raises(CheckFailed, match="check 'has-type' failed on column 'items': is text, not int"):
        nb.check(frame.assign(items=frame["items"].astype(str)), suite=reviewed, on_fail="raise")


def test_a_pair_of_columns_can_be_the_key() -> None:
    frame = {"shop": np.repeat(np.arange(20), 30), "day": np.tile(np.arange(30), 20), "x": np.zeros(600)}
    assert isinstance(rule(nb.learn(frame), "key", "shop, day"), expect.Key)
    random = {"a": np.random.default_rng(0).permutation(1 << 16)[:300]}
    assert rule(nb.learn(random), "unique", "a") is None, "random numbers without a pair are no key"


def test_odd_columns_are_left_alone() -> None:
    frame = {
        "none": [None] * 60, "mixed": [1, "x"] * 30, "inf": [np.inf] + [1.0] * 59, "gap": [None] * 59 + [1.5],
        "huge": [1e308] * 59 + [-1e308], "long": ["a " * 100 + str(i) for i in range(60)],
    }  # fmt: skip
    codes = {(r.code, r.about) for r in nb.learn(pd.DataFrame(frame))}
    assert ("in-range", "inf") not in codes
    assert not [code for code, name in codes if name in ("none", "mixed")]
    images = nb.learn(np.random.default_rng(0).random((60, 4, 4)))
    assert {r.code for r in images} == {"has-columns", "has-type", "not-missing"}


def test_a_stored_dataset_can_be_learned_from(workspace: Any) -> None:
    nb.snapshot(orders(200), "orders")
    assert len(nb.learn("orders")) > 10


ODD = {
    "categories": pd.DataFrame({"c": pd.Categorical(["a", "b"] * 30), "n": pd.array([1, None] * 30, dtype="Int64")}),
    "dates": pd.DataFrame(
        {"z": pd.to_datetime(["2024-01-01"] * 60).tz_localize("Europe/Zurich"), "t": pd.to_timedelta(range(60), "s")}
    ),
    "far dates": {"d": np.array(["9999-12-31", "0001-01-01"] * 30, "datetime64[D]")},
    "extremes": {
        "u": np.array([2**64 - 1, 0] * 30, np.uint64),
        "i": np.array([-128, 127] * 30, np.int8),
        "h": [1e308] * 59 + [-1e308],
    },
    "halves": np.random.default_rng(0).normal(size=(60, 3)).astype(np.float16),
    "texts": {"e": [""] * 60, "n": ["\x00"] * 60, "u": ["é" * 5000] * 60, "l": ["x" * 70_000] * 60},
    "objects": {"o": [[1], [2, 3]] * 30, "b": [b"x"] * 60, "m": [1, "x"] * 30},
    "pair": (np.random.default_rng(0).normal(size=(200, 2)), np.array([True, False] * 100)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_tables_can_be_learned_checked_and_split(name: str, workspace: Any) -> None:
    data = ODD[name]
    suite = nb.learn(data)
    assert nb.Suite.from_yaml(suite.to_yaml()) == suite
    assert {found.verdict for found in nb.check(data, suite=suite).results} <= {"pass", "skipped"}
    assert "error" not in {found.verdict for found in nb.check(data, baseline=data).results}
    parts = nb.quarantine(data, level="warn")
    assert len(parts.positions) <= parts.rows
    assert str(parts)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        ({"a": range(39)}, {}, "39 rows are too few to learn from\nGive at least 40 rows"),
        ({"a": range(50)}, {"false_alarm_rate": 0}, "false_alarm_rate is 0"),
        ({"a": range(50)}, {"folds": 2}, "folds is 2"),
        ({"a": ["x"] * 50}, {"time": "a"}, "column 'a' holds text, not times"),
        ({"a": [None, *range(50)]}, {"time": "a"}, "column 'a' holds int64 with gaps, not times"),
        ({"a": range(50)}, {"time": "a", "folds": 4, "false_alarm_rate": 0.01}, "4 folds give 3 trials, too few"),
    ],
)
def test_what_cannot_be_learned_is_said(data: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        nb.learn(data, **options)
    assert says in str(caught.value)
    with pytest.raises(NotFound):
        nb.learn({"a": range(50)}, time="b")


def test_shapes_of_texts() -> None:
    assert shape("AB-12é", is_exact=True) == r"[A-Z]{2}\-\d{2}é"
    assert shape("Ab1", is_exact=False) == r"[A-Z]+[a-z]+\d+"


def test_the_verb_puts_code_into_the_next_cell_or_prints_it(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["df"] = orders(200)
    shell.run_cell("found = get_ipython().run_line_magic('mlops', 'learn df')").raise_error()
    printed = capsys.readouterr().out
    assert "suite = nb.Suite(" in printed
    assert "expect.Unique('id')" in printed
    shell.user_ns["suite"] = nb.Suite(expect.InRange("id", low=1100))
    shell.run_cell("parts = get_ipython().run_line_magic('mlops', 'quarantine df --suite suite')").raise_error()
    assert len(shell.user_ns["parts"].failed) == 100
