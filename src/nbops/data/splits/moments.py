"""Splits in time: the newest rows are the test set, and what would tell about them is left out."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column
from nbops.data.splits.sides import LEFT_OUT, TEST, TRAIN, VAL, Codes

_NANOS = {"D": 86_400 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_WORDS = {"w": 7 * 86_400, "d": 86_400, "h": 3_600, "min": 60, "s": 1}  # seconds
_GAP = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(w|d|h|min|s)\s*")


@dataclass(frozen=True, eq=False)
class Times:
    """When each row begins and ends, in ticks of `unit`: numbers [rows]; `unit` is empty for plain numbers.

    `end` is where the label is known: of "bought within 30 days", thirty days later.
    """

    start: Array
    end: Array
    unit: str

    def shown(self, tick: Any) -> str:
        """Return a tick for the eye; days without a time of day."""
        if not self.unit:
            return f"{tick:.6g}"
        said = str(np.array([int(tick)], f"M8[{self.unit}]")[0]).partition(".")
        return said[0].removesuffix("T00:00:00") if not said[2].strip("0") else "".join(said)


def read_times(columns: Sequence[Column]) -> Times:
    """Return the times of one column, or of two: begin and end.

    Raises
    ------
    InvalidInput
        More than two columns, a column that is no time and no number, missing cells, an end before its begin.
    """
    if len(columns) > 2:
        raise InvalidInput(f"time names {len(columns)} columns", hint="Name one column, or begin and end.")
    for column in columns:
        if not (column.is_number or column.dtype.startswith("date")):
            raise InvalidInput(f"time column '{column.name}' is {column.dtype}",
                               hint="Convert it to dates or numbers.")  # fmt: skip
        if column.missing_count:
            raise InvalidInput(f"time column '{column.name}' has {column.missing_count:,} missing cells",
                               hint="Drop those rows, or fill in when they happened.")  # fmt: skip
    units = [_unit(column) for column in columns]
    if len(set(map(bool, units))) > 1:
        raise InvalidInput(f"time columns '{columns[0].name}' and '{columns[1].name}' are of different sorts",
                           hint="Give both as times, or both as numbers.")  # fmt: skip
    unit = min(units, key=lambda name: _NANOS.get(name, 0))
    values = [column.values.astype(f"{column.values.dtype.kind}8[{unit}]").astype(np.int64) if unit else column.values
              for column in columns]  # fmt: skip
    if (values[-1] < values[0]).any():
        raise InvalidInput(f"{np.count_nonzero(values[-1] < values[0]):,} rows end before they begin",
                           hint="Name the columns as time=(begin, end).")  # fmt: skip
    return Times(values[0], values[-1], unit)


def _unit(column: Column) -> str:
    return np.datetime_data(column.values.dtype)[0] if column.values.dtype.kind in "mM" else ""


def ticks_of(gap: Any, times: Times) -> Any:
    """Return a gap in ticks: a number, a duration, or text such as ``"7d"``.

    Raises
    ------
    InvalidInput
        A gap that cannot be read, is negative, or does not fit the times.
    """
    if gap is None:
        return 0
    given, found = gap, _GAP.fullmatch(gap) if isinstance(gap, str) else None
    if found:
        gap = dt.timedelta(seconds=float(found[1]) * _WORDS[found[2]])
    is_duration = isinstance(gap, dt.timedelta | np.timedelta64)
    is_plain = isinstance(gap, int | float) and not isinstance(gap, bool)
    if (is_duration if times.unit else is_plain) and gap >= type(gap)(0):
        if not times.unit:
            return gap
        nanos = int(np.timedelta64(gap).astype("m8[ns]").astype(np.int64))
        return -(-nanos // _NANOS[times.unit])  # up: a gap is never shorter than asked for
    wanted = 'a duration, as timedelta(days=7) or "7d"' if times.unit else "a number, as the times are"
    raise InvalidInput(f"gap is {given!r}", hint=f"Pass {wanted}; not below zero.")


def by_time(times: Times, *, test: Any, val: Any, gap: Any) -> Codes:
    """Return sides: test begins at a moment or holds the newest share, val lies before it, train before that.

    A row of an earlier side that ends less than `gap` before the next side begins is left out. Rows of
    one moment are never parted.

    Raises
    ------
    InvalidInput
        A moment that cannot be read, or a side without a row.
    """
    ordered = np.sort(times.start)
    begins = _begin(ordered, test, times, already=0.0)
    is_share = isinstance(test, int | float) and test < 1
    codes: Codes = np.full(len(ordered), TRAIN, np.uint8)
    codes[times.start >= begins] = TEST
    if val:
        middle = _begin(ordered, val, times, already=test if is_share else float(np.mean(times.start >= begins)))
        between = (times.start >= middle) & (codes == TRAIN)
        codes[between] = VAL
        codes[between & (times.end >= begins - gap)] = LEFT_OUT
        begins = middle
    codes[(codes == TRAIN) & (times.end >= begins - gap)] = LEFT_OUT
    wanted = {TRAIN: "train", TEST: "test", VAL: "val"} if val else {TRAIN: "train", TEST: "test"}
    for code, side in wanted.items():
        if not (codes == code).any():
            raise InvalidInput(f"no row is left for {side}: the times go from {times.shown(ordered[0])} "
                               f"to {times.shown(ordered[-1])}",
                               hint="Choose another share or moment, or a smaller gap.")  # fmt: skip
    return codes


def _begin(ordered: Array, size: Any, times: Times, *, already: float) -> Any:
    """Return the tick at which a side begins that holds a share of the rows, or that begins at a moment."""
    if isinstance(size, int | float) and size < 1:
        rows = round(len(ordered) * (already + size))
        return ordered[min(len(ordered) - rows, len(ordered) - 1)]
    return moment(size, times)


def moment(value: Any, times: Times) -> Any:
    """Return a moment (text, date or number) in ticks."""
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not times.unit:
        if is_plain:
            return value
        raise InvalidInput(f"{value!r} is no moment: the times are numbers", hint="Pass a number, or a share below 1.")
    try:
        if is_plain:
            raise ValueError
        at = np.datetime64(value) if isinstance(value, str) else np.datetime64(value, "us")
        return int(at.astype(f"M8[{times.unit}]").astype(np.int64))
    except (ValueError, TypeError):
        raise InvalidInput(
            f"{value!r} is no moment", hint='Pass text such as "2026-01-31", or a share below 1.'
        ) from None


@dataclass(frozen=True, eq=False)
class TimeFolds:
    """Folds that go forward: each is a block of time, learned from what ended a gap before it began."""

    times: Times
    rows: Array  # positions of the rows that are divided
    begins: Array  # [folds + 1]: where each block begins; the last entry lies behind all
    gap: Any

    def __len__(self) -> int:
        return len(self.begins) - 1

    def pair(self, fold: int) -> tuple[Array, Array]:
        """Return the positions to learn from and to validate on."""
        start, end = self.times.start[self.rows], self.times.end[self.rows]
        held = (start >= self.begins[fold]) & (start < self.begins[fold + 1])
        return self.rows[(start < self.begins[fold]) & (end < self.begins[fold] - self.gap)], self.rows[held]


def folds_by_time(times: Times, rows: Array, count: int, *, gap: Any) -> TimeFolds:
    """Return `count` folds of about equal size; the first block of rows is only learned from.

    Raises
    ------
    InvalidInput
        Too few different times, or a gap that leaves a fold nothing to learn from.
    """
    ordered = np.sort(times.start[rows])
    begins = ordered[len(ordered) * np.arange(1, count + 1) // (count + 1)]
    if len(np.unique(np.append(ordered[:1], begins))) <= count:
        raise InvalidInput(f"the times do not divide into {count} folds", hint="Ask for fewer folds.")
    found = TimeFolds(times, rows, np.append(begins, ordered[-1] + 1), gap)
    empty = [fold for fold in range(count) if not len(found.pair(fold)[0])]
    if empty:
        raise InvalidInput(f"fold {empty[0]} has nothing to learn from before its gap",
                           hint="Choose fewer folds or a smaller gap.")  # fmt: skip
    return found
