"""How unsure a model is of each item, and an order that looks for what is unlike the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput
from nbops.data.labels.items import as_array

Floats = NDArray[np.float64]
Strategy = Literal["entropy", "margin", "least-confidence"]

_AXES = 2
_SUM_WITHIN = 0.01


def uncertainty(probabilities: Any, *, strategy: Strategy = "entropy", rows: int, classes: int) -> Floats:
    """Return how unsure a model is of each row, larger for the less sure; infinite where it says nothing.

    Parameters
    ----------
    probabilities : array or tensor, [rows, classes]
        Each row sums to 1; a row of NaN says nothing. [rows] are taken as they are: figures of your own.
    strategy : {"entropy", "margin", "least-confidence"}
        The entropy of the row, one minus the difference of the largest two, or one minus the largest.
    rows, classes : int
        What must fit.

    Raises
    ------
    InvalidInput
        Another shape, values that are no probabilities, or an unknown strategy.

    References
    ----------
    Settles, "Active Learning Literature Survey", 2009, section 3.1.
    """
    check_strategy(strategy)
    try:
        table = np.asarray(as_array(probabilities), np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"order= gave a {type(probabilities).__name__} that is no array of numbers",
                           hint=f"Give probabilities of shape [{rows}, {classes}].") from None  # fmt: skip
    if table.shape == (rows,):
        return np.where(np.isnan(table), np.inf, table)
    if table.shape != (rows, classes):
        raise InvalidInput(f"order= has the shape {list(table.shape)} for {rows:,} items and {classes} classes",
                           hint=f"Give probabilities [{rows}, {classes}], or one figure for each item.")  # fmt: skip
    says_nothing: NDArray[np.bool_] = np.asarray(np.isnan(table).all(axis=1))
    known = np.where(says_nothing[:, None], 1 / classes, table)
    is_off = abs(known.sum(axis=1) - 1) > _SUM_WITHIN
    wrong = np.flatnonzero(~((known >= 0) & (known <= 1 + 1e-6)).all(axis=1) | is_off)
    if len(wrong):
        raise InvalidInput(f"row {wrong[0]} of order= is {known[wrong[0]].round(4).tolist()}: no probabilities",
                           hint="Each row must sum to 1, within 0 and 1; use a softmax on raw scores.")  # fmt: skip
    if strategy == "entropy":
        found = -(known * np.log(np.where(known > 0, known, 1))).sum(axis=1)
    else:
        top = np.sort(known, axis=1)[:, ::-1]
        found = 1 - (top[:, 0] - top[:, 1] if strategy == "margin" else top[:, 0])
    return np.where(says_nothing, np.inf, found)


def check_strategy(strategy: str) -> None:
    """Refuse a strategy that there is not."""
    if strategy not in get_args(Strategy):
        raise InvalidInput(f"strategy is {strategy!r}", hint=f"Use one of: {', '.join(get_args(Strategy))}.")


def by_uncertainty(scores: Floats, rows: Sequence[int]) -> list[int]:
    """Return `rows` with the least sure first; equal ones stay as they are."""
    at = np.asarray(rows, np.int64)
    return [int(row) for row in at[np.argsort(-scores[at], kind="stable")]]


def spread(scores: Floats, features: Floats, rows: Sequence[int], *, count: int) -> list[int]:
    """Return `rows`, of which the first `count` are unsure and unlike each other, and the rest by uncertainty.

    Each next one has the largest product of its rank among the unsure and its distance to the nearest chosen one,
    as a share of the largest distance: the greedy choice of a core set, weighted.

    Parameters
    ----------
    scores : float64 array, [all rows]
    features : float64 array, [all rows, features]
        On scales of their own: they are standardised here.
    rows : sequence of int
        To be ordered, the least sure first.
    count : int
        How many are chosen so; each costs one pass over `rows`.

    References
    ----------
    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", 2018, algorithm 1.
    """
    ranked = by_uncertainty(scores, rows)
    if len(ranked) <= 1:
        return ranked
    points = features[ranked]
    points = (points - points.mean(axis=0)) / np.where(points.std(axis=0) > 0, points.std(axis=0), 1)
    weight = 1 - np.arange(len(ranked)) / len(ranked)
    nearest = np.full(len(ranked), np.inf)
    left = np.ones(len(ranked), bool)
    chosen = [0]
    while len(chosen) < min(count, len(ranked)):
        left[chosen[-1]] = False
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        worth = np.where(left, weight * nearest / (nearest.max() or 1.0), -1.0)
        chosen.append(int(worth.argmax()))
    taken = set(chosen)
    return [ranked[at] for at in chosen] + [row for at, row in enumerate(ranked) if at not in taken]


def read_features(features: Any, *, rows: int, what: str) -> Floats:
    """Return features as float64 [rows, features].

    Raises
    ------
    InvalidInput
        Not numbers, or not one row for each item.
    """
    try:
        table = np.asarray(as_array(features), np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{what} is a {type(features).__name__} that is no array of numbers",
                           hint="Pass numbers: [items, features].") from None  # fmt: skip
    if table.ndim != _AXES or len(table) != rows or not np.isfinite(table).all():
        raise InvalidInput(f"{what} has the shape {list(table.shape)} or infinite values, for {rows:,} items",
                           hint=f"Pass finite numbers of shape [{rows}, features].")  # fmt: skip
    return table
