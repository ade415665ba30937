"""Which side of a split each row falls on: by its hash, by its rank within a stratum, and which fold.

Pure arithmetic on arrays; a unit is what must stay together: equal keys, equal rows, or a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import BLOCK, Array, Hashes
from nbops.data.splits.identity import salted

TRAIN, VAL, TEST, LEFT_OUT = 0, 1, 2, 3
_MIXTURES = 4  # units are told apart by how much of them is of one stratum, in quarters
SIDES = ("train", "val", "test", "left out")
Codes = NDArray[np.uint8]
Folds = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Strata:
    """What shares are kept within: `codes` [rows], `names` of the strata, `draws` in 0 to 1, one a stratum.

    A stratum whose share is less than one row has one or none: its draw decides.
    """

    codes: NDArray[np.intp]
    names: list[str]
    draws: NDArray[np.float64]


def by_hash(identity: Hashes, *, salt: str, test: float, val: float) -> Codes:
    """Return sides by comparing each salted number with a cut: what a row is alone decides.

    Test lies at the bottom and val at the top, so each grows into train: a larger test set contains the smaller one.
    """
    codes = np.empty(len(identity), np.uint8)
    for start in range(0, len(identity), BLOCK):
        spread = salted(identity[start : start + BLOCK], salt)
        side = (spread < np.uint64(int(test * 2**64))).view(np.uint8) * np.uint8(TEST)
        if val:
            side += (spread > np.uint64(2**64 - 1 - int(val * 2**64))).view(np.uint8) * np.uint8(VAL)
        codes[start : start + BLOCK] = side
    return codes


def by_rank(spread: Hashes, strata: Strata, *, test: float, val: float) -> Codes:
    """Return sides by the rank of each unit within its stratum, so that the shares come out within half a unit."""
    units = _units(spread, strata)
    codes = np.where(units.depth <= _target(units.total, test, units.draw), TEST, TRAIN)
    codes[(units.total - units.depth <= _target(units.total, val, units.draw)) & (codes == TRAIN)] = VAL
    return codes.astype(np.uint8)[units.of]


def folds_by_hash(spread: Hashes, count: int) -> Folds:
    """Return a fold from 0 to `count` - 1 for each number."""
    return ((spread >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int16)


def folds_by_rank(spread: Hashes, strata: Strata, count: int) -> Folds:
    """Return folds whose shares of each stratum are equal within one unit."""
    units = _units(spread, strata)
    first = np.floor(units.draw * count)  # else every stratum of one row lands in the same fold
    fold: Folds = ((np.floor(units.depth * count / units.total) + first) % count).astype(np.int16)[units.of]
    return fold


def _target(total: Array, share: float, draws: Array) -> Array:
    exact = total * share
    return np.where(exact < 1, np.floor(exact + draws), exact)


@dataclass(frozen=True, eq=False)
class _Units:
    """The unit of each row, and of each unit how many rows of its stratum lie before its middle, of how many."""

    of: Array  # [rows]
    depth: Array  # [units], as the others
    total: Array
    draw: Array


def _units(spread: Hashes, strata: Strata) -> _Units:
    """Order units by their number within each stratum.

    A unit of several strata counts for the one of most of its rows, apart from units that are more or less of one
    piece: so units of like mixture are divided among the sides.
    """
    ids, of = np.unique(spread, return_inverse=True)
    rows = np.bincount(of, minlength=len(ids))
    own = strata.codes[np.argsort(spread)] if len(ids) == len(spread) else _commonest(of, strata)
    mixture = own
    if len(ids) < len(spread):
        share = np.bincount(of, strata.codes == own[of], minlength=len(ids)) / rows
        _, mixture = np.unique(own * (_MIXTURES + 1) + np.floor(share * _MIXTURES).astype(np.intp), return_inverse=True)
    order = np.lexsort((ids, mixture))
    through = np.cumsum(rows[order])
    totals = np.bincount(mixture, rows).astype(np.int64)
    before = np.cumsum(totals) - totals
    depth = np.empty(len(ids), np.float64)
    depth[order] = through - rows[order] / 2 - before[mixture[order]]
    return _Units(of, depth, totals[mixture], strata.draws[own])


def _commonest(of: Array, strata: Strata) -> Array:
    """Return the stratum of most rows of each unit, the first of equals."""
    pairs, counts = np.unique(of * len(strata.names) + strata.codes, return_counts=True)
    unit, stratum = np.divmod(pairs, len(strata.names))
    order = np.lexsort((stratum, -counts, unit))
    first = np.unique(unit[order], return_index=True)[1]
    return np.asarray(stratum[order][first])
