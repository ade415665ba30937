"""The check ``series-ends``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.series.lines import lines_or_why, listed

_FEWEST = 5  # series
_TOGETHER = 0.8  # of the series end together
_LATE = 0.01  # of the whole time


@checks.register("series-ends")
def series_ends(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, max_share: float = 0.0,
    early: float = 0.1,
) -> CheckResult:  # fmt: skip
    """Series that end long before the others.

    What it measures
        Where at least five series are there and 80 % of them end within 1 % of the whole time of one another: those
        that end earlier by more than `early` of the whole time. WARN above `max_share` of the series.

    Why it matters
        A station that stopped to report is missing from each later average, which then moves with nobody moving.

    When it is wrong
        Where series end for good (products that are sold no more).

    Fix
        Ask for the rest of the series, or leave them out of what is compared over time.

    References
        Baltagi, "Econometric Analysis of Panel Data", 2005, chapter 9: unbalanced panels.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        return lines
    if len(lines) < _FEWEST:
        return skipped("fewer than five series" if series else "one series: name the column that tells series apart")
    names, last = zip(*((name, lines.ticks[rows[-1]]) for name, rows in lines.each() if len(rows)), strict=True)
    ends = np.array(last, np.float64)
    whole = float(lines.ticks[lines.order].max() - lines.ticks[lines.order].min())
    common = float(np.median(ends))
    if whole <= 0 or np.mean(np.abs(ends - common) <= _LATE * whole) < _TOGETHER:
        return skipped("the series do not end together")
    ended = [name for name, end in zip(names, ends, strict=True) if end < common - early * whole]
    share = len(ended) / len(names)
    return judged(
        share,
        warn=max_share,
        column=time or "",
        unit="share",
        message=f"{len(ended):,} of {len(names):,} series end early ({percent(share)})"
        f"{': ' if ended else ''}{listed(ended)}",
        fix="Ask for the rest of those series, or leave them out of what is compared over time.",
        evidence={"series": ended[:20]},
    )
