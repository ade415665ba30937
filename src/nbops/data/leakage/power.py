"""How well one column alone tells the label, measured on rows that it was not learned from.

Columns are cut into bins (numbers at their quantiles) or taken by value; what is learned is the distribution of the
label in each bin. The measure depends on the label, and is 0 for chance and 1 for certainty:
two classes: 2 AUC - 1 (Gini); more: Goodman and Kruskal's lambda (1954), the share of the errors of always
answering the commonest class that the column avoids; numbers: Spearman's rank correlation of predicted and true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.data.columns import Array, Column, Frame, Mask
from nbops.data.splits.identity import identities
from nbops.data.splits.proving import spread_of

MOST_ROWS = 100_000  # of a side: more make the measure no better, only slower
MOST_CLASSES = 20  # of whole numbers: more are a quantity
_BINS = 32  # at most; fewer where a bin would hold few rows
_FEWEST = 20  # rows of a side


@dataclass(frozen=True, eq=False)
class Label:
    """Labels of both sides: class codes of a `binary` label or of `classes`, values of a `number`."""

    kind: str
    train: Array
    test: Array
    classes: int = 0


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides as the measures need them: up to 100,000 rows with a label; `half` parts those of train in two."""

    train: Frame
    test: Frame
    label: Label
    train_rows: Array
    test_rows: Array
    half: Mask


@dataclass(frozen=True)
class Power:
    """What one column tells: within train (learned from one half, judged on the other) and from train to test.

    `jump` is how much more it tells within train; of more than two classes by the mean Gini of each class against the
    rest, which sees weak relations that change no answer.
    """

    train: float
    test: float
    jump: float


def read_sides(train: Frame, test: Frame, name: str) -> Sides | str:
    """Return both sides by their label, or why they cannot be judged."""
    if name not in train.names:
        return f"train has no label column '{name}'"
    rows = [_chosen(frame, frame.column(name)) for frame in (train, test)]
    if min(map(len, rows)) < _FEWEST:
        return f"needs {_FEWEST} labelled rows on each side"
    label = _label(train.column(name), test.column(name), *rows)
    if isinstance(label, str):
        return label
    features = [column for column in train.columns if column.name != name]
    half = (spread_of(identities(features, train.rows))[rows[0]] & np.uint64(1)).astype(np.bool_)
    return Sides(train, test, label, rows[0], rows[1], half)


def _chosen(frame: Frame, label: Column) -> Array:
    rows = np.arange(frame.rows) if label.missing is None or label.is_tensor else np.flatnonzero(~label.missing)
    if len(rows) <= MOST_ROWS:
        return rows
    spread = spread_of(identities(list(frame.columns), frame.rows))[rows]
    return np.sort(rows[np.argpartition(spread, MOST_ROWS)[:MOST_ROWS]])


