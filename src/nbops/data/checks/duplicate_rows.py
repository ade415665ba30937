"""The check ``duplicate-rows``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import row_hashes
from nbops.data.leaf import Sample, checks, judged, percent, skipped


@checks.register("duplicate-rows")
def duplicate_rows(sample: Sample, *, max_share: float = 0.01, fail_share: float = 0.5) -> CheckResult:
    """Rows that repeat an earlier row in every column.

    What it measures
        The share of rows that equal an earlier one in all columns, the label among them (missing equals
        missing, 0.0 equals -0.0). Rows are compared by 64-bit hashes: the chance of one false
        duplicate is 3e-8 at a million rows. WARN above `max_share`, FAIL above `fail_share`.

    Why it matters
        A repeated row counts twice in training, and when its twin falls into the test set the score is
        too good. A join that multiplied rows shows here first.

    When it is wrong
        In narrow tables of coarse values (age and sex), equal rows are different people: give the check a
        table with its key, or raise `max_share`.

    Fix
        Drop the duplicates before splitting, or look at the join that made them.

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023: L1.4.
    """
    if sample.rows < 2 or not sample.columns:
        return skipped("needs at least two rows")
    codes = row_hashes(list(sample.columns), sample.rows)
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    repeated = sample.rows - len(first)
    share = repeated / sample.rows
    groups = np.sort(first[counts > 1])[:5]
    examples = [np.flatnonzero(codes == codes[row])[:5].tolist() for row in groups] if repeated else []
    is_repeated = np.ones(sample.rows, np.bool_)
    is_repeated[first] = False
    return judged(
        share,
        warn=max_share,
        fail=fail_share,
        unit="share",
        message=f"{repeated:,} of {sample.rows:,} rows repeat an earlier row ({percent(share)})",
        fix="Drop the duplicates before splitting, or raise max_share.",
        evidence={"repeated": repeated, "rows": sample.rows, "examples": examples},
        rows=is_repeated,
    )
