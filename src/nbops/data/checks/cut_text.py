"""The check ``cut-text``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.text.reading import counts_of, running_texts

_FEWEST = 5  # texts of the greatest length
_BEFORE = 20  # lengths below it that they are compared with
_MANY = 5.0  # times as many


@checks.register("cut-text")
def cut_text(sample: Sample, *, max_share: float = 0.002) -> Iterator[CheckResult]:
    """Running texts that end at one length: a field that was too short.

    What it measures
        How many texts have the greatest length of their column, in characters, or in bytes: at least five, and five
        times as many as each of the twenty lengths below have on average. WARN above `max_share` of the texts.

    Why it matters
        The end of a report holds its result. A database field of 255 characters cuts it off without a word.

    When it is wrong
        Texts that are filled up to a length on purpose, or written against a limit (messages of 280 characters).

    Fix
        Make the field longer and load again; or tell the model that a text is cut.

    References
        Breck et al., "Data validation for machine learning", MLSys 2019 (on limits of fields).
    """
    for column in running_texts(sample):
        there = sample.facts.there(column.name)
        sizes = np.diff(column.offsets) if column.offsets is not None else np.zeros(0, np.int64)
        for unit, lengths in (("characters", sample.facts.lengths(column.name)), ("bytes", sizes)):
            present = lengths if there is None else lengths[there]
            counts = counts_of(present)
            longest = len(counts) - 1
            at, below = int(counts[-1]), counts[max(0, longest - _BEFORE) : longest]
            is_edge = at >= _FEWEST and longest > _BEFORE and at > _MANY * max(float(below.mean()), 0.2)
            share = at / len(present) if is_edge and np.count_nonzero(counts) > _BEFORE else 0.0
            if share or unit == "bytes":
                said = f"{at:,} of {len(present):,} texts have exactly {longest:,} {unit} ({percent(share)}), the most"
                yield judged(
                    share,
                    warn=max_share,
                    column=column.name,
                    unit="share",
                    message=said if share else "no length at which texts are cut",
                    fix="Make the field longer and load again.",
                    rows=(lengths == longest) if there is None else (lengths == longest) & there,
                )
                break
