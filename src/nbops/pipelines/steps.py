"""A notebook as a step: run one with typed parameters, and give values out of one.

Importing this loads neither nbformat nor nbclient: `output` is used inside kernels.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbops.core.codec import encode
from nbops.core.errors import InvalidInput, NotebookFailed, NotFound
from nbops.core.records import Artifact, Failure, Record, Run, RunStatus, replace
from nbops.pipelines.parameters import ParameterSpec, check_parameters, read_parameters
from nbops.store.context import PARENT_VARIABLE, current_run
from nbops.store.workspace import workspace

if TYPE_CHECKING:
    from nbops.pipelines.local import LocalStep

_OUTPUT_NAME = re.compile(r"\w[\w .-]{0,99}")
_INLINE_BYTES = 4096


def run_notebook(
    path: str | Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    name: str | None = None,
    timeout_s: float | None = None,
    kernel_name: str | None = None,
    cwd: str | Path | None = None,
    progress: bool = True,
    raise_on_error: bool = True,
    text: bool = False,
) -> Run:
    """Execute a notebook in a kernel of its own and return its run.

    The notebook's file is only read. The executed notebook, the state of every code cell and what
    `output` gave belong to the run, whether the notebook finished or not.

    Parameters
    ----------
    path : str or Path
        The notebook.
    parameters : mapping, optional
        Values for names that its cell tagged ``parameters`` assigns; checked before a kernel starts.
    output : str or Path, optional
        Where to write the executed notebook too; it is replaced in one piece.
    name : str, optional
        Name of the run; the file's name without ``.ipynb`` if None.
    timeout_s : float, seconds, optional
        Longest time for all cells; then the cell is interrupted and the run FAILED.
    kernel_name : str, optional
        Kernel to use instead of the one that the notebook names.
    cwd : str or Path, optional
        Working folder of the kernel; the notebook's folder if None, as in JupyterLab.
    progress : bool
        Show a bar on stderr.
    raise_on_error : bool
        Raise `NotebookFailed` when a cell failed, after everything is stored; else look at ``run.status``.
    text : bool
        The values come from a command line, where everything is text.

    Raises
    ------
    NotFound, InvalidInput
        No such notebook, kernel or folder, or it is not a notebook.
    ParameterError
        An unknown or ill-typed parameter.
    NotebookFailed
        A cell raised, the kernel died, or the time was over.

    Examples
    --------
    >>> import nbops as nb
    >>> run = nb.run_notebook("train.ipynb", parameters={"epochs": 3})
    """
    step, spec = _prepared(path, output, kernel_name=kernel_name, cwd=cwd)
    checked = check_parameters(spec, parameters or {}, text=text)
    return _executed(step, spec, checked, name=name, timeout_s=timeout_s, progress=progress, must_pass=raise_on_error)


def _prepared(
    path: str | Path, output: str | Path | None, *, kernel_name: str | None, cwd: str | Path | None
) -> tuple[LocalStep, ParameterSpec]:
    """Return a step that can start, and the parameters that its notebook takes."""
    from nbops.pipelines.kernels import kernel_of
    from nbops.pipelines.local import LocalStep
    from nbops.pipelines.notebooks import load_notebook, refuse_own_output

    source = Path(path).expanduser()
    notebook, digest = load_notebook(source)
    folder = source.resolve().parent if cwd is None else Path(cwd).expanduser().resolve()
    if not folder.is_dir():
        raise NotFound(f"no folder '{folder}' to work in", hint="Create it, or give another cwd.")
    target = None if output is None else Path(output).expanduser()
    if target is not None:
        refuse_own_output(source, target)
    kernel = kernel_of(notebook, kernel_name)
    step = LocalStep(source, notebook, digest=digest, kernel_name=kernel, cwd=folder, output=target)
    return step, read_parameters(notebook, name=source.name)


def _executed(
    step: LocalStep, spec: ParameterSpec, checked: Mapping[str, Any], *, name: str | None, timeout_s: float | None,
    progress: bool, must_pass: bool,
) -> Run:  # fmt: skip
    for note in spec.notes(checked):
        warnings.warn(note, UserWarning, stacklevel=3)
    with _sigterm_as_exit():
        run, outcome = step.run(
            name=name or step.source.stem, spec=spec, checked=checked, timeout_s=timeout_s, progress=progress
        )
    if outcome.signal is not None:
        raise outcome.signal
    if run.status is not RunStatus.FINISHED and must_pass:
        raise failed(run, step.source.name, step.number_of(run.error), step.output)
    return run


def failed(run: Run, notebook: str, number: int | None, output: Path | None) -> NotebookFailed:
    """Return the two-line error of a failed step."""
    error = run.error or Failure(type="Error", message="it did not finish")
    lines = [line for line in error.message.splitlines() if line.strip()]
    what = f"{error.type}: {lines[0].strip()}" if lines else error.type
    where = f"cell {number} (id {error.cell_id}) of {notebook}" if number else notebook
    kept = f"'{output}'" if output else f"artifact 'executed/{notebook}' of {run.id}"
    return NotebookFailed(f"{where} failed: {what}", hint=f"Open the executed notebook to see it: {kept}.")


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that the kernel ends and the run is closed; only where nobody handles it."""
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free:
        yield
        return

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def output(name: str, value: Any) -> Artifact:
    """Give a value or a file out of a notebook, as an output of the step that it is.

    Under `run_notebook` (and ``papermill --engine nbops``) it belongs to the step's run; elsewhere
    to the current run, if there is one. The same name again replaces the value.

    Parameters
    ----------
    name : str
        Letters, digits, ``_``, ``-``, ``.`` and spaces; at most 100.
    value : plain data, Record, bytes or Path
        Numbers, text, lists and dicts (NumPy scalars too) are stored as JSON, and up to 4 KiB of
        them also in the run's ``context["outputs"]``; a `Path` means the file.

    Returns
    -------
    Artifact
        Named ``output/<name>`` with the suffix of its kind.
    """
    if not _OUTPUT_NAME.fullmatch(name):
        raise InvalidInput(f"an output cannot be named {name[:120]!r}", hint="Use letters, digits, '_', '-' and '.'.")
    ws = workspace()
    run_id = _step_run()
    data, suffix, inline = _contents(name, value)
    artifact = ws.save_artifact(data, name=f"output/{name}{suffix}", parent=run_id)
    if run_id is not None:
        shown = inline if inline is not None else f"{artifact.id} ({artifact.size_bytes} bytes)"
        ws.store.update(Run, run_id, lambda run: _with_output(run, name, shown), event="run.output")
    return artifact


