"""The check ``mixed-nulls``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.leaf import Sample, checks, judged
from nbops.data.rules.facts import among, hashes_of, texts

SPELLINGS = frozenset(
    ("", "-", "--", "---", "?", ".",
     "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "nil", "nul", "missing", "(null)", "<na>")
)  # fmt: skip
VARIANTS = sorted({
    f"{before}{text}{after}"
    for word in SPELLINGS for text in (word, word.upper(), word.title(), word.capitalize())
    for before in ("", " ") for after in ("", " ")
})  # fmt: skip


@checks.register("mixed-nulls")
def mixed_nulls(sample: Sample, *, max_spellings: int = 1) -> Iterator[CheckResult]:
    """Several spellings of missing in one column of texts.

    What it measures
        How many of these occur in a column of texts: real missing cells, and texts that stand for one, as "", "NA",
        "n/a", "null", "None", "?" or "-" (in small or capital letters, with a space before or after). WARN above
        `max_spellings`.

    Why it matters
        Each spelling becomes a category of its own, and the missing share looks smaller than it is.

    When it is wrong
        Where "none" is an answer and other cells are really missing. Numbers that stand for missing, as -999, are
        not looked for.

    Fix
        Name all spellings when reading the file, so that they become missing; or map them to one.

    References
        Abedjan, Golab and Naumann, "Profiling relational data: a survey", VLDB Journal 24(4), 2015.
    """
    for column in sample.columns:
        if not column.is_text:
            continue
        is_spelled = among(sample.facts.hashes(column.name), hashes_of(column, VARIANTS))
        if column.missing is not None:
            is_spelled &= ~column.missing
        told = Counter(texts(column, np.flatnonzero(is_spelled)))
        kinds = {repr(text): count for text, count in sorted(told.items())}
        if column.missing_count:
            kinds["missing"] = column.missing_count
        yield judged(
            len(kinds),
            warn=max_spellings,
            column=column.name,
            message="missing is spelled " + ", ".join(f"{name} ({count:,})" for name, count in kinds.items()),
            fix="Name all spellings when reading the file, or map them to one.",
            evidence={"spellings": kinds},
            rows=is_spelled,
        )
