"""Bins of numbers: edges at the quantiles, and exact counts in them, of this data and of any other.

An edge is a value of the data, so that a mass at one value (zeros) has a bin of its own edge. Counts in fixed edges
do not depend on order, chunks or threads, and they add: what a stored profile keeps is enough for a later comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array

BINS = 64


@dataclass(frozen=True, eq=False)
class Ordered:
    """Finite numbers in ascending order: all of them, or each once with how many there are up to it.

    Parameters
    ----------
    values : array [rows], or [distinct values] where `upto` is given
    upto : int64 array [distinct values], optional
        How many numbers are at most this value; the last is the number of rows.
    """

    values: Array
    upto: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        if self.upto is None:
            return len(self.values)
        return int(self.upto[-1]) if len(self.upto) else 0

    def at(self, ranks: Any) -> Array:
        """Return the numbers at places of the order, from 0."""
        places = ranks if self.upto is None else np.searchsorted(self.upto, ranks, side="right")
        return np.asarray(self.values[places])

    def count(self, limits: Any, *, is_below: bool = False) -> NDArray[np.int64]:
        """Return how many numbers are at most each limit, or below it."""
        places = np.searchsorted(self.values, limits, side="left" if is_below else "right")
        if self.upto is not None:
            places = np.concatenate(([0], self.upto))[places]
        return np.asarray(places, np.int64)

    def bins(self, bins: int = BINS) -> tuple[list[float], list[int]]:
        """Return edges and counts as `quantile_bins` does."""
        rows = len(self)
        if not rows:
            return [], []
        ranks = (np.arange(1, bins, dtype=np.int64) * rows) // bins
        edges = np.unique(self.at(np.concatenate(([0], ranks, [rows - 1]))))
        counts = np.diff(self.count(edges), prepend=0)
        return (edges + edges.dtype.type(0)).tolist(), counts.tolist()  # -0.0 becomes 0.0


def quantile_bins(values: Array, *, bins: int = BINS) -> tuple[list[float], list[int]]:
    """Return edges and counts of finite numbers: [rows].

    ``counts[0]`` is how many are the first edge, the minimum; ``counts[i]`` how many lie in
    ``(edges[i - 1], edges[i]]``. The last edge is the maximum. Both are empty for no values.
    """
    return Ordered(np.sort(values)).bins(bins)


def counted(values: Array, edges: Sequence[float] | Array) -> NDArray[np.int64]:
    """Return how many finite numbers lie in given edges: [len(edges) + 1].

    The first count is of values up to the first edge, so below a minimum too; the last of those above the last edge.
    """
    upto = np.searchsorted(np.sort(values), np.asarray(edges), side="right")
    return np.diff(upto, prepend=0, append=len(values)).astype(np.int64)
