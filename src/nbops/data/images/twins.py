"""Which pictures are nearly the same: candidates by hashes of their directions, then compared in a small grey copy."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from nbops.data.columns import Array
from nbops.data.images.pictures import SIDE

_TABLES, _PLANES = 12, 16
_PLAIN = 3.0  # deviation of the grey copy below which there is nothing to compare
_LIKE = 0.995  # correlation
_NEAR = 4.0  # mean difference of grey values
_MOST = 200  # in one bucket: more are what all pictures of the set have in common


def twins(copies: Array, others: Array | None = None) -> list[tuple[int, int]]:
    """Return pairs of pictures that are nearly the same, the smaller index first.

    Parameters
    ----------
    copies : float32 array [pictures, 256]
        Small grey copies.
    others : float32 array [others, 256], optional
        Those of another folder: then pairs are (picture, other).
    """
    every = copies if others is None else np.concatenate((copies, others))
    codes = _codes(every)
    pairs: set[tuple[int, int]] = set()
    for table in range(_TABLES):
        buckets: dict[int, list[int]] = defaultdict(list)
        for row, code in enumerate(codes[:, table].tolist()):
            buckets[code].append(row)
        for rows in buckets.values():
            if 2 <= len(rows) <= _MOST:
                pairs.update(_alike(every, rows, len(copies) if others is not None else None))
    return sorted(pairs if others is None else {(a, b - len(copies)) for a, b in pairs})


def _codes(copies: Array) -> Array:
    """Return on which side of random planes each picture lies, uint64 [pictures, tables]: near ones share a code.

    At a correlation of 0.995 two pictures share one of twelve codes of sixteen planes with a chance of 99.99 %.
    """
    centred = copies - copies.mean(axis=1, keepdims=True)
    centred /= np.maximum(centred.std(axis=1, keepdims=True), 1e-6)
    centred -= centred.mean(axis=0)
    planes = np.random.default_rng(0).normal(size=(copies.shape[1], _TABLES * _PLANES)).astype(np.float32)
    sides = (centred @ planes > 0).reshape(len(copies), _TABLES, _PLANES)
    return np.asarray((sides * (1 << np.arange(_PLANES))).sum(axis=2))


def _alike(copies: Array, rows: list[int], first_of_others: int | None) -> list[tuple[int, int]]:
    some = copies[rows]
    centred = some - some.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1)
    near = (centred @ centred.T) / (SIDE * SIDE) >= _LIKE * np.outer(spread, spread)
    near &= np.greater.outer(spread, np.full(len(rows), _PLAIN)) & (spread > _PLAIN)[None, :]
    found = []
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        a, b = sorted((rows[int(i)], rows[int(j)]))
        if first_of_others is not None and not a < first_of_others <= b:
            continue
        if np.abs(some[i] - some[j]).mean() <= _NEAR:
            found.append((a, b))
    return found
