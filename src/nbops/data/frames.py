"""The door for data: any frame, array, tensor or mapping of them becomes a `Frame`.

narwhals reads pandas, polars, Arrow and what else it knows, each in its own memory;
nothing is copied to pandas, and pyarrow is used where it is installed but not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column, Frame, Mask
from nbops.data.delta import is_delta, read_delta
from nbops.data.objects import from_objects, from_text
from nbops.data.sources import is_path, is_query, read_file, read_stream, run_query

WIDEST_TABLE = 4096  # a 2-D array with more columns is one tensor column, not a table
_ACCEPTED = (
    "Pass a data frame, an Arrow table, an array, a tensor, (X, y), a dict of columns, or a Parquet or CSV file."
)


def read(data: Any, *, label: Any = None) -> Frame:
    """Return `data` in canonical form.

    Parameters
    ----------
    data
        A pandas, polars or Arrow frame or series, or another that narwhals knows (lazy ones are
        collected); whatever has ``__arrow_c_stream__``; a NumPy array of any rank, rows first; a torch tensor; a tuple
        ``(X, y)``; a Parquet or CSV file, by its path; ``(engine, "select …")`` of a database; a dict of columns, or
        ``{"X": …, "y": …}``; a Delta Lake table. Columns of a 2-D array are named ``"0"``, ``"1"`` … as in pandas.
    label : str or array, optional
        Name of the label column, or the labels themselves: [rows].

    Raises
    ------
    InvalidInput
        Unknown sort of data, columns of unequal length, a name used twice, a file that cannot be read.
    NotFound
        No such file, or no label column of that name.
    """
    if isinstance(data, Frame):
        return data
    if is_delta(data) and not is_path(data):
        data = read_delta(data)
    data = read_file(data) if is_path(data) else run_query(data) if is_query(data) else data
    if label is not None and not isinstance(label, str):
        return _joined({"X": data, "y": label}, native=(data, label))
    if isinstance(data, tuple) and len(data) == 2:
        frame = _joined({"X": data[0], "y": data[1]}, native=data)
    elif isinstance(data, Mapping):
        frame = _joined(dict(data), native=data)
    else:
        columns, form = _parts(data, "X")
        frame = _frame(columns, native=data, is_array=form == "array")
    if label is None:
        return frame
    frame.column(label)  # raises for a name that is not there
    return replace(frame, label=label)


def _joined(entries: dict[Any, Any], *, native: Any) -> Frame:
    """Return one frame of several entries; columns of a table ``X`` keep their names, others get ``key.``."""
    columns: list[Column] = []
    forms = {}
    for entry, value in entries.items():
        key = str(entry)
        parts, forms[key] = _parts(value, key)
        if len(parts) == 1 and (key != "X" or forms[key] == "column" or parts[0].is_tensor):
            parts = [replace(part, name=key) for part in parts]
        elif key != "X":
            parts = [replace(part, name=f"{key}.{part.name}") for part in parts]
        columns.extend(parts)
    is_pair = "X" in forms and any(column.name == "y" for column in columns)
    is_array = forms.get("X") == "array" and set(forms) <= {"X", "y"}
    return _frame(columns, native=native, is_array=is_array, label="y" if is_pair else "")


def _frame(columns: list[Column], *, native: Any, is_array: bool = False, label: str = "") -> Frame:
    rows = columns[0].rows if columns else _rows_of(native)
    for column in columns:
        if column.rows != rows:
            raise InvalidInput(
                f"columns differ in length: '{columns[0].name}' has {rows} rows, '{column.name}' {column.rows}",
                hint="Give each column the same number of rows.",
            )
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InvalidInput(f"column name used twice: {', '.join(map(repr, twice[:5]))}", hint="Rename the columns.")
    return Frame(tuple(columns), rows, native, is_array, label)


def _rows_of(native: Any) -> int:
    shape = getattr(native, "shape", None)
    return int(shape[0]) if isinstance(shape, tuple) and shape else 0


def _parts(data: Any, name: str) -> tuple[list[Column], str]:
    """Return the columns of one object, and its form: ``column``, ``array`` or ``table``."""
    if isinstance(data, np.ndarray):
        return _from_array(data, name)
    if isinstance(data, list | tuple | range):
        return [_from_list(name, data)], "column"
    found = _from_narwhals(data, name)
    if found is None and hasattr(data, "__arrow_c_stream__"):
        data = read_stream(data)
        found = _from_narwhals(data, name)
    return found if found is not None else _from_array(_as_array(data), name)


def _as_array(data: Any) -> Array:
    """Return a tensor (torch by its `detach`, others by ``__array__``) as an array."""
    if hasattr(data, "detach"):
        data = data.detach().cpu()
        if str(data.dtype) == "torch.bfloat16":  # NumPy has no such type; float32 holds it exactly
            data = data.float()
        return np.asarray(data.numpy())
    if hasattr(data, "__array__"):
        return np.asarray(data)
    raise InvalidInput(f"cannot read a {type(data).__name__} as data", hint=_ACCEPTED)


def _from_list(name: str, values: Sequence[Any]) -> Column:
    if set(map(type, values)) - {type(None)} == {int, float}:  # as every frame library does
        values = [None if value is None else float(value) for value in values]
    return from_objects(name, values)


def _from_array(array: Array, name: str) -> tuple[list[Column], str]:
    if array.dtype.names:
        return [from_array(str(field), array[field]) for field in array.dtype.names], "table"
    if array.ndim == 0:
        raise InvalidInput("cannot read an array without rows (rank 0) as data", hint=_ACCEPTED)
    if array.ndim == 2 and 0 < array.shape[1] <= WIDEST_TABLE:
        return [from_array(str(i), array[:, i]) for i in range(array.shape[1])], "array"
    return [from_array(name, array)], "array" if array.ndim > 1 else "column"


def from_array(name: str, array: Array) -> Column:
    """Return the column of one array, [rows] or [rows, …] (then a tensor column)."""
    kind = array.dtype.kind
    if array.ndim > 1:
        if kind not in "biuf" or array.dtype.itemsize > 8:
            raise InvalidInput(f"cannot read a {array.dtype} array of rank {array.ndim}", hint="Convert to numbers.")
        shape = ",".join(map(str, array.shape[1:]))
        cells = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
        return Column(name, f"tensor<{array.dtype.newbyteorder('=').name}>[{shape}]", cells, _nan_mask(cells))
    if kind in "OTUS":
        return from_objects(name, array.tolist())
    if kind in "mM":
        return _times(name, array)
    if kind not in "biuf" or array.dtype.itemsize > 8:
        raise InvalidInput(f"cannot read column '{name}' of type {array.dtype}", hint="Convert it to float64.")
    return Column(name, array.dtype.newbyteorder("=").name, array, _nan_mask(array))


def _nan_mask(array: Array) -> Mask | None:
    if array.dtype.kind != "f":
        return None
    gone = np.isnan(array)
    return gone if gone.any() else None


def _times(name: str, array: Array, *, zone: str = "") -> Column:
    """Return a column of dates, datetimes or durations in microseconds, or nanoseconds if some need them."""
    unit = np.datetime_data(array.dtype)[0]
    missing = np.isnat(array) if np.isnat(array).any() else None
    if array.dtype.kind == "M" and unit in ("Y", "M", "W", "D"):
        return Column(name, "date", array.astype("datetime64[D]"), missing)
    family = "datetime64" if array.dtype.kind == "M" else "timedelta64"
    dtype = "duration" if family == "timedelta64" else f"datetime[{zone}]" if zone else "datetime"
    fine = array.astype(f"{family}[us]")
    # back again: false where nanoseconds were cut off, or where a far time does not fit
    if not np.array_equal(fine.astype(array.dtype), array, equal_nan=True):
        fine = array.astype(f"{family}[{'ns' if unit in ('ns', 'ps', 'fs', 'as') else 's'}]")
    return Column(name, dtype, fine, missing)


def _from_narwhals(data: Any, name: str) -> tuple[list[Column], str] | None:
    """Return columns and form of a frame or series that narwhals knows, or None."""
    import narwhals as nw

    try:
        frame: Any = nw.from_native(data, allow_series=True)
    except TypeError:
        return None
    except nw.exceptions.DuplicateError as error:
        raise InvalidInput(f"column name used twice: {error}".replace("\n", " "), hint="Rename the columns.") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.Series):
        return [_from_series(name if frame.name in (None, "") else str(frame.name), frame)], "column"
    return [
        _from_series(str(column), series) for column, series in zip(frame.columns, frame.iter_columns(), strict=True)
    ], "table"


def _from_series(name: str, series: Any) -> Column:
    import narwhals as nw

    dtype = series.dtype
    if dtype == nw.Categorical or dtype == nw.Enum:
        # value by value where text would not say it: other categories than text, and "nan" from pandas 2
        gaps = series.null_count() and "pandas" in type(series.to_native()).__module__
        if gaps or not all(isinstance(value, str | None) for value in series.unique().to_list()):
            return from_objects(name, series.to_list())
        series, dtype = series.cast(nw.String), nw.String()
    if dtype == nw.String:
        return _from_strings(name, series)
    if dtype.is_float():
        return from_array(name, series.to_numpy().astype(_numpy_name(dtype), copy=False))
    if (dtype.is_integer() and "128" not in str(dtype)) or dtype == nw.Boolean:
        return _from_whole(name, series, dtype)
    if isinstance(dtype, nw.Datetime):
        if dtype.time_zone:
            series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return _times(name, series.to_numpy(), zone=_zone(dtype.time_zone))
    if isinstance(dtype, nw.Duration) or dtype == nw.Date:
        array = series.to_numpy()
        return _times(name, array) if array.dtype.kind in "mM" else from_objects(name, series.to_list())
    if dtype == nw.Time:
        return _from_clock(name, series)
    return from_objects(name, series.to_list())


def from_arrow(name: str, array: Any) -> Column:
    """Return the column of a pyarrow array."""
    import narwhals as nw
    import pyarrow as pa

    return _from_series(name, nw.from_native(pa.chunked_array([array]), series_only=True))


def _numpy_name(dtype: Any) -> str:
    return "bool" if str(dtype) == "Boolean" else str(dtype).lower()


def _zone(zone: Any) -> str:
    return "UTC" if str(zone) in ("UTC", "Etc/UTC", "Z", "+00:00") else str(zone or "")


def _from_whole(name: str, series: Any, dtype: Any) -> Column:
    missing: Mask | None = None
    if series.null_count():
        missing = series.is_null().to_numpy().astype(np.bool_)
        series = series.fill_null(False if _numpy_name(dtype) == "bool" else 0)
    return Column(name, _numpy_name(dtype), series.to_numpy().astype(_numpy_name(dtype), copy=False), missing)


def _from_clock(name: str, series: Any) -> Column:
    """Times of day; polars keeps nanoseconds, which Python's `time` would cut off."""
    native = series.to_native()
    if not hasattr(native, "to_physical"):
        return from_objects(name, series.to_list())
    gone = series.is_null().to_numpy().astype(np.bool_)
    nanos = native.to_physical().fill_null(0).to_numpy()
    column = _times(name, nanos.astype("timedelta64[ns]"))
    return replace(column, dtype="time", missing=gone if gone.any() else None)


def _from_strings(name: str, series: Any) -> Column:
    """Text through Arrow's buffers where pyarrow is installed, else value by value."""
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
    except ImportError:
        return from_text(name, series.to_list())
    if "pandas" in type(series.to_native()).__module__ and str(series.to_native().dtype) == "object":
        return from_objects(name, series.to_list())  # may hold what Arrow refuses, as lone surrogates
    array = series.to_arrow().cast(pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    missing: Mask | None = None
    if array.null_count:
        missing = np.asarray(pc.is_null(array).to_numpy(zero_copy_only=False), np.bool_)
        array = pc.fill_null(array, "")
    _, offsets_buffer, data_buffer = array.buffers()
    count = len(array)
    if not count:
        return Column(name, "text", np.zeros(0, np.uint8), None, np.zeros(1, np.int64))
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + count + 1]
    whole = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    data = whole[offsets[0] : offsets[-1]]
    return Column(name, "text", data, missing, offsets - offsets[0])
