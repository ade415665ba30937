"""What differs between two tables: columns, rows by their key, and single cells with both values.

Rows are found again by 64-bit hashes of their keys and compared by hashes of their cells, so that nothing is sorted or
compared value by value; the values of the first changed cells are read afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, NotFound
from nbops.core.extras import pandas
from nbops.core.records import Dataset
from nbops.data.columns import Column, Frame, Hashes, hashes, remixed, row_hashes
from nbops.data.datasets import find_dataset, read_data
from nbops.data.frames import read

Rows = NDArray[np.int64]

CELLS = 1000  # that are kept with both values
SAME, CHANGED, ADDED, REMOVED, RETYPED = "same", "changed", "added", "removed", "retyped"
BY_KEY, BY_POSITION, BY_CONTENT, BY_DIGEST = "key", "position", "content", "digest"


@dataclass(frozen=True)
class ColumnDifference:
    """One column of both tables.

    Attributes
    ----------
    name : str
    change : str
        ``same``, ``changed``, ``added`` (only the second has it), ``removed`` or ``retyped``.
    dtype_a, dtype_b : str
        Its types; empty where a table does not have it.
    cells : int or None
        How many cells differ in rows that both have; None where only digests could be compared.
    """

    name: str
    change: str
    dtype_a: str = ""
    dtype_b: str = ""
    cells: int | None = 0


@dataclass(frozen=True)
class CellChange:
    """One cell that differs: its row in both tables, the key of the row (empty without one), both values."""

    column: str
    key: tuple[Any, ...]
    row_a: int
    row_b: int
    before: Any
    after: Any


@dataclass(frozen=True, eq=False)
class DataDifference(Shown):
    """What `nb.diff` returns for two tables.

    Attributes
    ----------
    a, b : str
        Their names.
    rows_a, rows_b : int
    key : tuple of str
        The columns that tell rows apart.
    by : str
        How rows were found again: ``key``, ``position``, ``content`` (whole rows, in any order) or ``digest`` (of
        data that was not stored: only which columns differ).
    columns : tuple of ColumnDifference
        In the order of the second table, then those that only the first has.
    added, removed : int64 array
        Rows of the second table that are new, and of the first that are gone.
    changed : int64 array
        [rows, 2] Positions in both tables of the rows with a changed cell.
    cells : tuple of CellChange
        The first changed cells, column by column.
    """

    a: str
    b: str
    rows_a: int
    rows_b: int
    key: tuple[str, ...]
    by: str
    columns: tuple[ColumnDifference, ...]
    added: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    removed: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    changed: Rows = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    cells: tuple[CellChange, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether both have the same columns and the same rows."""
        return all(c.change == SAME for c in self.columns) and not len(self.added) and not len(self.removed)

    @property
    def changed_cells(self) -> int:
        """How many cells differ in rows that both have."""
        return sum(c.cells or 0 for c in self.columns)

    def to_pandas(self) -> Any:
        """Return the kept cells as a data frame: column, key, rows, before, after.

        Raises
        ------
        MissingDependency
            pandas is not installed.
        """
        pd = pandas()
        names = ["column", "key", "row_a", "row_b", "before", "after"]
        rows = [[getattr(c, name) for name in names] for c in self.cells]
        frame = pd.DataFrame(rows, columns=names)
        frame["key"] = [k[0] if len(k) == 1 else k for k in frame["key"]]
        return frame

    def __repr__(self) -> str:
        return (
            f"DataDifference({self.a!r}, {self.b!r}: +{len(self.added)} −{len(self.removed)} rows, "
            f"{self.changed_cells} cells)"
        )


