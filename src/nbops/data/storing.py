"""The data of a small dataset as a file, and back: Parquet for tables where pyarrow is installed, else ``.npz``.

Arrays stay arrays, ``X`` and ``y``. The bytes depend on the content only, not on the library
that the data came from. Mixed and nested columns are not stored.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from nbops.core.errors import NotFound
from nbops.core.protocols import ArtifactStore
from nbops.core.records import Dataset
from nbops.data.columns import Array, Column, Frame

MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "npz": "application/x-npz"}


@dataclass(frozen=True)
class Packed:
    """A file's bytes and form (``parquet`` or ``npz``), or `why` there is none."""

    data: bytes = b""
    form: str = ""
    why: str = ""


def pack(frame: Frame, *, max_bytes: int) -> Packed:
    """Return the file of a frame, if its values fit into `max_bytes` and can be written."""
    size = sum(c.values.nbytes + (0 if c.offsets is None else c.offsets.nbytes) for c in frame.columns)
    if size > max_bytes:
        return Packed(why=f"{size:,} bytes are more than dataset_max_bytes = {max_bytes:,}")
    mixed = [column.name for column in frame.columns if column.dtype == "object"]
    if mixed:
        return Packed(why=f"column '{mixed[0]}' holds mixed or nested values")
    arrays = _arrays(frame)
    if arrays is None and not any(column.is_tensor for column in frame.columns):
        try:
            return _parquet(frame)
        except ImportError:
            return Packed(_npz(_parts(frame)), "npz")  # pyarrow is optional
    return Packed(_npz(_parts(frame) if arrays is None else arrays), "npz")


def unpack(dataset: Dataset, *, artifacts: ArtifactStore) -> Any:
    """Return the stored data: a dict of arrays, or a pyarrow Table.

    In a dict, text is an object array and missing cells of text and integers are None.

    Raises
    ------
    NotFound
        The data was not stored; the dataset's tag ``stored`` says why.
    CorruptData
        The file is not what was stored.
    """
    form, digest = dataset.tags.get("stored", ""), dataset.tags.get("stored_digest", "")
    if not digest:
        raise NotFound(
            f"the data of dataset '{dataset.name}/{dataset.version}' is not stored: {form}",
            hint="Pass the data itself; raise dataset_max_bytes in config.toml to store larger snapshots.",
        )
    with artifacts.open(digest) as file:
        data = io.BytesIO(file.read())
    if form == "parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(data)
    with np.load(data, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return _from_parts(arrays) if "columns" in arrays else arrays


def _arrays(frame: Frame) -> dict[str, Array] | None:
    """Return ``X``, and ``y`` if there is a label, as they were given; None if the frame is a table."""
    label = frame.column(frame.label) if frame.label else None
    features = [column for column in frame.columns if column is not label]
    if not frame.is_array or (label is not None and not _is_bare(label)):
        return None
    first = features[0]
    if first.is_tensor:
        shape = first.dtype.partition("[")[2].rstrip("]").split(",")
        arrays = {"X": first.values.reshape(first.rows, *map(int, shape))}
    elif all(map(_is_bare, features)):
        arrays = {"X": np.stack([column.values for column in features], axis=1)}
    else:
        return None
    return arrays if label is None else {**arrays, "y": label.values}


def _is_bare(column: Column) -> bool:
    return column.offsets is None and (column.missing is None or column.is_float)


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
        elif _is_bare(column):
            data[name] = column.values
        else:
            cells = _decimals(column) if dtype == "decimal" else [column.value(row) for row in range(column.rows)]
            data[name] = np.array([*cells, None], dtype=object)[:-1]  # the extra None keeps NumPy from guessing
    return data


def _parquet(frame: Frame) -> Packed:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pa.table({column.name: _arrow(column) for column in frame.columns})
        table.validate(full=True)  # text that is no UTF-8 could be written but not be read
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
    except pa.ArrowException as error:
        return Packed(why=f"Parquet cannot hold it: {error}")
    return Packed(file.getvalue(), "parquet")


def _arrow(column: Column) -> Any:
    """Return a column as an Arrow array, sharing memory where it can."""
    import pyarrow as pa

    missing, values = column.missing, np.ascontiguousarray(column.values)
    if column.dtype == "null":
        return pa.nulls(column.rows)
    if column.offsets is not None:
        kind = pa.large_binary() if column.dtype == "bytes" else pa.large_string()
        there = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
        buffers = [there, pa.py_buffer(np.ascontiguousarray(column.offsets)), pa.py_buffer(values)]
        array = pa.Array.from_buffers(kind, column.rows, buffers)
        return pa.array(_decimals(column)) if column.dtype == "decimal" else array
    if column.is_float:
        return pa.array(values)
    if column.dtype == "time":
        unit = "us" if np.datetime_data(values.dtype)[0] == "us" else "ns"
        return pa.array(values.astype(np.int64), pa.time64(unit), mask=missing)
    array = pa.array(values, mask=missing)
    if column.dtype.startswith("datetime["):
        return array.cast(pa.timestamp(array.type.unit, tz=column.dtype[9:-1]))
    return array


def _decimals(column: Column) -> list[Decimal | None]:
    cells = (column.value(row) for row in range(column.rows))
    return [None if cell is None else Decimal(cell) for cell in cells]
