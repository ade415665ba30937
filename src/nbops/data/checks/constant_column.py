"""The check ``constant-column``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column
from nbops.data.leaf import Sample, checks, judged, percent, result, skipped


@checks.register("constant-column")
def constant_column(sample: Sample, *, max_array_share: float = 0.5) -> Iterator[CheckResult]:
    """Columns that hold one value only.

    What it measures
        Whether all rows of a column hold the same value and none is missing: WARN. In an array (pixels,
        embedding dimensions) the share of constant positions counts instead: WARN above `max_array_share`.

    Why it matters
        A constant tells a model nothing. In a named table it is usually a filter, a default or a
        failed join; an array whose cells hardly vary is a batch of blank images.

    When it is wrong
        On a slice by that very column (one country, one day). Positions at the rim of centred images are
        constant by nature, which is why arrays have a share. A column with missing cells is not
        flagged, since missing or not may tell something.

    Fix
        Drop the column, or look at the step that should have filled it.

    References
        Google, "ML Test Score" (Breck et al. 2017), Data 2: all features are beneficial.
    """
    if sample.rows < 2:
        yield skipped("needs at least two rows")
        return
    features = [column for column in sample.columns if column.name != sample.frame.label]
    if not sample.frame.is_array:
        for column in features:
            yield _judge(column, sample)
        return
    names = [position for column in features for position in _constant_positions(column, sample)]
    total = sum(column.values.shape[1] if column.is_tensor else 1 for column in features)
    share = len(names) / total if total else 0.0
    yield judged(
        share,
        warn=max_array_share,
        unit="share",
        message=f"{len(names):,} of {total:,} positions of the array are constant ({percent(share)})",
        fix="Look at a few rows: are they blank? Else drop the positions, or raise max_array_share.",
        evidence={"constant": len(names), "positions": total, "names": names[:50]},
    )


def _is_constant(column: Column, sample: Sample) -> bool:
    stats = sample.profile["columns"][column.name]
    if column.missing_count:
        return False
    if column.is_tensor:
        return bool(np.all(column.values == column.values[:1]))
    if stats.get("infinite"):
        return bool(np.all(column.values == column.values[0]))
    if stats.get("distinct_exact") or column.offsets is not None:
        return bool(stats["distinct"] == 1)
    return bool(stats.get("min") == stats.get("max"))


def _constant_positions(column: Column, sample: Sample) -> list[str]:
    if not column.is_tensor:
        return [column.name] if _is_constant(column, sample) else []
    same = np.all(column.values == column.values[:1], axis=0)  # NaN is not equal to itself
    return [f"{column.name}[{position}]" for position in np.flatnonzero(same)]


def _judge(column: Column, sample: Sample) -> CheckResult:
    if not _is_constant(column, sample):
        return result("pass", column=column.name, limit=2, message="more than one value")
    value = "" if column.is_tensor else f": {str(column.value(0))[:60]}"
    return judged(
        1,
        warn=2,
        below=True,
        column=column.name,
        message=f"all {sample.rows:,} rows hold the same value{value}",
        fix="Drop the column, or look at the step that should fill it.",
    )
