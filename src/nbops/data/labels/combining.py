"""One label a row out of many weak ones: by majority, or by how reliable each source proves to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput
from nbops.data.labels.votes import NOTHING, Votes, read_votes

Floats = NDArray[np.float64]

_ROUNDS = 1000
_STILL = 1e-4  # no probability moves by more: it has settled
_SMOOTHING = 0.5  # of a vote, so that no source is ever sure for lack of votes


@dataclass(frozen=True)
class SourceView:
    """One source: the share of rows that it labels, that others label too, on which they differ, and its accuracy."""

    name: str
    coverage: float
    overlap: float
    conflict: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class CombinedLabels(Shown):
    """What `nb.combine_labels` returns.

    Attributes
    ----------
    labels : list, [rows]
        The likeliest label of each row; None where no source gave any.
    probabilities : float64 array, [rows, classes]
        Of each class; NaN in rows without a label.
    sources : tuple of SourceView
        ``accuracy`` is the estimated chance that the source is right where it says something.
    classes : tuple
    rounds : int
        Of estimation; 0 for a majority.
    """

    labels: list[Any]
    probabilities: Floats
    sources: tuple[SourceView, ...]
    classes: tuple[Any, ...]
    rounds: int

    @property
    def coverage(self) -> float:
        """Share of the rows that have a label."""
        return sum(label is not None for label in self.labels) / len(self.labels)

    def __repr__(self) -> str:
        return f"CombinedLabels({len(self.labels):,} rows, coverage {self.coverage:.3g}, {len(self.sources)} sources)"


def combine_labels(
    votes: Any, *, method: Literal["dawid-skene", "majority"] = "dawid-skene", classes: Sequence[Any] | None = None
) -> CombinedLabels:
    """Make one label a row out of the labels of several sources: annotators, rules, models.

    Parameters
    ----------
    votes : mapping, data frame or array, [rows, sources]
        A column for each source; None and NaN where it says nothing.
    method : {"dawid-skene", "majority"}
        Dawid and Skene weigh each source by how often it gives each class where the others give another; a majority
        counts all alike.
    classes : list, optional
        The labels that there are; those that occur, sorted, if None.

    Returns
    -------
    CombinedLabels

    Raises
    ------
    InvalidInput
        Fewer than two sources, no votes, an unknown method.

    References
    ----------
    Dawid and Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Applied Statistics
    28, 1979.
    """
    if method not in ("dawid-skene", "majority"):
        raise InvalidInput(f"method is {method!r}", hint='Use "dawid-skene" or "majority".')
    given = read_votes(votes, classes=classes)
    counts = given.counts.astype(np.float64)
    has_votes = counts.sum(axis=1) > 0
    shares = counts[has_votes] / counts[has_votes].sum(axis=1, keepdims=True)
    codes = given.codes[has_votes]
    rounds = 0
    if method == "dawid-skene":
        shares, rounds = _estimated(codes, shares)
    table = np.full(counts.shape, np.nan)
    table[has_votes] = shares
    best = np.where(has_votes, np.nan_to_num(table, nan=-1.0).argmax(axis=1), NOTHING)
    labels = [None if code == NOTHING else given.classes[code] for code in best]
    return CombinedLabels(labels, table, _sources(given, codes, shares), given.classes, rounds)


def _estimated(codes: NDArray[np.int64], shares: Floats) -> tuple[Floats, int]:
    """Return the probability of each class, and the rounds of expectation and maximisation that it took."""
    size = shares.shape[1]
    hot = [np.eye(size)[np.maximum(column, 0)] * (column != NOTHING)[:, None] for column in codes.T]
    done = 0
    while done < _ROUNDS:
        done += 1
        logs = np.log(shares.mean(axis=0) + 1e-12)[None, :].repeat(len(shares), axis=0)
        for one in hot:
            confusion = shares.T @ one + _SMOOTHING * (np.eye(size) + 1 / size)  # [true, given]
            logs += one @ np.log(confusion / confusion.sum(axis=1, keepdims=True)).T
        logs -= logs.max(axis=1, keepdims=True)
        now = np.exp(logs)
        now /= now.sum(axis=1, keepdims=True)
        moved = float(np.abs(now - shares).max())
        shares = now
        if moved < _STILL:
            break
    return shares, done


def _sources(given: Votes, codes: NDArray[np.int64], shares: Floats) -> tuple[SourceView, ...]:
    said = given.codes != NOTHING
    others = said.sum(axis=1, keepdims=True) - said > 0
    found = []
    for i, name in enumerate(given.names):
        mine = given.codes[:, [i]]
        differs = said & said[:, [i]] & (given.codes != mine)
        spoke = codes[:, i] != NOTHING
        right = shares[spoke, codes[spoke, i]]
        found.append(SourceView(
            name, float(said[:, i].mean()), float((said[:, i] & others[:, i]).mean()),
            float(differs.any(axis=1).mean()), float(right.mean()) if len(right) else float("nan"),
        ))  # fmt: skip
    return tuple(found)
