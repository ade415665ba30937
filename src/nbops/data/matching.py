"""Rows of one table found again in another, by hashes of what tells them apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Hashes, remixed


def numbered(found: Hashes) -> Hashes:
    """Return hashes in which the n-th of equal ones is another than the first, so that copies are counted."""
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(found) else np.zeros(0, int)
    numbers = np.arange(len(found)) - np.repeat(starts, np.diff(np.append(starts, len(found))))
    out = found.copy()
    out[order] = remixed(ordered, numbers.astype(np.uint64))
    return out


def matched(a: Hashes, b: Hashes) -> NDArray[np.int64]:
    """Return the positions of equal hashes in both, in the order of the second: [rows, 2]. No hash repeats."""
    order = np.argsort(a, kind="stable")
    at = np.minimum(np.searchsorted(a[order], b), max(0, len(a) - 1))
    found = a[order[at]] == b if len(a) else np.zeros(len(b), np.bool_)
    return np.stack([order[at[found]] if len(a) else at[found], np.flatnonzero(found)], axis=1).astype(np.int64)
