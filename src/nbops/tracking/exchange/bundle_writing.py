"""Writing a bundle: runs with all that belongs to them into one zip file, which appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from nbops import __version__
from nbops.core.codec import encode
from nbops.core.errors import CorruptData, InvalidInput, NotFound
from nbops.core.query import Compare, Field, Node
from nbops.core.records import (
    Artifact,
    Cell,
    CheckReport,
    Dataset,
    Diagnosis,
    ModelVersion,
    Record,
    Run,
    RunStatus,
    replace,
)
from nbops.core.reports import Report
from nbops.store.identity import user
from nbops.store.maintenance import DIGEST
from nbops.store.manifests import MANIFESTS, stored_files
from nbops.store.points import Columns
from nbops.store.workspace import Workspace
from nbops.tracking.exchange.bundles import (
    FORMAT,
    LINKS,
    MANIFEST,
    MAX_LINE,
    ORIGINS,
    Entry,
    Manifest,
    Origin,
    entry_of,
    frames_of,
    points_entry,
)

_PAGE = 200
_BLOCK = 1 << 20
_RATIO = 50  # text that shrinks more is stored as it is: a reader takes such a ratio for an attack
_MODE = 0o100644 << 16  # a regular file
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment: equal contents make equal entries


def write_bundle(ws: Workspace, path: Path, where: Node | None) -> Report:
    """Write the runs that match, and the runs inside them, with all that belongs to them.

    Raises
    ------
    InvalidInput
        `path` is a folder, or no run matches.
    """
    if path.is_dir():
        raise InvalidInput(f"'{path}' is a folder", hint="Name a file: runs.nbops.zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            writer = _Writer(ws, archive)
            writer.write(where)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    counts = {"runs": 0, "points": 0, "files": 0} | writer.counts
    return Report("export to bundle", counts, str(path), left_out=tuple(writer.left_out),
                  problems=tuple(writer.problems))  # fmt: skip


class _Text:
    """An entry of lines in a scratch file, until it is known how far it shrinks."""

    def __init__(self) -> None:
        self.stream: IO[bytes] = tempfile.TemporaryFile(prefix="nbops-bundle-")  # noqa: SIM115 (closed by its writer)
        self._packer = zlib.compressobj()
        self._size = self._packed = 0

    def add(self, line: bytes) -> None:
        """Append one line."""
        line += b"\n"
        self.stream.write(line)
        self._size += len(line)
        self._packed += len(self._packer.compress(line))

    @property
    def method(self) -> int:
        """How zip should store it."""
        packed = self._packed + len(self._packer.copy().flush())
        return zipfile.ZIP_DEFLATED if self._size <= _RATIO * packed else zipfile.ZIP_STORED


class _Writer:
    def __init__(self, ws: Workspace, archive: zipfile.ZipFile) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.left_out: list[str] = []
        self._ws = ws
        self._archive = archive
        self._entries: dict[str, Entry] = {}
        self._texts: dict[str, _Text] = {}
        self._ids: dict[str, type[Record]] = {}  # of all records that are in it

    def write(self, where: Node | None) -> None:
        """Write everything; the manifest comes last."""
        try:
            ids = [run.id for run in self._ws.store.find(Run, where)]
            if not ids:
                raise InvalidInput("no run matches", hint="Loosen the query; list all with nb.find('runs').")
            with tqdm(desc="exporting to bundle", unit=" runs", leave=False) as bar:
                while ids:  # the runs that are inside those of the last round come next
                    inside: list[str] = []
                    for page in _pages(ids):
                        inside += self._runs(page)
                        bar.update(len(page))
                    ids = inside
            self._relations()
            for name, text in self._texts.items():
                text.stream.seek(0)
                self._stored(name, _blocks(text.stream), method=text.method)
        finally:
            for text in self._texts.values():
                text.stream.close()
        manifest = Manifest(format=FORMAT, entries=self._entries, nbops=__version__, made_at=time.time(),
                            made_by=user(), counts=dict(self.counts))  # fmt: skip
        self._stored(MANIFEST, [encode(manifest)], method=zipfile.ZIP_DEFLATED)

    def _runs(self, ids: Sequence[str]) -> list[str]:
        """Write some runs with what belongs to them, and return the runs inside them."""
        runs = [run for run in self._among(Run, "id", ids) if run.id not in self._ids]
        for run in runs:
            if run.status is RunStatus.RUNNING:
                self.left_out.append(f"the run '{run.name}' ({run.id}) is not over yet")
        runs = [run for run in runs if run.status is not RunStatus.RUNNING]
        mine = [run.id for run in runs]
        self._records(runs)
        for run in runs:
            self._points(run)
            self._texts_named_in(run)
        for kind in (Cell, CheckReport, Diagnosis):
            self._records(self._among(kind, "parent", mine))
        versions = self._records(self._among(ModelVersion, "parent", mine))
        data = self._records(self._datasets(mine))
        self._records(self._among(Artifact, "parent", [*mine, *(one.id for one in (*versions, *data))]))
        self.counts["runs"] += len(runs)
        return [run.id for run in self._among(Run, "parent", mine)]

    def _datasets(self, runs: Sequence[str]) -> list[Record]:
        used = [link.source for run in runs for link in self._ws.store.links(run) if link.relation == "used_by"]
        checked = (report.dataset for report in self._among(CheckReport, "parent", runs))
        return self._among(Dataset, "id", [*dict.fromkeys([*used, *filter(None, checked)])])

    def _among(self, kind: type[Any], field: str, values: Sequence[str]) -> list[Any]:
        return [
            one
            for page in _pages(values)
            for one in self._ws.store.find(kind, Compare(Field(field), "in", tuple(page)))
        ]

    def _records(self, found: Iterable[Any]) -> list[Any]:
        """Write records that are not in the bundle yet, with the bytes that they name; return these records."""
        fresh = [one for one in found if one.id not in self._ids]
        for one in fresh:
            self._ids[one.id] = type(one)
            self._line(entry_of(type(one)), encode(replace(one, summary={}) if isinstance(one, Run) else one))
            if isinstance(one, Artifact):
                self._blob(one.digest, f"'{one.name}'")
                self.counts["files"] += 1
                if one.media_type in MANIFESTS:
                    self._stored_data(one)
            elif isinstance(one, Cell) and one.outputs:
                self._blob(one.outputs, "a cell's outputs")
        return fresh

    def _stored_data(self, manifest: Artifact) -> None:
        """Write what the manifest of a dataset names: pieces of columns, or files; nothing if they are not stored."""
        dataset = self._ws.store.find(Dataset, Compare(Field("id"), "==", manifest.parent), limit=1)
        if not dataset or dataset[0].tags.get("stored_digest") != manifest.digest:
            return
        for digest in stored_files(self._ws.artifacts.read_unverified(manifest.digest)):
            self._blob(digest, f"data of '{dataset[0].name}'")

    def _texts_named_in(self, run: Run) -> None:
        """Write the files that a run's context names by digest: its list of packages."""
        for digest in DIGEST.findall(encode(run.context).decode()):
            if self._ws.artifacts.exists(digest):
                self._blob(digest, "a file of the context")

    def _points(self, run: Run) -> None:
        if not run.summary:
            return

        def frames() -> Iterator[bytes]:
            for metric in run.summary:
                columns = Columns.of(self._ws.store.points(run.id, metric))
                self.counts["points"] += len(columns)
                yield from frames_of(metric, columns)

        self._stored(points_entry(run.id), frames())

    def _relations(self) -> None:
        """Write the links between records of the bundle, and who made them and when."""
        for id, kind in self._ids.items():
            for link in self._ws.store.links(id):
                if link.source == id and link.target in self._ids:
                    self._line(LINKS, encode(link))
            if kind in (Run, Dataset, ModelVersion):
                events = self._ws.store.events(subject=id, limit=_PAGE)
                for event in [one for one in events if one.kind.endswith((".created", ".imported"))][:1]:
                    known = event.payload if event.kind.endswith(".imported") else {}
                    origin = Origin(id=id, by=str(known.get("by", event.actor)), at=float(known.get("at", event.at)))
                    self._line(ORIGINS, encode(origin))

    def _line(self, name: str, line: bytes) -> None:
        if len(line) >= MAX_LINE:
            raise InvalidInput(f"a record of {len(line):,} bytes is too large for a bundle: {line[:60].decode()}…",
                               hint="Leave that run out by a query.")  # fmt: skip
        if name not in self._texts:
            self._texts[name] = _Text()
        self._texts[name].add(line)

    def _blob(self, digest: str, what: str) -> None:
        name = f"blobs/{digest}"
        if name in self._entries:
            return
        try:
            with self._ws.artifacts.open(digest) as source:
                self._stored(name, _blocks(source), digest=digest)
        except (NotFound, CorruptData) as error:
            self.problems.append(f"{what} ({digest[:12]}…) is not in the bundle: {error.message}")

    def _stored(
        self, name: str, blocks: Iterable[bytes], *, method: int = zipfile.ZIP_STORED, digest: str = ""
    ) -> None:  # fmt: skip
        """Write one entry, and note its size and sha256, which must be `digest` if that is given."""
        info = zipfile.ZipInfo(name, _EPOCH)
        info.external_attr, info.compress_type = _MODE, method
        hasher, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as out:
            for block in blocks:
                out.write(block)
                hasher.update(block)
                size += len(block)
        if digest and hasher.hexdigest() != digest:
            raise CorruptData(f"stored bytes {digest[:12]}… changed while they were read", hint="Export again.")
        self._entries[name] = Entry(sha256=hasher.hexdigest(), size_bytes=size)


def _pages(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _PAGE):
        yield items[start : start + _PAGE]


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(_BLOCK):
        yield block