def _label(train: Column, test: Column, train_rows: Array, test_rows: Array) -> Label | str:
    if train.is_tensor or test.is_tensor or not (train.is_number or train.is_text or train.dtype == "bool"):
        return f"labels of type {train.dtype} cannot be judged"
    if train.is_number != test.is_number:
        return f"the label is {train.dtype} in train and {test.dtype} in test"
    ids = [identities([column], column.rows)[rows] for column, rows in ((train, train_rows), (test, test_rows))]
    known = np.unique(ids[0])
    if len(known) < 2:
        return "the label has one value in train"
    if train.is_number and (len(known) > MOST_CLASSES or _is_fraction(train, train_rows)):
        return Label("number", _finite(train, train_rows), _finite(test, test_rows))
    if len(known) > max(MOST_CLASSES, len(train_rows) // 5):
        return f"the label has {len(known):,} values: no classes"
    codes = [np.minimum(np.searchsorted(known, side), len(known) - 1) for side in ids]
    codes[1][known[codes[1]] != ids[1]] = len(known)  # a class that train does not have
    return Label("binary" if len(known) == 2 else "classes", codes[0], codes[1], len(known))


def _is_fraction(column: Column, rows: Array) -> bool:
    return column.is_float and bool((column.values[rows] != np.round(column.values[rows])).any())


def _finite(column: Column, rows: Array) -> Array:
    return np.nan_to_num(column.values[rows].astype(np.float64))


def power_of(sides: Sides, name: str) -> Power | None:
    """Return what the column `name` tells about the label; None for one that cannot be judged."""
    train, test = sides.train.column(name), sides.test.column(name)
    if train.is_tensor or test.is_tensor or train.is_number != test.is_number:
        return None
    if not train.is_number:
        seen, codes = np.unique(identities([train], train.rows)[sides.train_rows], return_inverse=True)
        others = identities([test], test.rows)[sides.test_rows]
        place = np.minimum(np.searchsorted(seen, others), len(seen) - 1)
        found = np.where(seen[place] == others, place, len(seen))
        return _power(sides, _Values(codes, None), _Values(found, None), len(seen) + 1)
    a, b = _numbers(train, sides.train_rows), _numbers(test, sides.test_rows)
    there = np.sort(a[np.isfinite(a)])
    bins = min(_BINS, max(4, math.isqrt(len(there) // 2)))
    edges = np.unique(there[np.arange(1, bins) * len(there) // bins]) if len(there) else there
    sorts = [_Values(np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x)), x) for x in (a, b)]
    return _power(sides, sorts[0], sorts[1], len(edges) + 2)


@dataclass(frozen=True, eq=False)
class _Values:
    """A column's values as bins, and as numbers if it has them."""

    bins: Array
    numbers: Array | None

    def at(self, rows: Mask) -> _Values:
        """Return some of the rows."""
        return _Values(self.bins[rows], None if self.numbers is None else self.numbers[rows])


def _numbers(column: Column, rows: Array) -> Array:
    values = column.values[rows].astype(np.float64)
    if column.missing is not None:
        values[column.missing[rows]] = np.nan
    return values


def _power(sides: Sides, train: _Values, test: _Values, bins: int) -> Power:
    label = sides.label
    halves = [_judged(label, train.at(own), label.train[own], train.at(~own), label.train[~own], bins)
              for own in (sides.half, ~sides.half)]  # fmt: skip
    inside = np.mean(halves, axis=0)
    outside = _judged(label, train, label.train, test, label.test, bins)
    return Power(float(inside[0]), outside[0], float(inside[1]) - outside[1])


def _judged(label: Label, x: _Values, y: Array, new_x: _Values, new_y: Array, bins: int) -> tuple[float, float]:
    """Return the measure of what is learned from (x, y) on (new_x, new_y), and that of weak relations."""
    if not len(y) or not len(new_y):
        return 0.0, 0.0
    count = np.bincount(x.bins, minlength=bins)
    if label.kind == "number":
        mean = (np.bincount(x.bins, _ranks(y), minlength=bins) + 0.5) / (count + 1)
        strength = abs(_correlation(_ranks(mean[new_x.bins]), _ranks(new_y)))
        return strength, strength
    width = label.classes + 1  # the last is what train does not have
    table = np.bincount(x.bins * width + y, minlength=bins * width).reshape(bins, width)
    share = ((table + table.sum(axis=0) / len(y)) / (count[:, None] + 1))[new_x.bins]
    if label.kind == "binary":
        gini = max(0.0, 2 * _auc(share[:, 1], new_y == 1) - 1)
        return gini, gini
    each = [2 * _auc(share[:, code], new_y == code) - 1 for code in range(label.classes)]
    answers = [share.argmax(axis=1)] + ([] if x.numbers is None else [_nearest(x.numbers, y, new_x.numbers)])
    return max(_lambda(answer, new_y) for answer in answers), max(0.0, float(np.mean(each)))


def _nearest(x: Array, y: Array, new_x: Any) -> Array:
    """Return the label of the nearest number: where classes lie side by side, bins would mix them."""
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    above = np.minimum(np.searchsorted(ordered, new_x), len(x) - 1)
    below = np.maximum(above - 1, 0)
    with np.errstate(invalid="ignore"):
        place = np.where(np.abs(ordered[above] - new_x) < np.abs(ordered[below] - new_x), above, below)
    return np.asarray(y[order[place]])


def _lambda(answer: Array, y: Array) -> float:
    wrong, base = np.count_nonzero(answer != y), len(y) - np.bincount(y).max()
    return max(0.0, float(1 - wrong / base)) if base else 0.0


def _auc(score: Array, is_positive: Mask) -> float:
    positive = int(np.count_nonzero(is_positive))
    if not positive or positive == len(score):
        return 0.5
    ranks = _ranks(score) * len(score)  # middle ranks, from 0.5
    return float((ranks[is_positive].sum() - positive * positive / 2) / (positive * (len(score) - positive)))


def _ranks(values: Array) -> Array:
    """Return middle ranks from 0 to 1, equal for equal values."""
    _, of, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(((np.cumsum(counts) - counts / 2) / max(len(values), 1))[of])


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0


def noise_of(label: Label) -> float:
    """Return three standard errors of the jump, as if the column told nothing."""
    return 3 * math.hypot(_error(label, label.train), _error(label, label.test))


def _error(label: Label, y: Array) -> float:
    rows = len(y)
    if label.kind == "number":
        return 1 / math.sqrt(max(rows, 1))
    own = np.bincount(y, minlength=label.classes)[: label.classes]
    own = own[(own > 0) & (own < rows)]
    # of the AUC: Mann and Whitney 1947
    each = 2 * np.sqrt((rows + 1) / (12 * own * (rows - own))) if len(own) else np.ones(1)
    return float(each.mean() if label.kind == "binary" else each.mean() / math.sqrt(max(label.classes - 1, 1)))
