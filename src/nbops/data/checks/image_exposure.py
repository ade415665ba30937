"""The check ``image-exposure``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.images.folders import named, pictures_or_why
from nbops.data.leaf import Sample, checks, judged, percent


@checks.register("image-exposure")
def image_exposure(
    sample: Sample, *, max_share: float = 0.0, blank: float = 1.5, dark: float = 8.0, bright: float = 247.0,
    usual_share: float = 0.2,
) -> Iterator[CheckResult]:  # fmt: skip
    """Pictures that are blank, all dark or all bright.

    What it measures
        The standard deviation of the grey values (blank below `blank`, of 255) and their mean (below `dark`, above
        `bright`). WARN above `max_share`; what more than `usual_share` of the pictures are is how the set is (black
        ground, scans) and passes.

    Why it matters
        A covered lens, a failed download, a page without print: there is nothing to learn from, and a label all the
        same.

    When it is wrong
        Night scenes and snow.

    Fix
        Look at them, and leave out those that show nothing.

    References
        Pertuz et al., "Analysis of focus measure operators", Pattern Recognition 46(5), 2013 (on statistics of grey
        values).
    """
    pictures = pictures_or_why(sample)
    if isinstance(pictures, CheckResult):
        yield pictures
        return
    there = pictures.readable
    contrast = np.array([one.contrast for one in pictures.found])
    level = np.array([0.0 if one.colour is None else float(one.colour.mean()) for one in pictures.found])
    flat = there & (contrast < blank)
    for what, found in (("blank", flat), ("very dark", there & ~flat & (level < dark)),
                        ("very bright", there & ~flat & (level > bright))):  # fmt: skip
        rows = np.flatnonzero(found)
        share = len(rows) / sample.rows
        yield judged(
            share,
            warn=max_share if share <= usual_share or what == "blank" else None,
            column="contrast" if what == "blank" else "brightness",
            unit="share",
            message=f"{len(rows):,} of {sample.rows:,} pictures are {what} ({percent(share)})"
            f"{': ' if len(rows) else ''}{named(pictures.paths, rows)}",
            fix="Look at them, and leave out those that show nothing.",
            rows=found,
        )
