"""Content-addressed bytes over fsspec: a local folder by default, s3, gs or a shared folder by URL."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from nbops.core.errors import CorruptData, InvalidInput, NotFound

_BLOCK = 1 << 20
_DIGEST = frozenset("0123456789abcdef")
_FRESH_S = 6 * 3600  # well below the grace of a purge


@dataclass(frozen=True)
class Blob:
    """One stored file: sha256 in hex, and size."""

    digest: str
    size_bytes: int


class Artifacts:
    """Bytes under their sha256: ``ab/abcdef…``. Writing the same bytes twice stores them once.

    Parameters
    ----------
    url : str
        A folder, or any URL that fsspec knows.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = fsspec.url_to_fs(url)
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def put(self, data: bytes | Path | BinaryIO) -> tuple[str, int]:
        """Store bytes and return (sha256 in hex, size in bytes)."""
        if isinstance(data, Path):
            with data.open("rb") as stream:
                return self._put(stream)
        return self._put(io.BytesIO(data) if isinstance(data, bytes) else data)

    def _put(self, stream: BinaryIO) -> tuple[str, int]:
        staging = Path(self._root) / "tmp" if self._local else None
        if staging:
            staging.mkdir(parents=True, exist_ok=True)
        hasher, size = hashlib.sha256(), 0
        handle, name = tempfile.mkstemp(dir=staging, prefix="blob-")
        try:
            with os.fdopen(handle, "wb") as out:
                for block in _blocks(stream):
                    hasher.update(block)
                    out.write(block)
                    size += len(block)
                out.flush()
                os.fsync(out.fileno())
            digest = hasher.hexdigest()
            self._move(Path(name), self._path(digest), size)
        finally:
            Path(name).unlink(missing_ok=True)
        return digest, size

    def _move(self, source: Path, target: str, size: int) -> None:
        if self._local:  # same file system: the rename makes it appear whole or not at all, and heals a damaged one
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        elif not self._fs.exists(target) or self._fs.size(target) != size or self._is_old(target):
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(os.fspath(source), target)

    def _is_old(self, path: str) -> bool:
        """Whether a purge might be about to take it for unused; written again, it is young."""
        return time.time() - _seconds(self._fs.modified(path)) > _FRESH_S

    def open(self, digest: str) -> BinaryIO:
        """Return a reader of verified bytes.

        Raises
        ------
        NotFound
            No such bytes.
        CorruptData
            The stored bytes are not those of the digest; none of them is given out.
        """
        path = self._path(digest)
        if not self._fs.exists(path):
            raise NotFound(f"no stored bytes {digest[:12]}…", hint="Restore the artifact store or log the file again.")
        hasher = hashlib.sha256()
        with self._fs.open(path, "rb") as stream:
            for block in _blocks(stream):
                hasher.update(block)
        if hasher.hexdigest() != digest:
            raise CorruptData(
                f"stored bytes {digest[:12]}… have the digest {hasher.hexdigest()[:12]}…",
                hint="Restore them from a backup; nothing of them was used.",
            )
        return cast(BinaryIO, self._fs.open(path, "rb"))

    def read(self, digest: str) -> bytes:
        """Return verified bytes."""
        with self.open(digest) as stream:
            return stream.read()

    def exists(self, digest: str) -> bool:
        """Return whether the bytes are there."""
        return bool(self._fs.exists(self._path(digest)))

    def delete(self, digest: str) -> None:
        """Remove the bytes; nothing happens if they are absent."""
        if self.exists(digest):
            self._fs.rm_file(self._path(digest))

    def blobs(self) -> Iterator[Blob]:
        """Yield what is stored, in the order of digests."""
        if not self._fs.exists(self._root):
            return
        self._fs.invalidate_cache()
        for path, info in sorted(self._fs.find(self._root, detail=True).items()):
            digest = path.rpartition("/")[2]
            if len(digest) == 64 and _DIGEST.issuperset(digest):
                yield Blob(digest, int(info["size"]))

    def modified_at(self, digest: str) -> float:
        """Return when the bytes were stored last, seconds since the epoch."""
        return _seconds(self._fs.modified(self._path(digest)))

    def read_unverified(self, digest: str) -> bytes:
        """Return the stored bytes as they are; none if they are absent."""
        path = self._path(digest)
        return bytes(self._fs.cat_file(path)) if self._fs.exists(path) else b""

    def set_aside(self, digest: str, folder: Path) -> Path:
        """Move damaged bytes out of the store into a local folder and return the file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(digest), os.fspath(folder / digest))
        self.delete(digest)
        return folder / digest

    def clear_staging(self, *, before: float) -> None:
        """Remove what writers that died left half written before a time (seconds)."""
        for path in (Path(self._root) / "tmp").glob("blob-*") if self._local else ():
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def _path(self, digest: str) -> str:
        if len(digest) != 64 or not _DIGEST.issuperset(digest):
            raise InvalidInput(f"{digest!r} is no sha256 digest", hint="Pass 64 hexadecimal digits.")
        return f"{self._root}/{digest[:2]}/{digest}"


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block


def _seconds(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
