"""The check ``image-duplicates-across``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.images.folders import pictures_of, pictures_or_why
from nbops.data.images.twins import twins
from nbops.data.leaf import Sample, checks, judged, percent, skipped


@checks.register("image-duplicates-across")
def image_duplicates_across(sample: Sample, *, max_share: float = 0.0, fail_share: float = 0.02) -> CheckResult:
    """Pictures that the other folder has as well: train and test.

    What it measures
        The share of pictures that equal, or nearly equal (as in `image-duplicates`), one of the baseline folder. WARN
        above `max_share`, FAIL above `fail_share`.

    Why it matters
        A test picture that was trained on measures memory.

    When it is wrong
        Where the baseline is an earlier version of the same folder, and not its other side.

    Fix
        Drop them from test; split by what they have in common.

    References
        Barz and Denzler, "Do we train on test data? Purging CIFAR of near-duplicates", Journal of Imaging 6(6), 2020.
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        return pictures
    others = pictures_of(sample.reference)
    if others is None:
        return skipped("no other folder was given", fix='Pass it: nb.check("test/", baseline="train/").')
    first = {digest: row for row, digest in reversed(list(enumerate(others.digests)))}
    pairs = dict(twins(pictures.small(), others.small()))
    pairs |= {row: first[digest] for row, digest in enumerate(pictures.digests) if digest in first}
    rows = np.zeros(sample.rows, np.bool_)
    rows[list(pairs)] = True
    share = len(pairs) / sample.rows
    shown = [f"{pictures.paths[row]} = {others.paths[other]}" for row, other in sorted(pairs.items())]
    return judged(
        share,
        warn=max_share,
        fail=fail_share,
        column="path",
        unit="share",
        message=f"{len(pairs):,} of {sample.rows:,} pictures are in the other folder as well ({percent(share)})"
        f"{': ' if shown else ''}{', '.join(shown[:2])}",
        fix="Drop them from test; split by what they have in common.",
        evidence={"pairs": shown[:20]},
        rows=rows,
    )
