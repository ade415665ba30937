"""Some rows of data, by position, in the form that the data has: no index is asked, changed or trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column


def take_rows(native: Any, positions: Array) -> Any:
    """Return the rows at `positions` of a frame, array, tensor, list, pair or dict, as the same type.

    pandas keeps its index, whatever it is. A lazy frame has no rows before it is collected: see `settled`.

    Parameters
    ----------
    native
        What `nb.check` takes.
    positions : int array
        [chosen], from 0.

    Raises
    ------
    InvalidInput
        Data of a sort that cannot be cut.
    """
    if isinstance(native, tuple) and len(native) == 2:
        return tuple(take_rows(part, positions) for part in native)
    if isinstance(native, Mapping):
        return {key: take_rows(value, positions) for key, value in native.items()}
    if isinstance(native, list | tuple | range):
        cut = [native[row] for row in positions.tolist()]
        return tuple(cut) if isinstance(native, tuple) else cut
    if isinstance(native, np.ndarray) or hasattr(native, "detach"):
        return native[positions]
    if hasattr(native, "iloc"):
        return native.iloc[positions]
    return _taken(native, positions)


def count_rows(data: Any) -> int:
    """Return the number of rows of a frame, array, tensor, list, pair or dict of these; the first entry tells."""
    if isinstance(data, Mapping):
        return count_rows(next(iter(data.values()))) if data else 0
    if isinstance(data, tuple):
        return count_rows(data[0]) if data else 0
    shape = getattr(data, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    if hasattr(data, "__len__"):
        return len(data)
    raise _uncut(data)


def settled(data: Any) -> Any:
    """Return data with lazy frames collected, so that their rows have one order however often they are looked at."""
    import narwhals as nw

    if isinstance(data, tuple) and len(data) == 2:
        return tuple(settled(part) for part in data)
    try:
        frame: Any = nw.from_native(data, allow_series=True)
    except (TypeError, nw.exceptions.DuplicateError):  # reading says what is wrong
        return data
    return frame.collect().to_native() if isinstance(frame, nw.LazyFrame) else data


def _uncut(data: Any) -> InvalidInput:
    return InvalidInput(
        f"cannot take rows out of {type(data).__name__}", hint="Pass a data frame, an array or a dict of columns."
    )


def _taken(native: Any, positions: Array) -> Any:
    import narwhals as nw

    try:
        frame: Any = nw.from_native(native, allow_series=True)
    except TypeError:
        raise _uncut(native) from None
    if isinstance(frame, nw.DataFrame) and not frame.columns:
        return native
    return frame[positions].to_native() if len(positions) else frame.head(0).to_native()


def take_column(column: Column, positions: Array) -> Column:
    """Return the column with the rows at `positions`, in their order."""
    missing = None if column.missing is None else column.missing[positions]
    if missing is not None and not missing.any():
        missing = None
    if column.offsets is None:
        return replace(column, values=column.values[positions], missing=missing)
    lengths = np.diff(column.offsets)[positions]
    offsets = np.zeros(len(positions) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    moved = np.repeat(column.offsets[:-1][positions] - offsets[:-1], lengths)
    data = column.values[moved + np.arange(offsets[-1])]
    return replace(column, values=data, missing=missing, offsets=offsets)
