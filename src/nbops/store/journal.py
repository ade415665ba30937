"""The journal: one append-only file per process, written on the caller's thread into a shared memory map.

What `log` returned for is in the page cache: a killed process loses nothing, and no system call
is made. Space is allocated ahead, so a full disk is known before a byte is written. A length of zero or a
torn frame ends a scan. The writer holds an exclusive ``flock`` for its lifetime, so "is the owner
alive?" has one honest answer.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.errors import InvalidInput
from nbops.core.ids import new_id
from nbops.core.protocols import Bytes
from nbops.store.context import CellRef, current_cell
from nbops.store.frames import (
    ARRAYS,
    ARRAYS_HEAD,
    CHANGES,
    EVEN,
    EVEN_HEAD,
    OWNER,
    POINTS,
    cell_definition,
    definition,
    points_of,
)
from nbops.store.mapped import MappedFile
from nbops.store.telling import say_once

MAX_METRICS = 0xFFFF
_pack_one = points_of(1)
MAX_NAME = 250


def owner_name() -> str:
    """Return a name for this process that no other process ever has: host, pid and a random part."""
    return f"{host_name()}.{os.getpid()}.{new_id('j')[-10:]}"


def host_name() -> str:
    """Return this host's name without dots."""
    return socket.gethostname().replace(".", "-")[:60]


def owner_of(path: Path) -> str:
    """Return the owner that a journal file belongs to: its name without the generation."""
    return path.stem.rpartition(".")[0]


class _Slot:
    """One metric of one run: its key in this journal and the step that comes next."""

    __slots__ = ("key", "next_step")

    def __init__(self, key: int) -> None:
        self.key = key
        self.next_step = 0


