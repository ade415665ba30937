"""Recording executed cells: real cell id, source digest, duration, error; and runs that end with their cell."""

from __future__ import annotations

import hashlib
import sys
import time
from typing import TYPE_CHECKING, Any

from nbops.core.ids import new_id
from nbops.core.records import Cell, Failure, RunStatus, replace
from nbops.store.context import CellRef, current_run, set_cell, set_default_run
from nbops.tracking.failures import failure_of

if TYPE_CHECKING:
    from nbops.tracking.live import LiveRun

_KEPT = 500  # cells executed before any run; the next run takes them


class CellRecorder:
    """What IPython's ``pre_run_cell`` and ``post_run_cell`` events call."""

    def __init__(self) -> None:
        self._began = 0.0
        self._cell: CellRef | None = None
        self._before: list[str] = []
        self._unclaimed: list[Cell] = []
        self._of_cell: list[tuple[LiveRun, str | None]] = []

    def before(self, info: Any) -> None:
        """Note which cell begins."""
        source = info.raw_cell or ""
        cell_id = getattr(info, "cell_id", None) or f"source-{_digest(source)[:12]}"
        self._cell = CellRef(cell_id, source)
        set_cell(self._cell)
        self._before = []
        if runs := _loaded_runs():
            runs.touched.clear()
            self._before = [live.id for live in runs.open_runs()]
        self._began = time.time()

    def open_run(self, name: str | None = None, **options: Any) -> LiveRun:
        """Open a run that is current for the rest of this cell and ends with it."""
        from nbops.tracking import runs

        previous = current_run()
        live = runs.run(name, **options)
        set_default_run(live.id)
        self._of_cell.append((live, previous))
        return live

    def after(self, result: Any) -> list[LiveRun]:
        """End this cell's runs, record the cell with each run that was open in it; return the ended runs."""
        if self._cell is None:
            return []
        error = result.error_before_exec or result.error_in_exec
        failure = failure_of(error, cell_id=self._cell.cell_id) if error is not None else None
        if runs := _loaded_runs():
            runs.note_cell_error(failure)
        ended = self._end_runs(error, failure) if self._of_cell else []
        self._record(failure, result.execution_count)
        self._cell = None
        set_cell(None)
        return ended

    def _end_runs(self, error: BaseException | None, failure: Failure | None) -> list[LiveRun]:
        from nbops.tracking.live import status_of

        ended = []
        while self._of_cell:
            live, previous = self._of_cell.pop()
            set_default_run(previous)
            live.finish(status_of(error), error=failure if status_of(error) is RunStatus.FAILED else None)
            ended.append(live)
        return ended[::-1]

    def _record(self, failure: Failure | None, execution_count: int | None) -> None:
        cell = self._cell
        if cell is None:
            return
        runs = _loaded_runs()
        touched = list(runs.touched) if runs else []
        parents = list(dict.fromkeys([*self._before, *touched]))
        record = Cell(
            id=new_id(Cell.prefix),
            created_at=self._began,
            parent="",
            cell_id=cell.cell_id,
            execution_count=execution_count,
            source_digest=_digest(cell.source),
            source=cell.source,
            duration_s=time.time() - self._began,
            status="error" if failure else "ok",
            error=failure,
        )
        self._unclaimed = [*self._unclaimed[-_KEPT:], record]
        if parents:
            self._write(parents, new=touched)

    def _write(self, parents: list[str], *, new: list[str]) -> None:
        """Store this cell with every run it touched; a run opened in it takes the cells before it too."""
        from nbops.store.workspace import workspace

        ws = workspace()
        limit = ws.settings.cell_source_max_bytes
        with ws.store.transaction():
            for parent in parents:
                for cell in self._unclaimed if parent in new else self._unclaimed[-1:]:
                    source = cell.source.encode()[:limit].decode(errors="ignore")
                    ws.store.put(_with(cell, parent, source))
        self._unclaimed = []


def _loaded_runs() -> Any:
    """Return `nbops.tracking.runs`, or None while nobody has used it: no run is open then, so the store can wait."""
    return sys.modules.get("nbops.tracking.runs")


def _with(cell: Cell, parent: str, source: str) -> Cell:
    copy: Cell = replace(cell, id=new_id(Cell.prefix), parent=parent, source=source)
    return copy


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
