"""Runs a step on this machine: prepared notebook in, closed run out. Proves the `Engine` seam."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbops.core.protocols import StepContext, StepOutcome
from nbops.core.records import Failure, Run
from nbops.pipelines.execution import Listener, Outcome
from nbops.pipelines.kernels import kernel_of
from nbops.pipelines.notebooks import NotebookWriter, clear_results, inject, load_notebook
from nbops.pipelines.parameters import ParameterSpec
from nbops.pipelines.recording import Progress, close_step, execute_step, step_run, workspace_for
from nbops.store.workspace import workspace


class LocalStep:
    """One execution of one loaded notebook as a step with a run of its own."""

    def __init__(
        self, source: Path, notebook: Any, *, digest: str, kernel_name: str, cwd: Path, output: Path | None
    ) -> None:  # fmt: skip
        self.source, self.notebook, self.digest = source, notebook, digest
        self.kernel_name, self.cwd, self.output = kernel_name, cwd, output

    def run(
        self, *, name: str, spec: ParameterSpec, checked: Mapping[str, Any],
        timeout_s: float | None, progress: bool,
    ) -> tuple[Run, Outcome]:  # fmt: skip
        """Execute and record; return the closed run and how the notebook ended."""
        ws = workspace_for(self.source)
        context = {
            "source": str(self.source.resolve()),
            "notebook_digest": self.digest,
            "kernel": self.kernel_name,
            "cwd": str(self.cwd),
            "notes": spec.notes(checked),
        }
        with step_run(ws, name, params={**spec.defaults, **checked}, context=context) as live:
            live_file = ws.path / "steps" / live.id / self.source.name
            output = self.output or live_file
            output.parent.mkdir(parents=True, exist_ok=True)
            prepare(self.notebook, checked, source=self.source, output=output)
            bar = Progress(self.notebook, name) if progress else None
            listeners: tuple[Listener, ...] = (bar,) if bar is not None else ()
            with contextlib.closing(bar) if bar is not None else contextlib.nullcontext():
                outcome = execute_step(
                    ws, live.id, self.notebook, kernel_name=self.kernel_name, cwd=self.cwd,
                    writer=NotebookWriter(output), label=str(self.source.resolve()), listeners=listeners,
                    timeout_s=timeout_s,
                )  # fmt: skip
            run = close_step(ws, live, self.notebook, outcome, file_name=self.source.name)
        if self.output is None:  # the run has it now
            live_file.unlink(missing_ok=True)
            live_file.parent.rmdir()
        return run, outcome

    def number_of(self, error: Failure | None) -> int | None:
        """Return the place of the cell that an error names, counted from 1 in the executed notebook."""
        if error is None or error.cell_id is None:
            return None
        return next(n for n, cell in enumerate(self.notebook.cells, 1) if cell["id"] == error.cell_id)


def prepare(notebook: Any, values: Mapping[str, Any], *, source: Path, output: Path) -> None:
    """Clear an earlier execution and set the parameters, with the metadata that papermill writes."""
    clear_results(notebook)
    inject(notebook, values)
    notebook.metadata.papermill.update(
        default_parameters={}, environment_variables={}, input_path=str(source), output_path=str(output),
    )  # fmt: skip


class LocalEngine:
    """The engine of this machine (`nbops.core.protocols.Engine`): executes within a run that is open already."""

    def __init__(self, *, kernel_name: str | None = None) -> None:
        self._kernel_name = kernel_name

    def execute(self, context: StepContext) -> StepOutcome:
        """Execute the notebook with its parameters; a failing cell is an outcome, not an exception."""
        notebook, _ = load_notebook(context.notebook)
        prepare(notebook, context.parameters, source=context.notebook, output=context.output)
        outcome = execute_step(
            workspace(), context.run_id, notebook, kernel_name=kernel_of(notebook, self._kernel_name),
            cwd=context.work_dir, writer=NotebookWriter(context.output), label=str(context.notebook.resolve()),
            env=context.env, timeout_s=context.timeout_s,
        )  # fmt: skip
        if outcome.signal is not None:
            raise outcome.signal
        return StepOutcome(outcome.status, context.output, outcome.error)