def diff_data(a: Any, b: Any, *, key: str | Sequence[str] | None = None) -> DataDifference | None:
    """Return what differs between two tables; None if one of them is no data.

    Parameters
    ----------
    a, b
        What `nb.snapshot` takes, a `Dataset`, or ``"name"`` and ``"name/3"``.
    key : str or list of str, optional
        Columns that tell rows apart: a row with the same key is the same row, wherever it stands. By default the key
        that the snapshots were given; without one, rows of equally long tables are compared by position, unless more
        of them are equal in another order, and those of others by their whole content.

    Raises
    ------
    InvalidInput
        A key that repeats.
    NotFound
        A key column that is not there.
    """
    is_alone = isinstance(a, str | Dataset) != isinstance(b, str | Dataset)
    sides = [_side(one, "data" if is_alone else other) for one, other in ((a, "a"), (b, "b"))]
    if sides[0] is None or sides[1] is None:
        return None
    one, two = sides[0], sides[1]
    if one.frame is None or two.frame is None:
        return _by_digests(one, two)
    names = [key] if isinstance(key, str) else list(key or one.key or two.key)
    return _by_rows((one.name, one.frame), (two.name, two.frame), tuple(names))


@dataclass(frozen=True, eq=False)
class _Side:
    name: str
    frame: Frame | None
    dataset: Dataset | None

    @property
    def key(self) -> list[str]:
        return list(self.dataset.profile.get("key") or []) if self.dataset is not None else []


def _side(data: Any, name: str) -> _Side | None:
    if not isinstance(data, str | Dataset):
        try:
            return _Side(name, read(data), None)
        except InvalidInput:
            return None
    try:
        dataset = find_dataset(data)
    except NotFound:
        return None
    try:
        frame = read(read_data(dataset))
    except NotFound:  # it was too large to be stored: its digests are known
        frame = None
    return _Side(f"{dataset.name}/{dataset.version}", frame, dataset)


# ---- by digests ------------------------------------------------------------------------------------------------------


def _by_digests(a: _Side, b: _Side) -> DataDifference:
    from nbops.data.datasets import Hashed

    found = []
    for side in (a, b):
        schema = side.dataset.columns if side.dataset is not None else Hashed(side.frame).schema if side.frame else []
        found.append({column.name: column for column in schema})
    columns = []
    for name in dict.fromkeys([*found[1], *found[0]]):
        old, new = found[0].get(name), found[1].get(name)
        if old is None or new is None:
            columns.append(_lone(name, old.dtype if old else "", new.dtype if new else ""))
        else:
            change = RETYPED if old.dtype != new.dtype else SAME if old.digest == new.digest else CHANGED
            columns.append(ColumnDifference(name, change, old.dtype, new.dtype, 0 if change == SAME else None))
    rows = [side.frame.rows if side.frame else side.dataset.rows if side.dataset else 0 for side in (a, b)]
    return DataDifference(a.name, b.name, rows[0], rows[1], (), BY_DIGEST, tuple(columns))


def _lone(name: str, dtype_a: str, dtype_b: str) -> ColumnDifference:
    return ColumnDifference(name, ADDED if dtype_b else REMOVED, dtype_a, dtype_b)


# ---- by rows ---------------------------------------------------------------------------------------------------------


def _by_rows(a: tuple[str, Frame], b: tuple[str, Frame], key: tuple[str, ...]) -> DataDifference:
    (name_a, one), (name_b, two) = a, b
    known = {column.name: column for column in one.columns}
    shared = [(known[column.name], column) for column in two.columns if column.name in known]
    if key:
        by, pairs = BY_KEY, _matched(_keys(one, key, name_a), _keys(two, key, name_b))
    else:
        by, pairs = _without_key([pair[0] for pair in shared], [pair[1] for pair in shared], one.rows, two.rows)
    columns: list[ColumnDifference] = []
    cells: list[CellChange] = []
    touched = np.zeros(len(pairs), np.bool_)
    names = {column.name for column in two.columns}
    for column in [*two.columns, *(c for c in one.columns if c.name not in names)]:
        old, new = known.get(column.name), column if column.name in names else None
        if old is None or new is None:
            columns.append(_lone(column.name, old.dtype if old else "", new.dtype if new else ""))
            continue
        differs = _differs(old, new, pairs)
        touched |= differs
        count = int(np.count_nonzero(differs))
        change = RETYPED if old.dtype != new.dtype else CHANGED if count else SAME
        columns.append(ColumnDifference(column.name, change, old.dtype, new.dtype, count))
        rows = pairs[np.flatnonzero(differs)[: max(0, CELLS - len(cells))]]
        cells += _changes(old, new, rows, [one.column(name) for name in key])
    return DataDifference(
        name_a, name_b, one.rows, two.rows, key, by, tuple(columns), added=_left(two.rows, pairs[:, 1]),
        removed=_left(one.rows, pairs[:, 0]), changed=pairs[touched], cells=tuple(cells),
    )  # fmt: skip


