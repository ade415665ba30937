"""Recording executed cells: real cell id, source, duration, error, names, outputs; and runs that end with their cell.

After a cell only a note of it is taken. The background thread writes its record at once and what it put out
soon after; whoever reads before that, through the workspace, finds the record written.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbops.core.errors import NotFound
from nbops.core.ids import new_id
from nbops.core.records import Cell, Failure, RunStatus, replace
from nbops.store.context import CellRef, current_run, set_cell, set_default_run
from nbops.tracking.capture import inputs
from nbops.tracking.capture.background import drain, submit
from nbops.tracking.capture.outputs import CellOutputs, OutputWatch
from nbops.tracking.capture.uses import UseRecorder
from nbops.tracking.code.names import reads_writes
from nbops.tracking.failures import failure_of
from nbops.tracking.redaction import redact_source

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace
    from nbops.tracking.live import LiveRun

_KEPT = 500  # cells executed before any run; the next run takes them
_PATIENCE_S = 1.0
_KEPT_OUTPUTS = 50  # of these, the last so many keep their outputs


class CellRecorder:
    """What IPython's ``pre_run_cell`` and ``post_run_cell`` events call.

    Parameters
    ----------
    shell : InteractiveShell, optional
        The shell whose outputs are recorded; none are without it.
    """

    def __init__(self, shell: Any = None) -> None:
        self._outputs = OutputWatch(shell) if shell is not None else None
        self._uses = UseRecorder(lambda: shell.user_ns if shell is not None else {})
        self._began = 0.0
        self._cell: CellRef | None = None
        self._before: list[str] = []
        self._unclaimed: list[tuple[Cell, CellOutputs]] = []
        self._of_cell: list[tuple[LiveRun, str | None]] = []
        self._behind: deque[Callable[[], None]] = deque()
        self._writing = threading.Lock()
        self._failed: Exception | None = None
        self._process = os.getpid()
        inputs.switch_on()

    def close(self) -> None:
        """Listen and note no more."""
        if self._outputs is not None:
            self._outputs.stop()
        inputs.switch_off()

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
        if self._outputs is not None:
            self._outputs.begin(keeps_history=getattr(info, "store_history", True))
        self._began = time.time()
        if self._failed is not None:  # told here, where the hooks' errors are counted
            failed, self._failed = self._failed, None
            raise failed

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
        self._note_uses(self._cell, result.execution_count)
        self._cell = None
        set_cell(None)
        return ended

    def _end_runs(self, error: BaseException | None, failure: Failure | None) -> list[LiveRun]:
        from nbops.tracking.live import status_of

        ended = []
        while self._of_cell:
            live, previous = self._of_cell.pop()
            set_default_run(previous)
            status = status_of(error)
            live.finish(status, error=None if status is RunStatus.FINISHED else failure)
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
            execution=cell.execution,
            execution_count=execution_count,
            source_digest=_digest(cell.source),
            source=cell.source,
            duration_s=time.time() - self._began,
            status="error" if failure else "ok",
            error=failure,
        )
        put_out = CellOutputs()
        if self._outputs is not None:
            put_out = self._outputs.end(execution_count, is_failed=failure is not None)
        self._unclaimed = [*self._unclaimed[-_KEPT:], (record, put_out)]
        if len(self._unclaimed) > _KEPT_OUTPUTS:
            old, _ = self._unclaimed[-_KEPT_OUTPUTS - 1]
            self._unclaimed[-_KEPT_OUTPUTS - 1] = (old, CellOutputs())
        if parents:
            self._write(parents, new=touched)

    def _note_uses(self, cell: CellRef, execution_count: int | None) -> None:
        """Record from which datasets the cell was made, once this process has a workspace open."""
        follow = self._uses.after(cell, execution_count)
        module = sys.modules.get("nbops.store.workspace")
        if module is None or not module.is_open() or not (follow or self._uses.has_bare):
            return
        ws = module.workspace()

        def write() -> None:
            if follow is not None and (used := follow()) is not None:
                ws.outbox.put(used)
            self._uses.settle_bare(ws)

        self._behind.append(write)
        ws.settle_with(self.settle)
        ws.before_close(drain)
        submit(self.settle, soon=True)

    def _write(self, parents: list[str], *, new: list[str]) -> None:
        """Store this cell with every run it touched; a run opened in it takes the cells before it too."""
        from nbops.store.workspace import workspace

        ws = workspace()
        claimed = self._unclaimed if any(parent in new for parent in parents) else self._unclaimed[-1:]
        self._unclaimed = []
        self._behind.append(lambda: _store(ws, claimed, parents, new=new))
        ws.settle_with(self.settle)
        submit(self.settle, soon=True)

    def settle(self) -> None:
        """Write the cells that are not written yet; a forked child leaves them to its parent."""
        if os.getpid() != self._process:
            return
        if not self._writing.acquire(timeout=_PATIENCE_S):  # a transaction of the caller may be what the writer awaits
            return
        try:
            while self._behind:
                self._behind.popleft()()
        except Exception as error:
            self._failed = error
        finally:
            self._writing.release()


def _store(ws: Workspace, claimed: list[tuple[Cell, CellOutputs]], parents: list[str], *, new: list[str]) -> None:
    """Store cells with the runs they belong to."""
    limit = ws.settings.cell_source_max_bytes
    clean = [(_clean(cell, limit), put_out) for cell, put_out in claimed]
    followed: list[tuple[CellOutputs, list[str]]] = []
    written: list[Cell] = []
    for n, (cell, put_out) in enumerate(clean):
        owners = [parent for parent in parents if parent in new or n == len(clean) - 1]
        copies = [_with(cell, parent) for parent in owners]
        written += copies
        if put_out:
            followed.append((put_out, [copy.id for copy in copies]))
            for copy in copies:
                ws.outbox.keep(copy)
    ws.outbox.put(*written)
    if followed and ws.settings.cell_outputs_max_bytes > 0:
        submit(lambda: _store_outputs(ws, followed))


def _store_outputs(ws: Workspace, followed: list[tuple[CellOutputs, list[str]]]) -> None:
    """Keep what cells put out; called on the background thread."""
    for put_out, ids in followed:
        digest, _ = ws.artifacts.put(put_out.as_json(max_bytes=ws.settings.cell_outputs_max_bytes))

        def change(cell: Cell, digest: str = digest) -> Cell:
            return replace(cell, outputs=digest)

        for id in ids:
            with suppress(NotFound):  # the run was deleted meanwhile
                ws.outbox.update(Cell, id, change)
            ws.outbox.forget(id)


def _clean(cell: Cell, limit: int) -> Cell:
    """Return a cell as it may be stored: names found, secrets redacted, the source cut to `limit` bytes."""
    reads, writes = reads_writes(cell.source)
    source = redact_source(cell.source).encode()[:limit].decode(errors="ignore")
    cleaned: Cell = replace(cell, reads=reads, writes=writes, source=source)
    return cleaned


def _loaded_runs() -> Any:
    """Return `nbops.tracking.runs`, or None while nobody has used it: no run is open then, so the store can wait."""
    return sys.modules.get("nbops.tracking.runs")


def _with(cell: Cell, parent: str) -> Cell:
    copy: Cell = replace(cell, id=new_id(Cell.prefix), parent=parent)
    return copy


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
