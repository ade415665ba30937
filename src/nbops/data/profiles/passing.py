"""One pass over the pieces of one column: its figures, and a sample of its rows for what is looked at together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbops.data.columns import Array, Column, Hashes, hashes
from nbops.data.profiles.counting import Rows, sample_rows, within
from nbops.data.profiles.numbers import Numbers, seconds
from nbops.data.profiles.texts import Values, bool_figures

Chunks = Callable[[], Iterable[Column]]  # the pieces of one column in order, as often as they are asked for

_TEXTS_SEEN = 2000  # texts that are read to tell what a column means


@dataclass(frozen=True, eq=False)
class Passed:
    """What one pass gives.

    Attributes
    ----------
    figures : dict
        As `profile_frame` describes them.
    texts : tuple of str
        Texts of a column of texts, from a sample of its rows.
    sample : array or None
        Of the rows `picks`: float64 of numbers (NaN where missing or infinite), or hashes of texts and bools.
    """

    figures: dict[str, Any]
    texts: tuple[str, ...] = ()
    sample: Array | None = None


def pass_over(
    chunks: Chunks, rows: int, *, picks: Rows | None = None, each: Callable[[int, Hashes], None] | None = None
) -> Passed:
    """Return the figures of one column.

    Parameters
    ----------
    chunks : callable
        Gives the pieces of the column; called a second time only to look at single rows.
    rows : int
        How many rows there are in all.
    picks : int array, ascending, optional
        Rows to sample.
    each : callable, optional
        Called with the first row and the hashes of each piece.
    """
    seen = _Seen(rows, np.zeros(0, np.int64) if picks is None else picks, each)
    for column in chunks():
        seen.add(column)
    return seen.result(chunks)


@dataclass(eq=False)
class _Seen:
    rows: int
    picks: Rows
    each: Callable[[int, Hashes], None] | None
    start: int = 0
    missing: int = 0
    cells: int = 0
    true: int = 0
    dtypes: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    numbers: Numbers | None = None
    values: Values | None = None
    ends: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    sample: list[Array] = field(default_factory=list)

    def add(self, column: Column) -> None:
        self.missing += column.missing_count
        self.cells += int(column.values.size) if column.is_tensor else column.rows
        if column.dtype not in self.dtypes:
            self.dtypes.append(column.dtype)
        for kind, count in column.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        codes = hashes(column) if column.offsets is not None or self.each is not None else None
        if self.each is not None and codes is not None:
            self.each(self.start, codes)
        if column.offsets is not None and codes is not None:
            self._add_values(column, codes)
        elif column.dtype != "null":
            self._add_numbers(column)
        self._add_sample(column, codes)
        self.start += column.rows

    def _add_values(self, column: Column, codes: Hashes) -> None:
        if self.values is None:
            self.values = Values(self.rows, is_named=column.is_text)
        self.values.add(column, codes)
        if column.is_text:
            rows = within(sample_rows(self.rows, _TEXTS_SEEN), self.start, column.rows)
            self.texts += [value for value in map(column.value, rows.tolist()) if value is not None]
        elif column.dtype == "decimal":
            cells = (column.value(row) for row in range(column.rows))
            self._numbers(self.rows).add(np.array([float(cell) for cell in cells if cell is not None]))
        elif column.dtype == "object" and set(column.kinds) == {"number"}:
            cells = (column.value(row) for row in range(column.rows))
            self._numbers(self.rows).add(np.array([_huge(cell) for cell in cells if cell is not None]))

    def _add_numbers(self, column: Column) -> None:
        present = present_values(column)
        if column.dtype == "bool":
            self.true += int(np.count_nonzero(present))
            return
        if present.dtype.kind in "mM":
            if len(present):
                self.ends += [present.min(), present.max()]
            present = seconds(present)
        expected = self.rows * (column.values.shape[1] if column.is_tensor else 1)
        self._numbers(expected).add(present.reshape(-1))

    def _numbers(self, expected: int) -> Numbers:
        if self.numbers is None:
            self.numbers = Numbers(expected)
        return self.numbers

    def _add_sample(self, column: Column, codes: Hashes | None) -> None:
        place = within(self.picks, self.start, column.rows)
        if not len(self.picks) or column.is_tensor:
            return
        if column.is_number:
            values = column.values[place].astype(np.float64)
            values[~np.isfinite(values)] = np.nan
            if column.missing is not None:
                values[column.missing[place]] = np.nan
            self.sample.append(values)
        elif column.is_text or column.dtype == "bool":
            self.sample.append((hashes(column) if codes is None else codes)[place])

    def result(self, chunks: Chunks) -> Passed:
        known = [dtype for dtype in self.dtypes if dtype != "null"]
        dtype = known[0] if len(known) == 1 else "object" if known else "null"
        figures: dict[str, Any] = {"dtype": dtype, "missing": self.missing}
        if dtype.startswith("tensor"):
            figures["cells"] = self.cells
        if dtype == "bool":
            figures |= bool_figures(self.true, self.rows - self.missing - self.true)
        elif self.values is not None:
            figures |= self.values.figures(lambda rows: list(_look(chunks, rows)))
            if dtype == "text":
                figures |= self.values.lengths()
        elif dtype == "null":
            figures |= {"distinct": 0, "distinct_exact": True}
        if self.kinds and dtype != "text":
            figures["kinds"] = self.kinds
        if self.numbers is not None:
            figures = self._with_numbers(figures, dtype)
        sample = np.concatenate(self.sample) if self.sample else None
        return Passed(figures, tuple(self.texts), sample if sample is not None and len(sample) else None)

    def _with_numbers(self, figures: dict[str, Any], dtype: str) -> dict[str, Any]:
        told = self.numbers.figures() if self.numbers is not None else {}
        if dtype.startswith(("date", "time", "duration")):
            kept: tuple[str, ...] = ("distinct", "distinct_exact", "edges", "counts", "approximate")
            found = figures | {key: told[key] for key in kept if key in told}
            return found | (_span(self.ends) if self.ends else {})
        if dtype == "decimal":
            return figures | {key: value for key, value in told.items() if not key.startswith("distinct")}
        if dtype == "object":  # only where all are numbers; their types may differ, so they have no bins
            kept = ("min", "max", "mean", "std", "skew", "kurtosis", "infinite", "zeros", "negative", "quantiles")
            return figures | ({key: told[key] for key in kept} if set(self.kinds) == {"number"} else {})
        return figures | told


def present_values(column: Column) -> Array:
    """Return the fixed-width values that are not missing: [values]."""
    return column.values if column.missing is None else column.values[~column.missing]


def _huge(tagged: str) -> float:
    """Return the nearest float64 of a number beyond 64 bits, as `nbops.data.objects` writes it."""
    tag, body = tagged[0], tagged[1:]
    if tag == "f":
        return float.fromhex(body)
    return float(body)  # of very long digits infinite


def _span(ends: list[Any]) -> dict[str, str]:
    """Return first and last time as ISO text, in the finest unit that a piece of the column was read in."""
    order = ("D", "s", "ms", "us", "ns")
    unit = max((np.datetime_data(end.dtype)[0] for end in ends), key=order.index)
    family = "datetime64" if ends[0].dtype.kind == "M" else "timedelta64"
    low, high = (one.astype(f"{family}[{unit}]") for one in (min(ends), max(ends)))
    return {"min": str(low), "max": str(high)}


def _look(chunks: Chunks, rows: list[int]) -> Iterator[str]:
    """Yield the values of `rows`, reading no further than the last of them."""
    found: dict[int, str] = {}
    start = 0
    wanted = sorted(rows)
    pieces = iter(chunks())
    while len(found) < len(wanted):
        column = next(pieces)
        while len(found) < len(wanted) and wanted[len(found)] < start + column.rows:
            row = wanted[len(found)]
            found[row] = str(column.value(row - start))
        start += column.rows
    yield from (found[row] for row in rows)
