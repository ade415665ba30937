"""How often hashed values occur: categories, commonest values, number of distinct values; and rows to look at.

Everything here depends on the values only, not on their order, chunks or threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import MISSING_CODE, Array, Hashes, mixed

Rows = NDArray[np.int64]

EXACT_VALUES = 1 << 25  # up to here all values of a column are held and sorted; above, figures are approximate
_BITMAP_BITS = 27  # at most 128 MiB; linear counting stays within 1 % up to as many distinct values
_BLOCK = 1 << 18  # hashes that are grouped at once
_LOW_BITS = np.uint64(0xFFFF)
_TAG = np.uint64(0xA0761D6478BD642F)


class Gathered:
    """One array from pieces, in room for `expected` values that is taken once; a single whole piece is not copied."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._data: Array | None = None
        self._end = 0
        self._is_own = False

    def add(self, piece: Array) -> None:
        """Append values."""
        if self._data is None and len(piece) >= self._expected:
            self._data, self._end = piece, len(piece)
            return
        if self._data is None:
            self._data, self._is_own = np.empty(self._expected, piece.dtype), True
        if piece.dtype != self._data.dtype:  # parts of one column may be read in other widths
            self._data = self._data.astype(np.result_type(piece, self._data))
        self._data[self._end : self._end + len(piece)] = piece
        self._end += len(piece)

    def whole(self) -> Array:
        """Return all values, in order."""
        return np.zeros(0) if self._data is None else self._data[: self._end]

    def ordered(self) -> Array:
        """Return all values in ascending order; what was gathered is not used again."""
        values = self.whole()
        if not self._is_own:
            return np.sort(values)
        values.sort()
        return values


class DistinctCount:
    """About how many distinct hashes there are (linear counting: Whang et al. 1990)."""

    def __init__(self, expected: int) -> None:
        bits = min(_BITMAP_BITS, max(16, expected.bit_length()))
        self._shift = np.uint64(64 - bits)
        self._seen = np.zeros(1 << bits, np.bool_)
        self._count = 0

    def add(self, codes: Hashes) -> None:
        """Mark hashes as seen."""
        self._seen[codes >> self._shift] = True
        self._count += len(codes)

    def estimate(self) -> int:
        """Return the number, within about 1 % where it is below 2**27."""
        empty = len(self._seen) - int(np.count_nonzero(self._seen))
        if not empty:
            return self._count
        return min(self._count, round(-len(self._seen) * math.log(empty / len(self._seen))))


def categories(codes: Hashes, *, limit: int) -> tuple[Rows, Rows] | None:
    """Return first row and count of each distinct hash but `MISSING_CODE`; None if there are more than `limit`."""
    for shift in (48, 32, 16, 0):
        found = _by_bits(codes, shift, limit=limit + 1)  # one for missing
        if found is None:
            return None
        first, counts, is_apart = found
        if is_apart:
            break
    else:  # two values share a bucket each time: sort
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    there = codes[first] != MISSING_CODE
    first, counts = first[there], counts[there]
    return None if len(first) > limit else (first, counts)


def _by_bits(codes: Hashes, shift: int, *, limit: int) -> tuple[Rows, Rows, bool] | None:
    """Group hashes by 16 of their bits: first rows, counts, and whether no two hashes share them; None above `limit`.

    Block by block, so that no copy of all rows is made.
    """
    sizes = np.zeros(1 << 16, np.int64)
    first = np.zeros(1 << 16, np.int64)
    known = np.zeros(1 << 16, np.uint64)
    is_apart = True
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK]
        bucket = ((block >> np.uint64(shift)) & _LOW_BITS).astype(np.intp)
        more = np.bincount(bucket, minlength=1 << 16)
        fresh = np.flatnonzero((more > 0) & (sizes == 0))
        if len(fresh):
            place = np.zeros(1 << 16, np.int64)
            place[bucket[::-1]] = np.arange(len(block) - 1, -1, -1)  # the last assignment stays: the first row
            first[fresh] = place[fresh] + start
            known[fresh] = block[place[fresh]]
        sizes += more
        if np.count_nonzero(sizes) > limit:
            return None
        is_apart = is_apart and bool((known[bucket] == block).all())
    there = sizes > 0
    return first[there], sizes[there], is_apart


def commonest(ordered: Hashes, *, limit: int) -> tuple[int, Hashes, Rows]:
    """Return the number of distinct hashes, the `limit` commonest and their counts; of equally common ones the least.

    Parameters
    ----------
    ordered : uint64 array [values], ascending
    """
    if not len(ordered):
        return 0, ordered, np.zeros(0, np.int64)
    same = ordered[1:] == ordered[:-1]
    distinct = len(ordered) - int(np.count_nonzero(same))
    is_end = same.copy()
    is_end[1:] &= ~same[:-1]
    begins = np.flatnonzero(is_end)
    is_end[:] = same
    is_end[:-1] &= ~same[1:]
    counts = np.flatnonzero(is_end) - begins + 2
    del is_end
    best = largest(counts, limit)
    found, sizes = ordered[begins[best]], counts[best]
    if len(found) < limit:  # the rest occur once
        alone = ~np.concatenate((same, [False])) & ~np.concatenate(([False], same))
        single = ordered[_first_true(alone, limit - len(found))]
        found, sizes = np.concatenate((found, single)), np.concatenate((sizes, np.ones(len(single), np.int64)))
    return distinct, found, sizes


def largest(counts: Rows, limit: int) -> Rows:
    """Return the places of the `limit` largest counts, the largest first; of equal ones the first."""
    if len(counts) > limit:
        least = np.partition(counts, len(counts) - limit)[len(counts) - limit]
        above = np.flatnonzero(counts > least)
        places = np.concatenate((above, _first_true(counts == least, limit - len(above))))
    else:
        places = np.arange(len(counts))
    return places[np.lexsort((places, -counts[places]))]


def _first_true(where: NDArray[np.bool_], limit: int) -> Rows:
    """Return the first `limit` places that are true, without listing them all."""
    places: list[Rows] = []
    for start in range(0, len(where), 1 << 16):
        if limit <= 0:
            break
        found = np.flatnonzero(where[start : start + (1 << 16)])[:limit] + start
        places.append(found)
        limit -= len(found)
    return np.concatenate(places) if places else np.zeros(0, np.int64)


def sample_rows(rows: int, size: int) -> Rows:
    """Return at most `size` rows to look at, one from each stretch of equal length, at a place that a hash gives.

    The same for each table of so many rows. No period in the data can hide from it, as it can from every k-th row.
    """
    if rows <= size:
        return np.arange(rows)
    starts = np.arange(size, dtype=np.int64) * rows // size
    widths = np.append(starts[1:], rows) - starts
    spread = mixed(np.arange(size, dtype=np.uint64) ^ _TAG)
    return starts + (spread % widths.astype(np.uint64)).astype(np.int64)


def within(picks: Rows, start: int, count: int) -> Rows:
    """Return which of the ascending `picks` lie in rows `start` to ``start + count``, counted from `start`."""
    low, high = np.searchsorted(picks, [start, start + count])
    return picks[low:high] - start
