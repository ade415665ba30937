"""Histories of metrics in MLflow's order, kept while a client reads them page by page.

A history is a snapshot: its first page says of how many logged points it is, and the later pages keep to these, so that
pages fit together while the run goes on logging. No page reads or sorts again what the one before it has.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from nbops.core.protocols import Store
from nbops.core.records import Run
from nbops.server.mlflow.wire import double
from nbops.store.points import Columns

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
KEPT_POINTS = 1 << 22  # 24 bytes each; a longer history is kept alone
_SLICE = 25_000


class Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One point as clients read it."""

    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str = ""


@dataclass(frozen=True)
class History:
    """The points of one metric ordered by time, step and value; the same point twice is one.

    `count` is the number of logged points that it was made of.
    """

    key: str
    columns: Columns
    count: int

    def __len__(self) -> int:
        return len(self.columns)

    def rows(self, chosen: slice | Ints, *, run_id: str = "") -> list[Row]:
        """Return some points as clients read them."""
        columns = self.columns
        parts = (columns.times_ms[chosen].tolist(), columns.steps[chosen].tolist(), columns.values[chosen].tolist())
        return [Row(self.key, double(value), at, step, run_id) for at, step, value in zip(*parts, strict=True)]

    def encoded(self, start: int, stop: int) -> msgspec.Raw:
        """Return the points from `start` to before `stop` as JSON, a slice at a time."""
        starts = range(start, stop, _SLICE)
        slices = (self.rows(slice(at, min(at + _SLICE, stop))) for at in starts)
        return msgspec.Raw(b"[" + b",".join(msgspec.json.encode(rows)[1:-1] for rows in slices) + b"]")


class Histories:
    """The histories of one workspace that were read lately, up to `KEPT_POINTS` points.

    Parameters
    ----------
    store : Store
        Where the points are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str, int], History] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Run, key: str, *, count: int | None = None) -> History:
        """Return the history of one metric of a run, of its first `count` logged points or of all of them."""
        logged = run.summary[key].count if key in run.summary else 0
        mark = (run.id, key, logged if count is None else min(count, logged))
        with self._lock:
            found = self._kept.get(mark)
            if found is not None:
                self._kept.move_to_end(mark)
                return found
        if not mark[2]:
            return _ordered(key, Columns.joined(()))
        found = _ordered(key, Columns.of(self._store.points(run.id, key)).slice(0, mark[2]))
        with self._lock:
            self._kept[mark] = found
            for old in list(self._dispensable()):
                del self._kept[old]
        return found

    def forget(self, run: Run, history: History) -> None:
        """Give up a history that was read to its end."""
        with self._lock:
            self._kept.pop((run.id, history.key, history.count), None)

    def points(self) -> int:
        """Return how many points are kept."""
        with self._lock:
            return sum(len(history) for history in self._kept.values())

    def _dispensable(self) -> Iterator[tuple[str, str, int]]:
        """Yield the oldest ones that are too many; never the newest."""
        room = KEPT_POINTS
        for i, (mark, history) in enumerate(reversed(self._kept.items())):
            room -= len(history)
            if i and room < 0:
                yield mark


def _ordered(key: str, columns: Columns) -> History:
    count = len(columns)
    times, steps, values = columns.times_ms, columns.steps, columns.values
    bits = values.view(np.int64)
    repeats = _equal(times) & _equal(steps) & _equal(bits)
    rises = _less(times) | _equal(times) & (_less(steps) | _equal(steps) & (_less(values) | _equal(bits)))
    if not rises.all():
        order = np.lexsort((bits, values, steps, times))  # bits: so that the same point stands beside itself
        times, steps, values, bits = times[order], steps[order], values[order], bits[order]
        repeats = _equal(times) & _equal(steps) & _equal(bits)
    if repeats.any():
        kept = np.concatenate([[True], ~repeats])
        times, steps, values = times[kept], steps[kept], values[kept]
    return History(key, Columns(steps, times, values), count)


def _equal(values: Ints) -> Bools:
    """Return for each value but the first whether it is the one before it."""
    found: Bools = values[1:] == values[:-1]
    return found


def _less(values: npt.NDArray[np.generic]) -> Bools:
    """Return for each value but the first whether it is greater than the one before it. (A difference may overflow.)"""
    found: Bools = values[1:] > values[:-1]  # type: ignore[operator]
    return found
