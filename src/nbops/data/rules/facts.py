"""What the rules of a suite ask about the same columns, each computed once: extremes, lengths, hashes, texts.

All is lazy, so that a rule which holds costs one pass or none, and masks of rows are made only where rows are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column, Frame, Hashes, Mask, hashes
from nbops.data.objects import from_objects
from nbops.data.rows import take_column, take_rows

T = TypeVar("T")


class Unfit(Exception):
    """A rule does not fit the type of its column: a finding, not a crash."""


class Facts:
    """Columns of a frame, or of some of its rows, and what was computed of them.

    Parameters
    ----------
    frame : Frame
    positions : int array, optional
        Rows to look at, [chosen]; all if None.
    """

    def __init__(self, frame: Frame, *, positions: Array | None = None) -> None:
        self.frame = frame
        self.positions = positions
        self.rows = frame.rows if positions is None else len(positions)
        self._known: dict[tuple[str, str], Any] = {}

    @property
    def native(self) -> Any:
        """The caller's own object, or its chosen rows."""
        return self._once("", "native", lambda: self.frame.native if self.positions is None
                          else take_rows(self.frame.native, self.positions))  # fmt: skip

    def column(self, name: str) -> Column:
        """Return the column with the rows that are looked at."""
        whole = self.frame.column(name)
        positions = self.positions
        if positions is None:
            return whole
        return self._once(name, "column", lambda: take_column(whole, positions))

    def there(self, name: str) -> Mask | None:
        """Return which rows are present; None if all are. A tensor's row is present if any cell is."""
        missing = self.column(name).missing
        if missing is None:
            return None

        def make() -> Mask:
            return ~np.asarray(missing.all(axis=1) if missing.ndim == 2 else missing)

        return self._once(name, "there", make)

    def present(self, name: str) -> int:
        """Return how many rows are present."""
        there = self.there(name)
        return self.rows if there is None else self._once(name, "present", lambda: int(np.count_nonzero(there)))

    def numbers(self, name: str) -> Array:
        """Return numbers, [rows] or [rows, cells]; raise `Unfit` for what is none. Missing cells are undefined."""
        column = self.column(name)
        if column.is_number or column.is_tensor or column.dtype == "bool":
            return column.values
        if column.dtype == "decimal":
            return self._once(name, "numbers", lambda: np.array(
                [0.0 if (v := column.value(i)) is None else float(v) for i in range(column.rows)]))  # fmt: skip
        raise Unfit(f"holds {column.dtype}, not numbers")

    def extremes(self, name: str, values: Array) -> tuple[Any, Any]:
        """Return least and greatest of the present `values` of a column; None, None where there are none."""
        return self._once(name, "extremes", lambda: _extremes(values, self.column(name).missing))

    def hashes(self, name: str) -> Hashes:
        """Return one hash a row; see `columns.hashes`."""
        return self._once(name, "hashes", lambda: hashes(self.column(name)))

    def lengths(self, name: str) -> Array:
        """Return the number of characters of each text, int64 [rows]; raise `Unfit` where there is no text."""
        column = self.column(name)
        if not column.is_text:
            raise Unfit(f"holds {column.dtype}, not text")
        return self._once(name, "lengths", lambda: text_lengths(column))

    def distinct(self, name: str) -> tuple[Array, Array, Array]:
        """Return first rows, inverse [rows] and counts of the distinct values; missing is one of them."""

        return self._once(name, "distinct", lambda: _distinct(self.hashes(name)))

    def dates(self, name: str) -> Array:
        """Return dates or datetimes as datetime64 [rows]; raise `Unfit` for what is none."""
        column = self.column(name)
        if column.values.dtype.kind != "M":
            raise Unfit(f"holds {column.dtype}, not dates")
        return column.values

    def _once(self, name: str, what: str, make: Callable[[], T]) -> T:
        key = (name, what)
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found


def _distinct(codes: Hashes) -> tuple[Array, Array, Array]:
    """Return first rows, inverse and counts of the distinct hashes, in the order of the hashes."""
    bucket = (codes >> np.uint64(48)).astype(np.intp)
    sizes = np.bincount(bucket, minlength=1 << 16)
    used = np.flatnonzero(sizes)
    if len(used) < 1 << 13:  # few values: no sorting, unless two of them share a bucket
        first = np.zeros(1 << 16, np.intp)
        first[bucket[::-1]] = np.arange(len(codes) - 1, -1, -1)  # the last assignment stays: the first row
        if np.array_equal(codes, codes[first[bucket]]):
            rank = np.zeros(1 << 16, np.intp)
            rank[used] = np.arange(len(used))
            return first[used], rank[bucket], sizes[used]
    _, first, inverse, counts = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse.reshape(-1), counts


def _extremes(values: Array, missing: Mask | None) -> tuple[Any, Any]:
    if missing is not None:
        if values.dtype.kind == "f" and not missing.all():
            return np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        values = values[~missing]
    return (values.min(), values.max()) if values.size else (None, None)


def text_lengths(column: Column) -> Array:
    """Return the characters of each text, int64 [rows]; 0 where it is missing."""
    if column.offsets is None:
        raise InvalidInput(f"column '{column.name}' is no text", hint="Give a text column.")
    if len(column.values) and column.values.max() > 0x7F:
        # characters are the bytes that do not continue one (10xxxxxx)
        starts = np.zeros(len(column.values) + 1, np.int64)
        np.cumsum((column.values & 0xC0) != 0x80, out=starts[1:])
        return np.diff(starts[column.offsets])
    return np.diff(column.offsets)


def texts(column: Column, rows: Array) -> list[str]:
    """Return the texts at some rows."""
    if column.offsets is None:
        return [str(column.value(int(row))) for row in rows]
    data, offsets = column.values.tobytes(), column.offsets.tolist()
    return [data[offsets[row] : offsets[row + 1]].decode("utf-8", "replace") for row in rows.tolist()]


def among(codes: Hashes, known: Hashes) -> Mask:
    """Tell for each hash whether it is one of `known`: one look into a table by the first 16 bits."""
    known = np.unique(known)
    bucket = (known >> np.uint64(48)).astype(np.intp)
    if len(known) > 4096 or len(np.unique(bucket)) < len(known):  # many, or two of them in one bucket
        has_any = np.zeros(1 << 16, np.bool_)
        has_any[bucket] = True
        found: Mask = has_any[(codes >> np.uint64(48)).astype(np.intp)]
        found[found] = np.isin(codes[found], known)
        return found
    table = (~np.arange(1 << 16, dtype=np.uint64)) << np.uint64(48)  # of another bucket: equal to nothing
    table[bucket] = known
    same: Mask = table[(codes >> np.uint64(48)).astype(np.intp)] == codes
    return same


def hashes_of(column: Column, values: Any) -> Hashes:
    """Return the hashes that `values` would have in `column`; values that cannot be in it have none."""
    if column.offsets is not None:
        return hashes(from_objects(column.name, [str(value) for value in values])) if len(values) else _NONE
    kind, fit = column.values.dtype, []
    for value in values:
        try:
            made = np.datetime64(value) if kind.kind == "M" else value
            if kind.kind == "b":
                made = {"true": True, "false": False}[str(value).lower()]
            cell = np.array([made]).astype(kind)
            if kind.kind in "iu" and cell[0] != made:
                continue
        except (ValueError, TypeError, OverflowError, KeyError):
            continue
        fit.append(cell[0])
    return hashes(Column(column.name, column.dtype, np.array(fit, kind))) if fit else _NONE


_NONE: Hashes = np.zeros(0, np.uint64)
