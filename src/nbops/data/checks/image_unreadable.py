"""The check ``image-unreadable``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.images.folders import named, pictures_or_why
from nbops.data.images.pictures import SUFFIXES
from nbops.data.leaf import Sample, checks, judged, percent


@checks.register("image-unreadable")
def image_unreadable(sample: Sample, *, max_share: float = 0.0, fail_share: float = 0.01) -> Iterator[CheckResult]:
    """Pictures that cannot be decoded, or are not what their name says.

    What it measures
        Each file is decoded to its end: WARN above `max_share` of files that cannot be (cut off, empty, no picture,
        more pixels than Pillow takes), FAIL above `fail_share`. WARN for files whose suffix is another format's.

    Why it matters
        A loader that meets them stops an epoch in the middle, or skips them without a word; a JPEG named .png is
        decoded by some libraries and refused by others.

    When it is wrong
        Formats that Pillow does not know, and others do.

    Fix
        Fetch the files again; rename those with the wrong suffix.

    References
        Northcutt et al., "Pervasive label errors in test sets", NeurIPS 2021 (on broken files in known data sets).
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    bad = ~pictures.readable
    rows = np.flatnonzero(bad)
    why = f": {pictures.paths[rows[0]]} ({pictures.found[rows[0]].error})" if len(rows) else ""
    more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
    yield judged(
        len(rows) / sample.rows,
        warn=max_share,
        fail=fail_share,
        column="path",
        unit="share",
        message=f"{len(rows):,} of {sample.rows:,} pictures cannot be decoded ({percent(len(rows) / sample.rows)})"
        f"{why}{more}",
        fix="Fetch those files again, or leave them out.",
        evidence={"files": {pictures.paths[row]: pictures.found[row].error for row in rows[:20].tolist()}},
        rows=bad,
    )
    known = [SUFFIXES[PurePosixPath(path).suffix.lower()] for path in pictures.paths]
    other = np.array([bool(one.format) and one.format != name for one, name in zip(pictures.found, known, strict=True)])
    wrong = np.flatnonzero(other)
    is_what = f" ({pictures.found[wrong[0]].format})" if len(wrong) else ""
    yield judged(
        len(wrong) / sample.rows,
        warn=max_share,
        column="format",
        unit="share",
        message=f"{len(wrong):,} of {sample.rows:,} pictures are not of the format that their name says"
        f"{': ' if len(wrong) else ''}{named(pictures.paths, wrong, most=1)}{is_what}",
        fix="Rename them by their format.",
        rows=other,
    )
