"""The check ``near-duplicates-across``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Frame, Mask
from nbops.data.leaf import Sample, checks, judged, percent, skipped
from nbops.data.leakage.nearby import near_numbers, near_texts
from nbops.data.splits.identity import found_in, identities
from nbops.data.splits.proving import spread_of

_FEWEST = 2  # one pair may be chance


@checks.register("near-duplicates-across")
def near_duplicates_across(
    sample: Sample, *, max_share: float = 0.002, fail_share: float = 0.02, distance: float = 0.01,
    max_chance: float = 0.01,
) -> CheckResult:  # fmt: skip
    """Test rows that nearly equal a train row.

    What it measures
        The share of test rows with a twin in train that is not equal: in tables, every number within `distance`
        standard deviations (of the middle half, where that is less, but at least a fifth) and everything else
        equal; in texts of 20 characters and more, the same letters and digits. WARN above `max_share` and from two
        rows, FAIL above `fail_share`. The label is not compared. Skipped where chance alone would give a test row
        such a twin with more than `max_chance`.

    Why it matters
        Frames of one video, a table exported twice with other rounding, an image saved again, an article with another
        headline: no exact comparison finds them, and a model knows them all the same.

    When it is wrong
        In repeated measurements of the same thing that are meant to be on both sides. Twins that were turned,
        cropped or translated are not found. Chance is estimated as if columns were independent.

    Fix
        Split by what the twins have in common: nb.split(data, group="video"), or drop them from test.

    References
        Barz and Denzler, "Do we train on test data? Purging CIFAR of near-duplicates", 2020.
        Indyk and Motwani, "Approximate nearest neighbors", 1998 (hashing of directions).
    """
    train = sample.reference
    if train is None:
        return skipped("no train data was given", fix="Use nb.leaks(train, test).")
    names = [name for name in sample.frame.names if name in train.names and name != sample.frame.label]
    if not names or not sample.rows or not train.rows:
        return skipped("train and test share no column" if sample.rows and train.rows else "a side has no rows")
    texts = near_texts(train, sample.frame, names)
    numbers = near_numbers(train, sample.frame, names, distance=distance) if texts is None else None
    if texts is None and numbers is None:
        return skipped("needs two columns of numbers, or one of texts")
    if numbers is not None and numbers.expected > max_chance:
        return skipped(
            f"near twins are common by chance here (about {percent(min(numbers.expected, 1.0))} of the rows)"
        )
    found: Mask = (numbers.rows if numbers is not None else np.zeros(sample.rows, np.bool_)) if texts is None else texts
    found = found & ~_exact(train, sample.frame, names)
    count = int(np.count_nonzero(found))
    few = count < _FEWEST
    return judged(
        count / sample.rows,
        warn=None if few else max_share,
        fail=None if few else fail_share,
        unit="share",
        message=f"{count:,} of {sample.rows:,} test rows nearly equal a train row ({percent(count / sample.rows)})",
        fix='Split by what they have in common, nb.split(data, group="…"), or drop them from test.',
        evidence={"near": count, "rows": np.flatnonzero(found)[:20].tolist()},
    )


def _exact(train: Frame, test: Frame, names: list[str]) -> Mask:
    mine, others = (
        spread_of(identities([frame.column(name) for name in names], frame.rows)) for frame in (test, train)
    )
    return found_in(mine, others)
