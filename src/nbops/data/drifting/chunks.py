"""The current data in chunks of rows or of time, and the rows of a column that belong to one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import InvalidInput
from nbops.data.columns import Column, Frame
from nbops.data.drifting.counting import family, finite_values

MAX_CHUNKS = 1000
_FREQUENCY = re.compile(r"(?P<count>\d*)(?P<unit>[A-Za-z]+)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86_400, "W": 604_800}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_MONDAY = 4 * 86_400  # seconds from the epoch, a Thursday, to the first Monday
_HINT = 'Use rows per chunk, by=500, or a column of dates and a frequency, by="when:D" (s, min, h, D, W, M, Q, Y).'


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of one chunk, ascending, and what it is called."""

    label: str
    rows: NDArray[np.int64]


def chunks(frame: Frame, by: Any) -> tuple[list[Chunk], int]:
    """Return the chunks in order, and how many rows have no time and so belong to none.

    Raises
    ------
    InvalidInput
        `by` is neither rows per chunk nor dates with a frequency, or there would be too many chunks.
    NotFound
        No such column.
    """
    if isinstance(by, int) and not isinstance(by, bool) and by > 0:
        starts = range(0, frame.rows, by)
        _check_number(len(starts))
        ends = [min(start + by, frame.rows) for start in starts]
        return [
            Chunk(f"rows {a:,} to {b - 1:,}", np.arange(a, b)) for a, b in zip(starts, ends, strict=True)
        ], 0  # fmt: skip
    if not isinstance(by, str) or ":" not in by:
        raise InvalidInput(f"by is {by!r}", hint=_HINT)
    name, _, frequency = by.rpartition(":")
    column = frame.column(name)
    if family(column.dtype) != "time":
        raise InvalidInput(f"column '{name}' is of type {column.dtype}, not of dates", hint=_HINT)
    keys = _periods(column, frequency)
    there = np.arange(frame.rows) if column.missing is None else np.flatnonzero(~column.missing)
    if not len(there):
        raise InvalidInput(f"column '{name}' has no dates, all cells are missing", hint=_HINT)
    order = there[np.argsort(keys[there], kind="stable")]
    periods, first = np.unique(keys[order], return_index=True)
    _check_number(len(periods))
    parts = np.split(order, first[1:])
    return [Chunk(str(period), part) for period, part in zip(periods, parts, strict=True)], frame.rows - len(there)


def _check_number(count: int) -> None:
    if count > MAX_CHUNKS:
        raise InvalidInput(f"{count:,} chunks are more than {MAX_CHUNKS:,}", hint="Take longer chunks.")


def _periods(column: Column, frequency: str) -> NDArray[np.datetime64]:
    """Return the start of the period in which each row lies."""
    match = _FREQUENCY.fullmatch(frequency)
    unit = match["unit"] if match else ""
    count = int(match["count"] or 1) if match else 0
    if count < 1 or unit not in (*_SECONDS, *_MONTHS):
        raise InvalidInput(f"'{frequency}' is no frequency", hint=_HINT)
    if unit in _MONTHS:
        step = count * _MONTHS[unit]
        months = column.values.astype("datetime64[M]").astype(np.int64)
        found: NDArray[np.datetime64] = (months // step * step).astype("datetime64[M]")
        return found
    step = count * _SECONDS[unit]
    shift = _MONDAY if unit == "W" else 0
    seconds = (column.values.astype("datetime64[s]").astype(np.int64) - shift) // step * step + shift
    return seconds.astype("datetime64[s]").astype("datetime64[D]" if step % 86_400 == 0 else "datetime64[m]"
                                                  if step % 60 == 0 else "datetime64[s]")  # fmt: skip


def follows_time(column: Column) -> bool:
    """Return whether a column says where a row stands: a chunk can only have a part of its values.

    So times do, and numbers in whose order the rows are.
    """
    kind = family(column.dtype)
    if kind != "number":
        return kind == "time"
    values = finite_values(column)
    return len(values) > 1 and bool(values[0] < values[-1] and (values[:-1] <= values[1:]).all())


def pieces(column: Column, parts: list[Chunk]) -> Iterator[Column]:
    """Yield the column of each chunk."""
    for part in parts:
        yield _taken(column, part.rows)


def _taken(column: Column, rows: NDArray[np.int64]) -> Column:
    missing = None
    if column.missing is not None:
        missing = column.missing[rows]
        missing = missing if missing.any() else None
    if column.offsets is None:
        return replace(column, values=column.values[rows], missing=missing)
    lengths = np.diff(column.offsets)[rows]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    places = np.repeat(column.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return replace(column, values=column.values[places], missing=missing, offsets=offsets)
