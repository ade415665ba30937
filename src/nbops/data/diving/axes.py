"""A column as a few labelled bins: a code for each row, so that any combination of columns is counted at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput
from nbops.data.columns import Column, hashes
from nbops.data.drifting.bars import value_text
from nbops.data.drifting.counting import decimal_values, family
from nbops.data.profiles.numbers import seconds

MISSING, OTHER = "(missing)", "(other)"
_FAR = 2.0  # extremes so many times as far apart as the 1 % quantiles share the outermost bins
_QUANTILE_ROWS = 200_000


@dataclass(frozen=True, eq=False)
class Axis:
    """One column in bins.

    Attributes
    ----------
    name : str
    labels : list of str
        What the bins hold, in order.
    codes : int16 array [rows]
        Which bin each row is in.
    is_ordered : bool
        Whether the bins are ranges of numbers or times.
    values : float array [rows] or None
        The numbers themselves, times as seconds; NaN where they are missing or infinite.
    """

    name: str
    labels: list[str]
    codes: NDArray[np.int16]
    is_ordered: bool = False
    values: NDArray[np.float64] | None = field(default=None, repr=False)


def axis_of(column: Column, *, most: int) -> Axis:
    """Return a column in at most `most` bins, and one more for missing cells if there are any.

    Raises
    ------
    InvalidInput
        Images and other tensors have no bins.
    """
    kind = family(column.dtype)
    if kind == "tensor":
        raise InvalidInput(f"column '{column.name}' holds {column.dtype}, which has no bins",
                           hint="Choose numbers, times or categories; tensors are shown with the rows.")  # fmt: skip
    if kind in ("number", "time", "duration"):
        values = _numbers(column)
        good = values[np.isfinite(values)]
        known = np.unique(good[:_QUANTILE_ROWS]) if kind == "number" else np.zeros(0)
        if 0 < len(known) <= most and bool((known % 1 == 0).all() and np.isin(good, known).all()):
            return _of_few(column.name, values, known)  # whole numbers, also those that came as floats
        is_whole = column.dtype.startswith(("int", "uint")) and len(known) > 0
        return _of_ranges(column.name, kind, values, most, is_whole=is_whole)
    return _of_values(column, most)


def _numbers(column: Column) -> NDArray[np.float64]:
    """Return numbers, or times in seconds: NaN where they are missing or infinite."""
    raw = decimal_values(column) if column.dtype == "decimal" else column.values
    values = (seconds(raw) if raw.dtype.kind in "mM" else raw).astype(np.float64)
    if column.missing is not None:
        values[column.missing] = np.nan
    values[~np.isfinite(values)] = np.nan
    return values


def _of_few(name: str, values: NDArray[np.float64], whole: NDArray[np.float64]) -> Axis:
    codes = np.searchsorted(whole, np.nan_to_num(values)).astype(np.int16)
    return _with_missing(name, [f"{value:.0f}" for value in whole], codes, np.isnan(values), True, values)


def span_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range that is drawn: of far extremes, only up to the 1 % quantiles."""
    good = values[np.isfinite(values)]
    if not len(good):
        return 0.0, 0.0
    low, high = float(good.min()), float(good.max())
    near, far = np.quantile(good[:: max(1, len(good) // _QUANTILE_ROWS)], (0.01, 0.99))
    return (float(near), float(far)) if far > near and high - low > _FAR * (far - near) else (low, high)


def _of_ranges(name: str, kind: str, values: NDArray[np.float64], most: int, *, is_whole: bool) -> Axis:
    if not np.isfinite(values).any():
        return _with_missing(name, [], np.zeros(len(values), np.int16), np.isnan(values), True, values)
    low, high = span_of(values)
    marks = _round_marks(low, high, most, kind)
    codes = np.searchsorted(marks, np.nan_to_num(values), side="right").astype(np.int16)
    words = [value_text(kind, mark) for mark in marks]
    is_single = is_whole and len(marks) > 1 and marks[1] - marks[0] == 1
    inner = words[:-1] if is_single else [f"{a} to {b}" for a, b in pairwise(words)]
    labels = [f"below {words[0]}", *inner, f"{words[-1]} and more"] if words else [f"{value_text(kind, low)}"]
    kept = np.unique(codes)  # a bin beyond the data would only take room
    first, last = int(kept[0]), int(kept[-1])
    return _with_missing(name, labels[first : last + 1], codes - np.int16(first), np.isnan(values), True, values)


def _round_marks(low: float, high: float, most: int, kind: str) -> NDArray[np.float64]:
    """Return round numbers inside a range, so many that at most `most` bins come about."""
    if not high > low:
        return np.zeros(0)
    for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100):
        unit = 86_400.0 if kind == "time" and high - low > 86_400 else 1.0
        power = 10.0 ** np.floor(np.log10((high - low) / unit / most))
        step = unit * power * factor
        marks: NDArray[np.float64] = np.arange(np.floor(low / step) + 1, np.ceil(high / step)) * step
        if len(marks) < most:
            return marks
    return np.zeros(0)


def _of_values(column: Column, most: int) -> Axis:
    """Return the commonest values, by their number of rows, and one bin for all others."""
    keys, places, inverse, counts = np.unique(
        hashes(column), return_index=True, return_inverse=True, return_counts=True
    )
    gone = np.zeros(column.rows, bool) if column.missing is None else column.missing
    is_gone = gone[places]
    order = np.lexsort((places, -counts))
    order = order[~is_gone[order]]
    is_all = len(order) <= most
    kept = order if is_all else order[: most - 1]
    of_key = np.full(len(keys), len(kept), np.int16)
    of_key[kept] = np.arange(len(kept), dtype=np.int16)
    labels = [_label(column.value(int(places[key]))) for key in kept] + ([] if is_all else [OTHER])
    return _with_missing(column.name, labels, of_key[inverse], gone, False, None)


def _label(value: Any) -> str:
    return str(value) if str(value).strip() else "(empty)"


def _with_missing(
    name: str, labels: list[str], codes: NDArray[np.int16], gone: NDArray[np.bool_], is_ordered: bool,
    values: NDArray[np.float64] | None,
) -> Axis:  # fmt: skip
    codes = codes.astype(np.int16)
    if gone.any() or not labels:
        codes[gone] = len(labels)
        labels = [*labels, MISSING]
    return Axis(name, labels, codes, is_ordered, values)


def one_bin(rows: int) -> Axis:
    """Return the axis of no column: all rows are alike."""
    return Axis("", [""], np.zeros(rows, np.int16))
