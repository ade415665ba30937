"""The check ``feature-feature-correlation``."""

from __future__ import annotations

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array
from nbops.data.leaf import Sample, checks, judged, skipped

_MOST_ROWS = 20_000
_MOST_COLUMNS = 400
_FEWEST = 10  # rows that differ from the usual value: fewer agree by accident


@checks.register("feature-feature-correlation")
def feature_feature_correlation(sample: Sample, *, max_correlation: float = 0.999, min_rows: int = 30) -> CheckResult:
    """Columns that repeat another column.

    What it measures
        Pearson's correlation of each two columns of numbers, on rows where both are present (at most 20,000, evenly
        chosen), without regard to sign; and columns of texts that are another one under other names. Columns with
        fewer than 10 rows off their median are left out, and positions of an array. WARN above `max_correlation`.

    Why it matters
        A column twice splits its importance in two, makes linear models unstable, and costs memory for nothing.

    When it is wrong
        On measures that differ only for the rows that matter (list price and price paid).

    Fix
        Keep one of them.

    References
        Belsley, Kuh and Welsch, Regression Diagnostics, 1980.
    """
    if sample.frame.is_array or sample.rows < min_rows:
        return skipped(f"needs a table of named columns with {min_rows} rows")
    step = max(1, sample.rows // _MOST_ROWS)
    columns = [c for c in sample.columns if c.name != sample.frame.label and not c.is_tensor][:_MOST_COLUMNS]
    numeric = [c for c in columns if c.is_number]
    values = [c.values[::step] for c in numeric]
    gone = [None if c.missing is None else c.missing[::step] for c in numeric]
    table = [one if mask is None else np.where(mask, np.nan, one) for one, mask in zip(values, gone, strict=True)]
    pairs = _correlated([c.name for c in numeric], table, max_correlation)
    pairs += _renamed(sample, [c.name for c in columns if c.is_text])
    strongest = max((value for _, _, value in pairs), default=0.0)
    shown = "; ".join(f"'{one}' and '{two}' ({value:.4g})" for one, two, value in pairs[:5])
    return judged(
        len(pairs),
        warn=0,
        message=f"{len(pairs):,} pairs of columns say the same: {shown}" if pairs else "no column repeats another",
        fix="Keep one column of each pair.",
        evidence={"pairs": [[one, two] for one, two, _ in pairs[:50]], "strongest": strongest},
    )


def _correlated(names: list[str], columns: list[Array], limit: float) -> list[tuple[str, str, float]]:
    if len(names) < 2:
        return []
    table = np.array(columns, np.float64)
    table[~np.isfinite(table)] = np.nan
    there = ~np.isnan(table)
    counts = there.sum(axis=1)
    with np.errstate(all="ignore"):
        usual = np.array(
            [np.median(one[is_there]) if is_there.any() else 0.0 for one, is_there in zip(table, there, strict=True)]
        )
    varies = (there & (table != usual[:, None])).sum(axis=1) >= _FEWEST
    with np.errstate(all="ignore"):
        middle = np.where(counts > 0, np.nansum(table, axis=1) / np.maximum(counts, 1), 0)
        centred = np.where(there, table - middle[:, None], 0.0)
        scale = np.abs(centred).max(axis=1, keepdims=True)
        centred = centred / np.where(scale > 0, scale, 1)
        both = there.astype(np.float64)
        cross = centred @ centred.T
        spread = (centred**2) @ both.T
        strength = np.abs(cross) / np.sqrt(spread * spread.T)
    shared = both @ both.T
    is_usable = (
        (np.nan_to_num(strength) > limit)
        & (shared >= 0.5 * np.minimum(counts[:, None], counts[None, :]))
        & (shared >= _FEWEST)
    )
    is_usable &= varies[:, None] & varies[None, :]
    return [(names[i], names[j], float(min(1.0, strength[i, j]))) for i, j in np.argwhere(np.triu(is_usable, 1))]


def _renamed(sample: Sample, names: list[str]) -> list[tuple[str, str, float]]:
    """Return pairs of texts whose values go one to one."""
    found = []
    sizes = {name: len(sample.facts.distinct(name)[0]) for name in names}
    for at, one in enumerate(names):
        for two in names[at + 1 :]:
            size = sizes[one]
            if size != sizes[two] or size < 2 or 2 * size > sample.rows:
                continue
            left, right = sample.facts.distinct(one)[1], sample.facts.distinct(two)[1]
            if len(np.unique(left.astype(np.int64) * (size + 1) + right)) == size:
                found.append((one, two, 1.0))
    return found
