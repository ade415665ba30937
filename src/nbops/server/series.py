"""Points to what a chart of so many pixels can show: no extreme is lost, and what is not finite is marked.

Method M4 (Jugel et al., "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014): per pixel column
the first, the lowest, the highest and the last point draw the same line as all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.protocols import Points

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def chart_series(points: Points, *, px: int) -> dict[str, Any]:
    """Return the points of one metric for a chart `px` pixels wide.

    Parameters
    ----------
    points : Points
        All points, in the order in which they were logged.
    px : int, pixels
        Width of the chart; at most five points are returned per column.

    Returns
    -------
    dict
        ``metric``, ``count`` and ``nonfinite`` over all points; ``steps`` (ascending) and ``values`` of equal
        length, None where the value is not finite; ``marks``: [step, "NaN" | "Infinity" | "-Infinity"];
        ``cells``: [step, cell id, execution] where, among these points, another cell begins; empty texts are no cell.
    """
    steps: Ints = np.frombuffer(points.steps, dtype="<i8")
    logged: Ints = np.arange(len(steps))
    values: Floats = np.frombuffer(points.values, dtype="<f8")
    if len(steps) > 1 and bool((np.diff(steps) < 0).any()):
        order = np.argsort(steps, kind="stable")
        steps, values, logged = steps[order], values[order], logged[order]
    columns = _columns(steps, px)
    finite = np.isfinite(values)
    chosen = np.arange(len(steps)) if len(steps) <= 4 * px else _choose(values, finite, columns)
    marked = _first_of(np.flatnonzero(~finite), columns)
    return {
        "metric": points.metric,
        "count": len(steps),
        "nonfinite": int((~finite).sum()),
        "steps": steps[chosen].tolist(),
        "values": [float(f"{v:.8g}") if ok else None for v, ok in zip(values[chosen], finite[chosen], strict=True)],
        "marks": [[int(steps[i]), _word(float(values[i]))] for i in marked],
        "cells": _cells(points, steps[chosen], logged[chosen]),
    }


def _cells(points: Points, steps: Ints, logged: Ints) -> list[list[Any]]:
    """Return where another cell begins; `logged` says as the how many-th each point was logged."""
    if not points.cells:
        return []
    at = np.searchsorted([start for start, _ in points.cells], logged, side="right") - 1
    names = [points.cells[i][1] for i in at.tolist()]
    begins = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return [[int(steps[i]), *names[i].partition("#")[::2]] for i in begins]


def _columns(steps: Ints, px: int) -> Ints:
    """Return for each point the pixel column it falls into; ascending."""
    if len(steps) == 0:
        return np.zeros(0, dtype=np.int64)
    low, high = float(steps[0]), float(steps[-1])
    if high <= low:
        return np.zeros(len(steps), dtype=np.int64)
    share = (steps.astype(np.float64) - low) / (high - low)
    columns: Ints = np.minimum((share * px).astype(np.int64), px - 1)
    return columns


def _choose(values: Floats, finite: NDArray[np.bool_], columns: Ints) -> Ints:
    """Return the indices of M4's four points per column, and of the first that is not finite."""
    good = np.flatnonzero(finite)
    inside = columns[good]
    picks = [_first_of(np.flatnonzero(~finite), columns)]
    if len(good):
        starts = np.flatnonzero(np.r_[True, np.diff(inside) > 0])
        lengths = np.diff(np.r_[starts, len(good)])
        picks += [good[starts], good[starts + lengths - 1]]
        for extreme in (np.minimum, np.maximum):
            best = np.repeat(extreme.reduceat(values[good], starts), lengths)
            picks.append(_first_of(good[values[good] == best], columns))
    return np.unique(np.concatenate(picks))


def _first_of(indices: Ints, columns: Ints) -> Ints:
    """Return of ascending `indices` the first in each pixel column."""
    _, first = np.unique(columns[indices], return_index=True)
    kept: Ints = indices[first]
    return kept


def _word(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
