"""The check ``outlier-rows``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.tails import FEWEST_ROWS, MOST_ROWS, fence, middle_of


@checks.register("outlier-rows")
def outlier_rows(sample: Sample, *, max_share: float = 0.0, chance: float = 0.01) -> CheckResult:
    """Rows with a number far outside all others of its column.

    What it measures
        For each column of numbers, how far values lie from the median. The tail is carried on from the quantiles that
        outliers do not move; WARN if more than `max_share` of the rows have a value where fewer than `chance`
        of healthy tables of this size would have any.

    Why it matters
        One typing error or unit moves means, scalers and squared errors more than a thousand good rows.

    When it is wrong
        On tails heavier than a power law, and on columns that mix two sorts of rows. Columns of which three quarters
        are one value are not looked at, nor tables of fewer than 50 rows.

    Fix
        Look at the rows: correct them, take them out with nb.quarantine, or clip or take logarithms if they are real.

    References
        Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3(5),
        1975.
    """
    names = [c.name for c in sample.columns if c.is_number and c.name != sample.frame.label]
    if sample.rows < FEWEST_ROWS or not names:
        return skipped(f"needs at least {FEWEST_ROWS} rows and a column of numbers")
    bad, found = np.zeros(sample.rows, np.bool_), {}
    for name in names:
        values, there = sample.facts.numbers(name).astype(np.float64), sample.facts.there(name)
        is_finite = np.isfinite(values) if there is None else np.isfinite(values) & there
        present = values if is_finite.all() else values[is_finite]
        limit = fence(present, chance=chance / len(names))
        if limit is None:
            continue
        middle = middle_of(present[:: max(1, len(present) // MOST_ROWS)])
        if present.min() >= middle - limit and present.max() <= middle + limit:
            continue
        far = is_finite & (np.abs(values - middle) > limit)
        if far.any():
            found[name] = int(np.count_nonzero(far))
            bad |= far
    count = int(np.count_nonzero(bad))
    where = ", ".join(f"'{name}' ({number:,})" for name, number in list(found.items())[:5])
    return judged(
        count / sample.rows,
        warn=max_share,
        unit="share",
        message=f"{count:,} of {sample.rows:,} rows have a number far outside ({percent(count / sample.rows)})"
        + (f": {where}" if where else ""),
        fix="Look at the rows; correct or take them out, or clip what is real.",
        evidence={"columns": found},
        rows=bad,
    )
