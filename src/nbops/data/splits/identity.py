"""What tells rows apart, as 64-bit numbers: equal for equal rows from whatever frame, and what follows from them.

Unlike `columns.row_hashes`, whole floats equal integers, and a time equals itself in any unit: pandas turns whole
numbers into floats as soon as one is missing, and no row may change sides for that. Not secret: anybody can compute it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from nbops.data.columns import BLOCK, ROW_BASE, Array, Column, Hashes, Mask, hashes, mixed

SAMPLE = 256  # rows of each side that are remembered
_MISSING = np.uint64(0x5851F42D4C957F2D)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400
_FILTER_BITS = 27  # at most 128 MiB


def identities(columns: Sequence[Column], rows: int) -> Hashes:
    """Return one number a row over `columns`, in order: [rows]."""
    whole = {column.name: hashes(column) for column in columns if column.offsets is not None or column.is_tensor}
    out = np.zeros(rows, np.uint64)
    for start, stop in _ranges(rows):
        total = out[start:stop]
        for column in columns:
            total *= ROW_BASE
            total += whole[column.name][start:stop] if column.name in whole else _cells(column, start, stop)
    return out


def salted(codes: Hashes, salt: str) -> Hashes:
    """Return evenly spread numbers that depend on `salt`: another salt is another, unrelated order."""
    seed = np.frombuffer(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "<u8")[0]
    out = np.empty_like(codes)
    for start, stop in _ranges(len(codes)):
        out[start:stop] = mixed(codes[start:stop] ^ seed)
    return out


def found_in(codes: Hashes, others: Hashes) -> Mask:
    """Tell which of `codes` are among `others`, both evenly spread: [len(codes)].

    A table of bits leaves few candidates, so nothing large is sorted.
    """
    bits = np.uint64(64 - min(_FILTER_BITS, max(10, len(others).bit_length() + 4)))
    there: Mask = _marked(others, bits)[codes >> bits]
    maybe = np.flatnonzero(there)
    if len(maybe):
        near = others[_marked(codes[maybe], bits)[others >> bits]]
        there[maybe] = np.isin(codes[maybe], near)
    return there


def _marked(codes: Hashes, bits: np.uint64) -> Mask:
    seen = np.zeros(1 << (64 - int(bits)), np.bool_)
    seen[codes >> bits] = True
    return seen


def to_hex(codes: Hashes) -> str:
    """Return numbers as text that a record can hold."""
    return codes.astype(">u8").tobytes().hex()


def from_hex(text: str) -> Hashes:
    """Return what `to_hex` made text of."""
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)


def _ranges(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, BLOCK):
        yield start, min(start + BLOCK, rows)


def _cells(column: Column, start: int, stop: int) -> Hashes:
    values = column.values[start:stop]
    if values.dtype.kind in "mM":
        out = _moments(values)
    elif values.dtype.kind == "f":
        out = mixed(_numbers(values))
    else:
        out = mixed(values.astype(np.uint64))
    if column.missing is not None:
        out[column.missing[start:stop]] = _MISSING
    return out


def _numbers(values: Array) -> Hashes:
    wide = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        is_whole = (wide == np.trunc(wide)) & (np.abs(wide) < 2**53)
    bits: Hashes = wide.view(np.uint64).copy()
    bits[is_whole] = wide[is_whole].astype(np.int64).view(np.uint64)
    return bits


def _moments(values: Array) -> Hashes:
    unit = np.datetime_data(values.dtype)[0]
    ticks = values.astype(np.int64)
    if unit == "D":
        seconds, nanos = ticks * _DAY_S, np.zeros_like(ticks)
    else:
        seconds, rest = np.divmod(ticks, _PER_SECOND[unit])
        nanos = rest * (10**9 // _PER_SECOND[unit])
    return mixed(mixed(seconds.view(np.uint64)) + nanos.view(np.uint64))
