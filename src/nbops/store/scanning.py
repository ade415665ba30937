"""Reading a journal back: frames to columns, whole stretches of like frames at once.

Used by the folding thread on its own file and by recovery on a dead process's file.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from nbops.core.changes import Change, unpack
from nbops.store.frames import (
    ARRAYS,
    ARRAYS_HEAD,
    CELL,
    CELL_HEAD,
    CHANGES,
    DEFINE,
    DEFINE_HEAD,
    EVEN,
    EVEN_HEAD,
    HEAD,
    POINTS,
    POINTS_HEAD,
)
from nbops.store.points import Columns, FloatArray, IntArray

_FEW = 8  # below this many like frames the array view costs more than it saves


@cache
def _frame_type(count: int) -> np.dtype[np.void]:
    point = np.dtype([("key", "<u4"), ("step", "<i8"), ("value", "<f8")])
    return np.dtype(
        [("length", "<u4"), ("crc", "<u4"), ("type", "u1"), ("pad", "u1"), ("count", "<u2"), ("cell", "<u4"),
         ("time", "<i8"), ("points", point, (count,))]
    )  # fmt: skip


@dataclass
class Scan:
    """What a stretch of a journal holds; `keys` carries definitions from one stretch to the next."""

    keys: dict[int, tuple[str, str]] = field(default_factory=dict)
    cells: dict[int, str] = field(default_factory=dict)
    consumed: int = 0
    is_at_end: bool = False  # met space that was allocated and never written
    _changes: list[Change] = field(default_factory=list)
    _mixed: list[tuple[IntArray, IntArray, IntArray, FloatArray, IntArray]] = field(default_factory=list)
    _found: dict[tuple[str, str], list[Columns]] = field(default_factory=dict)

    def read(self, data: bytes, *, verify: bool) -> None:
        """Take in whole frames from the start of `data`; `consumed` says how many bytes they were.

        With `verify`, checksums are judged and the scan stops before the first bad frame.
        """
        at, view = 0, memoryview(data)
        while at + HEAD.size <= len(data):
            length, checksum = HEAD.unpack_from(data, at)
            if length == 0:
                self.is_at_end = True
                break
            start, end = at + HEAD.size, at + HEAD.size + length
            if end > len(data) or (verify and zlib.crc32(view[start:end]) != checksum):
                break
            if data[start] == POINTS:
                at = self._points(data, at, length, verify)
                continue
            self._other(data, start, end)
            at = end
        self.consumed = at

    def changes(self) -> list[Change]:
        """Return the changes of records seen since this was asked last, in order."""
        found, self._changes = self._changes, []
        return found

    def columns(self) -> list[tuple[str, str, Columns]]:
        """Return (run, metric, points) for each metric seen, points in the order they were logged."""
        self._sort()
        found, self._found = self._found, {}
        return [(run, metric, Columns.joined(parts)) for (run, metric), parts in found.items()]

    def _sort(self) -> None:
        """Sort the points of mixed frames by metric, keeping their order within each."""
        if not self._mixed:
            return
        keys, steps, times, values, cells = (np.concatenate(column) for column in zip(*self._mixed, strict=True))
        self._mixed.clear()
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
        for index in np.split(order, starts[1:]):
            made_in = self._runs_of(cells[index])
            self._add(int(keys[index[0]]), Columns(steps[index], times[index], values[index], made_in))

    def _runs_of(self, cells: IntArray) -> tuple[tuple[int, str], ...]:
        """Return where the cell changes, and to which; nothing where there is none."""
        starts = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist()]
        found = tuple((start, self.cells.get(int(cells[start]), "")) for start in starts)
        return found if any(cell for _, cell in found) else ()

    def _cell(self, key: int) -> tuple[tuple[int, str], ...]:
        return ((0, self.cells[key]),) if key in self.cells else ()

    def _other(self, data: bytes, start: int, end: int) -> None:
        """Take in one frame that does not hold the points of a call; one of a kind that is unknown holds nothing."""
        kind = data[start]
        if kind == DEFINE:
            _, run_size, key, metric_size = DEFINE_HEAD.unpack_from(data, start)
            text = start + DEFINE_HEAD.size
            run = data[text : text + run_size].decode()
            self.keys[key] = (run, data[text + run_size : text + run_size + metric_size].decode())
        elif kind == ARRAYS:
            self._arrays(data, start)
        elif kind == EVEN:
            self._even(data, start)
        elif kind == CHANGES:
            self._changes += unpack(data[start + 1 : end])
        elif kind == CELL:
            self.cells[CELL_HEAD.unpack_from(data, start)[1]] = data[start + CELL_HEAD.size : end].decode()

    def _add(self, key: int, columns: Columns) -> None:
        self._found.setdefault(self.keys[key], []).append(columns)

    def _points(self, data: bytes, at: int, length: int, verify: bool) -> int:
        """Take in the frame at `at` and all like it that follow; return where they end."""
        _, count, _, _ = POINTS_HEAD.unpack_from(data, at + HEAD.size)
        size, kind = HEAD.size + length, _frame_type(count)
        whole = (len(data) - at) // size
        array = np.frombuffer(data, kind, whole, at)
        if whole > 1 and not _alike(array[: _FEW + 1], length, count):
            array = array[:1]
        alike = (array["length"] == length) & (array["type"] == POINTS) & (array["count"] == count)
        many = len(array) if alike.all() else int(np.argmin(alike))
        if verify:
            many = _sound(data, at, size, many, array["crc"])
        points = array["points"][:many]
        times, cells = (np.repeat(array[name][:many], count) for name in ("time", "cell"))
        keys = points["key"].ravel().astype(np.int64)
        self._mixed.append((keys, points["step"].ravel(), times, points["value"].ravel(), cells))
        return at + many * size

    def _arrays(self, data: bytes, start: int) -> None:
        _, key, count, cell = ARRAYS_HEAD.unpack_from(data, start)
        at = start + ARRAYS_HEAD.size
        self._sort()  # what came before stays before
        steps, times = np.frombuffer(data, "<i8", count, at), np.frombuffer(data, "<i8", count, at + 8 * count)
        self._add(key, Columns(steps, times, np.frombuffer(data, "<f8", count, at + 16 * count), self._cell(cell)))

    def _even(self, data: bytes, start: int) -> None:
        _, key, count, cell, first, stride, time_ms = EVEN_HEAD.unpack_from(data, start)
        self._sort()
        steps = first + stride * np.arange(count, dtype="<i8")
        values = np.frombuffer(data, "<f8", count, start + EVEN_HEAD.size)
        self._add(key, Columns(steps, np.full(count, time_ms, "<i8"), values, self._cell(cell)))


def _alike(few: np.ndarray[tuple[int], np.dtype[np.void]], length: int, count: int) -> bool:
    return len(few) > _FEW and bool(((few["length"] == length) & (few["count"] == count)).all())


def _sound(data: bytes, at: int, size: int, many: int, checksums: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> int:
    """Return how many of `many` frames in a row have the right checksum."""
    view = memoryview(data)
    for i, expected in enumerate(checksums[:many].tolist()):
        start = at + i * size
        if zlib.crc32(view[start + HEAD.size : start + size]) != expected:
            return i
    return many
