"""Which rows of a new version are rows of the one before it, and which cells of them changed.

Digests answer where they can. Else rows are found again by hashes: at the same place, or wherever they went when rows
were inserted, deleted or moved in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.data.columns import Array, Column, Hashes, part, row_hashes
from nbops.data.digest import CHUNK_ROWS
from nbops.data.matching import matched, numbered
from nbops.data.versions.manifest import ColumnTree, Extent
from nbops.data.versions.reading import StoredCells

_LEAST_RUN = 32  # rows: a shorter one costs more to point at than to store
_MOST_RUNS = 1000
_SURE = 0.98  # of the rows at the same place: nothing moved
_MOST_CHANGED = 0.3  # of a piece's rows: more of them are stored anew, with the others
_DEEPEST = 16  # pieces that are read for one


@dataclass(frozen=True)
class Run:
    """Rows that lie together in both versions: `rows` of them, from `old` in the base and from `new` here."""

    old: int
    new: int
    rows: int


@dataclass(frozen=True, eq=False)
class Part:
    """Rows `start` to before `stop` of the new column, and how they are had.

    As an `extent` of the base; as one in whose piece the rows `at` have other cells, those at `cells` here; or, without
    an extent, to be stored.
    """

    start: int
    stop: int
    extent: Extent | None = None
    at: NDArray[np.int64] | None = None
    cells: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """A column, with its digests, and its place in the base; -1 if that has none like it."""

    column: Column
    tree: ColumnTree
    place: int


def find_runs(pairs: Sequence[Pair], base: StoredCells, rows: int) -> list[Run]:
    """Return which rows of the base are found again, in the order of the new ones."""
    shared = [pair for pair in pairs if pair.place >= 0]
    common = min(rows, base.manifest.rows)
    if not shared or not common:
        return []
    at_place = [Run(0, 0, common)]
    chunks = [
        (old, new)
        for pair in shared
        for old, new in zip(base.manifest.tree[pair.place].chunks, pair.tree.chunks, strict=False)
    ]
    if 2 * sum(old == new for old, new in chunks) >= len(chunks):
        return at_place
    old = row_hashes([base.column(pair.place) for pair in shared], base.manifest.rows)
    new = row_hashes([pair.column for pair in shared], rows)
    equal = np.count_nonzero(old[:common] == new[:common])
    if equal >= _SURE * common:
        return at_place
    found = matched(numbered(old), numbered(new))
    return _runs_of(found, old, new) if len(found) > equal else at_place


def _runs_of(found: NDArray[np.int64], old: Hashes, new: Hashes) -> list[Run]:
    """Return runs from pairs of equal rows, across rows that changed where they stood."""
    ahead = found[:, 0] - found[:, 1]
    starts = np.flatnonzero(np.concatenate(([True], ahead[1:] != ahead[:-1])))
    ends = np.append(starts[1:], len(found)) - 1
    runs = [
        Run(int(found[start, 0]), int(found[start, 1]), int(found[end, 1] - found[start, 1]) + 1)
        for start, end in zip(starts, ends, strict=True)
        if found[end, 1] - found[start, 1] >= _LEAST_RUN - 1
    ]
    longest = sorted(runs, key=lambda run: -run.rows)[:_MOST_RUNS]
    return sorted(longest, key=lambda run: run.new)


def parts_of(pair: Pair, base: StoredCells, runs: Sequence[Run]) -> list[Part]:
    """Return how each row of a column is had, in order."""
    rows = pair.column.rows
    if pair.place < 0:
        return [Part(0, rows)] if rows else []
    parts: list[Part] = []
    done = 0
    for run in runs:
        if run.new > done:
            parts.append(Part(done, run.new))
        parts += _parts_of_run(pair, base, run)
        done = run.new + run.rows
    if done < rows:
        parts.append(Part(done, rows))
    parts = list(_joined(parts))
    if len(parts) > 64 + rows // 1024:  # in too many places: reading would be slow
        return [Part(0, rows)]
    return parts


def _parts_of_run(pair: Pair, base: StoredCells, run: Run) -> Iterator[Part]:
    differs = _differing(pair, base, run)
    extents = base.stored.columns[pair.place]
    begins = [0, *accumulate(e.stop - e.start for e in extents)]
    for extent, begin in zip(extents, begins, strict=False):
        low, high = max(run.old, begin), min(run.old + run.rows, begin + extent.stop - extent.start)
        if low >= high:
            continue
        start = run.new + low - run.old
        shift = extent.start - begin  # from rows of the base to rows of the piece
        same = Extent(extent.piece, low + shift, high + shift)
        changed = np.flatnonzero(differs[low - run.old : high - run.old])
        piece = base.stored.pieces[extent.piece]
        if not len(changed):
            yield Part(start, start + high - low, same)
        elif piece.depth < _DEEPEST and len(changed) <= _MOST_CHANGED * (high - low) and _is_flat(pair.column):
            yield Part(start, start + high - low, same, changed + low + shift, changed + start)
        else:
            yield Part(start, start + high - low)


def _is_flat(column: Column) -> bool:
    return column.dtype != "object"  # nested cells are stored anew, all of a piece


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield parts with neighbours that belong together as one."""
    last: Part | None = None
    for one in parts:
        if last is not None and last.at is None and one.at is None:
            if last.extent is None and one.extent is None:
                last = Part(last.start, one.stop)
                continue
            if (
                last.extent is not None and one.extent is not None
                and last.extent.piece == one.extent.piece and last.extent.stop == one.extent.start
            ):  # fmt: skip
                last = Part(last.start, one.stop, Extent(one.extent.piece, last.extent.start, one.extent.stop))
                continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


