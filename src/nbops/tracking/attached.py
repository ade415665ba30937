"""Joining runs that exist: opening an ended one again, and logging into one that another process owns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nbops.core.errors import Conflict, InvalidInput, StoreError
from nbops.core.records import Failure, Run, RunStatus, replace, resumed
from nbops.store.workspace import Workspace
from nbops.tracking.lineage import resolve
from nbops.tracking.live import LiveRun

LOOK_S = 2.0
_MAX_PAST = 20


class AttachedRun(LiveRun):
    """An open run that another process owns: it logs, and leaving it does not end the run."""

    def __init__(self, workspace: Workspace, run: Run, *, on_end: Callable[[LiveRun], None]) -> None:
        super().__init__(workspace, run, on_end=on_end)
        self._has_left = False
        self._next_look = time.monotonic() + LOOK_S

    def log_metrics(self, step: int | None, metrics: dict[str, float]) -> None:
        """Log a mapping of metrics; `Conflict` once the owner has ended the run, which is asked every 2 s."""
        self._look()
        super().log_metrics(step, metrics)

    def log_series(self, name: str, steps: Any, values: Any) -> None:
        """Log many points of one metric at once; see `LiveRun.log_series`."""
        self._look()
        super().log_series(name, steps, values)

    def finish(self, status: str = RunStatus.FINISHED, *, error: BaseException | Failure | None = None) -> None:
        """Leave the run: it goes on, whatever `status` and `error` say; leaving twice changes nothing."""
        with self._lock:
            if self._has_left:
                return
            self._has_left = True
            self._workspace.forget(self.id)
            self._workspace.outbox.forget(self.id)
        self._on_end(self)

    def __enter__(self) -> LiveRun:
        self._look()
        return super().__enter__()

    def __repr__(self) -> str:
        return f"AttachedRun({self.name!r}, {self.id}, {'left' if self._has_left else self._status})"

    def _look(self) -> None:
        if self._has_left:
            raise Conflict(f"you have left run '{self.name}'", hint=f"Attach again: nb.run(attach='{self.id}').")
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            try:
                self._status = self._workspace.store.get(Run, self.id).status
            except StoreError:  # the journal takes the points whether or not the database answers
                self._next_look = now + 10 * LOOK_S


def found(workspace: Workspace, ref: str | Run | LiveRun) -> Run:
    """Return the run that `ref` means: a record, a handle, an id, or the newest of a name."""
    if isinstance(ref, str):
        return resolve(workspace, ref, kind=Run)
    if not isinstance(ref, Run | LiveRun):
        raise InvalidInput(f"a {type(ref).__name__} is no run", hint="Pass a run, its id or its name.")
    return workspace.store.get(Run, ref.id)


def joinable(workspace: Workspace, ref: str | Run | LiveRun) -> Run:
    """Return an open run to log into.

    Raises
    ------
    NotFound
        No such run.
    Conflict
        It has ended.
    """
    workspace.recover()
    record = found(workspace, ref)
    if record.status is not RunStatus.RUNNING:
        raise Conflict(f"cannot attach: run '{record.name}' is {record.status}",
                       hint=f"Open it again with nb.run(resume='{record.id}').")  # fmt: skip
    workspace.outbox.keep(record)
    return record


def reopen(
    workspace: Workspace, ref: str | Run | LiveRun, *, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Run:
    """Open an ended run again and own it; how it had ended stays in ``context["interruptions"]``.

    Raises
    ------
    NotFound
        No such run.
    Conflict
        It is still open.
    """
    workspace.flush()
    workspace.recover()
    owner, record = workspace.owner, found(workspace, ref)
    at = max(time.time(), record.ended_at or 0.0)

    def opened(run: Run) -> Run:
        if run.status is RunStatus.RUNNING:
            hint = f"Log into it with nb.run(attach='{run.id}'), or end it there first."
            raise Conflict(f"cannot resume: run '{run.name}' is still open in {run.owner}", hint=hint)
        past: dict[str, Any] = {"at": run.ended_at, "status": run.status.value}
        if run.error is not None:
            past |= {"type": run.error.type, "message": run.error.message, "cell_id": run.error.cell_id}
        context = {**run.context, "interruptions": [*run.context.get("interruptions", [])[-_MAX_PAST:], past]}
        return replace(
            resumed(run, at=at), status=RunStatus.RUNNING, ended_at=None, error=None, owner=owner, context=context,
            params={**run.params, **params}, tags={**run.tags, **tags},
        )  # fmt: skip

    again = workspace.store.update(Run, record.id, opened, event="run.resumed")
    workspace.outbox.keep(again)
    return again
