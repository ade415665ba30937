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

from nbops.core.errors import CorruptData, InvalidInput, NotFound, StoreUnavailable
from nbops.store.spool import Spool
from nbops.store.telling import say_changed, say_once

_BLOCK = 1 << 20
_DIGEST = frozenset("0123456789abcdef")
_FRESH_S = 6 * 3600  # well below the grace of a purge
_LEAVE_ALONE_S = 15.0  # a place that did not answer is not asked again for so long
# A bucket that cannot be reached is an answer, soon: botocore would try for minutes.
_S3 = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}}


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
    spool : Spool, optional
        Keeps what cannot be stored at once; without it that is an error.
    """

    def __init__(self, url: str, *, spool: Spool | None = None) -> None:
        self.url = url
        self._spool = spool
        self._ask_at = 0.0
        self._fs, self._root = fsspec.url_to_fs(url, **(_S3 if url.startswith(("s3:", "s3a:")) else {}))
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def put(self, data: bytes | Path | BinaryIO) -> tuple[str, int]:
        """Store bytes and return (sha256 in hex, size in bytes).

        Raises
        ------
        StoreUnavailable
            They cannot be stored now, and there is no room to keep them until they can.
        """
        if isinstance(data, Path):
            with data.open("rb") as stream:
                return self._kept(stream, data)
        return self._kept(io.BytesIO(data), data) if isinstance(data, bytes) else self._put(data, self._spool)

    def _kept(self, stream: BinaryIO, data: bytes | Path) -> tuple[str, int]:
        try:
            return self._put(stream, self._spool)
        except StoreUnavailable:
            if self._spool is None:
                raise
            return self._spool.keep_path(data) if isinstance(data, Path) else self._spool.keep_bytes(data)

    def _put(self, stream: BinaryIO, spool: Spool | None) -> tuple[str, int]:
        hasher, size, staged = hashlib.sha256(), 0, Path()
        try:
            handle, name = tempfile.mkstemp(dir=self._staging(), prefix="blob-")
            staged = Path(name)
            with os.fdopen(handle, "wb") as out:
                for block in _blocks(stream):
                    hasher.update(block)
                    out.write(block)
                    size += len(block)
                out.flush()
                os.fsync(out.fileno())
            digest = hasher.hexdigest()
            self._send(staged, digest, size, spool)
        except OSError as error:  # of this disk; another place's errors become our own in `_send`
            raise error if isinstance(error, StoreUnavailable) else self._unavailable(error) from error
        finally:
            if staged.name:
                staged.unlink(missing_ok=True)
        return digest, size

    def _staging(self) -> Path | None:
        if not self._local:
            return None
        staging = Path(self._root) / "tmp"
        staging.mkdir(parents=True, exist_ok=True)
        return staging

    def _send(self, staged: Path, digest: str, size: int, spool: Spool | None) -> None:
        """Bring a staged file to its place, or to the spool if the place is elsewhere and does not answer."""
        path = self._path(digest)
        if self._local:
            self._move(staged, path, size)
            return
        if spool is not None and time.monotonic() < self._ask_at:
            spool.keep_staged(staged, digest)
            return
        try:
            self._move(staged, path, size)
        except Exception as error:  # each library of fsspec has errors of its own
            if spool is None:
                raise self._unavailable(error) from error
            self._ask_at = time.monotonic() + _LEAVE_ALONE_S
            spool.keep_staged(staged, digest)
            say_once(f"files {self.url}", f"files cannot be stored at {self.url}: {error}. They are kept here and sent "
                                          "there when it answers again.")  # fmt: skip

    def settle(self) -> None:
        """Send on what waits, if there is anything and its place answers again."""
        if self._spool is None or time.monotonic() < self._ask_at or not self._spool.waiting():
            return
        try:
            self._spool.settle(self._put_now)
        except StoreUnavailable:
            self._ask_at = time.monotonic() + _LEAVE_ALONE_S
            return
        say_changed(f"files {self.url}", f"all files that waited are stored at {self.url}.")

    def _put_now(self, data: bytes | Path) -> None:
        if isinstance(data, bytes):
            self._put(io.BytesIO(data), None)
            return
        with data.open("rb") as stream:
            self._put(stream, None)

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        reason = getattr(error, "strerror", None) or error
        return StoreUnavailable(f"files cannot be stored at {self.url}: {reason}",
                                hint="Check the place, its permissions and its free space.")  # fmt: skip

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
        waiting = self._spool.open(digest) if self._spool is not None else None
        if waiting is not None:
            return waiting
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
        """Return whether the bytes are there, or wait to be."""
        path = self._path(digest)
        return (self._spool is not None and digest in self._spool.waiting()) or bool(self._fs.exists(path))

    def delete(self, digest: str) -> None:
        """Remove the bytes; nothing happens if they are absent."""
        if self._fs.exists(self._path(digest)):
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

    def begins_with(self, digest: str, start: bytes) -> bool:
        """Return whether stored bytes begin so; False if they are absent. Nothing else of them is read."""
        path = self._path(digest)
        return self._fs.exists(path) and bytes(self._fs.cat_file(path, start=0, end=len(start))) == start

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
