"""Columns in one canonical form, whatever frame they came from.

Values are NumPy arrays, missing cells a mask, text its UTF-8 bytes with offsets.
Everything else of this package works on these; reading frames is in `frames`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.errors import not_found

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

BLOCK = 1 << 18  # rows that are canonicalised at once, so that no whole column is copied
MISSING_CODE = np.uint64(0x5851F42D4C957F2D)  # the hash of a missing cell
_LONG_TEXT = 1 << 16  # bytes
ROW_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses nothing
_ONES = np.uint64(2**64 - 1)


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    Parameters
    ----------
    name, dtype : str
        The logical type: ``bool``, ``int8`` … ``uint64``, ``float16`` … ``float64``,
        ``text``, ``bytes``, ``decimal``, ``date``, ``time``, ``datetime``,
        ``datetime[zone]``, ``duration``, ``null``, ``object`` (mixed or nested values),
        or ``tensor<uint8>[28,28]`` for the cells of an array of higher rank.
    values : array
        [rows] numbers; [rows, cells] of a tensor; uint8 [bytes] of all texts, one after the other.
        What stands at a missing cell is undefined.
    missing : bool array or None
        Shape of `values` ([rows] for text); None when no cell is missing. NaN is missing.
    offsets : int64 array or None
        [rows + 1] for text: value i is ``values[offsets[i]:offsets[i + 1]]``.
    kinds : dict
        For ``object``: how many values of each Python type there are.
    """

    name: str
    dtype: str
    values: Array
    missing: Mask | None = None
    offsets: NDArray[np.int64] | None = None
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    @property
    def is_tensor(self) -> bool:
        """True for the cells of an array of higher rank."""
        return self.dtype.startswith("tensor")

    @property
    def is_float(self) -> bool:
        """True where NaN is the missing value."""
        return self.offsets is None and self.values.dtype.kind == "f"

    @property
    def is_number(self) -> bool:
        """True for integers and floats, one a row."""
        return not self.is_tensor and self.dtype.startswith(("int", "uint", "float"))

    @property
    def is_text(self) -> bool:
        """True for text proper (not for bytes, decimals or objects, which have offsets too)."""
        return self.dtype == "text"

    @property
    def missing_count(self) -> int:
        """Number of missing cells."""
        return 0 if self.missing is None else int(np.count_nonzero(self.missing))

    @cached_property
    def text_hashes(self) -> Hashes:
        """Hashes of text, kept because several checks ask for them; see `hashes`."""
        return np.zeros(0, np.uint64) if self.offsets is None else _text_hashes(self.values, self.offsets)

    def value(self, row: int) -> Any:
        """Return the Python value at `row`; None if it is missing; text for decimals and objects."""
        if self.missing is not None and np.all(self.missing[row]):
            return None
        if self.offsets is not None:
            data = self.values[self.offsets[row] : self.offsets[row + 1]].tobytes()
            return data if self.dtype == "bytes" else data.decode("utf-8", "replace")
        if self.dtype.startswith(("date", "time", "duration")):
            return str(self.values[row])
        return self.values[row].tolist()


@dataclass(frozen=True, eq=False)
class Frame:
    """Columns of equal length.

    `native` is the object that was read; `is_array` tells that the columns are positions
    of an array (pixels, embedding dimensions) rather than named variables; `label` names
    the column that came as ``y`` beside ``X``, if one did.
    """

    columns: tuple[Column, ...]
    rows: int
    native: Any = None
    is_array: bool = False
    label: str = ""

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """Return the column `name`, or raise `NotFound` with the nearest name."""
        for column in self.columns:
            if column.name == name:
                return column
        few = ", ".join(map(str, self.names[:5]))
        hint = f"There are: {few}{' …' if len(self.names) > 5 else ''}." if few else "The data has no columns."
        raise not_found("column", name, self.names, hint=hint)


def part(column: Column, start: int, stop: int) -> Column:
    """Return the rows from `start` to before `stop` of a column, on the same memory."""
    missing = None if column.missing is None else column.missing[start:stop]
    if column.offsets is None:
        return Column(column.name, column.dtype, column.values[start:stop], missing)
    offsets = column.offsets[start : stop + 1]
    return Column(column.name, column.dtype, column.values[offsets[0] : offsets[-1]], missing, offsets - offsets[0])


def blocks(column: Column) -> Iterator[Array]:
    """Yield the fixed-width values in pieces of `BLOCK` rows, contiguous, missing cells canonical.

    Missing is 0 (NaN for floats, in its one canonical payload). Little-endian on every machine.
    """
    values, missing = column.values, column.missing
    little = values.dtype.newbyteorder("<")
    fill: Any = np.nan if column.is_float else np.zeros(1, values.dtype)[0]
    for start in range(0, len(values), BLOCK):
        block = np.ascontiguousarray(values[start : start + BLOCK], dtype=little)
        if missing is not None:
            gone = missing[start : start + BLOCK]
            if gone.any():
                block = np.where(gone, fill, block).astype(little, copy=False)
        yield block


