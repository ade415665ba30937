"""The check ``time-order``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Mask
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.series.lines import Lines, lines_or_why
from nbops.data.series.steps import steps_of

_BACK = (10, 11)  # months in which clocks are put back


@checks.register("time-order")
def time_order(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, max_share: float = 0.0
) -> Iterator[CheckResult]:
    """Rows of a series without a time, with the time of another row, or out of order.

    What it measures
        The share of rows that have no time; that come before an earlier row of their series in the table, unless all
        of it runs backwards; and, in series with a usual step, that repeat the time of another row. WARN above
        `max_share`.

    Why it matters
        A lag, a difference or a rolling mean takes the row before. Where that is another moment, or the same one
        twice, each feature built on it is wrong, without an error.

    When it is wrong
        In tables that are shuffled on purpose, and sorted before use. Logs of events may have two at one time, and are
        not judged by that.

    Fix
        df = df.sort_values([series, time]).drop_duplicates([series, time]); local time becomes UTC first.

    References
        Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, 2021, section 2.1: one row for
        each key and time.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    time = time or ""
    keys = f"[{', '.join(map(repr, [*([series] if isinstance(series, str) else series or ()), time]))}]"
    yield _judged(sample, time, lines.untimed, "have no time", max_share, "Fill in when they happened, or drop them.")
    yield _judged(sample, time, _early(lines), "come after a later row of their series", max_share,
                  f"Sort the table: df = df.sort_values({keys}).")  # fmt: skip
    again = _again(lines)
    hour = " (all in the hour that clocks are put back)" if _is_clock(lines, again) else ""
    fix = "Keep times in UTC: local times repeat an hour." if hour else f"df = df.drop_duplicates({keys})"
    yield _judged(sample, time, again, f"repeat the time of another row of their series{hour}", max_share, fix)


def _judged(sample: Sample, column: str, rows: Mask, what: str, max_share: float, fix: str) -> CheckResult:
    count = int(np.count_nonzero(rows))
    said = f"{count:,} of {sample.rows:,} rows {what} ({percent(count / sample.rows)})"
    return judged(count / sample.rows, warn=max_share, column=column, unit="share", message=said, fix=fix, rows=rows)


def _early(lines: Lines) -> Mask:
    """Return which rows of the table come after a later one of their series."""
    found = np.zeros(len(lines.ticks), np.bool_)
    table = np.lexsort((np.arange(len(lines.ticks)), lines.codes))
    table = table[~lines.untimed[table]]  # series by series, in the order of the table
    for start, stop in zip(lines.starts[:-1], lines.starts[1:], strict=True):
        rows = table[start:stop]
        ticks = lines.ticks[rows]
        if len(ticks) > 1 and not (np.diff(ticks) <= 0).all():
            found[rows[1:]] = ticks[1:] < np.maximum.accumulate(ticks)[:-1]
    return found


def _again(lines: Lines) -> Mask:
    found = np.zeros(len(lines.ticks), np.bool_)
    for _, rows in lines.each():
        if steps_of(lines, rows) is not None:
            found[rows[1:]] = lines.ticks[rows][1:] == lines.ticks[rows][:-1]
    return found


def _is_clock(lines: Lines, again: Mask) -> bool:
    """Return whether all repeated times lie in the small hours of a Sunday in autumn."""
    if not lines.unit or not again.any():
        return False
    moments = lines.ticks[again].astype(f"M8[{lines.unit}]")
    days = moments.astype("M8[D]").astype(np.int64)
    months = moments.astype("M8[M]").astype(np.int64) % 12 + 1
    hours = moments.astype("M8[h]").astype(np.int64) % 24
    return bool(((days + 4) % 7 == 0).all() and np.isin(months, _BACK).all() and (hours <= 3).all())
