"""Columnar points: how a chunk of one metric's points is laid out in bytes, and its summary.

A chunk is a header (magic, count, NaN count, layout, first and last step, first, last, min
and max value) and little-endian arrays: steps, milliseconds, float64 values. Steps that count up
evenly and times that lie near each other, as they mostly do, take two numbers and half the room. Behind them, where
a notebook's cells logged the points, stands which cell logged from which point on (JSON).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from nbops.core.errors import CorruptData
from nbops.core.protocols import Bytes, Points
from nbops.core.records import Summary

CHUNK_POINTS = 4096
_HEADER = struct.Struct("<4sIIIqqdddd")
_MAGIC = b"NBC1"
_ROW = struct.Struct("<qq")  # where steps or times begin, and their stride
_EVEN_STEPS, _ONE_TIME, _NEAR_TIMES, _CELLS = 1, 2, 4, 8  # bits of the layout; none: int64 arrays

Cells = tuple[tuple[int, str], ...]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Points of one metric as arrays: steps int64 [n], times_ms int64 [n], values float64 [n].

    `cells` says which cell logged them: (index of the first point, cell), ascending from 0; "" is none.
    """

    steps: IntArray
    times_ms: IntArray
    values: FloatArray
    cells: Cells = ()

    def __len__(self) -> int:
        return len(self.steps)

    def slice(self, start: int, stop: int) -> Columns:
        """Return the points from `start` to before `stop`."""
        cells = _between(self.cells, start, min(stop, len(self)))
        return Columns(self.steps[start:stop], self.times_ms[start:stop], self.values[start:stop], cells)

    def take(self, chosen: npt.NDArray[Any]) -> Columns:
        """Return the points where `chosen`, bool [n], is true, or those at the indices `chosen`, int [m]."""
        keep = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        cells: Cells = ()
        if self.cells:
            at = np.searchsorted([start for start, _ in self.cells], keep, side="right") - 1
            starts = np.flatnonzero(np.diff(at, prepend=-1))
            cells = tuple((int(start), self.cells[at[start]][1]) for start in starts)
        return Columns(self.steps[keep], self.times_ms[keep], self.values[keep], cells)

    @classmethod
    def of(cls, points: Points) -> Columns:
        """Return arrays over the bytes of `points`."""
        return cls(
            np.frombuffer(points.steps, "<i8"),
            np.frombuffer(points.times_ms, "<i8"),
            np.frombuffer(points.values, "<f8"),
            points.cells,
        )

    @classmethod
    def joined(cls, parts: Iterable[Columns]) -> Columns:
        """Return the parts one after the other."""
        items = list(parts)
        if len(items) == 1:
            return items[0]
        if not items:
            return cls(np.empty(0, "<i8"), np.empty(0, "<i8"), np.empty(0, "<f8"))
        return cls(
            np.concatenate([p.steps for p in items]),
            np.concatenate([p.times_ms for p in items]),
            np.concatenate([p.values for p in items]),
            _one_after_the_other([(len(p), p.cells) for p in items]),
        )

    def to_points(self, run: str, metric: str) -> Points:
        """Return the record of the protocol: the same arrays as bytes."""
        return Points(run, metric, _bytes(self.steps), _bytes(self.times_ms), _bytes(self.values), self.cells)


def _bytes(array: npt.NDArray[Any]) -> Bytes:
    """Return the bytes of an array, without a copy where they lie together."""
    return np.ascontiguousarray(array).data.cast("B") if len(array) else b""


def _between(cells: Cells, start: int, stop: int) -> Cells:
    if not cells or stop <= start:
        return ()
    first = [(start, cell) for at, cell in cells if at <= start][-1:]
    return tuple((at - start, cell) for at, cell in [*first, *((at, cell) for at, cell in cells if start < at < stop)])


def _one_after_the_other(parts: list[tuple[int, Cells]]) -> Cells:
    if not any(cells for _, cells in parts):
        return ()
    found: list[tuple[int, str]] = []
    offset = 0
    for size, cells in parts:
        for at, cell in (cells or ((0, ""),)) if size else ():
            if not found or found[-1][1] != cell:
                found.append((offset + at, cell))
        offset += size
    return tuple(found)


