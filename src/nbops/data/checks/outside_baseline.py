"""The check ``outside-baseline``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column, Mask, hashes
from nbops.data.leaf import Sample, checks, judged, percent, result, skipped
from nbops.data.profiling import MAX_CATEGORIES, value_counts
from nbops.data.rules.facts import among, hashes_of


@checks.register("outside-baseline")
def outside_baseline(sample: Sample, *, widen: float = 0.1, fail_share: float = 0.01) -> Iterator[CheckResult]:
    """Columns, types and values that the baseline did not have.

    What it measures
        Against a stored profile: columns that are gone (FAIL) or new (WARN); a changed type (FAIL; WARN if only
        its width changed, as int32 for int64); the share of numbers outside the baseline's range, and of texts
        that are none of its categories (up to 200). Any such value is a WARN, a share above `fail_share`
        a FAIL. The range is the baseline's minimum to maximum, widened on each side by `widen` of its span;
        where the baseline was constant, by `widen` of its value; and not below zero where nothing in the
        baseline was negative. Infinite values are outside. Missing cells are the matter of `missing-values`:
        whole numbers that became floats only because some are missing keep their type.

    Why it matters
        A model extrapolates outside the range it was trained on, and one-hot encoders fail on or ignore unseen
        categories. Units changed by mistake (cents for euros) and swapped columns show here.

    When it is wrong
        On quantities that grow by nature (ids, counters, prices over years), and on heavy tails when the
        baseline is small. Times are not compared. A drift within the range is not seen: ranges are not
        distributions.

    Fix
        Correct the rows, or take a new baseline if the world has changed; raise `widen` for heavy tails.

    References
        Breck, Polyzotis, Roy, Whang and Zinkevich, "Data validation for machine learning", MLSys 2019.
    """
    if sample.baseline is None:
        yield skipped("no baseline was given", fix="Pass baseline=: a dataset, its name, or a data frame.")
        return
    known: Mapping[str, Any] = sample.baseline["columns"]
    names = set(sample.frame.names)
    for name in known:
        if name == sample.baseline.get("label") and name not in names:
            yield skipped("the baseline's label is not in this data", column=name)  # as when serving
        elif name not in names:
            yield result("fail", column=name, message="the column is missing",
                         fix="Look at the query or file: the baseline has this column.")  # fmt: skip
    for column in sample.columns:
        if column.name in known:
            yield _compare(column, known[column.name], sample.profile["columns"][column.name], widen, fail_share)
        elif column.name != sample.frame.label:
            yield result("warn", column=column.name, message=f"the baseline has no such column ({column.dtype})",
                         fix="Drop the column, or take a new baseline.")  # fmt: skip


def _compare(
    column: Column, old: Mapping[str, Any], new: Mapping[str, Any], widen: float, fail_share: float
) -> CheckResult:
    if column.dtype != old["dtype"] and "null" not in (column.dtype, old["dtype"]) and not _widened(column, old):
        same = _family(column.dtype) == _family(old["dtype"])
        return result(
            "warn" if same else "fail",
            column=column.name,
            message=f"type is {column.dtype}, was {old['dtype']}",
            fix=f"Convert the column to {old['dtype']}, or take a new baseline.",
            evidence={"dtype": column.dtype, "was": old["dtype"]},
        )
    if (column.is_number or column.is_tensor) and old.get("min") is not None:
        return _range(column, old, new, widen, fail_share)
    if column.is_text and "values" in old:
        return _categories(column, old["values"], fail_share)
    return result("pass", column=column.name, message=f"type as before: {column.dtype}")


def _widened(column: Column, old: Mapping[str, Any]) -> bool:
    """Tell whether whole numbers became floats only because some are missing, as in pandas."""
    if not column.missing_count or not column.is_float or column.is_tensor or _family(old["dtype"]) != "int":
        return False
    present = column.values[~column.missing] if column.missing is not None else column.values
    return bool((present == np.trunc(present)).all())


def _family(dtype: str) -> str:
    """Return the type without its width, so that int32 and int64 are one family, and float32 and float64."""
    return dtype.removeprefix("u").rstrip("0123456789") if dtype[-1:].isdigit() else dtype


def allowed_range(old: Mapping[str, Any], *, widen: float) -> tuple[float, float]:
    """Return the limits that a baseline's profile allows; the rule is in the docstring of the check."""
    low, high = old["min"], old["max"]
    margin = widen * ((high - low) or abs(high))
    below = low - margin
    return (max(below, 0) if low >= 0 else below), high + margin


def _range(
    column: Column, old: Mapping[str, Any], new: Mapping[str, Any], widen: float, fail_share: float
) -> CheckResult:
    low, high = map(np.float64, allowed_range(old, widen=widen))  # NumPy floats, so that float16 is compared in float64
    values = column.values if column.missing is None else column.values[~column.missing]
    outside = (values < low) | (values > high)
    count = int(np.count_nonzero(outside))
    share = count / values.size if values.size else 0.0
    rows = np.flatnonzero(_outside_rows(column, low, high))[:5].tolist() if count else []
    seen = "" if new["min"] is None else f", values go from {new['min']:.6g} to {new['max']:.6g}"
    return judged(
        share,
        warn=0.0,
        fail=fail_share,
        column=column.name,
        unit="share",
        message=f"{count:,} of {values.size:,} values outside {low:.6g} to {high:.6g} ({percent(share)}){seen}",
        fix="Correct the rows, take a new baseline, or raise widen.",
        evidence={"outside": count, "low": float(low), "high": float(high), "rows": rows},
        rows=partial(_outside_rows, column, low, high),
    )


def _outside_rows(column: Column, low: np.float64, high: np.float64) -> Any:
    outside = (column.values < low) | (column.values > high)
    if column.missing is not None:
        outside &= ~column.missing
    return outside.any(axis=1) if column.is_tensor else outside


def _unseen_rows(column: Column, known: Mapping[str, int]) -> Mask:
    unseen = ~among(hashes(column), hashes_of(column, list(known)))
    return unseen if column.missing is None else unseen & ~column.missing


def _categories(column: Column, known: Mapping[str, int], fail_share: float) -> CheckResult:
    present = column.rows - column.missing_count
    counts = value_counts(column, limit=10 * MAX_CATEGORIES)
    if counts is None:
        return result(
            "fail",
            column=column.name,
            message=f"more than {10 * MAX_CATEGORIES:,} different texts, the baseline had {len(known):,} categories",
            fix="Look at what fills the column, or take a new baseline.",
        )
    unseen = {value: count for value, count in counts.items() if value not in known}
    count = sum(unseen.values())
    share = count / present if present else 0.0
    names = ", ".join(repr(value[:60]) for value in list(unseen)[:5])
    return judged(
        share,
        warn=0.0,
        fail=fail_share,
        column=column.name,
        unit="share",
        message=f"{count:,} of {present:,} texts ({percent(share)}) are none of the {len(known):,} known categories"
        + (f": {names}" if names else ""),
        fix="Map or correct the values, or take a new baseline.",
        evidence={"unseen": dict(list(unseen.items())[:50])},
        rows=partial(_unseen_rows, column, known),
    )
