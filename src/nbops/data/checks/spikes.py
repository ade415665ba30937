"""The check ``spikes``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.series.jumps import far_from_both_sides
from nbops.data.series.lines import lines_or_why, measured_columns, values_of


@checks.register("spikes")
def spikes(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, max_share: float = 0.0,
    chance: float = 0.01,
) -> Iterator[CheckResult]:  # fmt: skip
    """Single values far from what came before and after.

    What it measures
        How far a value lies from the median of the three before and the three after it, against the tail of these
        distances in the column, as `outlier-rows` does: fewer than `chance` of healthy columns have any. A value that
        is near to one of the sides is an edge and does not count. WARN above `max_share` of the rows.

    Why it matters
        A value of 20 among temperatures of 5 is no outlier of a year, but one of its hour: transmission errors and
        swapped digits hide within the range of the whole.

    When it is wrong
        Where single peaks are the signal: sales on one day of the year, alarms.

    Fix
        Set the rows to missing, or take a median over a few rows.

    References
        Ni et al., "Sensor network data fault types", ACM Transactions on Sensor Networks 5(3), 2009: spikes.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    for column in measured_columns(sample, time, series):
        ordered = values_of(column)[lines.order]
        found, limit = far_from_both_sides(ordered, lines.within(), chance=chance)
        if limit is None:
            continue
        rows = np.zeros(sample.rows, np.bool_)
        rows[lines.order[found]] = True
        count, share = int(np.count_nonzero(found)), float(np.count_nonzero(found) / sample.rows)
        at = np.flatnonzero(found)[:3]
        shown = ", ".join(f"{ordered[i]:.6g} at {lines.moment(lines.ticks[lines.order[i]])}" for i in at)
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {sample.rows:,} values stand alone ({percent(share)}), "
            f"more than {limit:.3g} from those around{': ' if shown else ''}{shown}",
            fix="Set those rows to missing, or smooth with a median over a few rows.",
            rows=rows,
        )
