"""The check ``label-imbalance``."""

from __future__ import annotations

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, result, skipped
from nbops.data.profiling import value_counts


@checks.register("label-imbalance")
def label_imbalance(
    sample: Sample, *, min_ratio: float = 0.1, fail_ratio: float = 0.01, max_classes: int = 200
) -> CheckResult:
    """Classes of very different size.

    What it measures
        The rows of the smallest class divided by those of the largest. WARN below `min_ratio`, FAIL below
        `fail_ratio` and for a single class. Labels that are fractions, or have more than `max_classes`
        values, are taken for a regression target and skipped.

    Why it matters
        A model that always answers the largest class has a good accuracy and no use; rare classes are too few
        in a random test split to be measured.

    When it is wrong
        Where classes are rare by nature (fraud, faults): then it tells you to measure recall or
        average precision instead of accuracy, not to change the data.

    Fix
        Split with stratification, measure per class, weight the loss or sample the rare class; or lower `min_ratio`.

    References
        He and Garcia, "Learning from imbalanced data", IEEE TKDE 21(9), 2009.
    """
    label = sample.label
    if label is None:
        return skipped("no label was given", fix="Pass label=: a column's name, or the labels.")
    if label.is_tensor or not (label.is_text or label.is_number or label.dtype == "bool"):
        return skipped(f"labels of type {label.dtype} are no classes")
    present = label.values if label.missing is None else label.values[~label.missing]
    if label.is_float and bool((present != present.round()).any()):
        return skipped("the label is a fraction: a regression target")
    counts = value_counts(label, limit=max_classes)
    if counts is None:
        return skipped(f"the label has more than {max_classes:,} values: no classes", fix="Raise max_classes.")
    if not counts:
        return skipped("all labels are missing")
    (largest, most), (smallest, fewest) = next(iter(counts.items())), list(counts.items())[-1]
    evidence = {"classes": len(counts), "counts": dict(list(counts.items())[:50])}
    if len(counts) == 1:
        return result("fail", column=label.name, value=0.0, limit=fail_ratio, evidence=evidence,
                      message=f"all {most:,} rows have the label {largest}",
                      fix="Look at the filter or join that lost the other classes.")  # fmt: skip
    return judged(
        fewest / most,
        warn=min_ratio,
        fail=fail_ratio,
        below=True,
        column=label.name,
        message=f"{len(counts)} classes, from {fewest:,} rows ({smallest}) to {most:,} ({largest})",
        fix="Stratify the split, measure per class, weight the loss, or lower min_ratio.",
        evidence=evidence,
    )
