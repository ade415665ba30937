"""The check ``missing-values``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Column, Mask
from nbops.data.leaf import Sample, checks, judged, percent


@checks.register("missing-values")
def missing_values(sample: Sample, *, max_share: float = 0.01, fail_share: float = 0.5) -> Iterator[CheckResult]:
    """Missing cells of each column.

    What it measures
        The share of cells that are missing (null, None, NaN, NaT, NA) in each column. WARN above
        `max_share`, FAIL above `fail_share`; in the label column any missing cell is a FAIL, and so is a
        table without rows.

    Why it matters
        Most models refuse missing inputs or fill them silently; a jump of missing cells is the commonest
        sign that an upstream join or sensor broke. A row without a label cannot be learned from.

    When it is wrong
        Where missing is itself a value ("no second address"). Sentinels such as -1, 999 or "unknown" are
        not counted: to the check they are values.

    Fix
        Impute, drop the rows, or add an indicator column; if the column is sparse by nature, raise `max_share`.

    References
        Little and Rubin, Statistical Analysis with Missing Data, 3rd ed., 2019.
    """
    if not sample.rows:
        yield judged(0, warn=1, fail=1, below=True, unit="rows", message="the table has no rows",
                     fix="Look at the query or file that should have given rows.")  # fmt: skip
        return
    for column in sample.columns:
        cells = column.values.size if column.is_tensor else sample.rows
        share = column.missing_count / cells if cells else 0.0
        is_label = column.name == sample.frame.label
        yield judged(
            share,
            warn=max_share,
            fail=0.0 if is_label else fail_share,
            column=column.name,
            unit="share",
            message=f"{column.missing_count:,} of {cells:,} cells missing ({percent(share)})",
            fix="Drop the rows without a label." if is_label else "Impute or drop, or raise max_share.",
            evidence={"missing": column.missing_count, "cells": int(cells)},
            rows=partial(_rows, column),
        )


def _rows(column: Column) -> Mask:
    """Return the rows with any missing cell."""
    if column.missing is None:
        return np.zeros(column.rows, np.bool_)
    return np.asarray(column.missing.any(axis=1) if column.missing.ndim == 2 else column.missing)
