"""The card of drift: the verdict first, what changed with two histograms, then what stayed; small and safe."""

from __future__ import annotations

from typing import Any

import numpy as np
from markup import EVIL, check_html

import nbops as nb
from nbops.core.display import mimebundle
from nbops.store.workspace import Workspace
from nbops.view.format import columns

RANDOM = np.random.default_rng(2)
ROWS = 2000


def table(shift: float = 0.0, *, many: int = 3) -> dict[str, Any]:
    return {f"c{i}": RANDOM.normal(shift, size=ROWS) for i in range(many)} | {
        "kind": np.array(["a", "b"])[RANDOM.integers(0, 2, ROWS)],
        "same": RANDOM.normal(size=ROWS),
    }


def shown(value: Any) -> tuple[str, str]:
    bundle = mimebundle(value)
    plain, markup = bundle["text/plain"], bundle["text/html"]
    check_html(markup)
    assert all(columns(line) <= 120 for line in plain.splitlines())
    return plain, markup


def test_what_drifts_comes_first_and_what_stays_is_counted(workspace: Workspace) -> None:
    plain, markup = shown(nb.drift(table(), table(0.7)))
    assert plain.startswith("✕ 3 of 5 columns drift  data against data")
    assert "values are higher: " in plain
    assert "2 columns stay as they were" in plain
    assert markup.count('aria-label="before and now"') == 3
    assert "2,000 rows against 2,000" in plain


def test_no_drift_is_one_line_and_a_number(workspace: Workspace) -> None:
    plain, markup = shown(nb.drift(table(), table()))
    assert plain.startswith("✓ no drift in 5 columns")
    assert "5 columns stay as they were" in plain
    assert "<table" not in markup


def test_a_thousand_drifting_columns_fit_into_a_card(workspace: Workspace) -> None:
    plain, _ = shown(nb.drift(table(many=1000), table(1.0, many=1000)))
    assert plain.startswith("✕ 1,000 of 1,002 columns drift")
    assert "… and 990 more columns: report.drifted" in plain


def test_over_time_and_together(workspace: Workspace) -> None:
    now = table()
    now["c0"][1000:] += 2
    report = nb.drift(table(), now, by=250, multivariate=True, label="kind")
    plain, markup = shown(report)
    assert "4 of 8 chunks drift, the first is chunk 4: rows 1,000 to 1,249" in plain
    assert "all columns together" in plain
    assert "effect over time" in markup
    stable, _ = shown(nb.drift(table(), table(), by=500))
    assert "none of 4 chunks drifts" in stable
    passing = table()
    passing["c0"][:100] += 4
    assert shown(nb.drift(table(), passing, by=100, limits={"distribution": 0.1}))[0].startswith("✕ 1 of 20 chunks")


def test_columns_that_came_went_or_go_on(workspace: Workspace) -> None:
    before, now = table(), table()
    before["t"] = np.datetime64("2024-01-01") + np.arange(ROWS)
    now["t"] = before["t"] + ROWS
    now["c9"] = now.pop("c0")
    plain, _ = shown(nb.drift(before, now, label="kind"))
    assert "✕ gone" in plain
    assert "! new" in plain
    assert "not judged, since they go on where the reference ended: t" in plain


def test_one_column_shows_what_was_compared(workspace: Workspace) -> None:
    report = nb.drift(table(), table(0.7))
    plain, _ = shown(report.columns["c0"])
    assert plain.startswith("✕ drift  c0  number")
    assert "distribution" in plain
    assert "wasserstein iqr" in plain
    assert shown(report.columns["same"])[0].startswith("✓ stable  same")
    flat = nb.drift({"a": [1, 1]}, {"a": [1, 1], "b": [1, 2]})
    assert shown(flat.columns["b"])[0].startswith("! new  b")


def test_names_and_values_cannot_break_the_card(workspace: Workspace) -> None:
    before = {EVIL: RANDOM.normal(size=500), "kind": ["a"] * 500}
    now = {EVIL: RANDOM.normal(3, size=500), "kind": [EVIL] * 500}
    report = nb.drift(before, now, name=EVIL, by=100)
    for value in (report, report.columns["kind"]):
        assert EVIL not in shown(value)[1]
