"""The check ``duplicates-across``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.splits.identity import found_in, identities
from nbops.data.splits.proving import spread_of


@checks.register("duplicates-across")
def duplicates_across(sample: Sample, *, max_share: float = 0.0, fail_share: float = 0.01) -> CheckResult:
    """Test rows that are in train too.

    What it measures
        The share of test rows that equal a train row in every column but the label (missing equals missing, 0.0
        equals -0.0, 1 equals 1.0). WARN above `max_share`, FAIL above `fail_share`.

    Why it matters
        A model may know these rows by heart; the score then says how well it remembers. Rows that were repeated before
        the split, and tables joined twice, end here.

    When it is wrong
        In narrow tables of coarse values (age and sex), equal rows are different people: raise both limits, or
        pass the tables with their key.

    Fix
        Split again with nb.split(data), which keeps equal rows together, or drop the rows from test.

    References
        Kapoor and Narayanan, "Leakage and the reproducibility crisis in ML-based science", 2023: L1.4.
        Barz and Denzler, "Do we train on test data?", 2020: 3.3 % of CIFAR-10's test images are in train.
    """
    train = sample.reference
    if train is None:
        return skipped("no train data was given", fix="Use nb.leaks(train, test).")
    names = sorted(name for name in sample.frame.names if name in train.names and name != sample.frame.label)
    if not names or not sample.rows:
        return skipped("train and test share no column" if sample.rows else "test has no rows")
    mine, others = (spread_of(identities([frame.column(name) for name in names], frame.rows))
                    for frame in (sample.frame, train))  # fmt: skip
    there = found_in(mine, others)
    count = int(np.count_nonzero(there))
    return judged(
        count / sample.rows,
        warn=max_share,
        fail=fail_share,
        unit="share",
        message=f"{count:,} of {sample.rows:,} test rows are in train too ({percent(count / sample.rows)})",
        fix="Split with nb.split(data), which keeps equal rows together, or drop them from test.",
        evidence={"repeated": count, "rows": np.flatnonzero(there)[:20].tolist()},
    )
