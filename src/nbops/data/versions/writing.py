"""Storing a version: what the one before it has is pointed at, the rest goes to objects, and a manifest names them.

Objects and manifest are written before any record names them: a killed process leaves files that a sweep removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbops.core.protocols import ArtifactStore
from nbops.data.columns import Frame, bare_arrays
from nbops.data.digest import CHUNK_ROWS
from nbops.data.profiling import in_threads, is_large
from nbops.data.versions.cells import arrow_columns, categories_of, encoded, encoded_schema, plain
from nbops.data.versions.manifest import ARRAYS, TABLE, ColumnTree, Extent, Manifest, Piece, Stored
from nbops.data.versions.planning import Pair, Part, find_runs, parts_of, places
from nbops.data.versions.reading import StoredCells

_OWN = 64 << 10  # bytes: a piece that is larger is an object by itself, which any dataset can share
_PACK = 4 << 20  # bytes: smaller ones lie together
_COLUMNS = 32  # that are encoded at once


def store_cells(frame: Frame, tree: list[ColumnTree], *, base: Manifest | None, artifacts: ArtifactStore) -> Manifest:
    """Store the cells of a frame, or of it what its base does not have, and return the manifest.

    Parameters
    ----------
    frame : Frame
    tree : list of ColumnTree
        Its digests.
    base : Manifest, optional
        Of the version before.
    artifacts : ArtifactStore

    Raises
    ------
    Unstorable
        Mixed values, or text that is no UTF-8.
    """
    arrays, schema = arrow_columns(frame)
    categories = [categories_of(array) for array in arrays]
    arrays = [plain(array) for array in arrays]
    cells = (
        StoredCells(base, base.stored, artifacts=artifacts) if base is not None and base.stored is not None else None
    )
    writer = _Writer(artifacts, cells)
    columns = writer.columns(frame, tree, arrays)
    known = [-1 if one is None else writer.add(_Fresh(encoded(one), len(one))) for one in categories]
    writer.finish()
    form = ARRAYS if is_of_arrays(frame) else TABLE
    stored = Stored(form=form, schema=encoded_schema(schema), objects=list(writer.objects), pieces=writer.pieces,
                    columns=columns, categories=known)  # fmt: skip
    return Manifest(format=1, rows=frame.rows, tree=tree, stored=stored)


def is_of_arrays(frame: Frame) -> bool:
    """Return whether a frame was an array, or a pair of them, and not a table."""
    label = frame.column(frame.label) if frame.label else None
    features = [column for column in frame.columns if column is not label]
    return frame.is_array and bare_arrays(features, label) is not None


@dataclass(frozen=True, eq=False)
class _Fresh:
    """A new piece: its bytes, its rows, and the piece of the base that it changes, if it does."""

    data: bytes
    rows: int
    base: int = -1


@dataclass(eq=False)
class _Writer:
    """Writes the objects of one version; `objects` maps digests to their places."""

    artifacts: ArtifactStore
    base: StoredCells | None
    objects: dict[str, int] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    _kept: dict[int, int] = field(default_factory=dict)  # pieces of the base -> ours
    _pack: list[bytes] = field(default_factory=list)
    _waiting: list[int] = field(default_factory=list)  # pieces that will lie in the pack
    _size: int = 0

    def columns(self, frame: Frame, tree: list[ColumnTree], arrays: Sequence[Any]) -> list[list[Extent]]:
        """Write what is new of each column and return the extents of all."""
        found = [-1] * len(tree) if self.base is None else places(tree, self.base, [array.type for array in arrays])
        pairs = [Pair(*each) for each in zip(frame.columns, tree, found, strict=True)]
        runs = [] if self.base is None else find_runs(pairs, self.base, frame.rows)
        extents: list[list[Extent]] = []
        for start in range(0, len(pairs), _COLUMNS):
            some = pairs[start : start + _COLUMNS]
            plans = [self._plan(pair, runs) for pair in some]
            tasks = [(arrays[start + i], part) for i, plan in enumerate(plans) for part in plan if _is_new(part)]
            done = iter(in_threads(self._encoded, tasks, is_worth_it=is_large(frame)))
            extents += [[self._extent(part, done) for part in plan] for plan in plans]
        return extents

    def _plan(self, pair: Pair, runs: Sequence[Any]) -> list[Part]:
        whole = [Part(0, pair.column.rows)] if pair.column.rows else []
        parts = whole if self.base is None else parts_of(pair, self.base, runs)
        return [piece for part in parts for piece in _cut(part)]

    def _encoded(self, task: tuple[Any, Part]) -> _Fresh:
        array, part = task
        if part.extent is None or self.base is None or part.at is None:
            return _Fresh(encoded(array[part.start : part.stop]), part.stop - part.start)
        rows = self.base.stored.pieces[part.extent.piece].rows
        return _Fresh(encoded(array.take(part.cells), part.at), rows, part.extent.piece)

    def _extent(self, part: Part, done: Iterator[_Fresh]) -> Extent:
        if part.extent is None:
            return Extent(self.add(next(done)), 0, part.stop - part.start)
        if part.at is not None:
            return Extent(self.add(next(done)), part.extent.start, part.extent.stop)
        return Extent(self._keep(part.extent.piece), part.extent.start, part.extent.stop)

    def add(self, fresh: _Fresh) -> int:
        """Write a piece, at once or with others, and return its place."""
        base = -1 if fresh.base < 0 else self._keep(fresh.base)
        depth = 0 if base < 0 else self.pieces[base].depth + 1
        if len(fresh.data) >= _OWN:
            at = self._object(self.artifacts.put(fresh.data)[0])
            self.pieces.append(Piece(at, 0, len(fresh.data), fresh.rows, base, depth))
            return len(self.pieces) - 1
        self.pieces.append(Piece(-1, self._size, len(fresh.data), fresh.rows, base, depth))
        place = len(self.pieces) - 1
        self._waiting.append(place)
        self._pack.append(fresh.data)
        self._size += len(fresh.data)
        if self._size >= _PACK:
            self.finish()
        return place

    def finish(self) -> None:
        """Write the pack."""
        if not self._waiting:
            return
        at = self._object(self.artifacts.put(b"".join(self._pack))[0])
        for place in self._waiting:
            one = self.pieces[place]
            self.pieces[place] = Piece(at, one.start, one.size, one.rows, one.base, one.depth)
        self._pack, self._waiting, self._size = [], [], 0

    def _object(self, digest: str) -> int:
        return self.objects.setdefault(digest, len(self.objects))

    def _keep(self, place: int) -> int:
        """Return the place of a piece of the base among ours, after those that it changes."""
        assert self.base is not None  # noqa: S101 (for the type checker: only plans with a base come here)
        if place not in self._kept:
            one = self.base.stored.pieces[place]
            below = -1 if one.base < 0 else self._keep(one.base)
            at = self._object(self.base.stored.objects[one.object])
            self.pieces.append(Piece(at, one.start, one.size, one.rows, below, one.depth))
            self._kept[place] = len(self.pieces) - 1
        return self._kept[place]


def _is_new(part: Part) -> bool:
    return part.extent is None or part.at is not None


def _cut(part: Part) -> Iterator[Part]:
    """Yield rows that are to be stored in chunks of the grid, so that other datasets come to the same pieces."""
    if part.extent is not None:
        yield part
        return
    borders = [*range((part.start // CHUNK_ROWS + 1) * CHUNK_ROWS, part.stop, CHUNK_ROWS), part.stop]
    for start, stop in zip([part.start, *borders[:-1]], borders, strict=True):
        yield Part(start, stop)


def missing_objects(manifest: Manifest, *, artifacts: ArtifactStore) -> list[str]:
    """Return which of its objects are not there (any more)."""
    return [] if manifest.stored is None else [d for d in manifest.stored.objects if not artifacts.exists(d)]
