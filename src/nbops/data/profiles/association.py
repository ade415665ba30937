"""How columns go together, over a sample of the rows: Pearson and Spearman for numbers, Cramér's V for categories.

Sums are NumPy's own, without BLAS, so that the number of threads changes no digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array

SAMPLE_ROWS = 20_000  # 1 / sqrt(rows), the standard error of a correlation of 0, is then 0.007
MAX_COLUMNS = 50
_MAX_VALUES = 50  # categories of one column
_LEAST_ROWS = 3
_DIGITS = 6

Floats = NDArray[np.float64]


def associations(samples: Mapping[str, Array], *, rows: int, beyond: Sequence[str] = ()) -> dict[str, Any]:
    """Return ``pearson``, ``spearman`` and ``cramers_v``, each with its columns and the upper triangle of its matrix.

    Parameters
    ----------
    samples : mapping of str to array [sampled rows]
        float64 with NaN where missing, or uint64 hashes of categories.
    rows : int
        Rows of the whole table; ``is_sampled`` says whether that is more than were looked at.
    beyond : sequence of str
        Columns that were not sampled, to be named as left out.

    Returns
    -------
    dict
        ``{"rows": …, "is_sampled": …, "left_out": [names], "pearson": {"columns": [...], "values": [[…], …]}, …}``:
        row i of ``values`` has columns i + 1 and on; None where one of the two is constant or has too few values.
        At most `MAX_COLUMNS` columns of each sort; others are in ``left_out``. Constant columns go with nothing.
    """
    numbers = {name: values for name, values in samples.items() if values.dtype.kind == "f" and _varies(values)}
    groups = {name: _groups(values) for name, values in samples.items() if values.dtype.kind == "u"}
    kept = {name: found for name, found in groups.items() if found is not None}
    left_out = [*list(numbers)[MAX_COLUMNS:], *list(kept)[MAX_COLUMNS:], *beyond]
    numbers, kept = dict(list(numbers.items())[:MAX_COLUMNS]), dict(list(kept.items())[:MAX_COLUMNS])
    looked_at = len(next(iter(samples.values()))) if samples else 0
    found: dict[str, Any] = {"rows": looked_at, "is_sampled": looked_at < rows, "left_out": left_out}
    if len(numbers) > 1:
        matrix = np.stack(list(numbers.values()))
        found["pearson"] = {"columns": list(numbers), "values": _pearson(matrix)}
        found["spearman"] = {"columns": list(numbers), "values": _pearson(np.stack([_ranks(row) for row in matrix]))}
    if len(kept) > 1:
        found["cramers_v"] = {"columns": list(kept), "values": _cramers(list(kept.values()))}
    return found


def _varies(values: Array) -> bool:
    present = values[~np.isnan(values)]
    return len(present) > 1 and bool((present != present[0]).any())


def pairs(found: Mapping[str, Any], method: str) -> list[tuple[str, str, float]]:
    """Return the pairs of columns of one method, the strongest first."""
    table = found.get(method)
    if not table:
        return []
    names = table["columns"]
    told = [
        (names[i], names[i + 1 + j], value)
        for i, row in enumerate(table["values"]) for j, value in enumerate(row) if value is not None
    ]  # fmt: skip
    return sorted(told, key=lambda pair: -abs(pair[2]))


def _pearson(matrix: Floats) -> list[list[float | None]]:
    """Return the upper triangle over the rows that both of a pair have; `matrix` is [columns, rows]."""
    there = ~np.isnan(matrix)
    count = there.sum(axis=1)
    filled = np.where(there, matrix, 0.0)
    # scaled first, so that huge numbers do not overflow, then centred and scaled again, against rounding
    filled /= np.maximum(np.abs(filled).max(axis=1, initial=0.0), np.finfo(float).tiny)[:, None]
    mean = filled.sum(axis=1) / np.maximum(count, 1)
    centred = np.where(there, filled - mean[:, None], 0.0)
    spread = np.sqrt((centred * centred).sum(axis=1))
    centred /= np.where(spread > 0, spread, 1.0)[:, None]
    if there.all():
        return [[_rounded(v, spread[i], s) for v, s in zip((centred[i + 1 :] * centred[i]).sum(axis=1),
                 spread[i + 1 :], strict=True)] for i in range(len(matrix))]  # fmt: skip
    weight = there.astype(np.float64)
    squares = centred * centred
    return [_partial(centred, squares, weight, i) for i in range(len(matrix))]


def _partial(centred: Floats, squares: Floats, weight: Floats, i: int) -> list[float | None]:
    """Return the correlations of column i with those after it, over the rows that both have."""
    ours, theirs, there = centred[i], centred[i + 1 :], weight[i + 1 :]
    both = (there * weight[i]).sum(axis=1)
    safe = np.maximum(both, 1)
    x, y = (there * ours).sum(axis=1) / safe, (theirs * weight[i]).sum(axis=1) / safe
    xx = (there * squares[i]).sum(axis=1) - safe * x * x
    yy = (squares[i + 1 :] * weight[i]).sum(axis=1) - safe * y * y
    xy = (theirs * ours).sum(axis=1) - safe * x * y
    floor = 1e-24  # of squares that sum to 1: less is rounding
    told: list[float | None] = []
    for n, a, b, c in zip(both, xx, yy, xy, strict=True):
        is_known = n >= _LEAST_ROWS and a > floor and b > floor
        told.append(_rounded(c / np.sqrt(a * b), 1.0, 1.0) if is_known else None)
    return told


def _rounded(value: Any, left: Any, right: Any) -> float | None:
    if not left > 0 or not right > 0 or not np.isfinite(value):
        return None
    return round(float(min(max(value, -1.0), 1.0)), _DIGITS) + 0.0


def _ranks(values: Floats) -> Floats:
    """Return the ranks of the values that are there, equal ones with their mean rank."""
    found = np.full(len(values), np.nan)
    there = ~np.isnan(values)
    _, place, count = np.unique(values[there], return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    found[there] = (last - (count - 1) / 2.0)[place]
    return found


def _groups(codes: Array) -> tuple[NDArray[np.int64], int] | None:
    """Return the group of each row and how many there are; None where they are too many to be categories."""
    distinct, place = np.unique(codes, return_inverse=True)
    if not 2 <= len(distinct) <= _MAX_VALUES:
        return None
    return place.astype(np.int64), len(distinct)


def _cramers(columns: list[tuple[NDArray[np.int64], int]]) -> list[list[float | None]]:
    return [[_cramers_v(*left, *right) for right in columns[i + 1 :]] for i, left in enumerate(columns)]


def _cramers_v(left: NDArray[np.int64], a: int, right: NDArray[np.int64], b: int) -> float | None:
    """Return Cramér's V with the correction for bias of Bergsma, J. Korean Stat. Soc. 42(3), 2013, eq. 6 to 9."""
    rows = len(left)
    table = np.bincount(left * b + right, minlength=a * b).reshape(a, b)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / rows
    phi = float(((table - expected) ** 2 / expected).sum()) / rows
    if rows < _LEAST_ROWS:
        return None
    phi = max(0.0, phi - (a - 1) * (b - 1) / (rows - 1))
    width = min(a - (a - 1) ** 2 / (rows - 1), b - (b - 1) ** 2 / (rows - 1)) - 1
    return round(min(1.0, (phi / width) ** 0.5), _DIGITS) if width > 0 else None
