"""The journal: one append-only file per process, written on the caller's thread into a shared memory map.

What `log` returned for is in the page cache: a killed process loses nothing, and no system call
is made. Space is allocated ahead, so a full disk is an error and never a fault. Frames are
``length u32, crc32 u32, body``; a length of zero or a torn frame ends the scan. The writer
holds an exclusive ``flock`` for its lifetime, so "is the owner alive?" has one honest answer.

Bodies, by first byte: 0 owner (JSON), 1 definition (key, run, metric), 2 points of one call
(count, time, then key, step, value each), 3 one metric's arrays, 4 the same with even steps at one time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.errors import InvalidInput, StoreError
from nbops.core.ids import new_id

OWNER, DEFINE, POINTS, ARRAYS, EVEN = 0, 1, 2, 3, 4
HEAD = struct.Struct("<II")
POINTS_HEAD = struct.Struct("<BxHIq")  # type, count, (reserved), time in ms
DEFINE_HEAD = struct.Struct("<BxHIH")  # type, bytes of run, key, bytes of metric
ARRAYS_HEAD = struct.Struct("<BxxxII")  # type, key, count
EVEN_HEAD = struct.Struct("<BxxxIIqqq")  # type, key, count, first step, stride, time in ms
MAX_METRICS = 0xFFFF
MAX_NAME = 250
SUFFIX = ".nbj"
_FIRST_BYTES = 256 << 10
_GROWTH_BYTES = 16 << 20


@cache
def _points(count: int) -> struct.Struct:
    return struct.Struct("<BxHIq" + "Iqd" * count)


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
        self.generation = 0
        self.size = 0
        self.parked = False  # set by the folding thread when it waits to be woken
        self.wake = threading.Event()
        self._lock = threading.Lock()
        self._slots: dict[str, dict[str, _Slot]] = {}  # run -> metric -> slot
        self._next_key = 0
        self._capacity = 0
        self._fd = -1
        self._map: mmap.mmap
        self._open()

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self.folder / f"{self.owner}.{self.generation}{SUFFIX}"

    def log(self, run: str, step: int | None, metrics: Mapping[str, float]) -> None:
        """Append one point per metric; without a step each metric counts up by itself.

        Raises
        ------
        InvalidInput
            A value is no number, the step is no integer, or a name is unusable.
        StoreError
            The file system refused the write (disk full); earlier points are safe.
        """
        fields: list[Any] = []
        count = len(metrics)
        with self._lock:
            slots = self._slots.get(run)
            if slots is None:
                slots = self._slots[run] = {}
            for name, value in metrics.items():
                slot = slots.get(name)
                if slot is None:
                    slot = self._define(run, name)
                fields += (slot.key, slot.next_step if step is None else step, value)
            try:
                body = _points(count).pack(POINTS, count, 0, time.time_ns() // 1_000_000, *fields)
            except (struct.error, TypeError, ValueError, OverflowError, RuntimeError) as error:
                raise _unusable(step, metrics) from error
            self._append(body)
            for name in metrics:
                slot = slots[name]
                slot.next_step = (slot.next_step if step is None else step) + 1
        if self.parked:
            self.wake.set()

    def log_arrays(self, run: str, metric: str, *, steps: bytes, times_ms: bytes, values: bytes) -> None:
        """Append many points of one metric: equal-length int64, int64 and float64 arrays as bytes."""
        with self._lock:
            slot = self._slots.get(run, {}).get(metric) or self._define(run, metric)
            self._append(ARRAYS_HEAD.pack(ARRAYS, slot.key, len(steps) // 8), steps, times_ms, values)
            slot.next_step = int.from_bytes(steps[-8:], "little", signed=True) + 1
        if self.parked:
            self.wake.set()

    def log_even(self, run: str, metric: str, *, first: int, stride: int, time_ms: int, values: bytes) -> None:
        """Append many points of one metric whose steps are ``first, first + stride, …``, all of one time."""
        count = len(values) // 8
        with self._lock:
            slot = self._slots.get(run, {}).get(metric) or self._define(run, metric)
            self._append(EVEN_HEAD.pack(EVEN, slot.key, count, first, stride, time_ms), values)
            slot.next_step = first + stride * (count - 1) + 1
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
        return self._map[start : min(self.size, start + limit)]

    def sync(self) -> None:
        """Force the file to the disk: safe against a power cut from here."""
        os.fsync(self._fd)

    def rotate(self, folded: int) -> bool:
        """Begin a new file if all of this one is folded; return whether that was so."""
        with self._lock:
            if folded != self.size:
                return False
            old_path, old_fd = self.path, self._fd
            self.generation += 1
            self._open()
            for run, slots in self._slots.items():
                for metric, slot in slots.items():
                    self._append(_definition(slot.key, run, metric))
            old_path.unlink(missing_ok=True)
            os.close(old_fd)
            return True

    def close(self, *, remove: bool) -> None:
        """Release the lock; with `remove`, delete the file (everything in it was folded)."""
        with self._lock:
            if self._fd >= 0:
                self._map.close()
                if remove:
                    self.path.unlink(missing_ok=True)
                else:
                    os.ftruncate(self._fd, self.size)
                os.close(self._fd)
                self._fd = -1

    def abandon(self) -> None:
        """Drop what a forked child inherited; the parent's lock, map and file stay."""
        self._map.close()
        os.close(self._fd)
        self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.size = self._capacity = 0
        self._append(bytes([OWNER]) + msgspec.json.encode({"owner": self.owner, "created_at": time.time()}))

    def _grow(self, size: int) -> None:
        """Make room for `size` more bytes: really allocated, or nothing is changed."""
        more = max(size, min(max(self._capacity, _FIRST_BYTES), _GROWTH_BYTES))
        try:
            _allocate(self._fd, self._capacity, more)
            self._map = mmap.mmap(self._fd, self._capacity + more)
        except OSError as error:
            raise _refused(self.path, error) from error
        self._capacity += more

    def _define(self, run: str, metric: str) -> _Slot:
        if not isinstance(metric, str) or not 0 < len(metric) <= MAX_NAME or "\x00" in metric:
            raise InvalidInput(
                f"metric name {metric!r} cannot be used", hint=f"Use text of 1 to {MAX_NAME} characters."
            )
        self._next_key += 1
        self._append(_definition(self._next_key, run, metric))
        slot = self._slots.setdefault(run, {})[metric] = _Slot(self._next_key)
        return slot

    def _append(self, *body: bytes) -> None:
        data = body[0] if len(body) == 1 else b"".join(body)
        size = self.size
        end = size + HEAD.size + len(data)
        if end > self._capacity:
            self._grow(end - self._capacity)
        self._map[size:end] = HEAD.pack(len(data), zlib.crc32(data)) + data
        self.size = end


def _allocate(fd: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, size)
        return
    while size > 0:  # macOS: zeros written are space allocated
        written = os.pwrite(fd, bytes(min(size, 1 << 20)), start)
        start, size = start + written, size - written


def _definition(key: int, run: str, metric: str) -> bytes:
    names = run.encode(), metric.encode()
    return DEFINE_HEAD.pack(DEFINE, len(names[0]), key, len(names[1])) + names[0] + names[1]


def _refused(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write to {path}: {error.strerror or error}",
        hint="Free some disk space; what was logged before is safe.",
    )


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
