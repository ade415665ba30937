"""Can a classifier tell the two sides apart by all columns together? Finds changes that no single column shows.

The classifier two-sample test (Lopez-Paz and Oquab 2017) in two halves: each half is scored by trees that saw only
the other one, so its rank test holds exactly, and the halves are joined by Bonferroni.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import MissingDependency
from nbops.data.columns import Column, Frame, hashes
from nbops.data.drifting.counting import decimal_values, family, present_lengths
from nbops.data.drifting.distances import rank_tests
from nbops.data.drifting.found import Multivariate
from nbops.data.profiling import MAX_CATEGORIES

MAX_ROWS = 20_000  # of each side; above, rows are drawn, and the report says so
MAX_CELLS = 1024  # of a tensor column: above, every n-th cell
_DRIVERS = 8
_LEAST_DRIVER = 0.005
_NORMAL_95 = 1.959964

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Table:
    """Features of both sides, [rows, features]; `owners` tells the column of each feature."""

    features: Floats
    is_current: NDArray[np.bool_]
    owners: NDArray[np.int64]
    names: list[str]


def tell_apart(reference: Frame, current: Frame, names: list[str], *, alpha: float, limit: float) -> Multivariate:
    """Return how well rows of the two sides can be told apart by the columns `names`.

    Raises
    ------
    MissingDependency
        scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        raise MissingDependency.of("scikit-learn", "sklearn") from None
    table = _table(reference, current, names)
    half = _halves(table.is_current)
    scored = []
    for part in (False, True):
        model = HistGradientBoostingClassifier(
            max_iter=100, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False, random_state=0
        )
        model.fit(table.features[half == part], table.is_current[half == part])
        scored.append((model, half != part))
    found = [_auc(_scores(model, table.features[left]), table.is_current[left]) for model, left in scored]
    auc = sum(auc for auc, _ in found) / 2
    p = min(1.0, 2 * min(p for _, p in found))
    is_drifted = p <= alpha and auc >= limit
    drivers = _drivers(table, scored, found) if is_drifted else {}
    sizes = int((~table.is_current).sum()), int(table.is_current.sum())
    return Multivariate(auc, _interval(auc, sizes), limit, p, drivers, sum(sizes), is_drifted)


def _scores(model: Any, features: Floats) -> Floats:
    scores: Floats = model.decision_function(features)
    return scores


def _table(reference: Frame, current: Frame, names: list[str]) -> _Table:
    rows = [_drawn(frame.rows, seed) for seed, frame in enumerate((reference, current))]
    parts, owners = [], []
    for place, name in enumerate(names):
        both = [frame.column(name) for frame in (reference, current)]
        features = _features(both, rows)
        parts.append(features)
        owners += [place] * features.shape[1]
    is_current = np.repeat([False, True], [len(part) for part in rows])
    return _Table(np.concatenate(parts, axis=1), is_current, np.array(owners), names)


def _drawn(rows: int, seed: int) -> NDArray[np.int64]:
    """Return the rows to use: all, or as many as fit, drawn the same way each time."""
    if rows <= MAX_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))


def _features(both: list[Column], rows: list[NDArray[np.int64]]) -> Floats:
    """Return one column as features of the drawn rows of both sides, missing as NaN."""
    kind = family(both[0].dtype)
    if kind in ("text", "other", "null"):
        return _codes(both, rows)
    found = []
    for column, part in zip(both, rows, strict=True):
        values = (decimal_values(column) if column.dtype == "decimal" else column.values)[part]
        if values.ndim > 1:
            values = values[:, :: -(-values.shape[1] // MAX_CELLS)]
        values = values.astype(np.int64) if values.dtype.kind in "mM" else values
        values = np.nan_to_num(values.astype(np.float64), nan=np.nan, posinf=1e300, neginf=-1e300)
        if column.missing is not None and column.missing.ndim == 1:
            values[column.missing[part]] = np.nan
        found.append(values.reshape(len(part), -1))
    if found[0].shape[1] != found[1].shape[1]:  # tensors of other shapes: their type has changed already
        return np.zeros((sum(map(len, rows)), 0))
    return np.concatenate(found)


def _codes(both: list[Column], rows: list[NDArray[np.int64]]) -> Floats:
    """Return categories as numbers in the order of their frequency; the length of free text."""
    drawn = np.concatenate([hashes(column)[part] for column, part in zip(both, rows, strict=True)])
    _, codes, counts = np.unique(drawn, return_inverse=True, return_counts=True)
    if len(counts) > MAX_CATEGORIES and both[0].is_text and both[1].is_text:
        lengths = []
        for column, part in zip(both, rows, strict=True):
            every = np.zeros(column.rows)
            every[slice(None) if column.missing is None else ~column.missing] = present_lengths(column)
            lengths.append(every[part])
        return np.concatenate(lengths)[:, None]
    order = np.empty(len(counts))
    order[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return order[codes].astype(np.float64)[:, None]


def _halves(is_current: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which half each row is in: half of each side, drawn the same way each time."""
    half = np.zeros(len(is_current), np.bool_)
    random = np.random.default_rng(0)
    for side in (False, True):
        rows = random.permutation(np.flatnonzero(is_current == side))
        half[rows[: len(rows) // 2]] = True
    return half


def _auc(scores: Floats, is_current: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the curve, and the p-value that it is above 1/2 (Wilcoxon)."""
    _, codes = np.unique(scores, return_inverse=True)
    counts = np.stack([np.bincount(codes[is_current == side], minlength=codes.max() + 1) for side in (False, True)])
    sizes = (float(counts[0].sum()), float(counts[1].sum()))
    # half the mean difference of the ranks, of which `rank_tests` gives the double
    (shift, p), _ = rank_tests(counts.astype(np.float64), sizes)
    return 0.5 + shift / 2, p / 2 if shift > 0 else 1 - p / 2


def _interval(auc: float, sizes: tuple[int, int]) -> tuple[float, float]:
    """Return a 95 % interval of the area under the curve (Hanley and McNeil 1982)."""
    n, m = sizes
    first, second = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (first - auc**2) + (n - 1) * (second - auc**2)) / (n * m)
    width = _NORMAL_95 * math.sqrt(max(0.0, variance))
    return max(0.0, auc - width), min(1.0, auc + width)


def _drivers(
    table: _Table, scored: list[tuple[Any, NDArray[np.bool_]]], found: list[tuple[float, float]]
) -> dict[str, float]:
    """Return by how much the area shrinks when one column's values are dealt out anew among the rows left out."""
    losses = {}
    for place, name in enumerate(table.names):
        own = table.owners == place
        if not own.any():
            continue
        loss = 0.0
        for (model, left), (auc, _) in zip(scored, found, strict=True):
            features = table.features[left].copy()
            order = np.random.default_rng(place).permutation(len(features))
            features[:, own] = features[order][:, own]
            loss += (auc - _auc(_scores(model, features), table.is_current[left])[0]) / 2
        losses[name] = loss
    told = sorted(losses.items(), key=lambda pair: -pair[1])[:_DRIVERS]
    return {name: loss for name, loss in told if loss >= _LEAST_DRIVER}
