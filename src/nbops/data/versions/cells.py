"""Cells as Arrow arrays: from whatever frame, to bytes and back, and with some of them replaced.

Types are plain here: categories are decoded, text is never a view. What the table had is put back when it is read.
"""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import numpy as np

from nbops.core.errors import CorruptData
from nbops.data.columns import Column, Frame
from nbops.data.digest import column_digest
from nbops.data.frames import from_arrow

_LEVEL = 1  # of zstd: higher ones take thrice the time for a tenth
_HEAD = 8  # bytes that say how long the rest is when it is unpacked
_LONGEST = 1 << 33  # bytes of an unpacked piece; more is no piece of ours


class Unstorable(Exception):
    """Data that has no exact form in Arrow; the text says why. Never leaves this package."""


# ---- out of frames ---------------------------------------------------------------------------------------------------


def arrow_columns(frame: Frame) -> tuple[list[Any], Any]:
    """Return the columns of a frame as Arrow arrays with their own types, and the schema.

    Raises
    ------
    Unstorable
        A column of mixed values, or text that is no UTF-8.
    """
    import pyarrow as pa

    native = _native_columns(frame)
    arrays, metadata = [], None
    for column in frame.columns:
        given = native.get(column.name)
        if given is not None and not _is_sure(given, frame) and not _fits(column, given):
            given = None
        if given is None and column.dtype == "object":
            raise Unstorable(f"column '{column.name}' holds mixed values, or nested ones of a library without Arrow")
        try:
            array = arrow_of(column) if given is None else given
            _whole(array).validate(full=True)  # text that is no UTF-8 could be written but not be read
        except (pa.ArrowException, UnicodeError) as error:
            raise Unstorable(f"Arrow cannot hold column '{column.name}': {error}") from None
        arrays.append(array)
    if _library(frame.native) == "pandas":
        metadata = _pandas_metadata(frame.native)
    elif isinstance(frame.native, pa.Table):
        metadata = frame.native.schema.metadata
    fields = [pa.field(c.name, array.type) for c, array in zip(frame.columns, arrays, strict=True)]
    return arrays, pa.schema(fields, metadata)


def _library(native: Any) -> str:
    return type(native).__module__.partition(".")[0]


def _native_columns(frame: Frame) -> dict[str, Any]:
    """Return what the library itself gives for each column; nothing for columns that it cannot give."""
    import pyarrow as pa

    native = frame.native
    if _library(native) == "polars" and hasattr(native, "to_arrow"):
        native = native.to_arrow()
    if isinstance(native, pa.Table):
        return dict(zip(native.column_names, native.columns, strict=True))
    if _library(native) != "pandas" or not hasattr(native, "columns"):
        return {}
    found = {}
    for place, name in enumerate(native.columns):
        try:
            found[str(name)] = pa.Array.from_pandas(native.iloc[:, place])
        except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
            continue  # mixed values: told where the canonical column says so too
    return found


def _is_sure(array: Any, frame: Frame) -> bool:
    """Whether the library's own type says what the values are; pandas' objects are guessed at, by it and by us."""
    import pyarrow as pa

    return _library(frame.native) != "pandas" and not pa.types.is_nested(array.type)


def _fits(column: Column, array: Any) -> bool:
    """Whether an array has the same content as the canonical column."""
    return column_digest(column_of(column.name, column.dtype, _whole(array))) == column_digest(column)


