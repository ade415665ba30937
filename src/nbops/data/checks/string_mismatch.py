"""The check ``string-mismatch``."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.rules.facts import texts


@checks.register("string-mismatch")
def string_mismatch(sample: Sample, *, max_share: float = 0.0, max_categories: int = 1000) -> Iterator[CheckResult]:
    """One category in several spellings: "Berlin", "berlin ", "BERLIN".

    What it measures
        In columns of texts with at most `max_categories` different ones: the share of rows whose text differs from a
        commoner one only by capitals, spaces, accents' encoding or (without digits) punctuation. WARN above
        `max_share`.

    Why it matters
        To a model they are different categories, each with fewer rows; joins and counts miss the rare spelling.

    When it is wrong
        Where capitals carry a meaning, as in units (mW, MW) or case-sensitive codes.

    Fix
        Map the spellings to one; strip and fold when reading.

    References
        Abedjan, Golab and Naumann, "Profiling relational data: a survey", VLDB Journal 24(4), 2015.
    """
    for column in sample.columns:
        if not column.is_text:
            continue
        first, inverse, counts = sample.facts.distinct(column.name)
        if len(first) > max_categories or 2 * len(first) > sample.rows:
            continue
        groups: dict[str, list[int]] = defaultdict(list)
        said = texts(column, first)
        for at, text in enumerate(said):
            is_gone = column.missing is not None and column.missing[first[at]]
            base = "" if is_gone else folded(text)
            if base:
                groups[base].append(at)
        is_rare, shown = np.zeros(len(first), np.bool_), []
        for same in groups.values():
            ordered = sorted(same, key=lambda at: (-int(counts[at]), said[at]))
            is_rare[ordered[1:]] = True
            if len(ordered) > 1:
                shown.append(" = ".join(repr(said[at][:40]) for at in ordered[:4]))
        count = int(counts[is_rare].sum())
        share = count / sample.rows if sample.rows else 0.0
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{count:,} rows spell a category in another way ({percent(share)}): "
            + "; ".join(sorted(shown)[:3]),
            fix="Map the spellings to one.",
            evidence={"categories": len(shown), "examples": sorted(shown)[:10]},
            rows=is_rare[inverse],
        )


def folded(text: str) -> str:
    """Return what is left of a text without capitals and spaces, and without punctuation where it has no digit."""
    plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", text).casefold())
    return plain if any(letter.isdigit() for letter in plain) else re.sub(r"[\W_]+", "", plain)
