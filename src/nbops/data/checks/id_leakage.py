"""The check ``id-leakage``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column
from nbops.data.leaf import Sample, checks, judged, skipped
from nbops.data.leakage.power import noise_of, power_of, read_sides


@checks.register("id-leakage")
def id_leakage(sample: Sample, *, warn_power: float = 0.3, fail_power: float = 0.8) -> Iterator[CheckResult]:
    """Ids that tell the label.

    What it measures
        How well each column of whole numbers that are different in all rows (an id, an index, a row number)
        predicts the label alone, on rows it was not learned from, from 0 (chance) to 1; the measures are those of
        `target-leakage`. WARN above `warn_power`, FAIL above `fail_power`, both only beyond three standard errors.

    Why it matters
        Numbers are given in order: all healthy patients first, or one hospital before the other. A model that sees
        the id learns that order, and new ids lie beyond it.

    When it is wrong
        Where the number is a quantity that happens to be different in each row (a price in cents).

    Fix
        Drop the column from what the model sees. Ask why the order of the ids and the label are related.

    References
        Kaufman, Rosset, Perlich and Stitelman, "Leakage in data mining", ACM TKDD 6(4), 2012: the patient id of KDD
        Cup 2008.
    """
    label, train = sample.label, sample.reference
    if train is None or label is None:
        what = "train data" if train is None else "label"
        yield skipped(f"no {what} was given", fix="Use nb.leaks(train, test, label=…).")
        return
    names = [name for name in sample.frame.names if name in train.names and name != label.name]
    ids = [name for name in names if _is_id(sample.frame.column(name), train.column(name))]
    sides = read_sides(train, sample.frame, label.name) if ids else "no column holds different whole numbers"
    if isinstance(sides, str):
        yield skipped(sides)
        return
    noise = noise_of(sides.label)
    for name in ids:
        power = power_of(sides, name)
        if power is None:
            continue
        yield judged(
            max(power.train, power.test),
            warn=max(warn_power, noise),
            fail=max(fail_power, noise),
            column=name,
            message=f"the id tells the label with a power of {max(power.train, power.test):.3f}",
            fix="Drop the column from what the model sees, and ask why the order of the ids follows the label.",
            evidence={"train": power.train, "test": power.test},
        )


def _is_id(mine: Column, other: Column) -> bool:
    return all(_is_whole(column) for column in (mine, other)) and _all_differ(mine, other)


def _is_whole(column: Column) -> bool:
    if not column.is_number or column.missing_count or not column.rows:
        return False
    return not column.is_float or bool((column.values == np.round(column.values)).all())


def _all_differ(mine: Column, other: Column) -> bool:
    values = np.concatenate([mine.values.astype(np.float64), other.values.astype(np.float64)])
    return len(np.unique(values)) == len(values)
