"""Digests as they were before trees, over whole columns: for snapshots that were recorded with them.

Nothing new is recorded so. They say whether data, or another snapshot's stored data, is what was recorded then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from nbops.core.codec import digest_of
from nbops.data.columns import Column, blocks

_VERSION = "nbops-data/1"


def older_column_digest(column: Column) -> str:
    """Return the sha256 (hex) of one column's type and values in the first scheme."""
    unit = np.datetime_data(column.values.dtype)[0] if column.values.dtype.kind in "mM" else ""
    digest = hashlib.sha256(f"{_VERSION} {column.dtype} {unit} {column.rows}\n".encode())
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


def older_table_digest(columns: Sequence[Column], rows: int, digests: Sequence[str]) -> str:
    """Return the sha256 (hex) of a table from those of its columns in the first scheme."""
    parts = [[column.name, column.dtype, digest] for column, digest in zip(columns, digests, strict=True)]
    return digest_of([_VERSION, rows, parts])
