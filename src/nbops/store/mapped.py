"""The file under a journal: mapped into memory, locked by its owner, its space allocated ahead.

Where there is no space the frames wait in memory, in order and up to a bound, until `settle` finds room.
Nothing here is safe for threads: the journal holds its own lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque
from pathlib import Path
from zlib import crc32

from nbops.core.errors import StoreUnavailable
from nbops.store.frames import HEAD, frame
from nbops.store.telling import say_changed, say_once

MAX_WAITING_BYTES = 64 << 20
SUFFIX = ".nbj"
_FIRST_BYTES = 256 << 10
_GROWTH_BYTES = 16 << 20
_NOTHING_FITS = -1
_head, _HEAD_BYTES = HEAD.pack, HEAD.size


class MappedFile:
    """The files of one owner, one after the other.

    Parameters
    ----------
    folder : Path
        Where they are made.
    owner : str
        Begins their names.

    Attributes
    ----------
    size : int, bytes
        Written to the present file.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        self.owner = owner
        self.generation = 0
        self.size = 0
        self._fd = -1
        self._map: mmap.mmap
        self._capacity = 0
        self._limit = 0  # the capacity, or less than nothing while frames wait: what comes after them must wait too
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        try:
            self._create()
        except OSError as error:
            self._wait(error)

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self.folder / f"{self.owner}.{self.generation}{SUFFIX}"

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait in memory for room on the disk."""
        return bool(self._waiting)

    def append(self, *body: bytes | memoryview) -> None:
        """Append one frame.

        Raises
        ------
        StoreUnavailable
            No room on the disk, and as much as may wait in memory waits already.
        """
        data = frame(*body)
        size = self.size
        end = size + len(data)
        if end > self._limit and not self._has_room(end - self._capacity):
            self._keep(data)
            return
        self._map[size:end] = data
        self.size = end

    def append_one(self, body: bytes) -> None:
        """Append one frame of one small body: what `append` does, in less time."""
        size = self.size
        end = size + _HEAD_BYTES + len(body)
        if end > self._limit and not self._has_room(end - self._capacity):
            self._keep(frame(body))
            return
        self._map[size:end] = _head(len(body), crc32(body)) + body
        self.size = end

    def settle(self) -> bool:
        """Write what waits, if there is room by now; return whether nothing waits any more."""
        if not self._waiting:
            return True
        try:
            if self._fd < 0:
                self._create()
            self._grow(self.size + self._waiting_bytes - self._capacity)
        except OSError:
            return False
        self._limit = self._capacity
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for data in waiting:
            end = self.size + len(data)
            self._map[self.size : end] = data
            self.size = end
        say_changed(self._about, "there is room on the disk again; all that was logged is safe.")
        return True

    def begin_anew(self, *first: bytes) -> bool:
        """Go on in a new file, which begins with the frames of the bodies `first`, and drop the present one.

        Frames that wait come after them. False if a new file cannot be made; the present one stays then.
        """
        old_path, old_fd = self.path, self._fd
        self.generation += 1
        try:
            self._create()
        except OSError:
            self.generation -= 1
            self._fd = old_fd
            return False
        if old_fd >= 0:
            old_path.unlink(missing_ok=True)  # before space is allocated: there may be none but this
            os.close(old_fd)
        self.size = self._capacity = self._limit = 0
        waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        for body in first:
            self.append(body)
        if waiting:
            self._limit = _NOTHING_FITS
            self._waiting.extend(waiting)
            self._waiting_bytes = sum(map(len, self._waiting))
        return True

    def read(self, start: int, limit: int) -> bytes:
        """Return up to `limit` bytes from `start`."""
        return self._map[start : min(self.size, start + limit)]

    def sync(self) -> None:
        """Force the file to the disk: safe against a power cut from here."""
        if self._fd >= 0:
            os.fsync(self._fd)

    def close(self, *, remove: bool) -> int:
        """Release the lock; with `remove`, delete the file. Return how many frames found no room and are lost."""
        lost = 0 if self.settle() else len(self._waiting)
        if self._fd >= 0:
            if self._capacity:
                self._map.close()
            if remove:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._fd, self.size)
            os.close(self._fd)
            self._fd = -1
        return lost

    def abandon(self) -> None:
        """Drop what a forked child inherited; the parent's lock, map and file stay."""
        if self._fd >= 0:
            if self._capacity:
                self._map.close()
            os.close(self._fd)
            self._fd = -1

    @property
    def _about(self) -> str:
        return f"disk {self.folder}"

    def _create(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def _has_room(self, more: int) -> bool:
        """Make room for so many more bytes: really allocated, or nothing is changed."""
        if self._waiting or self._fd < 0:
            return False
        try:
            self._grow(more)
        except OSError as error:
            self._wait(error)
            return False
        self._limit = self._capacity
        return True

    def _grow(self, more: int) -> None:
        if more <= 0:
            return
        step = max(more, min(max(self._capacity, _FIRST_BYTES), _GROWTH_BYTES))
        _allocate(self._fd, self._capacity, step)
        self._map = mmap.mmap(self._fd, self._capacity + step)
        self._capacity += step

    def _wait(self, error: OSError) -> None:
        self._limit = _NOTHING_FITS
        say_once(
            self._about,
            f"cannot write to {self.folder}: {error.strerror or error}. What is logged waits in memory, "
            f"up to {MAX_WAITING_BYTES >> 20} MB; free some disk space to make it safe.",
        )

    def _keep(self, data: bytes) -> None:
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            raise StoreUnavailable(
                f"no room on the disk of {self.folder}, and {self._waiting_bytes >> 20} MB wait in memory already",
                hint="Free some disk space; nothing that was logged before is lost while this process lives.",
            )
        self._limit = _NOTHING_FITS
        self._waiting.append(data)
        self._waiting_bytes += len(data)


def _allocate(fd: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, size)
        return
    while size > 0:  # macOS: zeros written are space allocated
        written = os.pwrite(fd, bytes(min(size, 1 << 20)), start)
        start, size = start + written, size - written
