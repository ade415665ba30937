"""The check ``mixed-nulls``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.facts import texts
from nbops.data.leaf import Sample, checks, judged

SPELLINGS = frozenset(
    ("", "-", "--", "---", "?", ".",
     "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "nil", "nul", "missing", "(null)", "<na>")
)  # fmt: skip


@checks.register("mixed-nulls")
def mixed_nulls(sample: Sample, *, max_spellings: int = 1) -> Iterator[CheckResult]:
    """Several spellings of missing in one column of texts.

    What it measures
        How many of these occur in a column of texts: real missing cells, and texts that stand for one, as "", "NA",
        "n/a", "null", "None", "?" or "-" (capitals and spaces do not count). WARN above `max_spellings`.

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
        first, inverse, counts = sample.facts.distinct(column.name)
        there = [row for row in range(len(first)) if column.missing is None or not column.missing[first[row]]]
        said = dict(zip(there, texts(column, first[there]), strict=True)) if there else {}
        spelled = {at: text for at, text in said.items() if len(text) < 12 and text.strip().lower() in SPELLINGS}
        kinds = {repr(text): int(counts[at]) for at, text in spelled.items()}
        if column.missing_count:
            kinds["missing"] = column.missing_count
        is_spelled = np.zeros(len(first), np.bool_)
        is_spelled[list(spelled)] = True
        yield judged(
            len(kinds),
            warn=max_spellings,
            column=column.name,
            message="missing is spelled " + ", ".join(f"{name} ({count:,})" for name, count in kinds.items()),
            fix="Name all spellings when reading the file, or map them to one.",
            evidence={"spellings": kinds},
            rows=is_spelled[inverse],
        )
