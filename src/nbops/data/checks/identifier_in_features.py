"""The check ``identifier-in-features``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column
from nbops.data.leaf import Sample, checks, result, skipped


@checks.register("identifier-in-features")
def identifier_in_features(sample: Sample, *, min_rows: int = 50) -> Iterator[CheckResult]:
    """A column that names rows instead of describing them.

    What it measures
        Whole numbers that are all different, none missing, within a range at most twice as wide as there are rows (a
        counter); and short texts without spaces that are all different. WARN.

    Why it matters
        A model learns nothing from a name that it will not meet again; or it learns the order in which rows were
        collected, which in sorted data is the label.

    When it is wrong
        On a ranking, and on a time step that is meant as a feature.

    Fix
        Drop the column from the features; keep it as the key: nb.snapshot(df, name, key=…).

    References
        Kaufman, Rosset and Perlich, "Leakage in data mining: formulation, detection, and avoidance", KDD 2011.
    """
    if sample.rows < min_rows or sample.frame.is_array:
        yield skipped(f"needs a table of named columns with {min_rows} rows")
        return
    for column in sample.columns:
        if column.name == sample.frame.label:
            continue
        if (kind := _identifier(sample, column)) and len(sample.facts.distinct(column.name)[0]) == sample.rows:
            yield result("warn", column=column.name, value=float(sample.rows),
                         message=f"all {sample.rows:,} values differ: {kind}",
                         fix="Drop it from the features; keep it as the key of the snapshot.")  # fmt: skip
        else:
            yield result("pass", column=column.name, message="no identifier")


def _identifier(sample: Sample, column: Column) -> str:
    """Return what sort of identifier the column would be if all values differ; "" for none."""
    if column.missing_count or column.is_tensor:
        return ""
    if column.offsets is None and column.values.dtype.kind in "iu":
        low, high = sample.facts.extremes(column.name, column.values)
        return "a counter" if sample.rows <= int(high) - int(low) + 1 <= 2 * sample.rows else ""
    if column.is_text and column.offsets is not None:
        lengths = sample.facts.lengths(column.name)
        has_space = bool(np.isin(column.values, (ord(" "), ord("\n"))).any())
        return "names or codes" if not has_space and int(lengths.max()) <= 64 else ""
    return ""
