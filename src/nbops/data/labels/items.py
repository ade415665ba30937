"""What is to be labelled: items out of a frame, a list, arrays, pictures or files, each under a digest of its content.

The digest survives a reordering of the rows, and equal items are labelled once. How an item looks is not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbops.core.codec import digest_of
from nbops.core.errors import InvalidInput
from nbops.core.records import Dataset
from nbops.data.columns import Frame
from nbops.data.datasets import find_dataset, read_data
from nbops.data.frames import read
from nbops.data.labels.classes import is_nothing

IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp",
          ".bmp": "image/bmp", ".svg": "image/svg+xml"}  # fmt: skip
SOUNDS = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4"}
_ID_DIGITS = 32  # 128 bits of the digest
_PICTURE_AXES = 3
_ACCEPTED = "Pass a list, a data frame (column=…), arrays, pictures or paths; ids=… names items of any other sort."


@dataclass(frozen=True, eq=False)
class Items:
    """What is to be labelled.

    Attributes
    ----------
    ids : list of str, [rows]
        Of the item in each row; equal content has the same.
    values : dict
        The different items by id, in the order in which they first occur.
    dataset : Dataset or None
        What the rows are of, where that was said.
    """

    ids: list[str]
    values: dict[str, Any]
    dataset: Dataset | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def first_rows(self) -> list[int]:
        """Where each different item first occurs."""
        seen: dict[str, int] = {}
        for row, id in enumerate(self.ids):
            seen.setdefault(id, row)
        return list(seen.values())


def read_items(data: Any, *, column: str | None = None, ids: str | Sequence[Any] | None = None) -> Items:
    """Return the items of `data`.

    Parameters
    ----------
    data
        A list of texts, paths, arrays, pictures or dicts; a data frame or a stored dataset, of which each row is an
        item, or each cell of `column`; an array [items, height, width] or [items, height, width, channels].
    column : str, optional
        The column of a frame that is shown.
    ids : str or list, optional
        What tells items apart, instead of their content: a column of the frame, or one value for each item.

    Raises
    ------
    InvalidInput
        No items, an item that is missing or has no digest, a file that cannot be read, ids that do not fit.
    NotFound
        No such column or dataset.
    """
    dataset = find_dataset(data) if _is_dataset(data) else None
    if dataset is not None:
        data = read_data(dataset)
    frame = read(data) if _is_table(data) else None
    values = _rows(frame, column) if frame is not None else _listed(data, column)
    if not values:
        raise InvalidInput("there are no items to label", hint="Pass at least one; look at the filter before.")
    gap = next((row for row, value in enumerate(values) if is_nothing(value)), None)
    if gap is not None:
        raise InvalidInput(f"the item in row {gap} is {values[gap]!r}", hint="Leave out rows that have nothing.")
    values = [_as_file(value) for value in values]
    names = _given_ids(ids, frame, len(values)) if ids is not None else [content_id(value) for value in values]
    return Items(names, _firsts(names, values), dataset)


def content_id(value: Any) -> str:
    """Return the digest that stands for an item: 32 hex digits over its sort and content.

    Raises
    ------
    InvalidInput
        A file that cannot be read, or a sort of object whose content is unknown.
    """
    if isinstance(value, str):
        return _digest("text", value.encode(errors="surrogatepass"))
    if isinstance(value, Path):
        try:
            return _digest("file", value.read_bytes())
        except OSError as error:
            raise InvalidInput(f"cannot read the item {str(value)!r}: {error.strerror}",
                               hint="Check the path, and the folder that it is relative to.") from None  # fmt: skip
    if isinstance(value, bytes):
        return _digest("bytes", value)
    if isinstance(value, Mapping | int | float | bool | list | tuple):
        return _digest("value", digest_of(dict(value) if isinstance(value, Mapping) else value).encode())
    if is_picture(value):
        return _digest(f"picture {value.mode} {value.size}", value.tobytes())
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(as_array(value))
        return _digest(f"array {array.dtype.str} {array.shape}", array.tobytes())
    raise InvalidInput(f"a {type(value).__name__} has no content that tells it from others", hint=_ACCEPTED)


def as_array(value: Any) -> Any:
    """Return a tensor or what else has ``__array__`` as an array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def is_picture(value: Any) -> bool:
    """Return whether a value is a picture of PIL, told by what it can do."""
    return all(hasattr(value, name) for name in ("mode", "size", "tobytes", "save"))


def _digest(sort: str, content: bytes) -> str:
    return hashlib.sha256(sort.encode() + b"\0" + content).hexdigest()[:_ID_DIGITS]


def _firsts(names: list[str], values: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, value)
    return found


def _is_dataset(data: Any) -> bool:
    return isinstance(data, str | Dataset)


def _is_table(data: Any) -> bool:
    return isinstance(data, Mapping) or hasattr(data, "columns") or hasattr(data, "collect_schema")


def _rows(frame: Frame, column: str | None) -> list[Any]:
    """Return the cells of one column, or each row as a dict."""
    if column is not None or len(frame.columns) == 1:
        cells = frame.column(column) if column is not None else frame.columns[0]
        return [cells.value(row) for row in range(frame.rows)]
    return [{cells.name: cells.value(row) for cells in frame.columns} for row in range(frame.rows)]


def _listed(data: Any, column: str | None) -> list[Any]:
    if column is not None:
        raise InvalidInput(f"column={column!r} is for data frames, not for a {type(data).__name__}",
                           hint="Leave column= away.")  # fmt: skip
    if hasattr(data, "__array__") and not isinstance(data, list | tuple) and not hasattr(data, "to_list"):
        array = as_array(data)
        if array.ndim == 1:
            return list(array.tolist())
        if array.ndim < _PICTURE_AXES:
            raise InvalidInput(f"an array of shape {list(array.shape)} holds no items",
                               hint="Pass pictures as [items, height, width], or rows as a data frame.")  # fmt: skip
        return list(array)
    if hasattr(data, "to_list"):  # a series
        return list(data.to_list())
    if not isinstance(data, Iterable):
        raise InvalidInput(f"a {type(data).__name__} holds no items", hint=_ACCEPTED)
    return list(data)


def _as_file(value: Any) -> Any:
    """Return the path that a text names, where it is that of a picture or a sound that is there."""
    if isinstance(value, str) and len(value) < 1024 and "\n" not in value:
        path = Path(value)
        if path.suffix.lower() in {*IMAGES, *SOUNDS} and path.is_file():
            return path
    return value


def _given_ids(ids: str | Sequence[Any], frame: Frame | None, count: int) -> list[str]:
    if isinstance(ids, str):
        if frame is None:
            raise InvalidInput(f"ids={ids!r} names a column, and the items are no data frame",
                               hint="Pass one id for each item.")  # fmt: skip
        cells = frame.column(ids)
        names = [cells.value(row) for row in range(frame.rows)]
    else:
        names = list(ids)
    if len(names) != count:
        raise InvalidInput(f"there are {len(names):,} ids for {count:,} items", hint="Pass one id for each item.")
    gap = next((row for row, name in enumerate(names) if is_nothing(name) or str(name) == ""), None)
    if gap is not None:
        raise InvalidInput(f"the id of row {gap} is {names[gap]!r}", hint="Give each item an id.")
    return [str(name) for name in names]
