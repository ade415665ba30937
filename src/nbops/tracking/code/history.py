"""What was executed in a kernel up to the end of a run, and the notebook file that it came from. Judges nothing."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nbops.core.protocols import Store
from nbops.core.query import Compare, Field
from nbops.core.records import Cell, Run
from nbops.store.workspace import Workspace
from nbops.tracking.code.names import Names, names_of
from nbops.tracking.lineage import resolve

MAX_FILE_BYTES = 50_000_000
EXECUTED = frozenset({"step", "verify"})  # types of runs whose cells ran from top to bottom in a kernel of their own
_MAX_RUNS = 200  # of one kernel: cells executed earlier than so many runs ago are not looked up
_MAX_CELLS = 5000


@dataclass(frozen=True)
class Execution:
    """One execution of a cell: its record, what it does to names, and whether the run was open in it."""

    cell: Cell
    names: Names
    is_inside: bool

    @property
    def id(self) -> str:
        """Id of the notebook's cell."""
        return self.cell.cell_id

    @property
    def label(self) -> str:
        """How the notebook shows it: ``cell [7]``."""
        count = self.cell.execution_count
        return f"cell [{count}]" if count else f"cell {self.cell.cell_id[:8]}"

    @property
    def is_cut(self) -> bool:
        """Whether only part of its source is stored, or secrets were taken out of it."""
        return hashlib.sha256(self.cell.source.encode()).hexdigest() != self.cell.source_digest


def run_of(ws: Workspace, run: Any) -> Run:
    """Return the stored run that a record, a handle, an id or a name means.

    Of a name it is the newest run, but none that `verify` made when it executed the notebook again.

    Raises
    ------
    NotFound
        No such run.
    """
    ws.flush()
    if not isinstance(run, str):
        return ws.store.get(Run, run.id)
    found = resolve(ws, run, kind=Run)
    if found.name != run or not _is_repetition(ws, found):
        return found
    alike = ws.store.find(Run, Compare(Field("name"), "==", run), limit=_MAX_RUNS)
    return next((r for r in alike if not _is_repetition(ws, r)), found)


def _is_repetition(ws: Workspace, run: Run) -> bool:
    if run.type == "verify" or not run.parent:
        return run.type == "verify"
    above = ws.store.find(Run, Compare(Field("id"), "==", run.parent), limit=1)
    return bool(above) and _is_repetition(ws, above[0])


def executions(ws: Workspace, run: Run) -> list[Execution]:
    """Return what was executed in the run's kernel until the run ended, oldest first.

    A cell belongs to the run that was open in it, and one that ran before any run to the first; so the cells of
    earlier runs of the same kernel are part of the history.
    """
    end = run.ended_at if run.ended_at is not None else float("inf")
    own = cells_of(ws.store, run)
    cells = list(own)
    if own and run.owner and run.type not in EXECUTED:
        runs = ws.store.find(Run, Compare(Field("owner"), "==", run.owner), limit=_MAX_RUNS)
        earlier = tuple(r.id for r in runs if r.id != run.id and r.type not in EXECUTED and r.created_at <= end)
        cells += ws.store.find(Cell, Compare(Field("parent"), "in", earlier), limit=_MAX_CELLS) if earlier else []
    seen: dict[tuple[str, float], Execution] = {}
    inside = {(c.cell_id, c.created_at) for c in own if c.created_at + c.duration_s >= run.created_at}
    for cell in sorted(cells, key=lambda c: c.created_at):
        key = (cell.cell_id, cell.created_at)
        if key not in seen and cell.created_at <= end and cell.status in ("ok", "error"):
            seen[key] = Execution(cell, names_of_cell(cell), key in inside)
    return list(seen.values())


def cells_of(store: Store, run: Run) -> list[Cell]:
    """Return the stored cells of a run, in the order of their execution.

    A run in a notebook step whose own cells were not recorded has those of the step.
    """
    found = store.find(Cell, Compare(Field("parent"), "==", run.id), limit=_MAX_CELLS)
    if not found and run.parent:
        step = store.find(Run, Compare(Field("id"), "==", run.parent), limit=1)
        if step and step[0].type in EXECUTED:
            return cells_of(store, step[0])
    return sorted(found, key=lambda c: c.created_at)


def names_of_cell(cell: Cell) -> Names:
    """Return the names of a stored cell; as recorded where not all of its source was kept."""
    found = names_of(cell.source)
    if (cell.reads or cell.writes) and hashlib.sha256(cell.source.encode()).hexdigest() != cell.source_digest:
        found = replace(found, reads=tuple(cell.reads), writes=tuple(cell.writes))
    return replace(found, writes=_written_until(cell)) if cell.status == "error" else found


def _written_until(cell: Cell) -> tuple[str, ...]:
    """Return what a failed cell had written when it failed: all statements above the failing line."""
    line = cell.error.line if cell.error is not None else None
    above = cell.source.split("\n")[: line - 1] if line else []
    while above:
        try:
            ast.parse("\n".join(above))
        except SyntaxError:
            above.pop()
        else:
            break
    return names_of("\n".join(above)).writes


@dataclass(frozen=True)
class NotebookFile:
    """A notebook as it lies on disk.

    Attributes
    ----------
    path : Path
    sources : dict
        Code cells' sources by id, in order.
    counts : dict
        Their execution counts; None for a cell that was not executed.
    saved_at : float
        Seconds since the epoch.
    """

    path: Path
    sources: dict[str, str]
    counts: dict[str, int | None]
    saved_at: float


def notebook_file(run: Run, cells: Iterable[str], *, max_bytes: int = MAX_FILE_BYTES) -> NotebookFile | None:
    """Return the file of the run's notebook, or None: not there, too large, or another notebook than these `cells`'."""
    path = Path(str(run.context.get("source", "")))
    if path.suffix != ".ipynb" or run.type in EXECUTED:
        return None
    try:
        state = path.stat()
        if state.st_size > max_bytes:
            return None
        raw = json.loads(path.read_bytes())
        code = [cell for cell in raw["cells"] if cell["cell_type"] == "code"]
        sources = {str(cell["id"]): _text(cell["source"]) for cell in code}
    except (OSError, ValueError, KeyError, TypeError):  # no such file, no notebook, or one of the time before cell ids
        return None
    if not any(id in sources for id in cells):
        return None
    return NotebookFile(path, sources, {str(c["id"]): c.get("execution_count") for c in code}, state.st_mtime)


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