# ---- cells -----------------------------------------------------------------------------------------------------------


def _differing(pair: Pair, base: StoredCells, run: Run) -> NDArray[np.bool_]:
    """Return for each row of a run whether its cell is another than in the base; chunks of one digest are not read."""
    found = np.zeros(run.rows, np.bool_)
    tree = base.manifest.tree[pair.place]
    if run.old != run.new:
        spans = [(0, run.rows)]
    else:
        first, last = run.new // CHUNK_ROWS, -(-(run.new + run.rows) // CHUNK_ROWS)
        spans = [
            (max(0, number * CHUNK_ROWS - run.new), min(run.rows, (number + 1) * CHUNK_ROWS - run.new))
            for number in range(first, last)
            if tree.chunks[number] != pair.tree.chunks[number]
        ]
    for start, stop in spans:
        old = part(base.column(pair.place), run.old + start, run.old + stop)
        found[start:stop] = cells_differ(old, part(pair.column, run.new + start, run.new + stop))
    return found


def cells_differ(old: Column, new: Column) -> NDArray[np.bool_]:
    """Return for each row whether the cells of two columns of one type differ: in any bit, but for missing ones."""
    gone = [np.zeros(c.rows, np.bool_) if c.missing is None else c.missing for c in (old, new)]
    if old.offsets is not None and new.offsets is not None:
        differs = (old.text_hashes != new.text_hashes) | (np.diff(old.offsets) != np.diff(new.offsets))
    elif old.values.dtype != new.values.dtype:  # times of another unit
        return np.ones(new.rows, np.bool_)
    else:
        gone = [np.zeros(c.values.shape, np.bool_) if c.missing is None else c.missing for c in (old, new)]
        differs = _bits(old.values) != _bits(new.values)
    differs = (differs & ~(gone[0] & gone[1])) | (gone[0] != gone[1])
    return np.asarray(differs.any(axis=1) if differs.ndim > 1 else differs)


def _bits(values: Array) -> Array:
    little = np.ascontiguousarray(values)
    return little if little.dtype.kind == "b" else little.view(f"u{little.dtype.itemsize}")


def places(trees: Sequence[ColumnTree], base: StoredCells, kinds: Sequence[Any]) -> list[int]:
    """Return for each column the one of the base it is compared with: by name, else by content; -1 for none."""
    named = {column.name: place for place, column in enumerate(base.manifest.tree)}
    by_content = {(c.dtype, tuple(c.chunks)): place for place, c in enumerate(base.manifest.tree)}
    found = []
    for tree, kind in zip(trees, kinds, strict=True):
        place = named.get(tree.name, -1)
        if place < 0:
            place = by_content.get((tree.dtype, tuple(tree.chunks)), -1)
        fits = place >= 0 and base.manifest.tree[place].dtype == tree.dtype and base.kinds[place] == kind
        found.append(place if fits else -1)
    return found
