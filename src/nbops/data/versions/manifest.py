"""The file that is kept with every snapshot: its tree of digests, and where its cells are stored, if they are.

Cells are stored as pieces: up to 65,536 rows of one column, or what differs from another piece. A column is a list of
extents: rows of pieces, one after the other. Pieces lie in objects, files under their sha256, which versions share.
It is JSON, so that a sweep of the store sees which files it names.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from nbops.core.errors import CorruptData
from nbops.core.protocols import ArtifactStore
from nbops.core.records import Dataset
from nbops.data.digest import CHUNK_ROWS, chunks_of, joined_digest

TABLE, ARRAYS = "table", "arrays"


class ColumnTree(msgspec.Struct, frozen=True, array_like=True):
    """One column: name, type, and the digest of each chunk."""

    name: str
    dtype: str
    chunks: list[str]


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Cells of one column: bytes `start` to ``start + size`` of an object.

    With a `base`, another piece, they are what differs from that; `depth` says how many bases there are below.
    """

    object: int
    start: int
    size: int
    rows: int
    base: int = -1
    depth: int = 0


class Extent(msgspec.Struct, frozen=True, array_like=True):
    """Rows `start` to before `stop` of a piece."""

    piece: int
    start: int
    stop: int


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """Where the cells are.

    `schema` is Arrow's, in base64: the types that reading gives back. `categories` names for each column the piece of
    its categories, or -1.
    """

    form: str
    schema: str
    objects: list[str]
    pieces: list[Piece]
    columns: list[list[Extent]]
    categories: list[int]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a snapshot without its data."""

    format: int = msgspec.field(name="nbops.dataset")
    rows: int
    tree: list[ColumnTree]
    stored: Stored | None = None

    def digests(self) -> list[str]:
        """Return the digest of each column."""
        return [joined_digest(column.dtype, self.rows, column.chunks) for column in self.tree]

    def encoded(self) -> bytes:
        """Return the bytes of the file."""
        return msgspec.json.encode(self)


def read_manifest(dataset: Dataset, *, artifacts: ArtifactStore) -> Manifest | None:
    """Return the manifest of a snapshot; None if it was recorded before there were any.

    Raises
    ------
    CorruptData
        It is not as nbops writes it, or not that of this snapshot.
    NotFound
        Its file is gone.
    """
    if dataset.manifest is None or dataset.is_folder:
        return None
    with artifacts.open(dataset.manifest) as file:
        data = file.read()
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
        sound = manifest.format == 1 and _is_sound(manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(dataset, str(error)) from error
    if not sound:
        raise _damaged(dataset, "its parts do not fit together")
    if [(c.name, c.digest) for c in dataset.columns] != list(
        zip((c.name for c in manifest.tree), manifest.digests(), strict=True)
    ):
        raise _damaged(dataset, "it is that of other data")
    return manifest


def _is_sound(manifest: Manifest) -> bool:
    """Whether every number points at something, bases come first, and extents are as long as the columns."""
    if any(len(column.chunks) != chunks_of(manifest.rows) for column in manifest.tree):
        return False
    kept = manifest.stored
    if kept is None:
        return True
    if not len(kept.columns) == len(kept.categories) == len(manifest.tree):
        return False
    for place, piece in enumerate(kept.pieces):
        if not (0 <= piece.object < len(kept.objects) and -1 <= piece.base < place):
            return False
    rows = [piece.rows for piece in kept.pieces]
    if not all(-1 <= place < len(rows) for place in kept.categories):
        return False
    for extents in kept.columns:
        if not all(0 <= e.piece < len(rows) and 0 <= e.start < e.stop <= rows[e.piece] for e in extents):
            return False
        if sum(e.stop - e.start for e in extents) != manifest.rows:
            return False
    return True


def _damaged(dataset: Dataset, what: str) -> CorruptData:
    return CorruptData(
        f"the manifest of dataset '{dataset.name}/{dataset.version}' cannot be used: {what}",
        hint="Restore the files of the workspace from a backup; nothing of it was used.",
    )


def differing_rows(a: Manifest, b: Manifest, column: str) -> list[tuple[int, int]] | None:
    """Return the ranges of rows in which a column may differ, told by digests alone: from, to before.

    None where only one of them has the column, or has it with another type. Rows that only one has are a range too.
    """
    found = [next((c for c in side.tree if c.name == column), None) for side in (a, b)]
    one, two = found
    if one is None or two is None or one.dtype != two.dtype:
        return None
    rows = max(a.rows, b.rows)
    chunks = [*_padded(one.chunks, chunks_of(rows))], [*_padded(two.chunks, chunks_of(rows))]
    differs = [False, *(x != y for x, y in zip(*chunks, strict=True)), False]
    edges = [place for place, (x, y) in enumerate(pairwise(differs)) if x != y]
    return [
        (start * CHUNK_ROWS, min(stop * CHUNK_ROWS, rows))
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]  # fmt: skip


def _padded(chunks: list[str], count: int) -> list[str]:
    return [*chunks, *[""] * (count - len(chunks))]
