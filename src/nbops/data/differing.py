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
from nbops.core.errors import CorruptData, InvalidInput, NotFound
from nbops.core.extras import pandas
from nbops.core.records import ColumnSchema, Dataset, replace
from nbops.data.columns import Column, Frame, Hashes, hashes, row_hashes
from nbops.data.datasets import find_dataset, read_data
from nbops.data.folders.comparing import diff_folders
from nbops.data.folders.files import FolderDifference
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.matching import matched, numbered
from nbops.data.versions.manifest import Manifest, differing_rows, read_manifest
from nbops.store.workspace import workspace

Rows = NDArray[np.int64]

CELLS = 1000  # that are kept with both values
SAME, CHANGED, ADDED, REMOVED, RETYPED, UNKNOWN = "same", "changed", "added", "removed", "retyped", "unknown"
BY_KEY, BY_POSITION, BY_CONTENT, BY_DIGEST = "key", "position", "content", "digest"


@dataclass(frozen=True)
class ColumnDifference:
    """One column of both tables.

    Attributes
    ----------
    name : str
    change : str
        ``same``, ``changed``, ``added`` (only the second has it), ``removed`` or ``retyped``; ``unknown`` where neither
        data is stored and the digests were made in two ways.
    dtype_a, dtype_b : str
        Its types; empty where a table does not have it.
    cells : int or None
        How many cells differ in rows that both have; None where only digests could be compared.
    rows : tuple of (int, int)
        Where only digests could be compared: the ranges of rows in which cells differ, from and to before.
    """

    name: str
    change: str
    dtype_a: str = ""
    dtype_b: str = ""
    cells: int | None = 0
    rows: tuple[tuple[int, int], ...] = ()


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


def diff_data(a: Any, b: Any, *, key: str | Sequence[str] | None = None) -> DataDifference | FolderDifference | None:
    """Return what differs between two tables, or two folders of files; None if one of them is no data.

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
        A key that repeats; a folder and a table.
    NotFound
        A key column that is not there.
    """
    if (folders := diff_folders(a, b)) is not None:
        return folders
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
    """Compare the digests of columns, and of their chunks; data that is there takes those of the other's scheme."""
    schemes = {side.dataset.scheme for side in (a, b) if side.frame is None and side.dataset is not None}
    found = [_schema(side, schemes) for side in (a, b)]
    is_one_scheme = None not in found
    trees = [_tree(side) if is_one_scheme else None for side in (a, b)]
    known = [{c.name: c for c in schema or _columns(side)} for side, schema in zip((a, b), found, strict=True)]
    columns = []
    for name in dict.fromkeys([*known[1], *known[0]]):
        old, new = known[0].get(name), known[1].get(name)
        if old is None or new is None:
            columns.append(_lone(name, old.dtype if old else "", new.dtype if new else ""))
            continue
        change = RETYPED if old.dtype != new.dtype else UNKNOWN
        if change == UNKNOWN and is_one_scheme:
            change = SAME if old.digest == new.digest else CHANGED
        rows: tuple[tuple[int, int], ...] = ()
        if change == CHANGED and trees[0] is not None and trees[1] is not None:
            rows = tuple(differing_rows(trees[0], trees[1], name) or ())
        columns.append(ColumnDifference(name, change, old.dtype, new.dtype, 0 if change == SAME else None, rows))
    return DataDifference(a.name, b.name, _rows_of(a), _rows_of(b), (), BY_DIGEST, tuple(columns))


def _rows_of(side: _Side) -> int:
    return side.frame.rows if side.frame else side.dataset.rows if side.dataset else 0


def _columns(side: _Side) -> list[ColumnSchema]:
    return side.dataset.columns if side.dataset is not None else Hashed(side.frame).schema if side.frame else []


def _schema(side: _Side, schemes: set[str | None]) -> list[ColumnSchema] | None:
    """Return the columns with digests of the one scheme that must be compared; None where there is none."""
    if len(schemes) != 1:
        return None
    if side.frame is not None and schemes == {None}:
        hashed = Hashed(side.frame)
        return [replace(c, digest=d) for c, d in zip(hashed.schema, hashed.older_columns, strict=True)]
    return Hashed(side.frame).schema if side.frame is not None else _columns(side)


def _tree(side: _Side) -> Manifest | None:
    """Return what tells where columns differ, if it is there."""
    if side.frame is not None:
        return Manifest(format=1, rows=side.frame.rows, tree=Hashed(side.frame).tree)
    try:
        return read_manifest(side.dataset, artifacts=workspace().artifacts) if side.dataset is not None else None
    except (NotFound, CorruptData):  # which columns differ is known all the same
        return None


def _lone(name: str, dtype_a: str, dtype_b: str) -> ColumnDifference:
    return ColumnDifference(name, ADDED if dtype_b else REMOVED, dtype_a, dtype_b)


# ---- by rows ---------------------------------------------------------------------------------------------------------


def _by_rows(a: tuple[str, Frame], b: tuple[str, Frame], key: tuple[str, ...]) -> DataDifference:
    (name_a, one), (name_b, two) = a, b
    known = {column.name: column for column in one.columns}
    shared = [(known[column.name], column) for column in two.columns if column.name in known]
    if key:
        by, pairs = BY_KEY, matched(_keys(one, key, name_a), _keys(two, key, name_b))
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
    equal = matched(numbered(whole_a), numbered(whole_b))
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
