"""What is stored of a step: its run, its cells as they execute, the executed notebook, its outputs."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbops.core.ids import new_id
from nbops.core.records import Cell, Failure, Run, RunStatus, replace
from nbops.pipelines.execution import Execution, Listener, Outcome, mark_pending
from nbops.pipelines.kernels import KernelProcess
from nbops.pipelines.notebooks import NotebookWriter, dump_notebook
from nbops.store.context import PARENT_VARIABLE
from nbops.store.discovery import FOLDER, VARIABLE, locate
from nbops.store.workspace import Workspace, init, is_open, workspace
from nbops.tracking.live import LiveRun
from nbops.tracking.runs import run as open_run

MEDIA_TYPE = "application/x-ipynb+json"


def workspace_for(notebook: Path | None) -> Workspace:
    """Return the current workspace; if none is open or found from here, the one above the notebook."""
    if not is_open() and VARIABLE not in os.environ and notebook is not None and not locate().exists():
        above = notebook.resolve().parent
        for folder in (above, *above.parents):
            if (folder / FOLDER).is_dir():
                return init(folder)
    return workspace()


class CellRecords:
    """Stores each code cell's state as it changes: pending, running, ok or error."""

    def __init__(self, ws: Workspace, run_id: str, notebook: Any) -> None:
        self._ws = ws
        limit = ws.settings.cell_source_max_bytes
        now = time.time()
        self._cells = {
            cell["id"]: Cell(
                id=new_id(Cell.prefix),
                created_at=now,
                parent=run_id,
                cell_id=cell["id"],
                execution_count=None,
                source_digest=hashlib.sha256(cell.source.encode()).hexdigest(),
                source=cell.source.encode()[:limit].decode(errors="ignore"),
                status="pending",
            )
            for cell in notebook.cells
            if cell.cell_type == "code" and cell.source.strip()
        }
        with ws.store.transaction():
            for record in self._cells.values():
                ws.store.put(record)

    def _put(self, cell: Any, **changes: Any) -> None:
        self._cells[cell["id"]] = record = replace(self._cells[cell["id"]], **changes)
        self._ws.store.put(record)

    def cell_started(self, index: int, cell: Any) -> None:
        """Store that the cell runs."""
        self._put(cell, status="running", created_at=time.time())

    def cell_ended(self, index: int, cell: Any, *, duration_s: float, error: Failure | None, failed: bool) -> None:
        """Store how the cell ended."""
        count = cell.get("execution_count")
        status = "error" if failed else "ok"
        self._put(cell, status=status, duration_s=duration_s, error=error, execution_count=count)

    def output_added(self, cell: Any, output: Any) -> None:
        """Outputs are kept in the notebook only."""


class Progress:
    """A bar over the cells on stderr; in a log file a line every ten seconds at most."""

    def __init__(self, notebook: Any, name: str) -> None:
        from tqdm import tqdm

        codes = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
        wait_s = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(total=len(codes), desc=name, unit="cell", mininterval=wait_s, file=sys.stderr)

    def cell_started(self, index: int, cell: Any) -> None:
        """Name the cell that runs."""
        self._bar.set_postfix_str(f"cell {index + 1}", refresh=sys.stderr.isatty())

    def cell_ended(self, index: int, cell: Any, *, duration_s: float, error: Failure | None, failed: bool) -> None:
        """Move on, unless the cell failed."""
        if not failed:
            self._bar.update(1)

    def output_added(self, cell: Any, output: Any) -> None:
        """Outputs are not shown."""

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class OutputLog:
    """Passes what cells print to a logger and to files, as papermill's options ask for."""

    def __init__(self, logger: logging.Logger | None, stdout_file: Any = None, stderr_file: Any = None) -> None:
        self._logger = logger
        self._files = {"stdout": stdout_file, "stderr": stderr_file}

    def cell_started(self, index: int, cell: Any) -> None:
        """Head the cell's lines."""
        if self._logger is not None:
            self._logger.info("Executing cell %d", index + 1)

    def cell_ended(self, index: int, cell: Any, *, duration_s: float, error: Failure | None, failed: bool) -> None:
        """Close the cell's lines."""
        if self._logger is not None:
            self._logger.info("Cell %d took %.3f s", index + 1, duration_s)

    def output_added(self, cell: Any, output: Any) -> None:
        """Pass it on."""
        stream = output.get("name", "")
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        file = self._files.get(stream)
        if file is not None:
            file.write(text)
            file.flush()
        if self._logger is not None and text:
            self._logger.log(logging.WARNING if stream == "stderr" else logging.INFO, "%s", text.rstrip("\n"))


@contextmanager
def step_run(
    ws: Workspace, name: str, *, params: Mapping[str, Any], context: Mapping[str, Any]
) -> Iterator[LiveRun]:  # fmt: skip
    """Open the run of a step; one that the block leaves open by an error is closed as that error says."""
    with ws.store.transaction():
        live = open_run(name, params=params, type="step")
        ws.store.update(Run, live.id, lambda run: replace(run, context={**run.context, **context}))
    try:
        yield live
    except (KeyboardInterrupt, SystemExit) as error:
        live.finish(RunStatus.INTERRUPTED, error=error)
        raise
    except BaseException as error:
        live.finish(RunStatus.FAILED, error=error)
        raise


def execute_step(
    ws: Workspace, run_id: str, notebook: Any, *, kernel_name: str, cwd: Path, writer: NotebookWriter,
    label: str, env: Mapping[str, str] | None = None, listeners: tuple[Listener, ...] = (),
    timeout_s: float | None = None, cell_timeout_s: float | None = None, start_timeout_s: float = 60.0,
) -> Outcome:  # fmt: skip
    """Execute a prepared notebook as the step `run_id`: states to the store, the file kept by `writer`."""
    mark_pending(notebook)
    notebook.metadata["nbops"] = {"run": run_id}
    records = CellRecords(ws, run_id, notebook)
    kernel = KernelProcess(kernel_name, cwd=cwd, env={**kernel_env(ws, run_id, label), **(env or {})})
    execution = Execution(
        notebook,
        kernel,
        writer=writer,
        listeners=(records, *listeners),
        timeout_s=timeout_s,
        cell_timeout_s=cell_timeout_s,
        start_timeout_s=start_timeout_s,
    )
    return execution.run()


def kernel_env(ws: Workspace, run_id: str, label: str) -> dict[str, str]:
    """Return what makes code in the kernel find this workspace, this run and its own notebook."""
    env = {VARIABLE: str(ws.path), PARENT_VARIABLE: run_id, "JPY_SESSION_NAME": label}
    for name in ("store_url", "artifacts_url"):
        if getattr(ws.settings, name):
            env[f"NBOPS_{name.upper()}"] = getattr(ws.settings, name)
    return env


def close_step(ws: Workspace, live: LiveRun, notebook: Any, outcome: Outcome, *, file_name: str) -> Run:
    """Keep the executed notebook with the run and end it as the notebook ended."""
    ws.save_artifact(dump_notebook(notebook), name=f"executed/{file_name}", media_type=MEDIA_TYPE, parent=live.id)
    if outcome.ended_early:
        live.set_tags(ended_early=outcome.ended_early)
    live.finish(outcome.status, error=outcome.error)
    return live.record
