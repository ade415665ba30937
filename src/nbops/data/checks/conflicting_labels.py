"""The check ``conflicting-labels``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import hashes, row_hashes
from nbops.data.leaf import Sample, checks, judged, percent, skipped


@checks.register("conflicting-labels")
def conflicting_labels(sample: Sample, *, max_share: float = 0.0, fail_share: float = 0.2) -> CheckResult:
    """Rows with equal features and different labels.

    What it measures
        The share of rows whose features, all of them, are those of another row with another label. WARN above
        `max_share`, FAIL above `fail_share`. Fractions as labels are a regression target and are skipped.

    Why it matters
        No model can get them right: they bound the accuracy, and most are errors of labelling or of a join.

    When it is wrong
        In narrow tables of coarse values, where equal rows are different people.

    Fix
        Look at the rows: correct the label, or add the feature that tells them apart.

    References
        Northcutt, Athalye and Mueller, "Pervasive label errors in test sets destabilize machine learning benchmarks",
        NeurIPS 2021.
    """
    label = sample.label
    features = [column for column in sample.columns if column.name != sample.frame.label]
    if label is None or not features or sample.rows < 2:
        return skipped("needs a label and features", fix="Pass label=: a column's name, or the labels.")
    if label.is_float and not label.is_tensor:
        present = label.values if label.missing is None else label.values[~label.missing]
        if bool((present != np.round(present)).any()):
            return skipped("the label is a fraction: a regression target")
    _, group, sizes = np.unique(row_hashes(features, sample.rows), return_inverse=True, return_counts=True)
    codes = np.unique(hashes(label), return_inverse=True)[1].reshape(-1)
    group = group.reshape(-1)
    least, most = np.full(len(sizes), len(codes)), np.full(len(sizes), -1)
    np.minimum.at(least, group, codes)
    np.maximum.at(most, group, codes)
    bad = (least < most)[group]
    count = int(np.count_nonzero(bad))
    return judged(
        count / sample.rows,
        warn=max_share,
        fail=fail_share,
        column=label.name,
        unit="share",
        message=f"{count:,} of {sample.rows:,} rows have the features of a row with another label "
        f"({percent(count / sample.rows)})",
        fix="Look at the rows: correct the labels, or add the feature that tells them apart.",
        evidence={"groups": int(np.count_nonzero(least < most))},
        rows=bad,
    )
