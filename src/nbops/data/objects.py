"""Python values to columns: lists of text, numbers, dates, and the mixed or nested rest."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from nbops.core.errors import InvalidInput
from nbops.data.columns import Array, Column, Mask

_MISSING = {"NoneType", "NAType", "NaTType"}


def from_objects(name: str, values: Sequence[Any]) -> Column:
    """Return the column of Python `values`: a plain type where all agree, else ``object``.

    None, NaN, NA and NaT are missing. Raises `InvalidInput` for a value whose content cannot be told.
    """
    gone = [_is_missing(value) for value in values]
    mask: Mask = np.array(gone, np.bool_)
    missing = mask if mask.any() else None
    present = [value for value, is_gone in zip(values, gone, strict=True) if not is_gone]
    if not present:
        is_nan = bool(values) and all(isinstance(value, float | np.floating) for value in values)
        dtype, empty = ("float64", np.full(len(values), np.nan)) if is_nan else ("null", np.zeros(len(values), "u1"))
        return Column(name, dtype, empty, missing)
    types = set(map(type, present))
    column = _plain(name, types, values, missing) or _times(name, types, present, values, missing)
    if column is not None:
        return column
    kinds = dict(Counter(map(_kind, present)))
    encode = _decimal if types == {Decimal} else _Tagger(name)
    parts = [b"" if is_gone else encode(value) for value, is_gone in zip(values, gone, strict=True)]
    return _joined(name, "decimal" if types == {Decimal} else "object", parts, missing, kinds)


def from_text(name: str, values: Iterable[Any]) -> Column:
    """Return a text column of strings; whatever is no string is missing."""
    items = list(values)
    gone: Mask = np.fromiter((not isinstance(v, str) for v in items), np.bool_, len(items))
    parts = [v.encode("utf-8", "surrogatepass") if isinstance(v, str) else b"" for v in items]
    return _joined(name, "text", parts, gone if gone.any() else None)


def _plain(name: str, types: set[type], values: Sequence[Any], missing: Mask | None) -> Column | None:
    """Return the column if all present values are of one plain type, else None."""
    if _all(types, str):
        return from_text(name, values)
    if _all(types, bool | np.bool_):
        return Column(name, "bool", _filled(values, missing, False, np.bool_), missing)
    if _all(types, int | np.integer) and bool not in types:
        try:
            return Column(name, "int64", _filled(values, missing, 0, np.int64), missing)
        except OverflowError:
            return None  # more than 64 bits: an object, digit by digit
    if _all(types, float | np.floating):
        return Column(name, "float64", _filled(values, missing, np.nan, np.float64), missing)
    if _all(types, bytes):
        return _joined(name, "bytes", [v if isinstance(v, bytes) else b"" for v in values], missing)
    return None


def _all(types: set[type], kind: Any) -> bool:
    return all(issubclass(each, kind) for each in types)


def _times(
    name: str, types: set[type], present: list[Any], values: Sequence[Any], missing: Mask | None
) -> Column | None:
    # exact types: pandas' Timestamp and Timedelta carry nanoseconds that microseconds would cut off
    if types == {dt.date}:
        return Column(name, "date", _filled(values, missing, dt.date(1970, 1, 1), "datetime64[D]"), missing)
    if types == {dt.timedelta}:
        return Column(name, "duration", _filled(values, missing, dt.timedelta(0), "timedelta64[us]"), missing)
    if types in ({dt.datetime}, {dt.time}) and any(value.tzinfo is not None for value in present):
        return None
    if types == {dt.datetime}:
        epoch = dt.datetime(1970, 1, 1)  # naive, as the column is
        return Column(name, "datetime", _filled(values, missing, epoch, "datetime64[us]"), missing)
    if types == {dt.time}:
        micros = [_micros(value) if isinstance(value, dt.time) else 0 for value in values]
        return Column(name, "time", np.array(micros, "timedelta64[us]"), missing)
    return None


def _micros(time: dt.time) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


def _filled(values: Sequence[Any], missing: Mask | None, fill: Any, dtype: Any) -> Array:
    if missing is None:
        return np.array(values, dtype)
    return np.array([fill if gone else v for v, gone in zip(values, missing.tolist(), strict=True)], dtype)


def _joined(
    name: str, dtype: str, parts: list[bytes], missing: Mask | None, kinds: dict[str, int] | None = None
) -> Column:
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    return Column(name, dtype, np.frombuffer(b"".join(parts), np.uint8), missing, offsets, kinds or {})


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in _MISSING or (isinstance(value, Decimal) and value.is_nan()):
        return True
    return isinstance(value, float | np.floating | np.datetime64 | np.timedelta64) and bool(value != value)


def _kind(value: Any) -> str:
    """Return the name under which a mixed column counts a value; all numbers are one kind."""
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | float | np.number | Decimal):
        return "number"
    if isinstance(value, str):
        return "text"
    return type(value).__name__


def _decimal(value: Decimal) -> bytes:
    return format(value.normalize() if value else Decimal(0), "f").encode()


@dataclass(frozen=True)
class _Tagger:
    """Bytes that tell type and content of any plain or nested value of column `name`."""

    name: str

    def __call__(self, value: Any) -> bytes:
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if _is_missing(value):
            return b"n"
        match value:
            case bool():
                return b"b1" if value else b"b0"
            case str():
                return b"s" + value.encode("utf-8", "surrogatepass")
            case int():
                return b"i%d" % value
            case float():
                return b"f" + value.hex().encode()
            case bytes():
                return b"y" + value
            case Decimal():
                return b"d" + _decimal(value)
            case dt.datetime() | dt.date() | dt.time():
                return b"t" + value.isoformat().encode()
            case dt.timedelta():
                return b"u" + str(value).encode()
            case dict():
                return b"{" + b"".join(_sized(self(k)) + _sized(self(v)) for k, v in value.items())
        if isinstance(value, list | tuple):
            return b"[" + b"".join(_sized(self(item)) for item in value)
        raise InvalidInput(
            f"column '{self.name}' holds a {type(value).__name__}, whose content cannot be read",
            hint="Convert the column to numbers, text, dates or lists of them.",
        )


def _sized(data: bytes) -> bytes:
    return b"%d:" % len(data) + data