def stride_of(steps: IntArray) -> int | None:
    """Return the stride of evenly spaced steps, or None."""
    if len(steps) < 2:
        return 1 if len(steps) else None
    stride = int(steps[1]) - int(steps[0])
    even = abs(stride) < 1 << 31 and int(steps[-1]) - int(steps[0]) == stride * (len(steps) - 1)
    return stride if even and bool((np.diff(steps) == stride).all()) else None


def encode_chunk(columns: Columns) -> bytes:
    """Return the bytes of one chunk."""
    s = summarise(columns)
    stride = stride_of(columns.steps)
    layout, parts = 0, []
    if stride is None:
        parts.append(columns.steps.tobytes())
    else:
        layout |= _EVEN_STEPS
        parts.append(_ROW.pack(int(columns.steps[0]), stride))
    start = int(columns.times_ms.min())
    reach = int(columns.times_ms.max()) - start
    if reach == 0:
        layout |= _ONE_TIME
        parts.append(_ROW.pack(start, 0))
    elif reach < 1 << 32:
        layout |= _NEAR_TIMES
        parts += [_ROW.pack(start, 0), (columns.times_ms - start).astype("<u4").tobytes()]
    else:
        parts.append(columns.times_ms.tobytes())
    trailer = b""
    if columns.cells:
        layout |= _CELLS
        trailer = msgspec.json.encode(columns.cells)
    first_step = int(columns.steps[0])
    head = _HEADER.pack(
        _MAGIC, len(columns), s.nan_count, layout, first_step, s.last_step, s.first, s.last, s.min, s.max
    )
    return b"".join((head, *parts, columns.values.tobytes(), trailer))


def decode_chunk(data: bytes) -> Columns:
    """Return the arrays of one chunk, or raise `CorruptData`."""
    magic, count, _, layout, *_ = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0, 0, 0)
    steps_size = _ROW.size if layout & _EVEN_STEPS else 8 * count
    times_size = 8 * count
    if layout & (_ONE_TIME | _NEAR_TIMES):
        times_size = _ROW.size + (4 * count if layout & _NEAR_TIMES else 0)
    end = _HEADER.size + steps_size + times_size + 8 * count
    if magic != _MAGIC or len(data) < end or (len(data) > end) != bool(layout & _CELLS):
        raise CorruptData(f"a chunk of {len(data)} bytes is damaged", hint="Restore the workspace from a backup.")
    at = _HEADER.size
    if layout & _EVEN_STEPS:
        first, stride = _ROW.unpack_from(data, at)
        steps = first + stride * np.arange(count, dtype="<i8")
    else:
        steps = np.frombuffer(data, "<i8", count, at)
    at += steps_size
    if layout & _NEAR_TIMES:
        times = _ROW.unpack_from(data, at)[0] + np.frombuffer(data, "<u4", count, at + _ROW.size).astype("<i8")
    elif layout & _ONE_TIME:
        times = np.full(count, _ROW.unpack_from(data, at)[0], "<i8")
    else:
        times = np.frombuffer(data, "<i8", count, at)
    cells = msgspec.json.decode(data[end:], type=Cells) if layout & _CELLS else ()
    return Columns(steps, times, np.frombuffer(data, "<f8", count, at + times_size), cells)


def summarise(columns: Columns) -> Summary:
    """Return counts and extremes; NaN values are counted apart and never an extreme."""
    values = columns.values
    nan_count = int(np.isnan(values).sum())
    finite_extremes = nan_count < len(values)
    return Summary(
        first=float(values[0]),
        last=float(values[-1]),
        min=float(np.fmin.reduce(values)) if finite_extremes else float("nan"),
        max=float(np.fmax.reduce(values)) if finite_extremes else float("nan"),
        last_step=int(columns.steps[-1]),
        count=len(values),
        nan_count=nan_count,
    )


def merge(old: Summary | None, new: Summary) -> Summary:
    """Return the summary of points summarised by `old` followed by those of `new`."""
    if old is None:
        return new
    return Summary(
        first=old.first,
        last=new.last,
        min=float(np.fmin(old.min, new.min)),
        max=float(np.fmax(old.max, new.max)),
        last_step=new.last_step,
        count=old.count + new.count,
        nan_count=old.nan_count + new.nan_count,
    )


def split(columns: Columns) -> Iterator[Columns]:
    """Yield pieces of at most `CHUNK_POINTS` points."""
    for start in range(0, len(columns), CHUNK_POINTS):
        yield columns.slice(start, start + CHUNK_POINTS)
