"""The check ``date-in-the-future``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.rules.values import latest_now


@checks.register("date-in-the-future")
def date_in_the_future(
    sample: Sample, *, max_share: float = 0.0, max_planned_share: float = 0.5, now: str = ""
) -> Iterator[CheckResult]:
    """Dates later than now.

    What it measures
        The share of dates and times that are later than now (`now`, ISO text in UTC; the clock's if empty). A time
        without a zone is later only where it is so everywhere on earth. WARN above `max_share`; a column of which more
        than `max_planned_share` is in the future holds plans, and passes.

    Why it matters
        What has not happened yet cannot have been observed: a typing error, a wrong century, day and month swapped, or
        a placeholder such as 9999-12-31.

    When it is wrong
        In columns of plans: due dates, expiries.

    Fix
        Correct the dates; make placeholders missing.

    References
        Schelter et al., "Automating large-scale data quality verification", VLDB 2018.
    """
    for column in sample.columns:
        if column.offsets is not None or column.values.dtype.kind != "M":
            continue
        there = sample.facts.there(column.name)
        late = column.values > latest_now(column, now)
        late = late if there is None else late & there
        present, count = sample.facts.present(column.name), int(np.count_nonzero(late))
        share = count / present if present else 0.0
        yield judged(
            0.0 if share > max_planned_share else share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {present:,} dates are in the future ({percent(share)})",
            fix="Correct the dates; make placeholders missing.",
            evidence={"future": count},
            rows=late,
        )
