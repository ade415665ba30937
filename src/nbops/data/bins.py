"""Bins of numbers: edges at the quantiles, and exact counts in them, of this data and of any other.

An edge is a value of the data, so that a mass at one value (zeros) has a bin of its own edge. Counts in fixed edges
do not depend on order, chunks or threads, and they add: what a stored profile keeps is enough for a later comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array

BINS = 64


def quantile_bins(values: Array, *, bins: int = BINS) -> tuple[list[float], list[int]]:
    """Return edges and counts of finite numbers: [rows].

    ``counts[0]`` is how many are the first edge, the minimum; ``counts[i]`` how many lie in
    ``(edges[i - 1], edges[i]]``. The last edge is the maximum. Both are empty for no values.
    """
    if not len(values):
        return [], []
    ordered = np.sort(values)
    ranks = (np.arange(1, bins, dtype=np.int64) * len(ordered)) // bins
    edges = np.unique(ordered[np.concatenate(([0], ranks, [len(ordered) - 1]))])
    return edges.tolist(), _between(ordered, edges)[:-1].tolist()


def counted(values: Array, edges: Sequence[float] | Array) -> NDArray[np.int64]:
    """Return how many finite numbers lie in given edges: [len(edges) + 1].

    The first count is of values up to the first edge, so below a minimum too; the last is of values above the last edge.
    """
    return _between(np.sort(values), np.asarray(edges))


def _between(ordered: Array, edges: Array) -> NDArray[np.int64]:
    upto = np.searchsorted(ordered, edges, side="right")
    return np.diff(upto, prepend=0, append=len(ordered)).astype(np.int64)
