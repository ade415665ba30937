"""What stands out of a line of numbers: single values far from both sides, and jumps that stay."""

from __future__ import annotations

import numpy as np

from nbops.data.columns import Array, Mask
from nbops.data.tails import beyond, fence

SIDE = 3  # values on each side that a value is compared with
_STAYS = 10  # values on each side of a jump
_KEPT = 0.7  # of a jump is there afterwards
_MARGIN = 1.25  # for whole numbers, whose quantiles are coarse


def far_from_both_sides(values: Array, within: Mask, *, chance: float) -> tuple[Mask, float | None]:
    """Return which values lie far from the median of the three before and three after, and how far that is.

    `within` tells whether a value and the next belong together, bool [values - 1]. The fence follows the tail of these
    distances; a value that is near to one side is an edge and no spike.
    """
    nothing = np.zeros(len(values), np.bool_)
    if len(values) < 2 * SIDE + 1:
        return nothing, None
    windows = np.lib.stride_tricks.sliding_window_view(values, SIDE)
    before, after = windows[: -SIDE - 1], windows[SIDE + 1 :]
    middle = values[SIDE : len(values) - SIDE]
    joined = np.lib.stride_tricks.sliding_window_view(within, 2 * SIDE).all(axis=1)
    around = middle - np.median(np.concatenate((before, after), axis=1), axis=1)
    up, down = middle - np.median(before, axis=1), middle - np.median(after, axis=1)
    known = joined & np.isfinite(around)
    limit = _limit(np.abs(around[known]), chance)
    if limit is None:
        return nothing, None
    is_edge = (np.sign(up) != np.sign(down)) | (np.minimum(np.abs(up), np.abs(down)) <= limit / 2)
    found = nothing.copy()
    found[SIDE : len(values) - SIDE] = known & (np.abs(around) > limit) & ~is_edge
    return found, limit


def lasting_jumps(values: Array, within: Mask, *, chance: float) -> list[tuple[int, float]]:
    """Return the first value after each jump that stays, and the height of the jump.

    A jump is a step beyond the fence of all steps, and stays if most of it is there between the medians of the ten
    values before and after.
    """
    steps = np.diff(values)
    known = within & np.isfinite(steps)
    middle = float(np.median(steps[known])) if known.any() else 0.0
    limit = _limit(np.abs(steps[known] - middle), chance)
    if limit is None:
        return []
    found = []
    for at in np.flatnonzero(known & (np.abs(steps - middle) > limit)):
        first, last = int(at) + 1 - _STAYS, int(at) + 1 + _STAYS
        if first < 0 or last > len(values) or not within[first : last - 1].all():
            continue
        height = float(np.median(values[at + 1 : last]) - np.median(values[first : at + 1]))
        if np.sign(height) == np.sign(steps[at]) and abs(height) >= _KEPT * abs(steps[at]):
            found.append((int(at) + 1, height))
    return found


def _limit(distances: Array, chance: float) -> float | None:
    """Return what distances of a healthy column do not exceed, from their own tail."""
    told = [beyond(distances, chance=chance), fence(distances, chance=chance)] if len(distances) else []
    known = [limit for limit in told if limit is not None]
    return _MARGIN * min(known) if known else None
