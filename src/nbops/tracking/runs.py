"""Opening and ending runs, and the verbs that act on the current one."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from nbops.core.errors import InvalidInput, NotFound, StopAsked
from nbops.core.ids import new_id
from nbops.core.protocols import Recorded
from nbops.core.records import Artifact, Failure, Link, Run, RunStatus
from nbops.store.context import PARENT_VARIABLE, current_cell, current_run, set_default_run
from nbops.store.workspace import workspace
from nbops.tracking.attached import AttachedRun, joinable, reopen
from nbops.tracking.capture import following
from nbops.tracking.capture.surroundings import capture
from nbops.tracking.live import LiveRun, named, status_of
from nbops.tracking.machine.seeding import known_seed
from nbops.tracking.redaction import redact

RUN_VARIABLE = "NBOPS_RUN_ID"
MAX_NAME = 250
_ASKED_FOR = (KeyboardInterrupt.__name__, StopAsked.__name__)  # errors that somebody wanted
_open: dict[str, LiveRun] = {}
_started: LiveRun | None = None  # by `start`; at most one
_last_cell_error: Failure | None = None
touched: list[str] = []  # runs opened since the executing cell began; the cell recorder empties it

Data = Recorded | str | Iterable["Recorded | str"]
RunRef = str | LiveRun | Run


def run(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    parent: RunRef | None = None,
    data: Data | None = None,
    type: str | None = None,
    resume: RunRef | None = None,
    attach: RunRef | None = None,
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
        Datasets that the run uses, by record, id, ``name`` or ``name/version``; also what `nb.split` returned.
    type : str, optional
        notebook, script, step, trial …; found out if None.
    resume : str, LiveRun or Run, optional
        Open this ended run again, by record, id or name, and go on where it stopped.
    attach : str, LiveRun or Run, optional
        Log into this run, which another process has open and goes on to own. By default the one
        that the variable ``NBOPS_RUN_ID`` names, if no run is open here.

    Examples
    --------
    >>> import nbops as nb
    >>> with nb.run("baseline", params={"lr": 0.1}) as run:
    ...     nb.log(loss=0.5)
    """
    if name is not None and (not name.strip() or len(name) > MAX_NAME):
        raise InvalidInput(f"a run cannot be named {name[:40]!r}", hint=f"Use 1 to {MAX_NAME} characters.")
    _supersede_leftovers()
    if resume is None and attach is None:
        attach = None if current_run() else os.environ.get(RUN_VARIABLE)
    elif (resume and attach) or name or parent or type:
        raise InvalidInput("a run that is resumed or attached to keeps its name, parent and type",
                           hint="Give `resume` or `attach` alone, with params, tags and data at most.")  # fmt: skip
    if resume is not None:
        return _resume(resume, params=params, tags=tags, data=data)
    if attach:
        return _attach(attach, params=params, tags=tags, data=data)
    return _new(name, params=params, tags=tags, parent=parent, data=data, type=type)


def _new(
    name: str | None, *, params: Mapping[str, Any] | None, tags: Mapping[str, str] | None, parent: RunRef | None,
    data: Data | None, type: str | None,
) -> LiveRun:  # fmt: skip
    ws = workspace()
    cell = current_cell()
    id = new_id(Run.prefix)
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
        tags=_tags(tags),
        context=capture() | known_seed(params or {}),
    )
    live = LiveRun(ws, record, on_end=_ended)
    links = [Link(source=parent_id, relation="parent_of", target=id)] if parent_id else []
    used = [live.found(dataset) for dataset in _several(data)]  # an unknown name makes no run
    ws.outbox.keep(record)
    ws.outbox.put(record, links=[*links, *(Link(source=one.id, relation="used_by", target=id) for one in used)])
    _open[id] = live
    touched.append(id)
    following.run_opened(ws, id)
    return live


def _resume(
    ref: RunRef, *, params: Mapping[str, Any] | None, tags: Mapping[str, str] | None, data: Data | None
) -> LiveRun:
    ws = workspace()
    record = reopen(ws, ref, params=named(params), tags=_tags(tags))
    live = _open[record.id] = LiveRun(ws, record, on_end=_ended)
    following.run_opened(ws, record.id)
    return _continue(live, record, data)


