"""Stored cells, read again: pieces to columns, and columns to the table that was given."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

from nbops.core.errors import CorruptData
from nbops.core.protocols import ArtifactStore
from nbops.data.columns import Column, bare_arrays
from nbops.data.versions.cells import column_of, decoded, decoded_schema, given_back, patched, plain_type
from nbops.data.versions.manifest import ARRAYS, Manifest, Stored


class StoredCells:
    """What a manifest says is stored, read when it is asked for.

    Parameters
    ----------
    manifest : Manifest
    stored : Stored
        What it says of its cells.
    artifacts : ArtifactStore
    """

    def __init__(self, manifest: Manifest, stored: Stored, *, artifacts: ArtifactStore) -> None:
        self.manifest = manifest
        self.stored = stored
        self._artifacts = artifacts
        uses = Counter(piece.object for piece in self.stored.pieces)
        self._shared = {place for place, count in uses.items() if count > 1}
        self._objects: dict[int, bytes] = {}
        self._columns: dict[int, Column] = {}

    @cached_property
    def schema(self) -> Any:
        """Arrow's schema of the table that was given."""
        return decoded_schema(self.stored.schema)

    @cached_property
    def kinds(self) -> list[Any]:
        """The plain type of each column."""
        return [plain_type(field.type) for field in self.schema]

    def bytes_of(self, place: int) -> bytes:
        """Return the bytes of a piece; objects that hold several are kept until they are let go."""
        piece = self.stored.pieces[place]
        data = self._objects.get(piece.object)
        if data is None:
            with self._artifacts.open(self.stored.objects[piece.object]) as file:
                data = file.read()
            if piece.object in self._shared:
                self._objects[piece.object] = data
        if piece.start < 0 or piece.size < 0 or piece.start + piece.size > len(data):
            raise _odd("a piece ends beyond its object")
        return data[piece.start : piece.start + piece.size]

    def piece(self, place: int) -> Any:
        """Return the cells of a piece, with what replaced some of them."""
        chain = [place]
        while (below := self.stored.pieces[chain[-1]].base) >= 0:
            chain.append(below)
        cells: Any = None
        for one in reversed(chain):
            fresh, at = decoded(self.bytes_of(one))
            if (at is None) != (cells is None):
                raise _odd("a piece lacks what it is based on")
            if at is not None and (len(at) != len(fresh) or (len(at) and not 0 <= at.min() <= at.max() < len(cells))):
                raise _odd("a piece replaces rows that are not there")
            cells = fresh if at is None else patched(cells, fresh, at)
        if len(cells) != self.stored.pieces[place].rows:
            raise _odd("a piece has another number of rows")
        return cells

    def array(self, place: int) -> Any:
        """Return a column as one Arrow array of its plain type."""
        import pyarrow as pa

        read: dict[int, Any] = {}
        kind, parts = self.kinds[place], []
        for extent in self.stored.columns[place]:
            if extent.piece not in read:
                read = {extent.piece: self.piece(extent.piece)}
            cells = read[extent.piece][extent.start : extent.stop]
            if cells.type != kind:
                raise _odd(f"column {place} holds {cells.type}, not {kind}")
            parts.append(cells)
        return pa.concat_arrays(parts) if parts else pa.array([], kind)

    def column(self, place: int) -> Column:
        """Return a column in canonical form; kept."""
        if place not in self._columns:
            tree = self.manifest.tree[place]
            self._columns[place] = column_of(tree.name, tree.dtype, self.array(place))
        return self._columns[place]

    def table(self) -> Any:
        """Return the whole as it was given: an Arrow table, or a dict of arrays."""
        import pyarrow as pa

        if self.stored.form == ARRAYS:
            return self._arrays()
        arrays = []
        for place, field in enumerate(self.schema):
            categories = self.stored.categories[place]
            known = None if categories < 0 else self.piece(categories)
            arrays.append(given_back(self.array(place), field.type, known))
        self._objects.clear()
        return pa.table(arrays, schema=self.schema)

    def _arrays(self) -> dict[str, Any]:
        columns = [self.column(place) for place in range(len(self.manifest.tree))]
        self._columns.clear()
        self._objects.clear()
        is_labelled = len(columns) > 1 and columns[-1].name == "y"
        found = bare_arrays(columns[:-1] if is_labelled else columns, columns[-1] if is_labelled else None)
        if found is None:
            raise _odd("its columns are not those of arrays")
        return found


def _odd(what: str) -> CorruptData:
    return CorruptData(
        f"stored cells do not fit together: {what}",
        hint="Restore the files of the workspace from a backup; nothing of it was used.",
    )
