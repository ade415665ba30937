"""All columns together: a change of their dependence is found though each column alone stays as it was."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import MissingDependency
from nbops.data.drifting import classifier
from nbops.data.drifting.classifier import _auc
from nbops.store.workspace import Workspace


def pairs(seed: int, rows: int, correlation: float) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=(2, rows))
    return {
        "x": x,
        "y": correlation * x + np.sqrt(1 - correlation**2) * noise,
        "z": random.normal(size=rows),
        "kind": np.array(["a", "b", "c"])[random.integers(0, 3, rows)],
        "text": np.char.add("word", random.integers(0, 3000, rows).astype(str)),
        "day": np.datetime64("2024-01-01") + random.integers(0, 100, rows),
        "flag": random.random(rows) < 0.5,
        "pixels": random.normal(size=(rows, 2, 2)),
    }


def test_a_correlation_that_flips_is_found_and_explained(workspace: Workspace) -> None:
    report = nb.drift(pairs(0, 3000, 0.7), pairs(1, 3000, -0.7), multivariate=True)
    assert report.drifted == []
    assert not report.passed
    together = report.multivariate
    assert together is not None
    assert together.is_drifted
    low, high = together.interval
    assert 0.7 < low < together.auc < high
    assert list(together.drivers)[:2] in (["x", "y"], ["y", "x"])
    assert set(together.drivers) == {"x", "y"}
    (result,) = report.report.of("drift-multivariate")
    assert result.message == f"rows of the two sides can be told apart, above all by {', '.join(together.drivers)}"
    with pytest.raises(nb.NbopsError, match="the data drifted: rows of the two sides can be told apart"):
        nb.drift(pairs(0, 3000, 0.7), pairs(1, 3000, -0.7), multivariate=True, on_drift="raise")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_samples_of_the_same_data_cannot_be_told_apart(seed: int, workspace: Workspace) -> None:
    report = nb.drift(pairs(0, 1500, 0.7), pairs(seed, 1000, 0.7), multivariate=True)
    assert report.multivariate is not None
    assert not report.multivariate.is_drifted
    assert report.multivariate.drivers == {}
    assert report.passed


def test_gaps_infinities_and_a_change_of_category_are_seen(workspace: Workspace) -> None:
    now = pairs(1, 2000, 0.7)
    now["x"] = np.where(now["z"] > 0, np.nan, now["x"])
    now["z"] = np.where(now["z"] < -2, np.inf, now["z"])
    prices = [Decimal(i % 97) for i in range(1999)]
    report = nb.drift(
        pairs(0, 2000, 0.7) | {"price": [None, *prices]}, now | {"price": [*prices, None]}, multivariate=True
    )
    assert report.multivariate is not None
    assert next(iter(report.multivariate.drivers)) == "x"


def test_columns_that_simply_go_on_are_not_used(workspace: Workspace) -> None:
    table = {"x": np.random.default_rng(0).normal(size=2000), "t": np.datetime64("2024-01-01") + np.arange(2000)}
    before = {name: values[:1000] for name, values in table.items()}
    now = {name: values[1000:] for name, values in table.items()}
    report = nb.drift(before, now, by="t:100D", multivariate=True)
    assert report.multivariate is not None
    assert not report.multivariate.is_drifted


def test_many_rows_are_drawn_and_that_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "MAX_ROWS", 500)
    monkeypatch.setattr("nbops.data.drifting.running.MAX_ROWS", 500)
    first, again = (nb.drift(pairs(0, 900, 0.7), pairs(1, 700, 0.7), multivariate=True) for _ in range(2))
    assert first.multivariate == again.multivariate
    assert first.multivariate is not None
    assert first.multivariate.rows == 1000
    assert "the classifier saw 500 rows of a side" in first.notes[0]


def test_many_cells_are_thinned_and_that_is_said(workspace: Workspace) -> None:
    images = np.random.default_rng(0).normal(size=(400, 40, 40))
    report = nb.drift({"image": images[:200]}, {"image": images[200:]}, multivariate=True)
    assert report.notes == ("the classifier saw every n-th cell of 'image', 1,024 at most",)
    assert report.passed


def test_area_under_the_curve_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    scores, truth = random.integers(0, 30, 500).astype(float), random.random(500) < 0.4
    area, p = _auc(scores + truth, truth)
    assert area == pytest.approx(roc_auc_score(truth, scores + truth))
    assert 0 < p < 0.2


def test_without_scikit_learn_the_error_says_how_to_get_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingDependency, match=r"scikit-learn is not installed\nInstall it with: pip install 'nbops"):
        nb.drift(pairs(0, 100, 0.7), pairs(1, 100, 0.7), multivariate=True)
