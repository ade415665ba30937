"""Figures of numbers: moments, quantiles, bins, commonest values, exact up to `EXACT_VALUES` values.

All are taken from the values in order, so neither the order of the rows, nor chunks, nor threads change a digit. Above
`EXACT_VALUES` the values are counted in bins 0.4 % wide (log-linear: one for each of 256 steps of each power of two),
in one pass and in 8 MB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.bins import Ordered
from nbops.data.columns import Array, Column, hashes
from nbops.data.profiles.counting import EXACT_VALUES, DistinctCount, Gathered, largest

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SMALL_RANGE = 1 << 16  # integers that span less are counted value by value instead of sorted
_BLOCK = 1 << 18  # values that are summed at once
_SHIFT = np.uint64(44)  # of the 64 bits of a float: leaves sign, exponent and 8 bits of the fraction
_SIGN = np.uint64(1 << 63)
_COMMON = 5  # so many of the commonest numbers are named
_COMMON_SHARE = 64  # a number that is at least one in so many has an edge of its own, so none is overlooked


class Numbers:
    """Adds up the present numbers of one column, piece by piece.

    Parameters
    ----------
    expected : int
        At most so many numbers will be added.
    """

    def __init__(self, expected: int) -> None:
        self.is_exact = expected <= EXACT_VALUES
        self._gathered = Gathered(expected)
        self._histogram = None if self.is_exact else _Histogram(expected)
        self._infinite = {math.inf: 0, -math.inf: 0}

    def add(self, values: Array) -> None:
        """Add present values: [values]; NaN must not be among them."""
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                for one in self._infinite:
                    self._infinite[one] += int(np.count_nonzero(values == one))
                values = values[finite]
        if self._histogram is None:
            self._gathered.add(values)
        else:
            self._histogram.add(values)

    def figures(self) -> dict[str, Any]:
        """Return the figures of `profile_frame`; those over finite values are None where there are none."""
        if self._histogram is not None:
            ordered, moments, distinct = self._histogram.results()
        else:
            ordered = _ordered(self._gathered)
            moments, distinct = _moments(_weighted(ordered), len(ordered)), _distinct(ordered)
        infinite = sum(self._infinite.values())
        edges, counts = ordered.bins()
        zero = int(ordered.count([0], is_below=True)[0])
        low, high = (edges[0], edges[-1]) if edges else (None, None)
        found: dict[str, Any] = {
            "distinct": distinct + sum(count > 0 for count in self._infinite.values()), "distinct_exact": self.is_exact,
            "min": low, "max": high, **moments, "infinite": infinite,
            "zeros": int(ordered.count([0])[0]) - zero, "negative": zero,
            "quantiles": quantiles(ordered), "edges": edges, "counts": counts, "common": _common(ordered, edges),
        }  # fmt: skip
        if not self.is_exact:
            found["approximate"] = ["distinct", "zeros", "quantiles", "edges", "common"]
        return found


def _ordered(gathered: Gathered) -> Ordered:
    values = gathered.whole()
    if len(values) and values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if high - low < _SMALL_RANGE:
            wide = values.dtype if values.dtype.itemsize == 8 else np.dtype(np.int64)  # room for the difference
            sizes = np.zeros(high - low + 1, np.int64)
            for start in range(0, len(values), _BLOCK):
                block = values[start : start + _BLOCK].astype(wide, copy=False) - wide.type(low)
                sizes += np.bincount(block.astype(np.intp), minlength=len(sizes))
            there = np.flatnonzero(sizes)
            return Ordered(there.astype(wide) + wide.type(low), np.cumsum(sizes[there]))
    return Ordered(gathered.ordered())


def _distinct(ordered: Ordered) -> int:
    values = ordered.values
    if ordered.upto is not None or not len(values):
        return len(values)
    return 1 + int(np.count_nonzero(values[1:] != values[:-1]))


def _weighted(ordered: Ordered) -> Iterator[tuple[Array, Array | None]]:
    """Yield blocks of values with their counts (None: each once)."""
    counts = None if ordered.upto is None else np.diff(ordered.upto, prepend=0)
    for start in range(0, len(ordered.values), _BLOCK):
        stop = start + _BLOCK
        yield ordered.values[start:stop], None if counts is None else counts[start:stop]


def _moments(blocks: Iterator[tuple[Array, Array | None]], rows: int) -> dict[str, float | None]:
    """Return mean, std, skew (g1) and kurtosis (g2, 0 for a normal distribution), all of the population."""
    held = list(blocks)
    if not rows:
        return {"mean": None, "std": None, "skew": None, "kurtosis": None}
    low, high = float(held[0][0][0]), float(held[-1][0][-1])
    # powers of two, so that nothing is rounded: the fourth power of what is left can neither overflow nor vanish
    exponent = min(max(math.frexp(max(abs(low), abs(high)))[1], -1000), 1000)
    exponent = 0 if abs(exponent) < 200 else exponent

    def scaled() -> Iterator[tuple[Array, Array | None]]:
        for values, counts in held:
            wide = values.astype(np.float64, copy=False)
            yield (np.ldexp(wide, -exponent) if exponent else wide), counts

    mean = math.fsum(_total(values, counts) for values, counts in scaled()) / rows
    if low == high:
        return {"mean": low, "std": 0.0, "skew": None, "kurtosis": None}
    sums: list[list[float]] = [[], [], []]
    for values, counts in scaled():
        away = values - mean
        square = away * away
        for place, power in enumerate((square, square * away, square * square)):
            sums[place].append(_total(power, counts))
    second, third, fourth = (math.fsum(parts) / rows for parts in sums)
    return _shape(math.ldexp(mean, exponent), second, third, fourth, 2.0**exponent)


def _total(values: Array, counts: Array | None) -> float:
    return float((values if counts is None else values * counts).sum())


def _shape(mean: float, second: float, third: float, fourth: float, scale: float = 1.0) -> dict[str, float | None]:
    """Return the figures of central moments per row."""
    if not second > 0:
        return {"mean": mean, "std": 0.0, "skew": None, "kurtosis": None}
    std = math.sqrt(second)
    return {"mean": mean, "std": std * scale, "skew": third / second / std, "kurtosis": fourth / second / second - 3}


def quantiles(ordered: Ordered) -> dict[str, float]:
    """Return the quantiles by their share, interpolated between neighbours as NumPy, pandas and polars do (type 7)."""
    rows = len(ordered)
    if not rows:
        return {}
    places = np.array(QUANTILES) * (rows - 1)
    low = np.floor(places).astype(np.int64)
    part = places - low
    left = ordered.at(low).astype(np.float64)
    right = ordered.at(np.minimum(low + 1, rows - 1)).astype(np.float64)
    found = np.where(part > 0, left * (1 - part) + right * part, left) + 0.0
    found = np.clip(found, left, right)  # rounding may not leave the neighbours
    return {str(share): float(value) for share, value in zip(QUANTILES, found, strict=True)}


def _common(ordered: Ordered, edges: list[float]) -> list[list[float]]:
    """Return ``[number, count]`` of the commonest numbers that at least every 64th row has."""
    if not edges:
        return []
    limits = np.array(edges, ordered.values.dtype)
    sizes = ordered.count(limits) - ordered.count(limits, is_below=True)
    least = max(2, -(-len(ordered) // _COMMON_SHARE))
    return [[edges[i], int(sizes[i])] for i in largest(sizes, _COMMON) if sizes[i] >= least]


class _Histogram:
    """Counts of numbers in log-linear bins, and sums of their powers; the same for any chunks of the same rows."""

    def __init__(self, expected: int) -> None:
        self._counts = np.zeros(1 << (64 - int(_SHIFT)), np.int64)
        self._distinct = DistinctCount(expected)
        self._low, self._high, self._lowest = math.inf, -math.inf, 0
        self._rest: list[Array] = []
        self._waiting = 0
        self._shift: float | None = None
        self._sums: list[list[float]] = [[], [], [], []]
        self._rows = 0

    def add(self, values: Array) -> None:
        """Add finite values; sums are taken over blocks of one size, wherever the pieces ended."""
        for start in range(0, len(values), _BLOCK):
            piece = values[start : start + _BLOCK]
            self._rest.append(piece)
            self._waiting += len(piece)
            if self._waiting >= _BLOCK:
                whole = np.concatenate(self._rest)
                self._block(whole[:_BLOCK])
                self._rest, self._waiting = [whole[_BLOCK:].copy()], len(whole) - _BLOCK

    def _block(self, values: Array) -> None:
        if not len(values):
            return
        wide = values.astype(np.float64) + 0.0
        self._distinct.add(hashes(Column("", "float64", wide)))
        bits = wide.view(np.uint64)
        keys = (np.where(bits & _SIGN, ~bits, bits | _SIGN) >> _SHIFT).astype(np.intp)
        self._counts += np.bincount(keys, minlength=len(self._counts))
        low = float(wide.min())
        if low < self._low:
            self._low, self._lowest = low, 0
        self._lowest += int(np.count_nonzero(wide == self._low))
        self._high = max(self._high, float(wide.max()))
        if self._shift is None:
            self._shift = float(wide.mean())
        away = wide - self._shift
        power = away
        with np.errstate(over="ignore", invalid="ignore"):  # said by None
            for parts in self._sums:
                parts.append(float(power.sum()))
                power = power * away
        self._rows += len(wide)

    def results(self) -> tuple[Ordered, dict[str, float | None], int]:
        """Return the values as they were counted, the moments, and about how many are distinct."""
        if self._rest:
            self._block(np.concatenate(self._rest))
            self._rest = []
        places = np.flatnonzero(self._counts)
        if not len(places):
            return Ordered(np.zeros(0)), _moments(iter(()), 0), 0
        # of each bin its largest value: what is counted up to it is exact
        top = (((places.astype(np.uint64) + np.uint64(1)) << _SHIFT) - np.uint64(1)).astype(np.uint64)
        values = np.where(top & _SIGN, top ^ _SIGN, ~top).view(np.float64)
        values[places == int(_SIGN >> _SHIFT)] = 0.0  # beside zero only numbers below 1e-305
        values = np.minimum(values, self._high)
        counts = self._counts[places]
        counts[0] -= self._lowest
        kept = counts > 0
        values, counts = np.append(self._low, values[kept]), np.append(self._lowest, counts[kept])
        return Ordered(values, np.cumsum(counts)), self._moments(), self._distinct.estimate()

    def _moments(self) -> dict[str, float | None]:
        first, second, third, fourth = (math.fsum(parts) / self._rows for parts in self._sums)
        mean = (self._shift or 0.0) + first
        raw = (second - first**2, third - 3 * first * second + 2 * first**3,
               fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4)  # fmt: skip
        if not all(map(math.isfinite, raw)):
            return {"mean": mean if math.isfinite(mean) else None, "std": None, "skew": None, "kurtosis": None}
        return _shape(mean, *raw)


def seconds(values: Array) -> NDArray[np.float64]:
    """Return datetimes as seconds since 1970, durations as seconds: float64 [rows]; none may be missing."""
    unit = np.datetime_data(values.dtype)[0]
    whole = values.astype(np.int64).astype(np.float64)
    return whole * 86400.0 if unit == "D" else whole / {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
