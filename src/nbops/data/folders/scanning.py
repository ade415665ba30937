"""Every file of a folder: its path, size and sha256. What did not change since the last look is not read again.

A remembered digest counts only while size, both times and inode are the same, and only if the file was left alone for
two seconds before it was read: within that, a change might keep all of them.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nbops.core.codec import digest_of
from nbops.core.errors import Conflict, InvalidInput, NotFound

IGNORED = frozenset({
    ".ipynb_checkpoints", "__pycache__", ".git", ".nbops", ".DS_Store", "Thumbs.db", "desktop.ini",
})  # fmt: skip
_VERSION = "nbops-folder/1"  # part of every digest
_BLOCK = 1 << 20
_TRIES = 3
_RACY_NS = 2_000_000_000  # the coarsest clock of a file system in use
_THREADS = 8


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """One file: its path below the folder, with ``/`` between, its bytes and their sha256."""

    path: str
    size_bytes: int
    sha256: str


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What a file looked like when it was read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    sha256: str


@dataclass(frozen=True)
class Scan:
    """What a folder holds now.

    Attributes
    ----------
    root : Path
    files : tuple of FileEntry
        In the order of their paths.
    left_out : dict of str to str
        Why something is no part of it, by path: a link that leads out, a pipe, a socket.
    read : int
        How many files had to be read.
    """

    root: Path
    files: tuple[FileEntry, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    read: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """Sha256 over paths, sizes and contents."""
        return digest_of([_VERSION, [[f.path, f.size_bytes, f.sha256] for f in self.files]])


def is_folder(data: Any) -> bool:
    """Tell whether `data` is the path of a folder of files (and not of a Delta Lake table)."""
    return isinstance(data, str | os.PathLike) and Path(data).is_dir() and not (Path(data) / "_delta_log").is_dir()


def scan(folder: str | os.PathLike[str], *, cache: Path | None = None) -> Scan:
    """Read a folder and all below it.

    Parameters
    ----------
    folder : path
        Links to files inside are followed; those that lead out, links to folders, and what is no file are left out.
    cache : Path, optional
        A folder of our own where digests are remembered.

    Raises
    ------
    NotFound
        No such folder.
    InvalidInput
        A file or folder that may not be read, or whose name is no UTF-8.
    Conflict
        A file changes while it is read.
    """
    root = Path(folder).resolve()
    if not root.is_dir():
        raise NotFound(f"no folder '{folder}'", hint=f"Look in {root.parent}.")
    left_out: dict[str, str] = {}
    paths = sorted(_walk(root, left_out))
    remembered = _remembered(cache, root)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="nbops-files") as pool:
        found = list(pool.map(lambda path: _looked(root, path, remembered.get(path)), paths))
    if cache is not None:
        _remember(cache, root, {path: known for path, (known, is_settled, _) in zip(paths, found, strict=True)
                                if is_settled})  # fmt: skip
    files = tuple(FileEntry(path, known.size, known.sha256) for path, (known, _, _) in zip(paths, found, strict=True))
    return Scan(root, files, left_out, read=sum(was_read for _, _, was_read in found))


def _walk(root: Path, left_out: dict[str, str]) -> Iterator[str]:
    """Yield the paths of the files, and note what is left out."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                listed = list(entries)
        except OSError as error:
            raise _unreadable(folder or str(root), error) from error
        for entry in listed:
            if entry.name in IGNORED:
                continue
            path = f"{folder}{entry.name}"
            _check_name(path)
            if entry.is_symlink():
                why = _why_not(root, Path(entry.path))
                if why:
                    left_out[path] = why
                else:
                    yield path
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(f"{path}/")
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                left_out[path] = "no file: a pipe, a socket or a device"


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"the name {os.fsencode(path)!r} is no UTF-8", hint="Rename it.") from None


def _why_not(root: Path, link: Path) -> str:
    """Return why a link is not followed; an empty text if it is."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a link that leads nowhere"
    if not target.is_relative_to(root):
        return "a link that leads out of the folder"
    return "" if target.is_file() else "a link to a folder"


def _looked(root: Path, path: str, known: _Known | None) -> tuple[_Known, bool, bool]:
    """Return what a file is now, whether that may be remembered, and whether it was read."""
    whole = (root / path).resolve()  # a link inside the folder
    try:
        for _ in range(_TRIES):
            looked_at = time.time_ns()
            descriptor = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    break
                if known is not None and _seen(before, known.sha256) == known:
                    return known, True, False
                hasher, size = hashlib.sha256(), 0
                while block := stream.read(_BLOCK):
                    hasher.update(block)
                    size += len(block)
                now = _seen(os.fstat(descriptor), hasher.hexdigest())
            if now == _seen(before, now.sha256) and size == now.size:
                return now, max(now.mtime_ns, now.ctime_ns) < looked_at - _RACY_NS, True
    except OSError as error:
        raise _unreadable(path, error) from error
    raise Conflict(f"'{path}' changes while it is read", hint="Snapshot the folder when nothing writes to it.")


def _seen(found: os.stat_result, sha256: str) -> _Known:
    return _Known(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev, sha256)


def _unreadable(path: str, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot read '{path}': {error.strerror or error}",
        hint="Make it readable, or move it out of the folder: a snapshot holds all files or none.",
    )


# ---- what is remembered ----------------------------------------------------------------------------------------------


def _remembered(cache: Path | None, root: Path) -> dict[str, _Known]:
    if cache is None:
        return {}
    try:
        return msgspec.json.decode(_page(cache, root).read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.MsgspecError):  # none yet, or a damaged one: everything is read
        return {}


def _remember(cache: Path, root: Path, known: dict[str, _Known]) -> None:
    page = _page(cache, root)
    page.parent.mkdir(parents=True, exist_ok=True)
    part = page.with_name(f"{page.name}.{os.getpid()}.part")
    part.write_bytes(msgspec.json.encode(known))
    part.replace(page)


def _page(cache: Path, root: Path) -> Path:
    return cache / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"
