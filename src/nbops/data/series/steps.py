"""How far apart the rows of a series usually are, and which gaps belong to its calendar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbops.data.columns import Array
from nbops.data.series.lines import FEWEST, Lines

_SLACK = 0.12  # months have 28 to 31 days
_REGULAR = 0.7  # of the steps are usual ones
_CALENDAR_TIMES, _CALENDAR_PHASES = 3, 0.3
_DAY_S, _WEEK_S = 86_400, 7 * 86_400
_HOLIDAYS = 2  # usual steps that a gap of the calendar may be longer
_SECONDS = {"D": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps between the distinct times of one series.

    Attributes
    ----------
    times : array [times]
    usual : float
        The usual step, in ticks.
    gaps : int array
        After which of `times` something is missing that the calendar of the series does not leave out.
    absent : int
        How many times are missing there.
    """

    times: Array
    usual: float
    gaps: Array
    absent: int


def steps_of(lines: Lines, rows: Array) -> Steps | None:
    """Return the steps of one series; None where it is short or has no usual step."""
    times = np.unique(lines.ticks[rows])
    if len(times) < FEWEST:
        return None
    steps = np.diff(times).astype(np.float64)
    usual = float(np.median(steps))
    is_usual = np.abs(steps - usual) <= _SLACK * usual
    if usual <= 0 or np.mean(is_usual) < _REGULAR:
        return None
    wide = np.flatnonzero(steps > 1.5 * usual)
    wide = wide[steps[wide] > _longest_of_calendar(times, steps, wide, usual, lines.unit) + _SLACK * usual]
    return Steps(times, usual, wide, int(np.sum(np.rint(steps[wide] / usual) - 1)))


def _longest_of_calendar(times: Array, steps: Array, wide: Array, usual: float, unit: str) -> float:
    """Return the longest gap that comes again and again at one place of the day or the week: nights, weekends."""
    second = _SECONDS.get(unit)
    if second is None or not len(wide):
        return 0.0
    longest = 0.0
    sizes = np.rint(steps[wide] / usual)
    for size in np.unique(sizes):
        begins = times[wide[sizes == size]].astype(np.float64) * second
        for period in (_DAY_S, _WEEK_S):
            phases = len(np.unique(np.rint((begins % period) / (usual * second))))
            places = period / (usual * second)
            few = max(1.0, _CALENDAR_PHASES * min(len(begins), places))
            if places > 1 and len(begins) >= _CALENDAR_TIMES and phases <= few:
                longest = max(longest, float(size) * usual)
    daily = abs(usual * second - _DAY_S) < 1
    return longest + (_HOLIDAYS * usual if longest and daily else 0.0)
