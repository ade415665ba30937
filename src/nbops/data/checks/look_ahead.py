"""The check ``look-ahead``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array
from nbops.data.leaf import Sample, checks, judged, skipped
from nbops.data.series.lines import Lines, lines_or_why, measured_columns, values_of

_FEWEST = 30  # pairs of rows
_MOST = 5  # rows ahead


@checks.register("look-ahead")
def look_ahead(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, min_share: float = 0.999
) -> Iterator[CheckResult]:
    """A feature that holds the label of a later row.

    What it measures
        The correlation between the changes of a feature and those of the label one to five rows later: FAIL at
        `min_share` and more, if neither the label of the same row nor an earlier one comes near it. Changes, because
        slow series correlate with themselves.

    Why it matters
        A shift with the wrong sign, or a join on the next day, gives the model what it has to predict. The score is
        splendid, and the next day there is nothing to look at.

    When it is wrong
        Where the later value is known in advance (a timetable, a price that is announced).

    Fix
        shift(1) takes the row before, shift(-1) the row after: turn the sign.

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    label = sample.label
    if label is None or not label.is_number:
        yield skipped("needs a label that is a number", fix='Pass label="y".')
        return
    target = _changes(lines, values_of(label))
    for column in measured_columns(sample, time, series):
        if column.name == label.name:
            continue
        near = {
            lag: _correlation(lines, _changes(lines, values_of(column)), target, lag)
            for lag in range(-_MOST, _MOST + 1)
        }
        lag = max(near, key=lambda one: near[one])
        others = max(near[one] for one in near if one <= 0)
        is_ahead = lag > 0 and 1 - near[lag] < 0.1 * (1 - others)
        share = near[lag] if is_ahead else 0.0
        yield judged(
            share,
            fail=np.nextafter(min_share, 0),
            column=column.name,
            unit="correlation",
            message=f"it holds the label of {lag} row{'s' if lag > 1 else ''} later (correlation {near[lag]:.5g})"
            if share >= min_share else "it does not run ahead of the label",
            fix="Turn the sign of the shift: shift(1) takes the row before.",
        )  # fmt: skip


def _changes(lines: Lines, values: Array) -> Array:
    """Return by how much each row differs from the one before in its series, [len(order)]; NaN where none is."""
    ordered = values[lines.order]
    with np.errstate(invalid="ignore"):
        steps = np.where(lines.within(), np.diff(ordered), np.nan)
    return np.concatenate(([np.nan], steps)) if len(ordered) else ordered


def _correlation(lines: Lines, feature: Array, label: Array, lag: int) -> float:
    """Return the absolute correlation of a feature with the label `lag` rows later, within each series."""
    size = len(feature) - abs(lag)
    if size < _FEWEST:
        return 0.0
    first, later = (feature[:size], label[lag:]) if lag >= 0 else (feature[-lag:], label[:size])
    known = np.isfinite(first) & np.isfinite(later)
    if lag:
        known &= lines.within(abs(lag))
    if np.count_nonzero(known) < _FEWEST:
        return 0.0
    a, b = first[known] - first[known].mean(), later[known] - later[known].mean()
    with np.errstate(over="ignore", invalid="ignore"):
        size_of = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
        return float(abs(np.sum(a * b)) / size_of) if size_of > 0 and np.isfinite(size_of) else 0.0