def _attach(
    ref: RunRef, *, params: Mapping[str, Any] | None, tags: Mapping[str, str] | None, data: Data | None
) -> LiveRun:
    ws = workspace()
    record = joinable(ws, ref)
    live = AttachedRun(ws, record, on_end=_ended)
    if params:
        live.log_params(**params)
    if tags:
        live.set_tags(**tags)
    _open.setdefault(record.id, live)
    return _continue(live, record, data)


def _continue(live: LiveRun, record: Run, data: Data | None) -> LiveRun:
    """Let a run that has points go on after them."""
    last_steps = {metric: known.last_step for metric, known in record.summary.items()}
    workspace().continue_after(record.id, last_steps)
    _use(live, data)
    touched.append(record.id)
    return live


def start(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    data: Data | None = None,
    type: str | None = None,
    resume: RunRef | None = None,
    attach: RunRef | None = None,
) -> LiveRun:
    """Open a run that stays current over the following cells, until `end`.

    Re-running the cell that started a run supersedes that run; starting another one
    elsewhere finishes it. Parameters as for `run`.
    """
    global _started
    if _started is not None:
        _started.finish(RunStatus.SUPERSEDED if _is_again(_started) else RunStatus.FINISHED)
    _started = run(name, params=params, tags=tags, data=data, type=type, resume=resume, attach=attach)
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


def _id_of(parent: RunRef | None) -> str | None:
    return parent if isinstance(parent, str) or parent is None else parent.id


def _tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    return {key: str(value) for key, value in redact(tags or {}).items()}


def _several(data: Any) -> list[Recorded | str]:
    is_one = isinstance(data, str) or isinstance(getattr(data, "id", None), str)
    return [data] if is_one else [] if data is None else list(data)


def _use(live: LiveRun, data: Data | None) -> None:
    for dataset in _several(data):
        live.use(dataset)


def _is_again(live: LiveRun) -> bool:
    """Return whether an earlier execution of the cell that executes now opened this run."""
    cell, before = current_cell(), live.opened_in
    return cell is not None and before is not None and before is not cell and before.cell_id == cell.cell_id


def _supersede_leftovers() -> None:
    """End the runs that an earlier execution of this cell opened by hand and left open."""
    for live in open_runs():
        if live is not _started and not live.is_entered and _is_again(live):
            live.finish(RunStatus.SUPERSEDED)


def _ended(live: LiveRun) -> None:
    global _started
    if _open.get(live.id) is live:
        del _open[live.id]
    if live is _started:
        _started = None
        set_default_run(None)


@atexit.register
def _close_at_exit() -> None:
    """Runs left open end with the process: as it ended, or INTERRUPTED when a notebook's kernel stops."""
    error: BaseException | Failure | None = getattr(sys, "last_value", None)
    status = status_of(error) if isinstance(error, BaseException) else RunStatus.FINISHED
    if "ipykernel" in sys.modules:
        error, status = _how_the_kernel_ends()
    for live in reversed(open_runs()):
        live.finish(status, error=error)


def _how_the_kernel_ends() -> tuple[Failure | None, RunStatus]:
    cell, last = current_cell(), _last_cell_error
    if last is not None and cell is None:
        return last, RunStatus.INTERRUPTED if last.type in _ASKED_FOR else RunStatus.FAILED
    if cell is None and os.environ.get(PARENT_VARIABLE):  # a step: its kernel stops when the notebook has run
        return None, RunStatus.FINISHED
    when = f" while cell {cell.cell_id} executed" if cell else ""
    cell_id = cell.cell_id if cell else None
    return Failure(type="KernelStopped", message=f"the kernel stopped{when}", cell_id=cell_id), RunStatus.INTERRUPTED


def _after_fork() -> None:
    """A forked child owns no run: what it opens is its own."""
    global _started
    _open.clear()
    _started = None
    touched.clear()
    set_default_run(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
