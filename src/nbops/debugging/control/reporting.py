"""What others are told of a watch: a record of how it stands, and an event of the run for each change."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from nbops.core.errors import NbopsError
from nbops.core.ids import new_id
from nbops.core.records import replace
from nbops.core.watches import CLOSED, OPEN, PAUSED, WatchState
from nbops.debugging.control.changes import Change
from nbops.debugging.signals.tracing import Tracer
from nbops.store.context import listen_to_metrics, unlisten_to_metrics
from nbops.store.traces import FOLDER, MEDIA_TYPE, Traces, pack
from nbops.store.workspace import Workspace, is_open, workspace

_KEPT = 20  # changes in the record; the events have all


class Reporter:
    """Tells of one watch, run after run; without an open workspace, or while its store is away, nothing is told.

    Parameters
    ----------
    name, model : str
        Name of the watch, and the model's class.
    """

    def __init__(self, *, name: str, model: str) -> None:
        self.state_id: str | None = None
        self._name, self._model = name, model
        self._run_id: str | None = None

    def enter(self, run_id: str) -> None:
        """Say that from now on commands to this run are heard."""
        self._run_id = run_id
        state = WatchState(
            id=new_id(WatchState.prefix), created_at=time.time(), name=self._name, parent=run_id, model=self._model
        )
        self.state_id = state.id if _tried(lambda ws: ws.outbox.put(state)) else None

    def changed(self, change: Change, *, lr: float | None = None) -> None:
        """Tell a change to the training."""
        run_id = self._run_id
        if run_id is None:
            return
        _tried(lambda ws: ws.store.emit("watch.changed", run_id, asdict(change)))
        status = PAUSED if change.what == "pause" else OPEN if change.what in ("resume", "step", "stop") else None

        def after(state: WatchState) -> WatchState:
            note = (str(change.after or "") if status == PAUSED else "") if status else state.note
            rate = state.lr if lr is None else lr
            return replace(state, status=status or state.status, step=change.step, note=note, actor=change.by, lr=rate,
                           changes=(*state.changes, asdict(change))[-_KEPT:])  # fmt: skip

        self._update(after)

    def freed(self) -> None:
        """Say that the training waits no longer although nobody said so: it was interrupted, or ended."""
        self._update(lambda state: replace(state, status=OPEN if state.status == PAUSED else state.status, note=""))

    def _update(self, change: Callable[[WatchState], WatchState]) -> None:
        known = self.state_id
        if known is not None:
            _tried(lambda ws: ws.outbox.update(WatchState, known, change))


def report_closed(state_id: str | None) -> None:
    """Say that a watch listens no longer."""
    if state_id is not None:
        _tried(lambda ws: ws.outbox.update(WatchState, state_id, lambda one: replace(one, status=CLOSED, note="")))


def keep_traces(traces: Traces, run_id: str) -> None:
    """Store what was seen of the layers with the run, as a file."""
    name = f"{FOLDER}{traces.name}.npz"
    _tried(lambda ws: ws.save_artifact(pack(traces), name=name, media_type=MEDIA_TYPE, parent=run_id))


class Leftover:
    """What was seen of a model that is gone while its run goes on: stored when the run ends."""

    def __init__(self, traces: Tracer, *, name: str, run_id: str) -> None:
        self._traces, self._name, self._run_id = traces, name, run_id
        listen_to_metrics(self)

    def metrics_logged(self, run_id: str, metrics: dict[str, float]) -> None:
        """Do nothing."""

    def run_ending(self, run_id: str) -> None:
        """Store it, once."""
        if run_id == self._run_id:
            unlisten_to_metrics(self)
            traces = self._traces.kept(self._name)
            if traces is not None:
                keep_traces(traces, run_id)


def _tried(write: Callable[[Workspace], object]) -> bool:
    """Write to the open workspace; the training goes on where that is not possible."""
    if not is_open():
        return False
    try:
        write(workspace())
    except (NbopsError, OSError):
        return False
    return True
