"""Cards of suites and quarantines: what they say, within the width and the weight of a card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.display import mimebundle
from nbops.data import expect
from nbops.data.suite import Dropped
from nbops.store.workspace import Workspace

MANY = [
    expect.InRange(f"column with a long name, number {i}", low=-1e-9, high=1e12, when="a > 1", by="b")
    for i in range(200)
]
TABLE = pd.DataFrame({f"c{i}": [1.0, None, 3.0, np.inf] for i in range(30)})


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


@pytest.mark.parametrize(
    "value",
    [
        nb.Suite(*MANY, name="n" * 100),
        nb.Suite(expect.OneOf("<b>x", values=["<script>"] * 3), false_alarms=0.01, dropped=[Dropped(MANY[0], 0.5)] * 9),
        nb.quarantine(TABLE, suite=[rule for name in TABLE for rule in (expect.NotMissing(name), expect.Finite(name))]),
        nb.quarantine(TABLE, suite=[expect.NotMissing("gone"), expect.HasType("c0", type="text")]),
    ],
    ids=["many", "learned", "bad", "remaining"],
)
def test_cards_keep_their_budget(value: Any) -> None:
    bundle = mimebundle(value)
    assert widest(bundle["text/plain"]) <= 120
    assert len(bundle["text/html"].encode()) <= 20_000
    assert "<script" not in bundle["text/html"]


def test_a_suite_shows_what_each_rule_expects() -> None:
    suite = nb.Suite(
        expect.InRange("age", low=0, high=120, max_share=0.01),
        expect.Unique("id", severity="warn", environments="training"),
    )
    text = str(suite)
    assert "low 0, high 120, for up to 1 % not" in text
    assert "in training" in text
    assert "nb.check(df, suite=suite)" in text


def test_a_report_says_what_was_found_of_each_broken_rule(workspace: Any) -> None:
    rules = [expect.InRange("a", high=2), expect.RowCount(low=10), expect.NotMissing("b")]
    text = str(nb.check({"a": [1, 3], "c": [None, 1]}, suite=[*rules, "missing-values"]))
    assert "1 of 2 values are outside at most 2 (50 %), such as 3" in text
    assert "2 rows, not at least 10" in text
    assert "the column is missing; rule not-missing needs it" in text
    assert "Impute or drop, or raise max_share." in text
    wide = {f"column number {i} of many": [1, None] for i in range(300)}
    bundle = mimebundle(nb.check(wide, suite=[expect.NotMissing(name) for name in wide]))
    assert widest(bundle["text/plain"]) <= 120
    assert len(bundle["text/html"].encode()) <= 20_000


def test_a_broken_information_is_shown_in_the_report(workspace: Any) -> None:
    report = nb.check({"a": [1, None]}, suite=expect.NotMissing("a", severity="info"))
    assert "i not-missing (a): 1 of 2 cells are missing (50 %)" in str(report)


def test_where_it_is_stands_on_the_card_of_a_report(workspace: Workspace) -> None:
    hours = pd.DataFrame({"at": pd.date_range("2026-01-01", periods=300, freq="h"), "x": np.arange(300) % 97 / 7})
    columns = {f"c{i}": np.random.default_rng(i).normal(size=300) for i in range(20)}
    hours = hours.assign(**columns)
    hours.loc[100:119] = hours.loc[100:119].assign(**dict.fromkeys(columns, 0.5))
    bundle = mimebundle(nb.check(hours.drop(index=range(200, 230)), time="at"))
    said = bundle["text/plain"]
    assert "30 of 300 times are missing (10 %); the longest gap is from" in bundle["text/html"]
    assert said.count("! frozen-values") == 4
    assert "… and 16 more" in said
    assert widest(said) <= 120
    assert len(bundle["text/html"].encode()) <= 20_000
