"""Digests of columns and tables over every cell: equal for equal content, from whatever frame.

What counts: names and order of the columns, logical types (see `Column`), every value, which
cells are missing. What does not: index, chunks, null or NaN as the mark of a missing
number, NaN payloads, categorical coding, byte order, unit of a time. 0.0 and -0.0 differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from nbops.core.codec import digest_of
from nbops.data.columns import Column, blocks

_VERSION = "nbops-data/1"  # part of every digest: a new way of digesting is a new namespace


def column_digest(column: Column) -> str:
    """Return the sha256 (hex) of one column's type and values; the name is not part of it."""
    unit = np.datetime_data(column.values.dtype)[0] if column.values.dtype.kind in "mM" else ""
    digest = hashlib.sha256(f"{_VERSION} {column.dtype} {unit} {column.rows}\n".encode())
    # NaN tells by itself that a float is missing; elsewhere the mask has to
    if column.missing is not None and not column.is_float and column.missing.any():
        digest.update(b"missing\n")
        digest.update(np.packbits(column.missing).tobytes())
    if column.offsets is not None:
        digest.update(np.diff(column.offsets).astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(column.values).data)
        return digest.hexdigest()
    for block in blocks(column):
        digest.update(block.view(np.uint8).data)
    return digest.hexdigest()


def table_digest(columns: Sequence[Column], rows: int, digests: Sequence[str]) -> str:
    """Return the sha256 (hex) of a table from the digests of its columns."""
    parts = [[column.name, column.dtype, digest] for column, digest in zip(columns, digests, strict=True)]
    return digest_of([_VERSION, rows, parts])
