"""Figures of texts and of other values that are only told apart: distinct, commonest values, lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import MISSING_CODE, Array, Column, hashes
from nbops.data.profiles.counting import (
    EXACT_VALUES,
    DistinctCount,
    Gathered,
    Rows,
    categories,
    commonest,
    sample_rows,
    within,
)
from nbops.data.profiles.numbers import Numbers

MAX_CATEGORIES = 200  # a column with more distinct values is no set of categories: only the commonest are named
TOP = 20

Look = Callable[[list[int]], list[str]]  # rows -> their values as text


class Values:
    """Counts the values of one column by their hashes, piece by piece; texts and bools also by name.

    Above `EXACT_VALUES` rows, what is counted by name comes from a sample of the rows, scaled up.
    """

    def __init__(self, rows: int, *, is_named: bool) -> None:
        self._rows = rows
        self._is_named = is_named
        self.is_exact = rows <= EXACT_VALUES
        self._picks = np.zeros(0, np.int64) if self.is_exact else sample_rows(rows, EXACT_VALUES // 2)
        held = rows if self.is_exact else len(self._picks)
        self._codes = Gathered(held)
        self._lengths = Numbers(held)
        self._distinct = None if self.is_exact else DistinctCount(rows)
        self._start = 0

    def add(self, column: Column, codes: Array) -> None:
        """Add the next rows and their hashes."""
        if self._distinct is not None:
            self._distinct.add(codes[codes != MISSING_CODE])
            place = within(self._picks, self._start, column.rows)
            self._codes.add(codes[place])
        else:
            place = None
            self._codes.add(codes)
        self._start += column.rows
        if column.is_text and column.offsets is not None:
            lengths = text_lengths(column, column.offsets)
            there = slice(None) if place is None else place
            lengths = lengths[there] if column.missing is None else lengths[there][~column.missing[there]]
            self._lengths.add(lengths.astype(np.min_scalar_type(lengths.max(initial=0))))  # one byte each, mostly

    def figures(self, look: Look) -> dict[str, Any]:
        """Return ``distinct``, and of named values ``values`` or ``top``; `look` tells the text in given rows."""
        codes = self._codes.whole()
        if self._is_named:
            found = categories(codes, limit=MAX_CATEGORIES) if len(codes) else (codes.astype(np.int64),) * 2
            if found is not None:
                first, counts = found
                return self._told("values", len(first), first, counts, look)
        distinct, top, counts = self._commonest(codes)
        if not self._is_named:
            return self._told("", distinct, np.zeros(0, np.int64), counts[:0], look)
        first = np.array([int(np.argmax(codes == code)) for code in top], np.int64)
        return self._told("top", distinct, first, counts, look)

    def _commonest(self, codes: Array) -> tuple[int, Array, Rows]:
        ordered = codes[codes != MISSING_CODE]
        ordered.sort()
        return commonest(ordered, limit=TOP)

    def _told(self, key: str, distinct: int, first: Rows, counts: Rows, look: Look) -> dict[str, Any]:
        if self._distinct is not None:
            distinct = self._distinct.estimate()
            scale = self._rows / max(1, len(self._picks))
            counts = np.round(counts * scale).astype(np.int64)
            first = self._picks[first]
        found: dict[str, Any] = {"distinct": distinct, "distinct_exact": self.is_exact}
        if key:
            pairs = zip(look(first.tolist()), counts.tolist(), strict=True)
            found[key] = dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
        if not self.is_exact:
            found["approximate"] = ["distinct", *([key] if key else []), "lengths"]
        return found

    def lengths(self) -> dict[str, Any]:
        """Return the figures of the lengths of texts, in characters."""
        told = self._lengths.figures()
        return {
            "min_length": told["min"], "max_length": told["max"], "mean_length": told["mean"],
            "lengths": {"edges": told["edges"], "counts": told["counts"]},
        }  # fmt: skip


def value_counts(column: Column, *, limit: int) -> dict[str, int] | None:
    """Return how often each value occurs, by its text, commonest first; None if there are more than `limit`.

    Missing cells are not counted.
    """
    found = categories(hashes(column), limit=limit)
    if found is None:
        return None
    pairs = [(str(column.value(int(row))), int(count)) for row, count in zip(*found, strict=True)]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def text_lengths(column: Column, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many characters each text has: [rows]."""
    if len(column.values) and column.values.max() > 0x7F:
        # characters are the bytes that do not continue one (10xxxxxx)
        starts = np.zeros(len(column.values) + 1, np.int64)
        np.cumsum((column.values & 0xC0) != 0x80, out=starts[1:])
        return np.asarray(np.diff(starts[offsets]))
    return np.asarray(np.diff(offsets))


def bool_figures(true: int, false: int) -> dict[str, Any]:
    """Return the figures of a column of true and false."""
    rows = true + false
    values = {name: count for name, count in (("True", true), ("False", false)) if count}
    found: dict[str, Any] = {"distinct": len(values), "distinct_exact": True}
    found["values"] = dict(sorted(values.items(), key=lambda pair: (-pair[1], pair[0])))
    mean = true / rows if rows else None
    std = None if mean is None else (mean * (1 - mean)) ** 0.5
    return found | {
        "min": None if mean is None else not false, "max": None if mean is None else true > 0,
        "mean": mean, "std": std, "infinite": 0,
    }  # fmt: skip
