"""The check ``row-count-change``."""

from __future__ import annotations

from nbops.core.records import CheckResult, Verdict
from nbops.data.leaf import Sample, checks, result, skipped


@checks.register("row-count-change")
def row_count_change(sample: Sample, *, max_ratio: float = 10.0, fail_ratio: float = 1000.0) -> CheckResult:
    """Far more or far fewer rows than the baseline.

    What it measures
        The larger number of rows divided by the smaller. WARN above `max_ratio`, FAIL above `fail_ratio` and for no
        rows.

    Why it matters
        A join that lost or multiplied rows, or a file that was cut, changes the count before it changes anything else.

    When it is wrong
        Where a small batch is compared with the whole history: raise `max_ratio`, or use the rule ``row-count``.

    Fix
        Look at the query, the join or the file.

    References
        Google, TensorFlow Data Validation, anomalies COMPARATOR_LOW_NUM_EXAMPLES and COMPARATOR_HIGH_NUM_EXAMPLES.
    """
    if sample.baseline is None:
        return skipped("no baseline was given", fix="Pass baseline=: a dataset, its name, or a data frame.")
    before, now = int(sample.baseline["rows"]), sample.rows
    if not before:
        return skipped("the baseline has no rows")
    ratio = max(before, now) / min(before, now) if now else float("inf")
    verdict = Verdict.FAIL if ratio > fail_ratio else Verdict.WARN if ratio > max_ratio else Verdict.PASS
    said = f"{now:,} rows, the baseline has {before:,}"
    if verdict is Verdict.PASS:
        return result(verdict, value=ratio, limit=max_ratio, message=said)
    limit = fail_ratio if verdict is Verdict.FAIL else max_ratio
    return result(verdict, value=ratio if now else None, limit=limit, message=said,
                  fix="Look at the query, the join or the file, or raise max_ratio.",
                  evidence={"rows": now, "baseline": before})  # fmt: skip
