"""The rows of a table as lines: one a series, each in the order of its times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.core.records import CheckResult
from nbops.data.columns import Array, Column, Frame, Mask
from nbops.data.leaf import Sample, skipped
from nbops.data.splits.identity import identities
from nbops.data.splits.moments import Times

FEWEST = 12  # rows of a series from which anything is said of it
_MOST_NAMES = 4


@dataclass(frozen=True, eq=False)
class Lines:
    """Rows by series and time; rows without a time are left out.

    Attributes
    ----------
    order : int array [rows]
        Positions in the table: series by series, each by time; equal times in the order of the table.
    starts : int array [series + 1]
        Where each series begins in `order`.
    ticks : array [table rows]
        Times, in `unit`; numbers where `unit` is empty.
    unit : str
    codes : int array [table rows]
        Which series a row belongs to.
    names : list of str
        What each series is called; empty strings where there is one only.
    untimed : bool array [table rows]
        Rows without a time.
    """

    order: Array
    starts: Array
    ticks: Array
    unit: str
    codes: Array
    names: list[str]
    untimed: Mask

    def __len__(self) -> int:
        return len(self.names)

    def each(self) -> Iterator[tuple[str, Array]]:
        """Iterate over name and positions of each series."""
        for name, start, stop in zip(self.names, self.starts[:-1], self.starts[1:], strict=True):
            yield name, self.order[start:stop]

    def moment(self, tick: Any) -> str:
        """Return a time for the eye."""
        return Times(self.ticks, self.ticks, self.unit).shown(tick)

    def within(self, lag: int = 1) -> Mask:
        """Return where `order[i]` and `order[i + lag]` are of one series, bool [len(order) - lag]."""
        codes = self.codes[self.order]
        return np.asarray(codes[lag:] == codes[: len(codes) - lag])


def lines_of(frame: Frame, time: str, series: str | Sequence[str] | None) -> Lines:
    """Return the rows of a table by series and time.

    Raises
    ------
    NotFound
        A column that is not there.
    InvalidInput
        A time column that holds neither times nor numbers.
    """
    column = frame.column(time)
    ticks, unit = _ticks(column)
    names = [series] if isinstance(series, str) else list(series or ())
    keys = [frame.column(name) for name in names]
    untimed = np.zeros(frame.rows, np.bool_) if column.missing is None else column.missing.copy()
    if keys:
        _, firsts, codes = np.unique(identities(keys, frame.rows), return_index=True, return_inverse=True)
        said = ["/".join(str(key.value(int(row))) for key in keys) for row in firsts]
    else:
        codes, said = np.zeros(frame.rows, np.int64), [""] if frame.rows else []
    order = np.lexsort((ticks, codes))
    order = order[~untimed[order]]
    starts = np.searchsorted(codes[order], np.arange(len(said) + 1))
    return Lines(order, starts, ticks, unit, codes, said, untimed)


def lines_or_why(sample: Sample, time: str | None, series: str | Sequence[str] | None) -> Lines | CheckResult:
    """Return the lines of a sample, or the result that says why there are none."""
    if not time:
        dated = [column.name for column in sample.columns if column.dtype.startswith("date")]
        return skipped("no time was given", fix=f'Pass time="{dated[0]}".' if dated else "Pass time=, a column.")
    if not sample.rows:
        return skipped("there are no rows")
    return lines_of(sample.frame, time, series)


def measured_columns(sample: Sample, time: str | None, series: str | Sequence[str] | None) -> list[Column]:
    """Return the columns of numbers that are measured in the course of time."""
    keys = {time, *([series] if isinstance(series, str) else series or ())}
    return [column for column in sample.columns if column.is_number and column.name not in keys]


def values_of(column: Column) -> Array:
    """Return numbers as float64, NaN where they are missing."""
    values = column.values.astype(np.float64)
    if column.missing is not None:
        values[column.missing] = np.nan
    return values


def listed(names: Sequence[str]) -> str:
    """Return some names for a message."""
    named = [name for name in names if name]
    more = f" and {len(named) - _MOST_NAMES} more" if len(named) > _MOST_NAMES else ""
    return ", ".join(named[:_MOST_NAMES]) + more


def _ticks(column: Column) -> tuple[Array, str]:
    if column.offsets is None and column.values.dtype.kind == "M":
        return column.values.astype(np.int64), np.datetime_data(column.values.dtype)[0]
    if column.is_number:
        return np.where(np.isfinite(column.values), column.values, 0) if column.is_float else column.values, ""
    hint = f"Convert it: df['{column.name}'] = pd.to_datetime(df['{column.name}'], utc=True)."
    raise InvalidInput(f"time column '{column.name}' holds {column.dtype}, neither times nor numbers", hint=hint)
