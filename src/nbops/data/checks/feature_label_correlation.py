"""The check ``feature-label-correlation``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nbops.core.records import CheckResult
from nbops.data.columns import Array, Column
from nbops.data.leaf import Sample, checks, judged, skipped

_BINS = (8, 200)  # at least and at most; one for each 20 rows between
_MOST_CODES = 200
_SEED = 0


@checks.register("feature-label-correlation")
def feature_label_correlation(
    sample: Sample, *, max_power: float = 0.95, fail_power: float = 0.99, min_rows: int = 100
) -> Iterator[CheckResult]:
    """One feature that by itself tells the label: a stand-in for it.

    What it measures
        How well the label is told from one column alone: the column is cut into 8 to 200 bins of equal size (texts: its
        values), one half of the rows says which label each bin has, the other half is asked. For classes, the share of
        errors of always naming the commonest class that this removes; for numbers, R². WARN above `max_power`, FAIL
        above `fail_power`.

    Why it matters
        What nearly equals the label was mostly made from it, or after it, and will not be there when the model is
        asked.

    When it is wrong
        On easy problems (the petals of the iris nearly do it), and where the rule of the label is known.

    Fix
        Ask when the column is filled. Drop it if that is after the label.

    References
        Kaufman, Rosset and Perlich, "Leakage in data mining: formulation, detection, and avoidance", KDD 2011.
    """
    label = sample.label
    if label is None or label.is_tensor:
        yield skipped("no label of one value a row was given", fix="Pass label=: a column's name, or the labels.")
        return
    there = sample.facts.there(label.name)
    known = np.arange(sample.rows) if there is None else np.flatnonzero(there)
    if len(known) < min_rows:
        yield skipped(f"needs {min_rows:,} rows with a label")
        return
    known = np.random.default_rng(_SEED).permutation(known)[:200_000]  # a fixed order: halves are alike
    target, classes = _target(sample, label, known)
    if target is None:
        yield skipped("the label has too many different values, and is no number")
        return
    for column in sample.columns:
        if column.name == label.name or column.is_tensor:
            continue
        codes = _codes(sample, column, known)
        power = None if codes is None else _power(codes, target, classes)
        if power is None:
            continue
        yield judged(
            power,
            warn=max_power,
            fail=fail_power,
            column=column.name,
            message=f"tells the label by itself: {100 * power:.3g} % of what there is to tell",
            fix="Ask when the column is filled; drop it if that is after the label.",
            evidence={"power": power, "classes": classes},
        )


def _target(sample: Sample, label: Column, known: Array) -> tuple[Array | None, int]:
    """Return class numbers and how many, or numbers and 0; None where it is neither."""
    first, inverse, _ = sample.facts.distinct(label.name)
    is_fraction = label.is_float and bool((label.values[known] != np.round(label.values[known])).any())
    if len(first) <= _MOST_CODES and not is_fraction and 5 * len(first) <= len(known):
        return inverse[known], len(first)
    if label.is_number:
        return label.values[known].astype(np.float64), 0
    return None, 0


def _codes(sample: Sample, column: Column, known: Array) -> NDArray[np.int64] | None:
    """Return a small number for each row: its bin or value; None where the column is no feature of that sort."""
    if column.is_number:
        values = column.values[known].astype(np.float64)
        gone = ~np.isfinite(values) if column.missing is None else ~np.isfinite(values) | column.missing[known]
        if gone.all():
            return None
        edges = np.unique(
            np.quantile(values[~gone], np.linspace(0, 1, min(max(len(known) // 20, _BINS[0]), _BINS[1]) + 1)[1:-1])
        )
        codes = np.searchsorted(edges, values, side="left") + 1
        codes[gone] = 0
        return codes.astype(np.int64)
    first, inverse, _ = sample.facts.distinct(column.name)
    return inverse[known].astype(np.int64) if 5 * len(first) <= len(known) else None


def _power(codes: NDArray[np.int64], target: Array, classes: int) -> float:
    """Return what one half of the rows tells about the other, 0 to 1, the mean of both ways."""
    half, kinds, told = len(codes) // 2, int(codes.max()) + 1, []
    for learn, ask in ((slice(None, half), slice(half, None)), (slice(half, None), slice(None, half))):
        counts = np.bincount(codes[learn], minlength=kinds)
        if classes:
            table = np.bincount(codes[learn] * classes + target[learn], minlength=kinds * classes).reshape(
                kinds, classes
            )
            common = np.bincount(target[learn], minlength=classes).argmax()
            guess = np.where(counts > 0, table.argmax(axis=1), common)[codes[ask]]
            blind, wrong = float(np.mean(target[ask] != common)), float(np.mean(target[ask] != guess))
        else:
            middle = float(target[learn].mean())
            sums = np.bincount(codes[learn], weights=target[learn], minlength=kinds)
            guess = np.where(counts > 0, sums / np.maximum(counts, 1), middle)[codes[ask]]
            blind, wrong = float(np.mean((target[ask] - middle) ** 2)), float(np.mean((target[ask] - guess) ** 2))
        told.append(max(0.0, 1 - wrong / blind) if blind > 0 else 0.0)
    return sum(told) / 2
