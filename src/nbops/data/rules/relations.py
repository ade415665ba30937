"""Rules about how rows, and columns of one row, relate: keys, order, sums, references."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from nbops.data.columns import Array, Mask, hashes, row_hashes
from nbops.data.datasets import read_data
from nbops.data.frames import read
from nbops.data.rules.base import ColumnRule, ColumnsRule, Outcome, check_order, of_mask, span
from nbops.data.rules.facts import Facts, Unfit, among


class Unique(ColumnRule, frozen=True, kw_only=True):
    """No value occurs twice; missing cells do not count. The first of equal values stays, later ones are wrong."""

    fix: ClassVar[str] = "Drop the repetitions, or look at the join that made them."

    def look(self, facts: Facts) -> Outcome:
        """Compare hashes in order."""
        codes, there = facts.hashes(self.column), facts.there(self.column)
        return _repeats(codes, there, facts.present(self.column), "values repeat an earlier one")


class Key(ColumnsRule, frozen=True, kw_only=True):
    """The columns together tell rows apart, and none of them is missing."""

    fix: ClassVar[str] = "Drop the repetitions, or look at the join that made them."

    def look(self, facts: Facts) -> Outcome:
        """Compare hashes over the columns in order."""
        columns = [facts.column(name) for name in self.columns]
        codes, gone = row_hashes(columns, facts.rows), np.zeros(facts.rows, np.bool_)
        for name in self.columns:
            there = facts.there(name)
            gone |= False if there is None else ~there
        what = "rows repeat an earlier key or have a part of it missing"
        found = _repeats(codes, None, facts.rows, what)
        if not found.bad and not gone.any():
            return found
        repeats = found.rows() if found.rows else gone
        return of_mask(gone | repeats, facts.rows, what)


def _repeats(codes: Array, there: Mask | None, of: int, what: str) -> Outcome:
    """Return the outcome of hashes that occur before; the mask is made only where there are any."""
    ordered = np.sort(codes if there is None else codes[there])
    bad = int(np.count_nonzero(ordered[1:] == ordered[:-1]))

    def rows() -> Mask:
        mask = np.ones(len(codes), np.bool_)
        mask[np.unique(codes, return_index=True)[1]] = False
        return mask if there is None else mask & there

    return Outcome(bad, of, what, rows if bad else None)


class Increasing(ColumnRule, frozen=True, kw_only=True):
    """Numbers or dates do not fall from one row to the next; missing cells do not count.

    Attributes
    ----------
    is_strict : bool
        Whether equal neighbours are wrong too.
    is_falling : bool
        Whether they must not rise instead.
    """

    is_strict: bool = False
    is_falling: bool = False

    fix: ClassVar[str] = "Sort the rows, or look at where the order was lost."

    def look(self, facts: Facts) -> Outcome:
        """Compare neighbours."""
        values = _ordered_values(facts, self.column)
        there = facts.there(self.column)
        rows = np.arange(len(values)) if there is None else np.flatnonzero(there)
        before, after = values[rows][:-1], values[rows][1:]
        if self.is_falling:
            before, after = after, before
        wrong = ~(before < after) if self.is_strict else before > after
        mask = np.zeros(len(values), np.bool_)
        mask[rows[1:][wrong]] = True
        return of_mask(mask, len(rows), f"values {'rise' if self.is_falling else 'fall'} against the one before")


def _ordered_values(facts: Facts, name: str) -> Array:
    column = facts.column(name)
    if column.offsets is None and column.values.dtype.kind in "mM":
        return column.values
    values = facts.numbers(name)
    if values.ndim == 2:
        raise Unfit("holds arrays, which have no order")
    return values


class Ordered(ColumnsRule, frozen=True, kw_only=True):
    """In each row the columns rise from left to right: ``["start", "end"]``. Equal is fine unless `is_strict`."""

    is_strict: bool = False

    fewest: ClassVar[int] = 2
    fix: ClassVar[str] = "Correct the rows: swapped columns, a wrong time zone, a typo."

    def look(self, facts: Facts) -> Outcome:
        """Compare the columns two by two."""
        bad, seen = np.zeros(facts.rows, np.bool_), np.zeros(facts.rows, np.bool_)
        for left, right in zip(self.columns, self.columns[1:], strict=False):
            one, two, both = _ordered_values(facts, left), _ordered_values(facts, right), _both(facts, [left, right])
            if (one.dtype.kind in "mM") != (two.dtype.kind in "mM"):
                raise Unfit(f"'{left}' and '{right}' cannot be compared")
            bad |= both & (~(one < two) if self.is_strict else one > two)
            seen |= both
        return of_mask(bad, int(np.count_nonzero(seen)), f"rows have {' > '.join(self.columns[:2])}")


class SumsTo(ColumnsRule, frozen=True, kw_only=True):
    """In each row the columns sum to another column, or to a number.

    Attributes
    ----------
    total : str or float
        Name of the column of the sum, or the sum.
    tolerance : float
        Largest difference, as a share of the total (or absolute, for totals below 1).
    """

    total: str | float | int
    tolerance: float = 1e-6

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns, and that of the total."""
        return (*self.columns, self.total) if isinstance(self.total, str) else self.columns

    def look(self, facts: Facts) -> Outcome:
        """Add the columns up."""
        summed = sum((_flat(facts, name) for name in self.columns), np.zeros(facts.rows))
        total = _flat(facts, self.total) if isinstance(self.total, str) else np.full(facts.rows, float(self.total))
        both = _both(facts, list(self.needs))
        bad = both & ~(np.abs(summed - total) <= self.tolerance * np.maximum(1.0, np.abs(total)))
        return of_mask(bad, int(np.count_nonzero(both)), f"rows do not sum to {self.total}")


