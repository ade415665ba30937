"""The check ``time-gaps``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.series.lines import Lines, lines_or_why, listed
from nbops.data.series.steps import Steps, steps_of


@checks.register("time-gaps")
def time_gaps(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, max_share: float = 0.001
) -> Iterator[CheckResult]:
    """Times that are missing from a series that otherwise has a steady step.

    What it measures
        The usual step of each series is the median; a series counts if 70 % of its steps are within 12 % of it (months
        differ by that). Missing are the times that a longer step leaves out, but for gaps of the calendar, which come
        again at one hour of the day or one day of the week (nights, weekends; holidays may add two days). WARN if more
        than `max_share` of the times that should be there are missing.

    Why it matters
        A lag of seven rows is a week only while no day is missing; resampling fills what is not there with zeros.

    When it is wrong
        A calendar that comes less often than three times in the data looks like gaps.

    Fix
        df.set_index(time).asfreq(step), and decide how to fill; or add how long ago the last row was as a feature.

    References
        Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 2021, section 13.9: missing
        values.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    found = {name: steps for name, rows in lines.each() if (steps := steps_of(lines, rows)) is not None}
    if not found:
        yield skipped("no series has a usual step", column=time or "")
        return
    yield _judged(lines, found, time or "", max_share)


def _judged(lines: Lines, found: dict[str, Steps], column: str, max_share: float) -> CheckResult:
    absent = sum(steps.absent for steps in found.values())
    due = absent + sum(len(steps.times) for steps in found.values())
    gappy = {name: steps for name, steps in found.items() if len(steps.gaps)}
    said = ""
    if gappy:
        name, steps = max(gappy.items(), key=lambda item: float(_widths(item[1]).max()))
        at = int(steps.gaps[_widths(steps).argmax()])
        whose = f" of {name}" if name else ""
        said = (
            f"; the longest gap{whose} is from {lines.moment(steps.times[at])} to {lines.moment(steps.times[at + 1])}"
        )
        said += f"; in {listed(sorted(gappy))}" if name and len(gappy) > 1 else ""
    return judged(
        absent / due,
        warn=max_share,
        column=column,
        unit="share",
        message=f"{absent:,} of {due:,} times are missing ({percent(absent / due)}){said}",
        fix="Bring each series to its step (asfreq) and decide how to fill, or count rows by time and not by number.",
        evidence={"gaps": sum(len(steps.gaps) for steps in found.values()), "series": len(gappy)},
    )


def _widths(steps: Steps) -> Array:
    return np.asarray(steps.times[steps.gaps + 1] - steps.times[steps.gaps])
