"""Reading a bundle that nobody vouches for: names, sizes and digests are judged before any content is used.

Nothing is unpacked to a path that the file names, nothing is executed, and memory does not grow with the file.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec

from nbops.core.codec import decode
from nbops.core.errors import CorruptData
from nbops.store.points import Columns
from nbops.tracking.exchange.bundles import (
    DIGEST,
    FORMAT,
    MANIFEST,
    MAX_LINE,
    NAME,
    SUFFIX,
    Manifest,
    damaged,
    frames_in,
    points_entry,
)

R = TypeVar("R")
_ZIP = b"PK\x03\x04"
MAX_RATIO = 100  # of what an entry becomes to what it takes in the file
MAX_MANIFEST = 64 << 20
MAX_DIRECTORY = 64 << 20  # bytes of zip's list of entries: half a million of ours
_SLACK = 1 << 20  # short texts may shrink further
_BLOCK = 1 << 20
_END = struct.Struct("<4s4H2LH")  # end of central directory record (APPNOTE 4.3.16)
_END64 = struct.Struct("<4sQ2H2L4Q")  # and its larger form (4.3.14), found by the locator (4.3.15)
_LOCATOR = struct.Struct("<4sLQL")
# What zipfile raises at bytes that were made to confuse it.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError)


def is_bundle(source: str) -> bool:
    """Return whether a path looks like a bundle: a zip file, or a file named like one."""
    path = Path(source).expanduser()
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return source.endswith(SUFFIX) or stream.read(len(_ZIP)) == _ZIP


class _Format(msgspec.Struct):
    """The one field of a manifest that every format has."""

    format: int


class Bundle:
    """An open bundle whose structure is sound; a context manager.

    Attributes
    ----------
    manifest : Manifest

    Raises
    ------
    CorruptData
        It is no bundle, of a newer format, or anything in it is not as nbops writes it.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        try:
            size = path.stat().st_size
            if _directory_bytes(self._stream, size) > MAX_DIRECTORY:
                raise damaged("it lists too many entries")
            self._archive = zipfile.ZipFile(self._stream)
            self._infos = _checked(self._archive.infolist(), size)
            self.manifest = self._read_manifest()
        except CorruptData:
            self._stream.close()
            raise
        except _UNREADABLE as error:
            self._stream.close()
            raise damaged(f"it is no zip file that can be read: {error}") from error

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()
        self._stream.close()

    def __contains__(self, name: object) -> bool:
        return name in self.manifest.entries

    def verify(self) -> None:
        """Read every file of the bundle and compare it with its digest; `CorruptData` if one differs."""
        for name in self.manifest.entries:
            if name.startswith("blobs/"):
                with self.open(name) as entry:
                    while entry.read(_BLOCK):
                        pass

    def open(self, name: str) -> _Entry:
        """Return a reader of one entry, which raises `CorruptData` at its end if its digest is another."""
        said = self.manifest.entries[name]
        try:
            stream = self._archive.open(self._infos[name])
        except _UNREADABLE as error:
            raise damaged(f"'{name}' cannot be read: {error}") from error
        return _Entry(stream, name, size=said.size_bytes, sha256=said.sha256)

    def lines(self, name: str, kind: type[R]) -> Iterator[R]:
        """Yield the lines of an entry as `kind`; none if the bundle has no such entry."""
        if name not in self:
            return
        with self.open(name) as entry:
            for line in entry.lines():
                try:
                    yield decode(line, kind)
                except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
                    raise damaged(f"{name} holds what is no {kind.__name__}: {error}") from error

    def points(self, run: str) -> Iterator[tuple[str, Columns]]:
        """Yield (metric, points) of a run, at most a chunk at a time."""
        name = points_entry(run)
        if name not in self:
            return
        with self.open(name) as entry:
            yield from frames_in(entry.read)

    def _read_manifest(self) -> Manifest:
        info = self._infos.get(MANIFEST)
        if info is None or info.file_size > MAX_MANIFEST:
            raise damaged("it has no manifest" if info is None else "its manifest is too large")
        with self._archive.open(info) as stream:
            data = stream.read(MAX_MANIFEST + 1)
        try:
            format = msgspec.json.decode(data, type=_Format).format
            if format > FORMAT:
                raise CorruptData(f"the bundle has format {format}, this nbops reads up to {FORMAT}",
                                  hint="Update nbops to read it.")  # fmt: skip
            manifest = msgspec.json.decode(data, type=Manifest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(f"its manifest cannot be read: {error}") from error
        _compare(manifest, self._infos)
        return manifest


class _Entry:
    """A reader of one entry: no more bytes than were said, and at the end the right ones."""

    def __init__(self, stream: IO[bytes], name: str, *, size: int, sha256: str) -> None:
        self._stream, self._name, self._left, self._sha256 = stream, name, size, sha256
        self._hasher = hashlib.sha256()

    def __enter__(self) -> _Entry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def read(self, size: int = _BLOCK) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        try:
            data = self._stream.read(size)
        except _UNREADABLE as error:
            raise damaged(f"'{self._name}' cannot be read: {error}") from error
        self._left -= len(data)
        self._hasher.update(data)
        if self._left < 0 or (len(data) < size and self._left) or not (self._left or self._is_right()):
            raise damaged(f"'{self._name}' is not what its manifest says")
        return data

    def _is_right(self) -> bool:
        return self._hasher.hexdigest() == self._sha256

    def lines(self) -> Iterator[bytes]:
        """Yield lines without their ends."""
        rest = b""
        while data := self.read(_BLOCK):
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
            if len(rest) > MAX_LINE:
                raise damaged(f"'{self._name}' has a line of more than {MAX_LINE:,} bytes")
        if rest:
            raise damaged(f"'{self._name}' ends within a line")


def _checked(infos: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name, or refuse them: names, sorts, sizes."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename
        if not NAME.fullmatch(name) or info.filename != name:
            raise damaged(f"{name[:80]!r} is no name of an entry")
        if name in found:
            raise damaged(f"'{name}' is in it twice")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise damaged(f"'{name}' is no plain file")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damaged(f"'{name}' is packed in a way that nbops does not use")
        if info.file_size > MAX_RATIO * info.compress_size + _SLACK:
            raise damaged(f"'{name}' would become {info.file_size:,} bytes from {info.compress_size:,}")
        found[name] = info
    packed, whole = (sum(getattr(info, name) for info in infos) for name in ("compress_size", "file_size"))
    if packed > size or whole > MAX_RATIO * size + _SLACK:  # entries may share bytes, and many small ones add up
        raise damaged(f"its entries would become {whole:,} bytes from {size:,}")
    return found


def _compare(manifest: Manifest, infos: dict[str, zipfile.ZipInfo]) -> None:
    """Let the manifest and the entries be of the same names and sizes."""
    missing = manifest.entries.keys() - infos.keys()
    unknown = infos.keys() - manifest.entries.keys() - {MANIFEST}
    for names, word in ((missing, "is missing"), (unknown, "is not in its manifest")):
        if names:
            raise damaged(f"'{min(names)[:100]}' {word}")
    for name, entry in manifest.entries.items():
        folder, _, own = name.partition("/")
        is_sound = DIGEST.fullmatch(entry.sha256) and (folder != "blobs" or own == entry.sha256)
        if not is_sound or entry.size_bytes != infos[name].file_size or name == MANIFEST:
            raise damaged(f"'{name}' is not what its manifest says")


def _directory_bytes(stream: IO[bytes], size: int) -> int:
    """Return how long zip's list of entries says it is: it is read as a whole, so this is asked first."""
    tail = min(size, _END.size + 0xFFFF + _LOCATOR.size)
    stream.seek(size - tail)
    data = stream.read(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(data):
        raise zipfile.BadZipFile("it has no end of a central directory")
    found = int(_END.unpack_from(data, at)[5])
    if found != 0xFFFFFFFF or at < _LOCATOR.size:
        return found
    mark, _, place, _ = _LOCATOR.unpack_from(data, at - _LOCATOR.size)
    stream.seek(min(place, size))
    larger = stream.read(_END64.size)
    if mark != b"PK\x06\x07" or len(larger) < _END64.size:
        raise zipfile.BadZipFile("its central directory cannot be found")
    return int(_END64.unpack(larger)[8])