class RatioInRange(ColumnRule, frozen=True, kw_only=True):
    """The column divided by another lies between two limits. A division by zero is outside.

    Attributes
    ----------
    to : str
        The column to divide by.
    low, high : float, optional
    """

    to: str
    low: float | int | None = None
    high: float | int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self, self.low, self.high)

    @property
    def needs(self) -> tuple[str, ...]:
        """Both columns."""
        return (self.column, self.to)

    def look(self, facts: Facts) -> Outcome:
        """Divide and compare."""
        both = _both(facts, [self.column, self.to])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = _flat(facts, self.column) / _flat(facts, self.to)
        low, high = -np.inf if self.low is None else self.low, np.inf if self.high is None else self.high
        bad = both & ~((ratio >= low) & (ratio <= high) & np.isfinite(ratio))
        what = f"rows have {self.column} / {self.to} outside {span(self.low, self.high)}"
        return of_mask(bad, int(np.count_nonzero(both)), what)


def _flat(facts: Facts, name: str) -> Array:
    values = facts.numbers(name)
    if values.ndim == 2:
        raise Unfit(f"'{name}' holds arrays, not numbers")
    return values.astype(np.float64)


def _both(facts: Facts, names: list[str]) -> Mask:
    """Return the rows in which none of the columns is missing."""
    found = np.ones(facts.rows, np.bool_)
    for name in names:
        there = facts.there(name)
        if there is not None:
            found &= there
    return found


class FoundIn(ColumnRule, frozen=True, kw_only=True):
    """Values occur in another table: a foreign key.

    Attributes
    ----------
    other : str or data
        A stored dataset (``"countries"``, ``"countries/2"``), or data. Only a name can be written to a file.
    other_column : str
        The column there; of the same name if empty.
    """

    other: Any
    other_column: str = ""

    fix: ClassVar[str] = "Add the missing entries to the other table, or correct the values."

    def look(self, facts: Facts) -> Outcome:
        """Compare hashes with those of the other column."""
        frame = read(read_data(self.other) if isinstance(self.other, str) else self.other)
        other = frame.columns[0] if len(frame.columns) == 1 else frame.column(self.other_column or self.column)
        bad, there = ~among(facts.hashes(self.column), hashes(other)), facts.there(self.column)
        where = f"'{self.other}'" if isinstance(self.other, str) else "the other table"
        return of_mask(bad if there is None else bad & there, facts.present(self.column), f"values are not in {where}")


class Determines(ColumnRule, frozen=True, kw_only=True):
    """Rows that agree in this column agree in another: a postcode has one town.

    Where they differ, the rows without the commonest value are wrong.

    Attributes
    ----------
    other : str
        The column that is determined.
    """

    other: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Both columns."""
        return (self.column, self.other)

    def look(self, facts: Facts) -> Outcome:
        """Count pairs."""
        both = _both(facts, [self.column, self.other])
        rows = np.flatnonzero(both)
        left = facts.distinct(self.column)[1][rows]
        right = facts.distinct(self.other)[1][rows]
        pairs, first, inverse, counts = np.unique(
            left.astype(np.int64) * (facts.rows + 1) + right, return_index=True, return_inverse=True, return_counts=True
        )
        group = pairs // (facts.rows + 1)
        best = np.lexsort((first, -counts, group))  # the commonest of each group first, the earlier of equals
        is_best = np.zeros(len(pairs), np.bool_)
        is_best[best[np.flatnonzero(np.diff(group[best], prepend=-1))]] = True
        mask = np.zeros(facts.rows, np.bool_)
        mask[rows[~is_best[inverse.reshape(-1)]]] = True
        return of_mask(mask, len(rows), f"rows have another {self.other} than most with the same {self.column}")
