"""The check ``unit-change``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.bins import counted
from nbops.data.leaf import Sample, checks, judged, result, skipped

# what a value of the baseline is multiplied with to give one of the new data
FACTORS = {
    10.0: "tens", 100.0: "hundreds (euros to cents, m to cm, a share to percent)",
    1000.0: "thousands (kg to g, s to ms)",
    1e6: "millions (s to µs)", 60.0: "sixty (hours to minutes)", 3600.0: "3,600 (hours to seconds)",
    86400.0: "86,400 (days to seconds)", 24.0: "24 (days to hours)", 2.54: "2.54 (inches to cm)",
    12.0: "12 (feet to inches)",
    1 / 0.3048: "3.281 (m to feet)", 1.609344: "1.609 (miles to km)", 2.2046226: "2.205 (kg to pounds)",
    1024.0: "1,024 (KiB to bytes)", math.degrees(1): "57.3 (radians to degrees)",
}  # fmt: skip
_POINTS = np.linspace(0.05, 0.95, 19)


@checks.register("unit-change")
def unit_change(
    sample: Sample, *, min_distance: float = 0.3, max_rest: float = 0.1, min_rows: int = 30
) -> Iterator[CheckResult]:
    """A column in another unit than the baseline's.

    What it measures
        The distance (Kolmogorov and Smirnov's: the largest difference of cumulated shares) between the values and the
        baseline's. Where it is above `min_distance`, values are divided by the factor between two common units (10,
        100, 1000, hours and minutes, inches and cm, m and feet, kg and pounds …) or turned from Fahrenheit to Celsius,
        either way. FAIL if one of them brings the distance below `max_rest` and a quarter of what it was.

    Why it matters
        A changed unit passes every check of types and of missing values, and makes each prediction wrong.

    When it is wrong
        Where a quantity really became ten times as large, with the same shape.

    Fix
        Convert the column back; say the unit in its name.

    References
        Breck, Polyzotis, Roy, Whang and Zinkevich, "Data validation for machine learning", MLSys 2019.
    """
    if sample.baseline is None:
        yield skipped("no baseline was given", fix="Pass baseline=: a dataset, its name, or a data frame.")
        return
    known: Mapping[str, Any] = sample.baseline["columns"]
    for column in sample.columns:
        old = known.get(column.name, {})
        edges, counts = old.get("edges", ()), old.get("counts", ())
        if not column.is_number or not len(edges) or sum(counts) < min_rows or edges[0] == edges[-1]:
            continue
        values, there = column.values.astype(np.float64), np.isfinite(column.values)
        values = values[there if column.missing is None else there & ~column.missing]
        if len(values) < min_rows:
            continue
        found = _change(values, edges, counts, min_distance, max_rest)
        if found is None:
            yield result("pass", column=column.name, message="no change of unit")
            continue
        said, before, after = found
        yield judged(
            before, fail=min_distance, column=column.name,
            message=f"values look like the baseline's in another unit: {said} "
            f"(distance {before:.2g}, converted {after:.2g})",
            fix="Convert the column back, and say the unit in its name.",
            evidence={"distance": before, "converted": after},
        )  # fmt: skip


def _change(
    values: Any, edges: Sequence[float], counts: Sequence[int], least: float, rest: float
) -> tuple[str, float, float] | None:
    """Return what turns the baseline's unit into the new one, and the distances before and after; None for nothing."""
    before = _distance(values, edges, counts)
    if before <= least:
        return None
    ordered = np.sort(values)
    sample = ordered[:: max(1, len(ordered) // 4096)]  # quantiles are enough to compare conversions
    tried = [(_distance(sample / factor, edges, counts), f"times {said}") for factor, said in FACTORS.items()]
    tried += [(_distance(sample * factor, edges, counts), f"divided by {said}") for factor, said in FACTORS.items()]
    tried += [
        (_distance((sample - 32) / 1.8, edges, counts), "°C to °F"),
        (_distance(sample * 1.8 + 32, edges, counts), "°F to °C"),
        (_distance(sample - 273.15, edges, counts), "°C to kelvin"),
        (_distance(sample + 273.15, edges, counts), "kelvin to °C"),
        (_distance(-sample, edges, counts), "the sign"),
    ]  # fmt: skip
    after, said = min(tried)
    return (said, before, after) if after < min(rest + 1 / math.sqrt(len(sample)), before / 4) else None


def _distance(values: Any, edges: Sequence[float], counts: Sequence[int]) -> float:
    """Return the largest difference of cumulated shares at the edges."""
    now = np.cumsum(counted(values, edges)[:-1]) / len(values)
    return float(np.abs(now - np.cumsum(counts) / sum(counts)).max())
