"""The data of a snapshot: in shared pieces where pyarrow is installed, else as one ``.npz``; and back.

Arrays stay arrays, ``X`` and ``y``. Columns of mixed values are not stored. Snapshots of before the pieces are one
Parquet file each.
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.errors import CorruptData, NotFound
from nbops.core.protocols import ArtifactStore
from nbops.core.records import Dataset
from nbops.data.columns import Array, Column, Frame, bare_arrays, is_bare
from nbops.data.versions.cells import Unstorable
from nbops.data.versions.manifest import ColumnTree, Manifest, read_manifest
from nbops.data.versions.reading import StoredCells
from nbops.data.versions.writing import is_of_arrays, missing_objects, store_cells

PIECES, NPZ, PARQUET = "pieces", "npz", "parquet"
NPZ_TYPE = "application/x-npz"


@dataclass(frozen=True)
class Packed:
    """The manifest of a snapshot, and how its data is stored: in pieces, as the bytes of an ``npz``, or `why` not."""

    manifest: Manifest
    form: str = ""
    why: str = ""
    data: bytes = b""


def pack(
    frame: Frame, tree: list[ColumnTree], *, store: bool | None, max_bytes: int, base: Manifest | None,
    artifacts: ArtifactStore,
) -> Packed:  # fmt: skip
    """Store the data of a frame, if it is wanted and can be, and return what a record says of it.

    Parameters
    ----------
    frame : Frame
    tree : list of ColumnTree
    store : bool, optional
        Whether data is wanted; by default if its values fit into `max_bytes`.
    base : Manifest, optional
        Of the version before, whose pieces are used again.
    """
    bare = Manifest(format=1, rows=frame.rows, tree=tree)
    size = sum(c.values.nbytes + (0 if c.offsets is None else c.offsets.nbytes) for c in frame.columns)
    if store is None and size > max_bytes:
        return Packed(bare, why=f"{size:,} bytes are more than dataset_max_bytes = {max_bytes:,}")
    if store is False:
        return Packed(bare, why="store=False")
    is_array = is_of_arrays(frame)
    if find_spec("pyarrow") is None or (not is_array and any(column.is_tensor for column in frame.columns)):
        mixed = [column.name for column in frame.columns if column.dtype == "object"]
        if mixed:
            return Packed(bare, why=f"column '{mixed[0]}' holds mixed or nested values")
        return Packed(bare, NPZ, data=_npz((_arrays(frame) if is_array else None) or _parts(frame)))
    try:
        return Packed(_in_pieces(frame, tree, base=base, artifacts=artifacts), PIECES)
    except Unstorable as error:
        return Packed(bare, why=str(error))


def _in_pieces(frame: Frame, tree: list[ColumnTree], *, base: Manifest | None, artifacts: ArtifactStore) -> Manifest:
    if base is not None:
        try:
            manifest = store_cells(frame, tree, base=base, artifacts=artifacts)
        except (CorruptData, NotFound):  # a version before that is damaged must not cost this one
            manifest = None
        # objects may have been swept meanwhile, with the version that had them
        if manifest is not None and not missing_objects(manifest, artifacts=artifacts):
            return manifest
    return store_cells(frame, tree, base=None, artifacts=artifacts)


def unpack(dataset: Dataset, *, artifacts: ArtifactStore) -> Any:
    """Return the stored data: a dict of arrays, or a pyarrow Table with the types that it was given with.

    In a dict, text is an object array and missing cells of text and integers are None.

    Raises
    ------
    NotFound
        The data was not stored; the dataset's tag ``stored`` says why.
    CorruptData
        A file is not what was stored.
    """
    form, digest = dataset.tags.get("stored", ""), dataset.tags.get("stored_digest", "")
    if not digest:
        raise NotFound(
            f"the data of dataset '{dataset.name}/{dataset.version}' is not stored: {form}",
            hint="Pass the data itself; store=True stores a snapshot of any size.",
        )
    if form == PIECES:
        manifest = read_manifest(dataset, artifacts=artifacts)
        if manifest is not None and manifest.stored is not None:
            return StoredCells(manifest, manifest.stored, artifacts=artifacts).table()
    with artifacts.open(digest) as file:
        data = io.BytesIO(file.read())
    if form == PARQUET:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(data)
    with np.load(data, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _from_parts(arrays) if "columns" in arrays else arrays


def _arrays(frame: Frame) -> dict[str, Array] | None:
    label = frame.column(frame.label) if frame.label else None
    return bare_arrays([column for column in frame.columns if column is not label], label)


def write_parquet(table: Any, path: Path) -> None:
    """Write an Arrow table as a Parquet file, which appears whole or not at all."""
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pyarrow.parquet.write_table(table, part, compression="zstd")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _npz(arrays: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return file.getvalue()


def _parts(frame: Frame) -> dict[str, Array]:
    """Return the parts of each column by position, and names and types as JSON in ``columns``."""
    schema = json.dumps([[column.name, column.dtype] for column in frame.columns])
    arrays: dict[str, Array] = {"columns": np.frombuffer(schema.encode(), np.uint8)}
    for index, column in enumerate(frame.columns):
        for part, array in (("values", column.values), ("missing", column.missing), ("offsets", column.offsets)):
            if array is not None:
                arrays[f"{part}{index}"] = array
    return arrays


def _from_parts(arrays: dict[str, Array]) -> dict[str, Array]:
    data: dict[str, Array] = {}
    for index, (name, dtype) in enumerate(json.loads(arrays["columns"].tobytes())):
        parts = arrays.get(f"missing{index}"), arrays.get(f"offsets{index}")
        column = Column(name, dtype, arrays[f"values{index}"], *parts)
        if column.is_tensor:
            shape = dtype.partition("[")[2].rstrip("]").split(",")
            data[name] = column.values.reshape(column.rows, *map(int, shape))
        elif is_bare(column):
            data[name] = column.values
        else:
            cells = [column.value(row) for row in range(column.rows)]
            if dtype == "decimal":
                cells = [None if cell is None else Decimal(cell) for cell in cells]
            data[name] = np.array([*cells, None], dtype=object)[:-1]  # the extra None keeps NumPy from guessing
    return data
