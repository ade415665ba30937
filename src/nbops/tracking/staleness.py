"""Which cells show what an older version of their data said: recorded uses against the newest versions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import msgspec

from nbops.core.display import Shown
from nbops.core.query import Compare, Field, Order
from nbops.core.records import Dataset
from nbops.core.uses import DataUse
from nbops.store.using import notebook_path
from nbops.store.workspace import Workspace, workspace

_MOST_CELLS = 10_000
_MOST_BYTES = 50_000_000  # of a notebook's file


@dataclass(frozen=True)
class StaleCell:
    """One cell whose data has moved on.

    Attributes
    ----------
    cell_id, notebook, head : str
        The cell, its notebook (path relative to the workspace's folder) and its first line.
    execution_count : int or None
        Of the execution that made the output.
    moved : tuple of (str, int, int)
        Name of the dataset, the version that the output was made from, the newest one.
    after : tuple of str
        Ids of the cells to run first: those that read the data into the notebook and what was made of it. Empty where
        the notebook has the newest data already.
    """

    cell_id: str
    notebook: str
    head: str
    execution_count: int | None
    moved: tuple[tuple[str, int, int], ...]
    after: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """``made from sales v3; v4 is newest``."""
        return "; ".join(f"made from {name} v{old}; v{new} is newest" for name, old, new in self.moved)


class StaleCells(Shown, Sequence[StaleCell]):
    """The stale cells of one notebook, or of all.

    Attributes
    ----------
    notebook : str
        Its path; empty for all notebooks.
    cells : tuple of StaleCell
    followed : int
        How many cells there are whose data is known.
    """

    def __init__(self, cells: Iterable[StaleCell], *, notebook: str = "", followed: int = 0) -> None:
        self.cells = tuple(cells)
        self.notebook = notebook
        self.followed = followed

    @overload
    def __getitem__(self, index: int) -> StaleCell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StaleCell]: ...
    def __getitem__(self, index: int | slice) -> StaleCell | Sequence[StaleCell]:
        return self.cells[index]

    def __len__(self) -> int:
        return len(self.cells)


def uses_of(ws: Workspace, *, notebook: str = "", run: str = "") -> list[DataUse]:
    """Return what is known of the cells of a notebook, one record a cell.

    A cell's own record counts; where it has none, the newest record of a cell with its id, if the notebook's file has
    such a cell: it may have been renamed, or be a copy, whose outputs are those of the other. Of a notebook that a step
    executed, the step's counts.

    Parameters
    ----------
    notebook : str
        Path relative to the workspace's folder; empty for all, of which each cell counts that no step executed.
    run : str
        Id of the step that executed it, if one did.
    """
    mine = Compare(Field("parent"), "==", run) if run else None
    steps = ws.store.find(DataUse, mine, limit=_MOST_CELLS) if mine else []
    others = ws.store.find(DataUse, order_by=[Order(Field("created_at"))], limit=_MOST_CELLS)
    others = [one for one in others if one.parent is None]
    if not notebook:
        return [one for one in others if one.datasets]
    ids = cells_of(ws.path.parent / notebook)
    found = {one.cell_id: one for one in others if one.cell_id in ids}
    found |= {one.cell_id: one for one in steps}
    found |= {one.cell_id: one for one in others if one.notebook == notebook}
    return [one for one in found.values() if one.datasets]


def stale_cells(notebook: str | None = None, *, run: str = "", ws: Workspace | None = None) -> StaleCells:
    """Return the cells whose output was made from data that has a newer version now.

    Parameters
    ----------
    notebook : str, optional
        Path relative to the workspace's folder; this notebook if None; all if empty.
    run : str
        Id of the step that executed it, if one did.
    ws : Workspace, optional
        The current one if None.

    Returns
    -------
    StaleCells
        Oldest execution first.
    """
    ws = ws or workspace()
    ws.flush()
    path = notebook_path() if notebook is None else notebook
    uses = uses_of(ws, notebook=path, run=run)
    newest = {name: newest_of(ws, name) for name in {name for one in uses for name in one.datasets}}
    is_old = {one.cell_id for one in uses if _moved(one, newest)}
    found = [_stale(one, newest, is_old) for one in uses if one.cell_id in is_old]
    return StaleCells(found, notebook=path, followed=len(uses))


def cells_of(path: Path) -> frozenset[str]:
    """Return the ids of the cells in a notebook's file; none where there is no such file, or a very large one."""
    try:
        state = path.stat()
    except OSError:
        return frozenset()
    return _cells_of(path, state.st_mtime_ns, state.st_size) if path.suffix == ".ipynb" else frozenset()


@functools.lru_cache(maxsize=32)
def _cells_of(path: Path, changed_ns: int, size_bytes: int) -> frozenset[str]:
    """Read the file; it is read again when it was changed."""
    if size_bytes > _MOST_BYTES:
        return frozenset()
    try:
        notebook = msgspec.json.decode(path.read_bytes(), type=_Notebook)
    except (OSError, msgspec.MsgspecError):  # it is being written, or is no notebook
        return frozenset()
    return frozenset(cell.id for cell in notebook.cells)


class _CellId(msgspec.Struct):
    id: str = ""


class _Notebook(msgspec.Struct):
    cells: list[_CellId] = []


def newest_of(ws: Workspace, name: str) -> Dataset | None:
    """Return the newest version of a dataset; None where it is gone."""
    newest = [Order(Field("version"), descending=True)]
    return next(iter(ws.store.find(Dataset, Compare(Field("name"), "==", name), order_by=newest, limit=1)), None)


def _moved(use: DataUse, newest: dict[str, Dataset | None]) -> tuple[tuple[str, int, int], ...]:
    """Return what has moved on; a cell that made the newest version of an older one is as new as that."""
    found = ((name, old, newest[name]) for name, old in use.made_from)
    return tuple((name, old, one.version) for name, old, one in found
                 if one is not None and one.version > old and one.cell_id != use.cell_id)  # fmt: skip


def _stale(use: DataUse, newest: dict[str, Dataset | None], is_old: set[str]) -> StaleCell:
    after = tuple(use.after) if is_old & set(use.after) else ()
    return StaleCell(use.cell_id, use.notebook, use.head, use.execution_count, _moved(use, newest), after)
