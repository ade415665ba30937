"""The check ``string-length-out-of-bounds``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.tails import fence


@checks.register("string-length-out-of-bounds")
def string_length_out_of_bounds(
    sample: Sample, *, max_share: float = 0.0, chance: float = 0.01
) -> Iterator[CheckResult]:
    """Texts far longer, or shorter, than all others of their column.

    What it measures
        How far the length of a text, in characters, lies from the median, against the tail of the lengths themselves,
        as `outlier-rows` does; and, where nearly all texts have one length, texts that are twice as long or half as
        long. WARN above `max_share` of the texts.

    Why it matters
        A field that swallowed its neighbours (a missing separator or quote) is long; a cut one is short.

    When it is wrong
        In free text that mixes notes and documents.

    Fix
        Look at the rows: separators, quotes, the width of a field.

    References
        Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3(5),
        1975.
    """
    for column in sample.columns:
        if not column.is_text:
            continue
        lengths, there = sample.facts.lengths(column.name), sample.facts.there(column.name)
        present = (lengths if there is None else lengths[there]).astype(np.float64)
        if len(present) < 50:
            continue
        middle = float(np.median(present))
        limit = fence(present, chance=chance)
        if limit is None and np.mean(present == middle) > 0.95:
            bad = (lengths >= 2 * max(middle, 4)) | (lengths <= middle / 2)
        elif limit is None:
            continue
        else:
            bad = np.abs(lengths - middle) > limit
        bad = bad if there is None else bad & there
        count = int(np.count_nonzero(bad))
        share = count / len(present)
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} of {len(present):,} texts have an odd length ({percent(share)}); "
            f"most have about {middle:.0f} characters",
            fix="Look at the rows: separators, quotes, the width of a field.",
            evidence={"median": middle, "longest": int(present.max()), "shortest": int(present.min())},
            rows=bad,
        )