class Journal:
    """The writer of this process.

    Parameters
    ----------
    folder : Path
        Where the files are made: ``.nbops/journal``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.owner = owner_name()
        self.folder = folder
        self.parked = False  # set by the folding thread when it waits to be woken
        self.wake = threading.Event()
        self._lock = threading.Lock()
        self._slots: dict[str, dict[str, _Slot]] = {}  # run -> metric -> slot
        self._next_key = 0
        self._cells: dict[str, int] = {}  # cells that logged, by what points call them
        self._cell: CellRef | None = None
        self._cell_key = 0
        self._now_ms = 0
        self._file = MappedFile(folder, self.owner)
        self._file.append(self._introduction())

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._file.path

    @property
    def generation(self) -> int:
        """How many files came before it."""
        return self._file.generation

    @property
    def size(self) -> int:
        """How many bytes of it are written."""
        return self._file.size

    @property
    def is_waiting(self) -> bool:
        """Whether some of what was logged waits in memory for room on the disk."""
        return self._file.is_waiting

    def log(self, run: str, step: int | None, metrics: Mapping[str, float]) -> None:
        """Append one point per metric; without a step each metric counts up by itself.

        Raises
        ------
        InvalidInput
            A value is no number, the step is no integer, or a name is unusable.
        StoreUnavailable
            The disk is full and much waits in memory already; earlier points are safe.
        """
        with self._lock:
            slots = self._slots.get(run)
            if slots is None:
                slots = self._slots[run] = {}
            if current_cell() is not self._cell:
                self._enter(current_cell())
            now_ms = time.time_ns() // 1_000_000
            if now_ms < self._now_ms:  # the clock was set back: the order of points is not
                now_ms = self._now_ms
            self._now_ms = now_ms
            try:
                if len(metrics) == 1:  # the commonest call by far
                    for name, value in metrics.items():
                        slot = slots.get(name) or self._define(run, name)
                        at = slot.next_step if step is None else step
                        self._file.append_one(_pack_one(POINTS, 1, self._cell_key, now_ms, slot.key, at, value))
                        slot.next_step = at + 1
                else:
                    self._log_many(run, step, metrics, slots, now_ms)
            except InvalidInput:
                raise
            except (struct.error, TypeError, ValueError, OverflowError, RuntimeError) as error:
                raise _unusable(step, metrics) from error
        if self.parked:
            self.wake.set()

    def _log_many(
        self, run: str, step: int | None, metrics: Mapping[str, float], slots: dict[str, _Slot], now_ms: int
    ) -> None:
        fields: list[Any] = []
        for name, value in metrics.items():
            slot = slots.get(name) or self._define(run, name)
            fields += (slot.key, slot.next_step if step is None else step, value)
        count = len(metrics)
        self._file.append_one(points_of(count)(POINTS, count, self._cell_key, now_ms, *fields))
        for name in metrics:
            slot = slots[name]
            slot.next_step = (slot.next_step if step is None else step) + 1

    def log_arrays(self, run: str, metric: str, *, steps: Bytes, times_ms: Bytes, values: Bytes) -> None:
        """Append many points of one metric: equal-length int64, int64 and float64 arrays as bytes."""
        with self._lock:
            slot = self._slots.get(run, {}).get(metric) or self._define(run, metric)
            head = ARRAYS_HEAD.pack(ARRAYS, slot.key, len(steps) // 8, self._here())
            self._file.append(head, steps, times_ms, values)
            slot.next_step = int.from_bytes(steps[-8:], "little", signed=True) + 1
        if self.parked:
            self.wake.set()

    def log_even(
        self, run: str, metric: str, *, values: Bytes, time_ms: int, first: int | None = None, stride: int = 1
    ) -> None:
        """Append many points of one metric whose steps are ``first, first + stride, …``, all of one time.

        Without `first` the steps count up from where the metric stands.
        """
        count = len(values) // 8
        with self._lock:
            slot = self._slots.get(run, {}).get(metric) or self._define(run, metric)
            first = slot.next_step if first is None else first
            self._file.append(EVEN_HEAD.pack(EVEN, slot.key, count, self._here(), first, stride, time_ms), values)
            slot.next_step = first + stride * (count - 1) + 1
        if self.parked:
            self.wake.set()

    def note(self, changes: bytes) -> None:
        """Append changes of records, as `nbops.core.changes.pack` makes them."""
        with self._lock:
            self._file.append(bytes([CHANGES]), changes)
        if self.parked:
            self.wake.set()

    def next_step(self, run: str, metric: str) -> int:
        """Return the step that an unstepped point of `metric` would get."""
        slot = self._slots.get(run, {}).get(metric)
        return slot.next_step if slot else 0

    def continue_after(self, run: str, last_steps: Mapping[str, int]) -> None:
        """Let the unstepped points of a run's metrics count on after the steps they have."""
        with self._lock:
            for metric, step in last_steps.items():
                slot = self._slots.get(run, {}).get(metric) or self._define(run, metric)
                slot.next_step = step + 1

    def forget(self, run: str) -> None:
        """Drop what is remembered of a run that has ended."""
        with self._lock:
            self._slots.pop(run, None)

    def read(self, start: int, limit: int) -> bytes:
        """Return up to `limit` bytes from `start`."""
        return self._file.read(start, limit)

    def sync(self) -> None:
        """Force the file to the disk: safe against a power cut from here."""
        self._file.sync()

    def settle(self) -> bool:
        """Write what waits in memory, if there is room by now; return whether nothing waits any more."""
        with self._lock:
            return self._file.settle()

    def rotate(self, folded: int) -> bool:
        """Begin a new file if all of this one is folded; return whether that was so."""
        with self._lock:
            if folded != self._file.size:
                return False
            first = [self._introduction()]
            first += [cell_definition(key, cell) for cell, key in self._cells.items()]
            first += [definition(s.key, run, name) for run, slots in self._slots.items() for name, s in slots.items()]
            return self._file.begin_anew(*first)

    def close(self, *, remove: bool) -> None:
        """Release the lock; with `remove`, delete the file (everything in it was folded)."""
        with self._lock:
            lost = self._file.close(remove=remove)
        if lost:
            say_once(f"lost {self.owner}", f"{lost:,} records of the journal found no room on the disk and are lost.")

    def abandon(self) -> None:
        """Drop what a forked child inherited; the parent's lock, map and file stay."""
        self._file.abandon()

    def _introduction(self) -> bytes:
        return bytes([OWNER]) + msgspec.json.encode({"owner": self.owner, "created_at": time.time()})

    def _here(self) -> int:
        """Return the key of the cell that executes here, 0 for none."""
        cell = current_cell()
        if cell is not self._cell:
            self._enter(cell)
        return self._cell_key

    def _enter(self, cell: CellRef | None) -> None:
        key = 0
        if cell is not None:
            name = cell.name
            key = self._cells.get(name, 0)
            if not key:
                key = len(self._cells) + 1
                self._file.append(cell_definition(key, name))
                self._cells[name] = key
        self._cell, self._cell_key = cell, key

    def _define(self, run: str, metric: str) -> _Slot:
        if not isinstance(metric, str) or not 0 < len(metric) <= MAX_NAME or "\x00" in metric:
            raise InvalidInput(
                f"metric name {metric!r} cannot be used", hint=f"Use text of 1 to {MAX_NAME} characters."
            )
        self._next_key += 1
        self._file.append(definition(self._next_key, run, metric))
        slot = self._slots.setdefault(run, {})[metric] = _Slot(self._next_key)
        return slot


def _unusable(step: Any, metrics: Mapping[str, Any]) -> InvalidInput:
    if len(metrics) > MAX_METRICS:
        return InvalidInput(f"{len(metrics)} metrics in one call", hint=f"Log at most {MAX_METRICS} at once.")
    for name, value in metrics.items():
        try:
            float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            shown = repr(value)[:60]
            return InvalidInput(f"metric '{name}' got {shown}, which is no number", hint="Pass a float or a scalar.")
    return InvalidInput(f"step {step!r} is no 64-bit integer", hint="Pass an int, or leave the step out.")
