"""The check ``frozen-values``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from nbops.core.records import CheckResult
from nbops.data.columns import Array, Mask
from nbops.data.leaf import Sample, checks, judged, percent
from nbops.data.series.lines import FEWEST, Lines, lines_or_why, listed, measured_columns, values_of

_LIVELY = 0.6  # of the steps change the value
_SHORTEST = 5
_EDGES = 2  # so many stretches at the least or the greatest value are how the column is: no rain, a full tank


@checks.register("frozen-values")
def frozen_values(
    sample: Sample, *, time: str | None = None, series: str | Sequence[str] | None = None, max_share: float = 0.0,
    chance: float = 0.001,
) -> Iterator[CheckResult]:  # fmt: skip
    """A measured value that stays the same for longer than chance allows.

    What it measures
        In columns of numbers that change at 60 % of the steps or more: stretches of equal values, at least five long,
        that a series of this length has with a probability below `chance`, judged by how often a value repeats
        elsewhere in the column. Stretches at the least or the greatest value do not count where there are two or
        more of them. WARN above `max_share` of the rows.

    Why it matters
        A sensor that hangs, a feed that repeats its last answer and a gap that somebody filled forward look like calm
        data, and a model learns that calm.

    When it is wrong
        Where a value is held on purpose for a while (a price outside trading hours, a set point).

    Fix
        Set the rows to missing, and look at what feeds the column.

    References
        Ni et al., "Sensor network data fault types", ACM Transactions on Sensor Networks 5(3), 2009: stuck-at faults.
    """
    lines = lines_or_why(sample, time, series)
    if isinstance(lines, CheckResult):
        yield lines
        return
    for column in measured_columns(sample, time, series):
        rows, which = _frozen(lines, values_of(column), chance)
        share = np.count_nonzero(rows) / sample.rows
        yield judged(
            share,
            warn=max_share,
            column=column.name,
            unit="share",
            message=f"{np.count_nonzero(rows):,} of {sample.rows:,} rows are in stretches of one value "
            f"({percent(share)}){which}",
            fix="Set those rows to missing, and look at what feeds the column.",
            rows=rows,
        )


def _frozen(lines: Lines, values: Array, chance: float) -> tuple[Mask, str]:
    found = np.zeros(len(values), np.bool_)
    ordered = values[lines.order]
    same = (ordered[1:] == ordered[:-1]) & lines.within()
    begins, lengths = _runs(same)
    if not len(same) or len(ordered) < FEWEST or not len(begins):
        return found, ""
    usual = lengths[lengths < max(_SHORTEST, lengths.max())]
    repeats = (int(np.sum(usual - 1)) + 1) / len(same)  # of a step, without the longest stretches
    if repeats > 1 - _LIVELY or np.count_nonzero(same) > _LIVELY * len(same):
        return found, ""
    least = max(_SHORTEST, math.ceil(math.log(chance / len(same)) / math.log(repeats)) + 1)
    levels = ordered[begins]
    keep = lengths >= least
    for edge in (np.nanmin(ordered), np.nanmax(ordered)):
        at = keep & (levels == edge)
        if np.count_nonzero((levels == edge) & (lengths >= 2)) >= _EDGES:
            keep &= ~at
    for begin, length in zip(begins[keep], lengths[keep], strict=True):
        found[lines.order[begin : begin + length]] = True
    if not keep.any():
        return found, ""
    worst = int(np.argmax(np.where(keep, lengths, 0)))
    first = lines.order[begins[worst]]
    names = sorted({lines.names[int(code)] for code in np.unique(lines.codes[found])})
    where = f" in {listed(names)}" if any(names) else ""
    return found, (f"{where}; the longest has {lengths[worst]:,} times {levels[worst]:.6g} "
                   f"from {lines.moment(lines.ticks[first])}")  # fmt: skip


def _runs(same: Mask) -> tuple[Array, Array]:
    """Return where stretches of two and more equal values begin, and how long they are."""
    edges = np.diff(np.concatenate(([0], same.astype(np.int8), [0])))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return begins, ends - begins + 1
