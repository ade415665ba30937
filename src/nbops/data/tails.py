"""How far out a value may lie before it is one of its own kind: fences that follow the tail of the data itself."""

from __future__ import annotations

import math

import numpy as np

from nbops.data.columns import Array

FEWEST_ROWS = 50
MOST_ROWS = 100_000
_HEAVY = 0.85  # growth of the outer quantiles from which logarithms are fitted: 1 is exponential, 0.76 normal

_MARGIN = 4.0  # of the shape, times 1 / sqrt(rows)


def middle_of(values: Array) -> float:
    """Return the upper median of numbers: one of them, so that nothing overflows."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def fence(values: Array, *, chance: float = 1e-3) -> float | None:
    """Return the distance from the median beyond which finite numbers [rows] are outliers; None if nobody can tell.

    The tail of the distances is carried on from its 75 % and 95 % quantiles, so that up to 4 % of outliers do not move
    it: exponentially, or, where it is heavy, exponentially in their logarithms (a power law). The fence is where fewer
    than `chance` of tables of this size have any row. A normal sample of 1,000 rows has its fence at about 9 standard
    deviations.
    """
    if len(values) < FEWEST_ROWS:
        return None
    sample = values[:: max(1, len(values) // MOST_ROWS)]  # quantiles need no more
    with np.errstate(over="ignore"):
        distances = np.abs(sample - middle_of(sample))
    inner, outer, far = np.quantile(distances, (0.75, 0.95, 0.99), method="higher")
    if inner <= 0 or not math.isfinite(far):
        return None  # most values are the same
    spread = (outer - inner) or inner  # whole numbers may have no room between
    steps = math.log(0.05 * len(values) / chance) / math.log(5)  # from 25 % to 5 % is one step of log 5
    if far - outer <= _HEAVY * spread:
        return float(outer + steps * spread)
    return float(outer * (1 + spread / inner) ** steps)


def beyond(values: Array, *, chance: float) -> float | None:
    """Return the value that fewer than `chance` of tables of this size exceed, from the tail above the median.

    The tail is a generalised Pareto's, whose shape is told by three quantiles (Pickands 1975), the farther of two
    choices: bounded for uniform values, exponential, or a power law. A margin for the error of the shape is added,
    which shrinks with the rows. None for fewer than 50 values, or where too many are the same.
    """
    sample = values[:: max(1, len(values) // MOST_ROWS)]
    middle = middle_of(sample)
    with np.errstate(over="ignore"):
        above = sample[sample >= middle] - middle
    if len(above) < FEWEST_ROWS:
        return None
    fewer = len(sample) / len(values)  # the chance is that of the whole table
    reaches = [_reach(above, share, chance * fewer) for share in (0.25, 0.5)]
    told = [reach for reach in reaches if reach is not None]
    return middle + max(told) if told else None


def _reach(above: Array, share: float, chance: float) -> float | None:
    """Return how far the tail goes, from the quantiles that leave `share`, a fifth and a 25th of it."""
    shares = 1 - np.array([share, share / 5, share / 25])
    inner, outer, far = (float(q) for q in np.quantile(above, shares, method="higher"))
    first, second = outer - inner, far - outer
    if not (first > 0 and second > 0 and math.isfinite(far)):
        return None
    shape = math.log(second / first) / math.log(5) + _MARGIN / math.sqrt(len(above))
    times = share / 5 * len(above) / chance  # from the middle quantile down to the chance of one row
    grown = math.log(times) / math.log(5) if abs(shape) < 1e-6 else (times**shape - 1) / (5**shape - 1)
    return outer + second * grown
