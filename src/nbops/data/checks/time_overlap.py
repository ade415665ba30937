"""The check ``time-overlap``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.splits.moments import read_times


@checks.register("time-overlap")
def time_overlap(sample: Sample, *, time: str | Sequence[str] | None = None, max_share: float = 0.0) -> CheckResult:
    """Test rows that are not later than all of train.

    What it measures
        The share of test rows that begin at or before the newest moment in train: FAIL above `max_share`. `time`
        names the column, or the columns of begin and end; with an end, train's newest end counts. Skipped without
        `time`.

    Why it matters
        What is to be predicted lies in the future. Where train holds rows of the same days, or later ones, a model
        learns prices, weather and habits of those very days, and the score promises what tomorrow cannot keep.

    When it is wrong
        Where time does not matter to the question (photographs of leaves), or where the model fills in gaps of the
        past.

    Fix
        Split with nb.split(data, time="date"), with a gap where labels take time to become known.

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023: L3.1.
        López de Prado, Advances in Financial Machine Learning, 2018, chapter 7.
    """
    train = sample.reference
    if train is None:
        return skipped("no train data was given", fix="Use nb.leaks(train, test).")
    if not time:
        named = [column.name for column in sample.columns if column.dtype.startswith("date")]
        hint = f'Pass time="{named[0]}".' if named else "Pass time=: the column of when a row happened."
        return skipped("no time was given", fix=hint)
    names = [time] if isinstance(time, str) else list(time)
    later, earlier = (read_times([frame.column(name) for name in names]) for frame in (sample.frame, train))
    if not len(later.start) or not len(earlier.end):
        return skipped("a side has no rows")
    start, newest = _same(later.start, later.unit), _same(earlier.end.max(), earlier.unit)
    early = start <= newest
    share = float(np.mean(early))
    is_reversed = bool(_same(later.start.max(), later.unit) < _same(earlier.start.min(), earlier.unit))
    said = "all of test lies before train" if is_reversed else (
        f"{np.count_nonzero(early):,} of {sample.rows:,} test rows are not later than train ({percent(share)}), "
        f"which ends at {earlier.shown(earlier.end.max())}"
    )  # fmt: skip
    return judged(
        share,
        fail=max_share,
        column=names[0],
        unit="share",
        message=said,
        fix=f'Split with nb.split(data, time="{names[0]}").',
        evidence={"rows": np.flatnonzero(early)[:20].tolist()},
    )


def _same(ticks: Any, unit: str) -> Any:
    """Return ticks as moments, which compare in whatever unit; numbers as they are."""
    return np.asarray(ticks).astype(f"M8[{unit}]") if unit else ticks
