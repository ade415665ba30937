"""Opening and ending runs, and the verbs that act on the current one."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.ids import new_id
from nbops.core.records import Artifact, Dataset, Failure, Run, RunStatus
from nbops.store.context import current_cell, current_run, set_default_run
from nbops.store.workspace import workspace
from nbops.tracking.capture import capture
from nbops.tracking.live import LiveRun, named
from nbops.tracking.redaction import redact

PARENT_VARIABLE = "NBOPS_PARENT_RUN"
MAX_NAME = 250
_open: dict[str, LiveRun] = {}
_started: LiveRun | None = None  # by `start`; at most one
_last_cell_error: Failure | None = None
touched: list[str] = []  # runs opened since the executing cell began; the cell recorder empties it

Data = Dataset | str | Iterable["Dataset | str"]


def run(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | LiveRun | Run | None = None,
    data: Data | None = None,
    type: str | None = None,
) -> LiveRun:
    """Open a run; use it as a context manager.

    Parameters
    ----------
    name : str, optional
        At most 250 characters; made from the id if None.
    params, tags : mapping, optional
        Stored before this returns; values of secret-looking keys are redacted.
    parent : str, LiveRun or Run, optional
        The enclosing run; by default the current one, or the pipeline step that this notebook is.
    data : Dataset, str or iterable, optional
        Datasets that the run uses, by record, id, ``name`` or ``name/version``.
    type : str, optional
        notebook, script, step, trial …; found out if None.

    Examples
    --------
    >>> import nbops as nb
    >>> with nb.run("baseline", params={"lr": 0.1}) as run:
    ...     nb.log(loss=0.5)
    """
    ws = workspace()
    cell = current_cell()
    id = new_id(Run.prefix)
    if name is not None and (not name.strip() or len(name) > MAX_NAME):
        raise InvalidInput(f"a run cannot be named {name[:40]!r}", hint=f"Use 1 to {MAX_NAME} characters.")
    parent_id = _id_of(parent) or current_run() or os.environ.get(PARENT_VARIABLE)
    record = Run(
        id=id,
        created_at=time.time(),
        name=name or f"run-{id[-6:].lower()}",
        type=type or ("notebook" if cell else "script"),
        parent=parent_id,
        owner=ws.owner,
        cell_id=cell.cell_id if cell else None,
        params=named(params),
        tags={key: str(value) for key, value in redact(tags or {}).items()},
        context=capture(),
    )
    live = LiveRun(ws, record, on_end=_ended)
    with ws.store.transaction():
        ws.store.put(record)
        if parent_id:
            ws.store.link(parent_id, "parent_of", id)
        for dataset in [data] if isinstance(data, Dataset | str) else data or ():
            live.use(dataset)
    _open[id] = live
    touched.append(id)
    return live


def start(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    data: Data | None = None,
    type: str | None = None,
) -> LiveRun:
    """Open a run that stays current over the following cells, until `end`.

    Re-running the cell that started a run supersedes that run; starting another one
    elsewhere finishes it. Parameters as for `run`.
    """
    global _started
    cell = current_cell()
    if _started is not None:
        again = cell is not None and _started.cell_id == cell.cell_id
        _started.finish(RunStatus.SUPERSEDED if again else RunStatus.FINISHED)
    _started = run(name, params=params, tags=tags, data=data, type=type)
    set_default_run(_started.id)
    return _started


def end(status: str = RunStatus.FINISHED) -> Run:
    """End the run that `start` opened and return its record."""
    if _started is None:
        raise NotFound("no run was started", hint="Open one with nb.start('name').")
    ending = _started
    ending.finish(status)
    return ending.record


def log(step: int | None = None, /, **metrics: float) -> None:
    """Log one value per metric to the current run: ``nb.log(loss=0.3)`` or ``nb.log(step=4, loss=0.3)``.

    Safe against ``kill -9`` when it returns.
    """
    current().log_metrics(step, metrics)


def log_series(name: str, steps: Any, values: Any) -> None:
    """Log many points of one metric to the current run; see `LiveRun.log_series`."""
    current().log_series(name, steps, values)


def log_params(**params: Any) -> None:
    """Add parameters to the current run."""
    current().log_params(**params)


def log_artifact(item: Any, *, name: str | None = None) -> Artifact:
    """Store a file, folder, bytes, figure or plain data with the current run."""
    return current().log_artifact(item, name=name)


def current() -> LiveRun:
    """Return the handle of the current run.

    Raises
    ------
    NotFound
        No run is open here.
    """
    id = current_run()
    live = _open.get(id) if id else None
    if live is None:
        raise NotFound("no run is open", hint="Open one: with nb.run('name'): …, nb.start('name') or %%mlops run name")
    return live


def open_runs() -> list[LiveRun]:
    """Return the runs that this process has open, oldest first."""
    return list(_open.values())


def note_cell_error(error: Failure | None) -> None:
    """Remember how the last cell ended: it decides how runs left open are closed at exit."""
    global _last_cell_error
    _last_cell_error = error


def _id_of(parent: str | LiveRun | Run | None) -> str | None:
    return parent if isinstance(parent, str) or parent is None else parent.id


def _ended(live: LiveRun) -> None:
    global _started
    _open.pop(live.id, None)
    if live is _started:
        _started = None
        set_default_run(None)


@atexit.register
def _close_at_exit() -> None:
    """Runs left open end with the process: as it ended, or INTERRUPTED when a notebook's kernel stops."""
    error: BaseException | Failure | None = getattr(sys, "last_value", None)
    in_notebook = "ipykernel" in sys.modules
    if in_notebook:
        error = _last_cell_error
    for live in reversed(open_runs()):
        if error is not None:
            live.finish(RunStatus.FAILED, error=error)
        elif in_notebook and not os.environ.get(PARENT_VARIABLE):
            live.finish(RunStatus.INTERRUPTED)
        else:
            live.finish()


def _after_fork() -> None:
    """A forked child owns no run: what it opens is its own."""
    global _started
    _open.clear()
    _started = None
    touched.clear()
    set_default_run(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