def _without_key(a: list[Column], b: list[Column], rows_a: int, rows_b: int) -> tuple[str, Rows]:
    """Return the rows that belong together: those at one place, or the equal ones if that finds more of them."""
    whole_a, whole_b = row_hashes(a, rows_a), row_hashes(b, rows_b)
    equal = _matched(_numbered(whole_a), _numbered(whole_b))
    if rows_a != rows_b or len(equal) > np.count_nonzero(whole_a == whole_b):
        return BY_CONTENT, equal
    return BY_POSITION, np.repeat(np.arange(rows_a, dtype=np.int64)[:, None], 2, axis=1)


def _keys(frame: Frame, key: tuple[str, ...], name: str) -> Hashes:
    columns = [frame.column(one) for one in key]
    found = row_hashes(columns, frame.rows)
    _, first, counts = np.unique(found, return_index=True, return_counts=True)
    if len(first) < frame.rows:
        repeated = np.flatnonzero(counts > 1)
        at = repeated[np.argmin(first[repeated])]
        value = ", ".join(repr(column.value(int(first[at]))) for column in columns)
        raise InvalidInput(
            f"the key ({', '.join(key)}) repeats in '{name}': {value} stands in {int(counts[at]):,} rows",
            hint="Add columns that tell rows apart, or leave key out.",
        )
    return found


def _numbered(found: Hashes) -> Hashes:
    """Return hashes in which the n-th of equal ones is another than the first, so that copies are counted."""
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(found) else np.zeros(0, int)
    numbers = np.arange(len(found)) - np.repeat(starts, np.diff(np.append(starts, len(found))))
    out = found.copy()
    out[order] = remixed(ordered, numbers.astype(np.uint64))
    return out


def _matched(a: Hashes, b: Hashes) -> Rows:
    """Return the positions of equal hashes in both, in the order of the second: [rows, 2]. No hash repeats."""
    order = np.argsort(a, kind="stable")
    at = np.minimum(np.searchsorted(a[order], b), max(0, len(a) - 1))
    found = a[order[at]] == b if len(a) else np.zeros(len(b), np.bool_)
    return np.stack([order[at[found]] if len(a) else at[found], np.flatnonzero(found)], axis=1).astype(np.int64)


def _left(rows: int, taken: Rows) -> Rows:
    is_left = np.ones(rows, np.bool_)
    is_left[taken] = False
    return np.flatnonzero(is_left)


def _differs(old: Column, new: Column, pairs: Rows) -> NDArray[np.bool_]:
    """Return for each pair of rows whether its cells differ; numbers of two types are compared as numbers."""
    if old.dtype != new.dtype and all(c.offsets is None and c.values.dtype.kind in "biuf" for c in (old, new)):
        old, new = _as_floats(old), _as_floats(new)
    elif old.dtype != new.dtype and old.dtype != "null" and new.dtype != "null":
        return np.ones(len(pairs), np.bool_)
    return np.asarray(hashes(old)[pairs[:, 0]] != hashes(new)[pairs[:, 1]])


def _as_floats(column: Column) -> Column:
    return Column(column.name, "float64", column.values.astype(np.float64), column.missing)


def _changes(old: Column, new: Column, rows: Rows, key: list[Column]) -> Iterator[CellChange]:
    for row_a, row_b in rows.tolist():
        name = tuple(column.value(row_a) for column in key)
        yield CellChange(old.name, name, row_a, row_b, old.value(row_a), new.value(row_b))
