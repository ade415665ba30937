"""How far annotators agree, beyond what chance would give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.data.labels.votes import NOTHING, Votes, read_votes

Floats = NDArray[np.float64]
Scale = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, eq=False)
class Agreement(Shown):
    """What `nb.agreement` returns.

    Attributes
    ----------
    alpha : float
        Krippendorff's alpha: 1 is full agreement, 0 what chance gives; NaN where only one label was ever given.
    fleiss : float or None
        Fleiss' kappa; None where rows have different numbers of labels.
    pairs : dict
        Cohen's kappa of each pair of annotators, over the rows that both labelled.
    agreed : float
        Share of the rows with two labels or more in which all are the same.
    rows : int64 array
        Positions of the rows in which annotators differ, those with the most even votes first.
    names, classes : tuple
        The annotators, and the labels.
    total : int
        How many rows there are.
    """

    alpha: float
    fleiss: float | None
    pairs: dict[tuple[str, str], float]
    agreed: float
    rows: NDArray[np.int64]
    names: tuple[str, ...]
    classes: tuple[Any, ...]
    total: int

    def __repr__(self) -> str:
        return f"Agreement(alpha={self.alpha:.3g}, agreed={self.agreed:.3g}, {len(self.names)} annotators)"


def agreement(annotations: Any, *, scale: Scale = "nominal", classes: Sequence[Any] | None = None) -> Agreement:
    """Say how far annotators agree, and on which rows they do not.

    Parameters
    ----------
    annotations : mapping, data frame or array, [rows, annotators]
        The labels, a column for each annotator; None and NaN where one gave none.
    scale : {"nominal", "ordinal", "interval"}
        What a difference of two labels means to alpha: any is alike, by rank, or by the square of the distance.
    classes : list, optional
        The labels in their order, for ``ordinal``; those that occur, sorted, if None.

    Returns
    -------
    Agreement

    Raises
    ------
    InvalidInput
        Fewer than two annotators, no row with two labels, an unknown scale, labels without distances.

    References
    ----------
    Cohen, Educational and Psychological Measurement 20, 1960; Fleiss, Psychological Bulletin 76, 1971; Krippendorff,
    "Computing Krippendorff's Alpha-Reliability", 2011.
    """
    if scale not in ("nominal", "ordinal", "interval"):
        raise InvalidInput(f"scale is {scale!r}", hint='Use "nominal", "ordinal" or "interval".')
    votes = read_votes(annotations, classes=classes)
    counts = votes.counts
    raters = counts.sum(axis=1)
    is_shared = raters > 1
    if not is_shared.any():
        raise InvalidInput("no row has two labels", hint="Let annotators label some rows in common.")
    shared = counts[is_shared].astype(np.float64)
    top = shared.max(axis=1) / shared.sum(axis=1)
    rows = np.flatnonzero(is_shared)
    differ = np.flatnonzero(top < 1)
    return Agreement(
        alpha=_alpha(shared, _distances(shared, votes.classes, scale)),
        fleiss=_fleiss(shared) if is_shared.all() and len(set(raters.tolist())) == 1 else None,
        pairs=dict(_pairs(votes)), agreed=float((top == 1).mean()),
        rows=rows[differ[np.argsort(top[differ], kind="stable")]], names=votes.names, classes=votes.classes,
        total=len(counts),
    )  # fmt: skip


def _pairs(votes: Votes) -> list[tuple[tuple[str, str], float]]:
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(votes.names), 2):
        a, b = votes.codes[:, i], votes.codes[:, j]
        both = (a != NOTHING) & (b != NOTHING)
        found.append(((one, other), _cohen(a[both], b[both], len(votes.classes))))
    return found


def _cohen(a: NDArray[np.int64], b: NDArray[np.int64], size: int) -> float:
    """Return Cohen's kappa; NaN without rows in common, or where both gave one and the same label only."""
    if not len(a):
        return math.nan
    by_chance = float(np.bincount(a, minlength=size) @ np.bincount(b, minlength=size)) / len(a) ** 2
    return (float((a == b).mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def _fleiss(counts: Floats) -> float:
    raters = counts[0].sum()
    share = counts.sum(axis=0) / counts.sum()
    agreed = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    by_chance = float((share**2).sum())
    return (float(agreed.mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def _alpha(counts: Floats, distances: Floats) -> float:
    """Return Krippendorff's alpha of rows with two labels or more: 1 - observed over expected disagreement."""
    raters = counts.sum(axis=1)
    observed = float((((counts @ distances) * counts).sum(axis=1) / (raters - 1)).sum())
    totals = counts.sum(axis=0)
    expected = float(totals @ distances @ totals) / (totals.sum() - 1)
    return 1 - observed / expected if expected else math.nan


def _distances(counts: Floats, classes: tuple[Any, ...], scale: str) -> Floats:
    """Return the squared distance of each pair of labels."""
    if scale == "nominal":
        return 1 - np.eye(len(classes))
    if scale == "interval":
        try:
            values = np.array([float(value) for value in classes])
        except (TypeError, ValueError):
            raise InvalidInput(
                f"labels such as {classes[0]!r} have no distances", hint='Use scale="ordinal" with classes= in order.'
            ) from None
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    totals = counts.sum(axis=0)
    upto = np.cumsum(totals) - totals / 2  # the middle rank of each label
    return np.asarray((upto[:, None] - upto[None, :]) ** 2)