def _pandas_metadata(native: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.Schema.from_pandas(native, preserve_index=False).metadata
    except (pa.ArrowException, UnicodeError, TypeError, ValueError, OverflowError):
        return None  # types alone come back then


def arrow_of(column: Column) -> Any:
    """Return a canonical column as an Arrow array, sharing memory where it can."""
    import pyarrow as pa

    missing, values = column.missing, np.ascontiguousarray(column.values)
    if column.dtype == "null":
        return pa.nulls(column.rows)
    if column.is_tensor:
        cells = pa.array(values.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(cells, values.shape[1])
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


def column_of(name: str, dtype: str, array: Any) -> Column:
    """Return the canonical column of an Arrow array; `dtype` says which are the cells of tensors."""
    if dtype.startswith("tensor"):
        values = array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
        gone = np.isnan(values) if values.dtype.kind == "f" else None
        return Column(name, dtype, values, gone if gone is not None and gone.any() else None)
    return from_arrow(name, array)


# ---- types -----------------------------------------------------------------------------------------------------------


def plain(array: Any) -> Any:
    """Return an array in one chunk, with categories decoded and text in its common form."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = _whole(array)
    if pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    if pa.types.is_run_end_encoded(whole.type):
        whole = pc.run_end_decode(whole)
    kind = plain_type(whole.type)
    return whole if kind == whole.type else whole.cast(kind)


def plain_type(kind: Any) -> Any:
    """Return the type that `plain` gives for an array of a type."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if kind in (pa.string(), pa.string_view()):
        return pa.large_string()
    if kind in (pa.binary(), pa.binary_view()):
        return pa.large_binary()
    return kind


def categories_of(array: Any) -> Any:
    """Return the categories of an array, used or not, in their order; None if it has none."""
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        return None
    if isinstance(array, pa.ChunkedArray):
        array = array.unify_dictionaries()
        if not array.num_chunks:
            return plain(pa.array([], array.type.value_type))
        array = array.chunk(0)
    return plain(array.dictionary)


def given_back(array: Any, kind: Any, categories: Any) -> Any:
    """Return a plain array with the type, and the categories, that its table had."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(kind):
        codes = pc.index_in(array, value_set=categories).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(codes, categories.cast(kind.value_type), ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        return pc.run_end_encode(array, run_end_type=kind.run_end_type).cast(kind)
    return array if array.type == kind else array.cast(kind)


def _whole(array: Any) -> Any:
    import pyarrow as pa

    if not isinstance(array, pa.ChunkedArray):
        return array
    if pa.types.is_dictionary(array.type):
        array = array.unify_dictionaries()
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


# ---- bytes -----------------------------------------------------------------------------------------------------------


def encoded(array: Any, at: Any = None) -> bytes:
    """Return the bytes of some cells, or of those that replace the ones `at` these rows of another piece."""
    import pyarrow as pa

    arrays, names = [array], ["cells"]
    if at is not None:
        arrays, names = [array, pa.array(np.diff(at, prepend=0).astype(np.int32))], ["cells", "at"]
    batch = pa.record_batch(arrays, names=names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data = sink.getvalue()
    packed: bytes = pa.Codec("zstd", compression_level=_LEVEL).compress(data, asbytes=True)
    return int(data.size).to_bytes(_HEAD, "little") + packed


def decoded(data: bytes) -> tuple[Any, Any]:
    """Return the cells of a piece, and the rows that they replace, or None.

    Raises
    ------
    CorruptData
        The bytes are no piece.
    """
    import pyarrow as pa

    size = int.from_bytes(data[:_HEAD], "little")
    try:
        if size > _LONGEST:
            raise ValueError(f"{size:,} bytes")
        whole = pa.Codec("zstd").decompress(data[_HEAD:], decompressed_size=size)
        with pa.ipc.open_stream(whole) as reader:
            batch = reader.read_next_batch()
        at = np.cumsum(batch.column("at").to_numpy()) if batch.num_columns > 1 else None
        return batch.column("cells"), at
    except (pa.ArrowException, OSError, ValueError, StopIteration, KeyError) as error:
        raise CorruptData(f"a stored piece of a column cannot be read: {error}",
                          hint="Restore the files of the workspace from a backup.") from error  # fmt: skip


def patched(base: Any, cells: Any, at: Any) -> Any:
    """Return an array in which the rows `at` have other cells."""
    import pyarrow as pa

    rows = np.arange(len(base), dtype=np.int64)
    rows[at] = len(base) + np.arange(len(at))
    return pa.concat_arrays([base, cells.cast(base.type)]).take(pa.array(rows))


def encoded_schema(schema: Any) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decoded_schema(text: str) -> Any:
    """Return the schema of a text, or raise `CorruptData`."""
    import pyarrow as pa

    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptData(f"the stored types of a dataset cannot be read: {error}",
                          hint="Restore the files of the workspace from a backup.") from error  # fmt: skip
