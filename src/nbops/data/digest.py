"""Digests of columns and tables over every cell: equal for equal content, from whatever frame.

What counts: names and order of the columns, logical types (see `Column`), every value, which
cells are missing. What does not: index, chunks, null or NaN as the mark of a missing
number, NaN payloads, categorical coding, byte order, unit of a time. 0.0 and -0.0 differ.

A tree: each `CHUNK_ROWS` rows of a column have a digest, a column has one over those of its chunks, a table one over
those of its columns. So two tables tell where they differ without being read, and chunks are digested on all cores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from nbops.core.codec import digest_of
from nbops.data.columns import Column, blocks, part

SCHEME = "tree"  # in every record beside its digest; None there is the way of `older`
CHUNK_ROWS = 1 << 16  # a part of the scheme, as are the borders at its multiples
_VERSION = "nbops-data/2"  # part of every digest: a new way of digesting is a new namespace


def chunks_of(rows: int) -> int:
    """Return how many chunks a column of so many rows has."""
    return -(-rows // CHUNK_ROWS)


def chunk_digest(column: Column, number: int) -> str:
    """Return the sha256 (hex) of one chunk of a column: its type and its values."""
    chunk = part(column, number * CHUNK_ROWS, (number + 1) * CHUNK_ROWS)
    unit = np.datetime_data(column.values.dtype)[0] if column.values.dtype.kind in "mM" else ""
    digest = hashlib.sha256(f"{_VERSION} chunk {column.dtype} {unit} {chunk.rows}\n".encode())
    # NaN tells by itself that a float is missing; elsewhere the mask has to
    if chunk.missing is not None and not chunk.is_float and chunk.missing.any():
        digest.update(b"missing\n")
        digest.update(np.packbits(chunk.missing).tobytes())
    if chunk.offsets is not None:
        digest.update(np.diff(chunk.offsets).astype("<i8").data)
        digest.update(np.ascontiguousarray(chunk.values).data)
    else:
        for block in blocks(chunk):
            digest.update(block.view(np.uint8).data)
    return digest.hexdigest()


def joined_digest(dtype: str, rows: int, chunks: Sequence[str]) -> str:
    """Return the sha256 (hex) of a column from those of its chunks; the name is not part of it."""
    text = "\n".join([f"{_VERSION} column {dtype} {rows}", *chunks])
    return hashlib.sha256(text.encode()).hexdigest()


def column_digest(column: Column) -> str:
    """Return the sha256 (hex) of one column's type and values; the name is not part of it."""
    chunks = [chunk_digest(column, number) for number in range(chunks_of(column.rows))]
    return joined_digest(column.dtype, column.rows, chunks)


def table_digest(columns: Sequence[Column], rows: int, digests: Sequence[str]) -> str:
    """Return the sha256 (hex) of a table from the digests of its columns."""
    parts = [[column.name, column.dtype, digest] for column, digest in zip(columns, digests, strict=True)]
    return digest_of([_VERSION, rows, parts])
