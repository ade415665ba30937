"""Files that could not go where they belong yet: kept here, and sent on when that place answers again.

On the disk if there is room, where they outlive the process; else in memory, or, for a file that somebody named, as its
path.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nbops.core.errors import StoreUnavailable
from nbops.store.telling import say_once

MAX_MEMORY_BYTES = 64 << 20
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Named:
    """A file of the user's that is read when it can be stored."""

    path: Path
    mtime_ns: int


class Spool:
    """What waits for one artifact store.

    Parameters
    ----------
    folder : callable
        Returns where waiting files lie; it is asked at the first need.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}
        self._named: dict[str, _Named] = {}
        self._lock = threading.Lock()

    def keep_staged(self, staged: Path, digest: str) -> None:
        """Take over a file that was written for the store."""
        target = self._folder() / digest
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(os.fspath(staged), os.fspath(target))

    def keep_bytes(self, data: bytes) -> tuple[str, int]:
        """Keep bytes in memory; return (sha256 in hex, size).

        Raises
        ------
        StoreUnavailable
            More than 64 MB would wait.
        """
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            waiting = sum(map(len, self._memory.values()))
            if waiting + len(data) > MAX_MEMORY_BYTES:
                raise StoreUnavailable(f"no room for a file of {len(data):,} bytes; {waiting:,} wait in memory already",
                                       hint="Free some disk space, then log it again.")  # fmt: skip
            self._memory[digest] = data
        return digest, len(data)

    def keep_path(self, path: Path) -> tuple[str, int]:
        """Keep the path of a file; return (sha256 in hex, size)."""
        hasher, size = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                hasher.update(block)
                size += len(block)
            self._named[hasher.hexdigest()] = _Named(path.resolve(), os.fstat(stream.fileno()).st_mtime_ns)
        return hasher.hexdigest(), size

    def open(self, digest: str) -> BinaryIO | None:
        """Return a reader of what waits under `digest`, or None."""
        data, named = self._memory.get(digest), self._named.get(digest)
        if data is not None:
            return io.BytesIO(data)
        try:
            return (named.path if named is not None else self._folder() / digest).open("rb")
        except OSError:
            return None

    def waiting(self) -> list[str]:
        """Return the digests of what waits."""
        return sorted({*self._memory, *self._named, *(path.name for path in self._files())})

    def settle(self, put: Callable[[bytes | Path], object]) -> None:
        """Give what waits to `put`; what it took waits no longer. What `put` raises ends it."""
        for digest, data in list(self._memory.items()):
            put(data)
            del self._memory[digest]
        for digest, named in list(self._named.items()):
            if named.path.exists() and named.path.stat().st_mtime_ns == named.mtime_ns:
                put(named.path)
            else:
                say_once(digest, f"'{named.path}' was changed or removed before there was room to store it; "
                                 "log it again.")  # fmt: skip
            del self._named[digest]
        for path in self._files():
            put(path)
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        folder = self._folder()
        return [path for path in folder.iterdir() if len(path.name) == 64] if folder.is_dir() else []
