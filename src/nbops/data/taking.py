"""Rows of anything that can be read as data, by position, in the type that they came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array


def count_rows(data: Any) -> int:
    """Return the number of rows of a frame, array, tensor, list, pair or dict of these; the first entry tells."""
    if isinstance(data, Mapping):
        return count_rows(next(iter(data.values()))) if data else 0
    if isinstance(data, tuple):
        return count_rows(data[0]) if data else 0
    shape = getattr(data, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    return len(data) if hasattr(data, "__len__") else len(_frame(data))


def take_rows(data: Any, positions: Array) -> Any:
    """Return the rows of `data` at `positions`: int64 [n], in that order.

    Parameters
    ----------
    data
        A pandas, polars or Arrow frame or series or another that narwhals knows (a lazy one is collected), an
        array, a tensor, a list, and tuples and dicts of these.

    Raises
    ------
    InvalidInput
        Something that has no rows.
    """
    if isinstance(data, Mapping):
        return {name: take_rows(value, positions) for name, value in data.items()}
    if isinstance(data, tuple):
        return tuple(take_rows(value, positions) for value in data)
    if isinstance(data, np.ndarray) or hasattr(data, "detach"):  # a tensor takes an array as its index too
        return data[positions]
    if isinstance(data, list):
        return [data[position] for position in positions.tolist()]
    import narwhals as nw

    return nw.to_native(_frame(data)[positions])


def _frame(data: Any) -> Any:
    import narwhals as nw

    try:
        frame: Any = nw.from_native(data, allow_series=True)
    except TypeError:
        raise InvalidInput(f"cannot take rows of a {type(data).__name__}",
                           hint="Pass a data frame, an array, a list, or (X, y) of these.") from None  # fmt: skip
    return frame.collect() if isinstance(frame, nw.LazyFrame) else frame
