"""`nb.profile`: the figures of a table, of each column and of how columns go together. Nothing is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbops.core.errors import not_found
from nbops.data.columns import ROW_BASE, Column, Frame, Hashes, row_hashes
from nbops.data.datasets import find_dataset, is_reference
from nbops.data.frames import from_arrow, read
from nbops.data.profiles.association import SAMPLE_ROWS, associations
from nbops.data.profiles.counting import EXACT_VALUES, sample_rows
from nbops.data.profiles.passing import Passed, pass_over
from nbops.data.profiles.profile import Profile
from nbops.data.profiling import in_threads, is_large, with_meaning
from nbops.data.sources import ParquetSource, form_of, is_path
from nbops.store.using import note_used

_LOOKED_AT = 300  # columns of which rows are sampled: 48 MB
_PIECE_ROWS = 1 << 18  # rows of a file's column that are in memory at once


def profile(data: Any, *, label: Any = None, name: str = "") -> Profile:
    """Profile a table: what is in each column, what it means, what stands out, and how columns go together.

    Parameters
    ----------
    data
        What `nb.snapshot` takes; the path of a Parquet or CSV file; ``(engine, "select …")`` of a database; whatever
        has ``__arrow_c_stream__``. Parquet is read a column at a time, so it may be larger than memory. A dataset
        (``"digits"``, ``"digits/2"``) gives the profile that was stored with it.
    label : str or array, optional
        Name of the label column, or the labels: [rows].
    name : str, optional
        What to call it in the report.

    Returns
    -------
    Profile
        ``.columns[name]``, ``.alerts``, ``.to_pandas()``, ``.report(path)``, ``.save(path)``. The same values give
        the same profile, whichever library holds them.

    Raises
    ------
    InvalidInput
        Data that cannot be read.
    NotFound
        No such file, dataset or label column.
    """
    if is_reference(data):
        dataset = find_dataset(data)
        made = Profile.from_dict(dataset.profile).named(name or f"{dataset.name}/{dataset.version}")
        if isinstance(data, str) and "/" not in data:
            note_used(dataset, made)
        return made
    if is_path(data) and form_of(data) == "parquet" and (label is None or isinstance(label, str)):
        return Profile(_of_parquet(data, label or ""), name=name or str(data))
    return Profile(_of_frame(read(data, label=label)), name=name or (str(data) if is_path(data) else ""))


def _of_frame(frame: Frame) -> dict[str, Any]:
    picks = sample_rows(frame.rows, SAMPLE_ROWS)

    def work(item: tuple[int, Column] | None) -> Any:
        if item is None:
            return _repeated(row_hashes(list(frame.columns), frame.rows)) if frame.rows <= EXACT_VALUES else None
        place, column = item
        return pass_over(lambda: [column], frame.rows, picks=picks if place < _LOOKED_AT else None)

    # texts first, so that their hashes are there when the rows are hashed
    done = in_threads(work, [*enumerate(frame.columns), None], is_worth_it=is_large(frame))
    return _told(frame.names, done[:-1], rows=frame.rows, label=frame.label, repeated=done[-1])


def _of_parquet(path: Any, label: str) -> dict[str, Any]:
    source = ParquetSource(path)
    try:
        if label and label not in source.names:
            raise not_found("column", label, source.names)
        picks = sample_rows(source.rows, SAMPLE_ROWS)
        rows = _Rows(source.rows)
        each = rows.add if rows.is_counted else None
        done = [
            pass_over(_Pieces(source, name), source.rows, picks=picks if place < _LOOKED_AT else None, each=each)
            for place, name in enumerate(source.names)
        ]
        return _told(source.names, done, rows=source.rows, label=label, repeated=rows.repeated() if done else 0)
    finally:
        source.close()


@dataclass(frozen=True)
class _Pieces:
    """The pieces of one column of a Parquet file, as often as they are asked for."""

    source: ParquetSource
    name: str

    def __call__(self) -> Iterator[Column]:
        for array in self.source.pieces(self.name, rows=_PIECE_ROWS):
            yield from_arrow(self.name, array)


class _Rows:
    """The hash of each row, a column at a time; the same as `row_hashes` of the whole table."""

    def __init__(self, rows: int) -> None:
        self.is_counted = rows <= EXACT_VALUES
        self._total = np.zeros(rows if self.is_counted else 0, np.uint64)

    def add(self, start: int, codes: Hashes) -> None:
        """Add the next column's hashes of the rows from `start` on."""
        part = self._total[start : start + len(codes)]
        part *= ROW_BASE
        part += codes

    def repeated(self) -> int | None:
        """Return how many rows repeat an earlier one; None where there are too many to hold."""
        return _repeated(self._total) if self.is_counted else None


def _repeated(codes: Hashes) -> int:
    """Return how many hashes repeat an earlier one; sorts in place."""
    codes.sort()
    return int(np.count_nonzero(codes[1:] == codes[:-1]))


def _told(names: list[str], done: list[Passed], *, rows: int, label: str, repeated: int | None) -> dict[str, Any]:
    columns = {name: with_meaning(name, rows, one) for name, one in zip(names, done, strict=True)}
    samples = {name: one.sample for name, one in zip(names, done, strict=True) if one.sample is not None}
    found: dict[str, Any] = {"rows": rows, "label": label, "columns": columns, "duplicate_rows": repeated}
    if len(samples) > 1:
        beyond = [name for name in names[_LOOKED_AT:] if _can_go_with_others(columns[name]["dtype"])]
        found["associations"] = associations(samples, rows=rows, beyond=beyond)
    return found


def _can_go_with_others(dtype: str) -> bool:
    return dtype in ("text", "bool") or dtype.startswith(("int", "uint", "float"))
