"""``papermill --engine nbops``: papermill stays the door, our execution is behind it.

papermill loads its entry points while it is itself half imported, in whichever order; so this
module imports nothing of it at the top, and `NbopsEngine` has the methods of papermill's
``Engine`` rather than its type.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbops.core.errors import ParameterError
from nbops.core.records import Failure, RunStatus
from nbops.pipelines.parameters import ParameterSpec, check_parameters, read_parameters

_BUILT_IN = "PAPERMILL_"  # set by papermill's own --inject-…-path options


class NbopsEngine:
    """Executes the notebook that papermill has prepared, as a step with a run of its own.

    Beyond papermill's own engine it refuses unknown and ill-typed parameters before a kernel
    starts, states truly how each cell ended, and replaces the output in one piece.
    """

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **options: Any,  # papermill's contract: what its caller passed on, known here or not
    ) -> Any:
        """Execute `nb` in place and return it.

        Raises
        ------
        ParameterError
            An unknown or ill-typed parameter; no kernel was started.
        nbclient.exceptions.DeadKernelError, nbclient.exceptions.CellTimeoutError
            As papermill's own engine raises them. A cell that raised is left to papermill to report.
        """
        from nbops.pipelines import notebooks, recording
        from nbops.pipelines.kernels import find_kernel

        source, label = _source_of(options.get("input_path"))
        values = dict(nb.metadata.get("papermill", {}).get("parameters", {}))
        spec, params = _checked(nb, values, label)
        kernel_name = find_kernel(kernel_name)
        target = _local(output_path)
        if target is not None and source is not None:
            notebooks.refuse_own_output(source, target)
        for note in spec.notes(params):
            logging.getLogger("papermill").warning(note)
        notebooks.prepare_cells(nb)
        notebooks.clear_results(nb)
        ws = recording.workspace_for(source)
        progress = recording.Progress(nb, label) if progress_bar else None
        logger = logging.getLogger("papermill") if log_output else None
        log = recording.OutputLog(logger, options.get("stdout_file"), options.get("stderr_file"))
        writer = notebooks.NotebookWriter(target, every_s=5.0 if autosave_cell_every else 0.0)
        context = {"source": str(source or label), "kernel": kernel_name, "cwd": str(Path.cwd()), "door": "papermill"}
        with recording.step_run(ws, Path(label).stem, params={**spec.defaults, **params}, context=context) as live:
            try:
                outcome = recording.execute_step(
                    ws, live.id, nb, kernel_name=kernel_name, cwd=Path.cwd(), writer=writer,
                    label=str(source or label), listeners=(log, progress) if progress else (log,),
                    cell_timeout_s=options.get("execution_timeout") or options.get("timeout"),
                    start_timeout_s=options.get("start_timeout") or 60.0,
                )  # fmt: skip
            finally:
                if progress is not None:
                    progress.close()
            recording.close_step(ws, live, nb, outcome, file_name=Path(label).name)
        if outcome.signal is not None:
            raise outcome.signal
        if outcome.status is not RunStatus.FINISHED and outcome.error is not None:
            _raise_as_papermill_does(nb, outcome.error, output_path)
        if output_path is not None:
            _write_last_in_one_piece(output_path)
        return nb

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """Return the kernel asked for, else the notebook's, else ``python3``."""
        return name or str(nb.metadata.get("kernelspec", {}).get("name") or "python3")

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Return the language asked for, else the notebook's, else ``python``."""
        named = nb.metadata.get("language_info", {}).get("name") or nb.metadata.get("kernelspec", {}).get("language")
        return language or str(named or "python")


def _checked(nb: Any, values: Mapping[str, Any], label: str) -> tuple[ParameterSpec, dict[str, Any]]:
    spec = read_parameters(nb, name=Path(label).name)
    own = {name: value for name, value in values.items() if not name.startswith(_BUILT_IN)}
    if "written in" in spec.reason:  # papermill sets parameters of a dozen languages, unchecked
        return spec, dict(values)
    fitted = check_parameters(spec, own)
    for name, value in fitted.items():
        if value != own[name]:  # papermill has written the value as it was given
            raise ParameterError(
                f"parameter '{name}' of {spec.notebook} takes {spec.parameters[name].type}, got {own[name]!r} "
                f"({type(own[name]).__name__})",
                hint="Give it through papermill's -y, which keeps types, or -r for text.",
            )
    return spec, {**values, **fitted}


def _source_of(given: Any) -> tuple[Path | None, str]:
    """Return the file that papermill read, if it is one, and a name for it."""
    if not isinstance(given, str) or given == "-" or given.lstrip().startswith("{"):
        return None, "notebook.ipynb"
    path = _local(given)
    return path, given.partition("?")[0] if path is None else path.name


def _local(path: str | None) -> Path | None:
    """Return the absolute path of a local file as papermill means it; None for URLs and streams."""
    from papermill.iorw import LocalHandler, papermill_io

    if path is None or not isinstance(papermill_io.get_handler(path), LocalHandler | _OnePiece):
        return None
    began_in = getattr(papermill_io.get_handler("local"), "_cwd", None)  # before papermill's own chdir
    return Path(began_in or Path.cwd(), path).resolve()


class _OnePiece:
    """papermill's handler for a local output: its last write, after the engine's, is atomic as well."""

    def read(self, path: str) -> str:
        return _absolute(path).read_text("utf-8")

    def write(self, buf: str, path: str) -> None:
        from nbops.pipelines.notebooks import write_atomic

        write_atomic(_absolute(path), buf.encode())

    def listdir(self, path: str) -> list[str]:
        return [str(entry) for entry in _absolute(path).iterdir()]

    def pretty_path(self, path: str) -> str:
        return path


def _absolute(path: str) -> Path:
    return _local(path) or Path(path)


def _write_last_in_one_piece(output_path: str) -> None:
    from papermill.iorw import LocalHandler, papermill_io

    if isinstance(papermill_io.get_handler(output_path), LocalHandler):
        papermill_io.register(output_path, _OnePiece())


def _raise_as_papermill_does(nb: Any, error: Failure, output_path: str | None) -> None:
    """Raise what ends papermill for a dead kernel or a deadline; a cell's own error it reports itself."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.iorw import write_ipynb

    if error.type in ("KernelDied", "TimeoutError") and not error.traceback:
        if output_path is not None and _local(output_path) is None:
            write_ipynb(nb, output_path)  # a URL: papermill will not come to its own last write
        number = next((n for n, cell in enumerate(nb.cells, 1) if cell["id"] == error.cell_id), None)
        where = f"cell {number} (id {error.cell_id}): " if number else ""
        raise (DeadKernelError if error.type == "KernelDied" else CellTimeoutError)(where + error.message)
