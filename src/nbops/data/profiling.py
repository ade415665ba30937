"""A small profile of each column: enough to describe a dataset and to check later data against it.

Deterministic: the same data gives the same profile. Only `distinct` of large columns is an
estimate, and says so by ``distinct_exact``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array, Column, Frame, hashes

MAX_CATEGORIES = 200  # a text column with more distinct values is free text, not a set of categories
EXACT_ROWS = 100_000  # up to here distinct values are counted, above they are estimated where it saves time
_SMALL_RANGE = 1 << 16  # integers that span less are counted by marking what was seen
_BITMAP_BITS = 27  # at most 128 MiB; linear counting stays within 1 % up to as many distinct values


def profile_frame(frame: Frame) -> dict[str, Any]:
    """Return ``{"rows": …, "label": …, "columns": {name: profile}}`` of plain values that can be stored.

    Each column has ``dtype``, ``missing``, ``distinct``, ``distinct_exact``; numbers have ``min``, ``max``,
    ``mean``, ``std``, ``infinite`` (over the finite values; None if there are none); text has
    ``min_length``, ``max_length``, ``mean_length`` in characters; text and bool with few values have
    ``values``, their counts; times have ``min`` and ``max`` as ISO text.
    """
    return {
        "rows": frame.rows,
        "label": frame.label,
        "columns": {column.name: profile_column(column) for column in frame.columns},
    }


def profile_column(column: Column) -> dict[str, Any]:
    """Return the profile of one column; see `profile_frame`."""
    stats: dict[str, Any] = {"dtype": column.dtype, "missing": column.missing_count}
    if column.is_tensor:
        return stats | {"cells": int(column.values.size)} | _numbers(_present(column))
    if column.is_text or column.dtype == "bool":
        values = value_counts(column, limit=MAX_CATEGORIES)
        if values is not None:
            stats |= {"distinct": len(values), "distinct_exact": True, "values": values}
        else:
            stats |= _distinct(column)
    else:
        stats |= _distinct(column)
    if column.is_text and column.offsets is not None:
        return stats | _lengths(column, column.offsets)
    if column.offsets is not None or column.dtype == "null":
        return stats | ({"kinds": column.kinds} if column.kinds else {})
    present = _present(column)
    if column.values.dtype.kind in "mM":
        return stats | ({"min": str(present.min()), "max": str(present.max())} if len(present) else {})
    return stats | _numbers(present)


def value_counts(column: Column, *, limit: int) -> dict[str, int] | None:
    """Return how often each value occurs, by its text, commonest first; None if there are more than `limit`.

    Missing cells are not counted.
    """
    codes = hashes(column)
    bucket = (codes >> np.uint64(48)).astype(np.intp)
    sizes = np.bincount(bucket, minlength=1 << 16)
    if np.count_nonzero(sizes) > limit + 1:  # one for missing
        return None
    first = np.zeros(1 << 16, np.intp)
    first[bucket[::-1]] = np.arange(column.rows - 1, -1, -1)  # the last assignment stays: the first row
    if np.array_equal(codes, codes[first[bucket]]):
        counts = sizes[sizes > 0]
        first = first[sizes > 0]
    else:  # two values in one bucket: sort
        _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    if column.missing is not None:
        there = ~column.missing[first]
        first, counts = first[there], counts[there]
    if len(first) > limit:
        return None
    pairs = [(str(column.value(int(row))), int(count)) for row, count in zip(first, counts, strict=True)]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _present(column: Column) -> Array:
    return column.values if column.missing is None else column.values[~column.missing]


def _distinct(column: Column) -> dict[str, Any]:
    """Return the number of distinct present values, exact for small columns and small integer ranges."""
    if column.offsets is None and column.values.dtype.kind in "iu":
        present = _present(column)
        low, high = (int(present.min()), int(present.max())) if len(present) else (0, 0)
        if high - low < _SMALL_RANGE:
            seen = np.zeros(high - low + 1, np.bool_)
            wide = present if present.dtype.itemsize == 8 else present.astype(np.int64)  # room for the difference
            seen[wide - wide.dtype.type(low)] = True
            return {"distinct": int(np.count_nonzero(seen)), "distinct_exact": True}
    codes = hashes(column)
    if column.missing is not None:
        codes = codes[~column.missing]
    if column.rows > EXACT_ROWS:
        estimate = _estimate(codes)
        if column.offsets is None or estimate > MAX_CATEGORIES:
            return {"distinct": estimate, "distinct_exact": False}
    return {"distinct": len(np.unique(codes)), "distinct_exact": True}


def _estimate(codes: Array) -> int:
    """Return about how many distinct hashes there are (linear counting: Whang et al. 1990)."""
    if not len(codes):
        return 0
    bits = min(_BITMAP_BITS, max(16, len(codes).bit_length()))
    seen = np.zeros(1 << bits, np.bool_)
    seen[codes >> np.uint64(64 - bits)] = True
    empty = len(seen) - int(np.count_nonzero(seen))
    if not empty:
        return len(codes)
    return min(len(codes), round(-len(seen) * math.log(empty / len(seen))))


def _numbers(present: Array) -> dict[str, Any]:
    flat = present.reshape(-1)
    infinite = 0
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        infinite = len(flat) - int(np.count_nonzero(finite))
        flat = flat[finite] if infinite else flat
    if not len(flat):
        return {"min": None, "max": None, "mean": None, "std": None, "infinite": infinite}
    low, high = flat.min().item(), flat.max().item()
    scale = float(max(abs(low), abs(high))) or 1.0
    if scale < 1e150:  # no square can overflow
        mean, std = float(flat.mean(dtype=np.float64)), float(flat.std(dtype=np.float64))
    else:
        scaled = flat / scale
        mean, std = float(scaled.mean() * scale), float(scaled.std() * scale)
    return {"min": low, "max": high, "mean": mean, "std": std, "infinite": infinite}


def _lengths(column: Column, offsets: NDArray[np.int64]) -> dict[str, Any]:
    lengths = np.diff(offsets)
    if len(column.values) and column.values.max() > 0x7F:
        # characters are the bytes that do not continue one (10xxxxxx)
        starts = np.zeros(len(column.values) + 1, np.int64)
        np.cumsum((column.values & 0xC0) != 0x80, out=starts[1:])
        lengths = np.diff(starts[offsets])
    if column.missing is not None:
        lengths = lengths[~column.missing]
    if not len(lengths):
        return {"min_length": None, "max_length": None, "mean_length": None}
    return {
        "min_length": int(lengths.min()),
        "max_length": int(lengths.max()),
        "mean_length": float(lengths.mean()),
    }