def hashes(column: Column) -> Hashes:
    """Return one 64-bit hash a row; equal values have equal hashes (0.0 and -0.0 too), missing is one value.

    Two different values collide with a chance of 2**-64 each pair: 3e-8 for any pair among a million rows.
    """
    if column.offsets is not None:
        raw = column.text_hashes.copy()
    elif column.is_tensor:
        raw = np.concatenate([_row_hashes(block) for block in blocks(column)] or [np.zeros(0, np.uint64)])
    else:
        raw = np.concatenate([mixed(_bits(block)) for block in blocks(column)] or [np.zeros(0, np.uint64)])
    if column.missing is not None and not column.is_tensor:
        raw[column.missing] = MISSING_CODE
    return raw


def row_hashes(columns: list[Column], rows: int) -> Hashes:
    """Return one 64-bit hash for each row over all `columns`, in order."""
    total = np.zeros(rows, np.uint64)
    for column in columns:
        total *= ROW_BASE
        total += hashes(column)
    return mixed(total)


def remixed(found: Hashes, numbers: Hashes) -> Hashes:
    """Return hashes that depend on a number each as well; those with number 0 stay as they are."""
    return np.where(numbers == 0, found, mixed(found + numbers * ROW_BASE))


def _bits(block: Array) -> Hashes:
    if block.dtype.kind == "f":
        block = (block + block.dtype.type(0)).astype(np.float64, copy=False)  # -0.0 becomes 0.0
        return block.view(np.uint64)
    if block.dtype.kind in "mM":
        return block.view(np.uint64)
    return block.astype(np.uint64)


def mixed(bits: Hashes) -> Hashes:
    """Spread 64 bits (the finaliser of splitmix64, Steele, Lea and Flood 2014)."""
    out = bits + ROW_BASE
    out ^= out >> np.uint64(30)
    out *= np.uint64(0xBF58476D1CE4E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(31)
    return out


def _row_hashes(block: Array) -> Hashes:
    total = np.zeros(len(block), np.uint64)
    for cell in range(block.shape[1]):
        total *= ROW_BASE
        total += mixed(_bits(np.ascontiguousarray(block[:, cell])))
    return mixed(total)


def _text_hashes(data: Array, offsets: NDArray[np.int64]) -> Hashes:
    """Hash each value eight bytes at a time, all values at once; long ones through BLAKE2b, one by one."""
    lengths = np.diff(offsets)
    out = lengths.astype(np.uint64)
    padded = np.append(data, np.zeros(8, np.uint8))
    # every eight bytes, at any position: overlapping words on the same memory
    words: Hashes = np.ndarray((len(padded) - 7,), np.dtype("<u8"), padded, strides=(1,))
    for start in range(0, len(out), BLOCK):
        size, begin = lengths[start : start + BLOCK], offsets[start : start + BLOCK]
        codes = out[start : start + BLOCK]
        active = np.flatnonzero((size > 0) & (size <= _LONG_TEXT))
        done = 0
        while len(active):
            word = words[begin[active] + done]
            spare = np.maximum(done + 8 - size[active], 0).astype(np.uint64) * np.uint64(8)
            word &= _ONES >> spare  # bytes of the next value do not count
            word ^= codes[active]
            word *= ROW_BASE
            word ^= word >> np.uint64(32)
            codes[active] = word
            done += 8
            active = active[size[active] > done]
    for row in np.flatnonzero(lengths > _LONG_TEXT):
        text = data[offsets[row] : offsets[row + 1]].tobytes()
        out[row] = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<u8")[0]
    return mixed(out)


def bare_arrays(features: Sequence[Column], label: Column | None) -> dict[str, Array] | None:
    """Return ``X``, and ``y`` if there is a label, as the arrays were given; None for columns that were no array."""
    if not features or (label is not None and not is_bare(label)):
        return None
    first = features[0]
    if first.is_tensor:
        shape = first.dtype.partition("[")[2].rstrip("]").split(",")
        arrays = {"X": first.values.reshape(first.rows, *map(int, shape))}
    elif all(map(is_bare, features)):
        arrays = {"X": np.stack([column.values for column in features], axis=1)}
    else:
        return None
    return arrays if label is None else {**arrays, "y": label.values}


def is_bare(column: Column) -> bool:
    """Return whether the values alone say everything: no text, and nothing missing but NaN."""
    return column.offsets is None and (column.missing is None or column.is_float)