def _with_output(run: Run, name: str, shown: Any) -> Run:
    changed: Run = replace(run, context={**run.context, "outputs": {**run.context.get("outputs", {}), name: shown}})
    return changed


def _step_run() -> str | None:
    id = os.environ.get(PARENT_VARIABLE) or current_run()
    try:
        return workspace().store.get(Run, id).id if id else None
    except NotFound:  # a step of another workspace
        return current_run()


def _contents(name: str, value: Any) -> tuple[bytes | Path, str, Any]:
    """Return bytes or a file, the suffix, and the value if it may stand in the run itself."""
    if isinstance(value, Path):
        file = value.expanduser()
        if not file.is_file():
            raise NotFound(f"output '{name}': no file '{value}'", hint=f"Write it first; this is {Path.cwd()}.")
        return file, file.suffix, None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), ".bin", None
    plain = value if isinstance(value, Record) else _plain(name, value)
    data = encode(plain)
    return data, ".json", None if isinstance(value, Record) or len(data) > _INLINE_BYTES else plain


def _plain(name: str, value: Any) -> Any:
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        value = value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(name, item) for key, item in value.items()}
    raise InvalidInput(
        f"output '{name}' holds a {type(value).__name__}, which is no plain value",
        hint="Write it to a file and give its Path.",
    )
