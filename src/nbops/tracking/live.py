"""The handle of an open run: it logs, and it ends in exactly one way."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from nbops.core.display import Shown
from nbops.core.errors import Conflict, InvalidInput, StopAsked, StoreUnavailable
from nbops.core.protocols import Recorded
from nbops.core.records import Artifact, Dataset, Failure, Link, Run, RunStatus, replace
from nbops.store.context import RunBlock, current_cell, enter_run, leave_run, metric_listeners
from nbops.store.workspace import Workspace
from nbops.tracking.artifacts import contents
from nbops.tracking.capture import following
from nbops.tracking.failures import failure_of
from nbops.tracking.redaction import redact


class LiveRun(Shown):
    """An open run. Use it as a context manager, or call `finish`.

    Attributes
    ----------
    id, name : str
        As stored.
    record : Run
        The stored record as it is now, with params, tags and metric summaries.
    """

    def __init__(self, workspace: Workspace, run: Run, *, on_end: Callable[[LiveRun], None]) -> None:
        self.id = run.id
        self.name = run.name
        self.cell_id = run.cell_id
        self.opened_in = current_cell()  # this execution of the cell, not just its id
        self._workspace = workspace
        self._on_end = on_end
        self._status = run.status
        self._lock = threading.Lock()
        self._block: RunBlock | None = None
        self._process = os.getpid()
        self._owner = run.owner
        self._opened_at, self._opened_clock_s = time.time(), time.monotonic()

    @property
    def record(self) -> Run:
        """The stored record, read afresh; while the store cannot be reached, what this process knows of it."""
        try:
            if not self._workspace.outbox.is_behind:
                self._workspace.flush()
                return self._workspace.store.get(Run, self.id)
        except StoreUnavailable as error:
            self._workspace.outbox.fall_behind(error)
        known = self._workspace.outbox.known(self.id)
        return known if isinstance(known, Run) else self._workspace.store.get(Run, self.id)

    @property
    def status(self) -> RunStatus:
        """State as this handle knows it."""
        return self._status

    @property
    def is_entered(self) -> bool:
        """Whether a ``with`` block of this run is open."""
        return self._block is not None

    @property
    def params(self) -> dict[str, Any]:
        """Parameters as stored."""
        return self.record.params

    def log(self, step: int | None = None, /, **metrics: float) -> None:
        """Log one value per metric; without `step` each metric counts up by itself.

        Safe against ``kill -9`` when it returns. NaN and infinities are kept as they are.
        """
        self.log_metrics(step, metrics)

    def log_metrics(self, step: int | None, metrics: dict[str, float]) -> None:
        """Log a mapping of metrics, whatever their names; see `log`."""
        if self._status is not RunStatus.RUNNING:
            raise self._ended("log")
        if step is None and "step" in metrics:
            step = metrics.pop("step")  # type: ignore[assignment]
        if metrics:
            self._workspace.log(self.id, step, metrics)
            for listener in metric_listeners and tuple(metric_listeners):
                listener.metrics_logged(self.id, metrics)

    def log_series(self, name: str, steps: Sequence[int] | Any, values: Sequence[float] | Any) -> None:
        """Log many points of one metric at once.

        Parameters
        ----------
        name : str
            The metric.
        steps : array_like, int64 [n], or None
            Steps; None counts up from where the metric stands.
        values : array_like, float64 [n]
        """
        import numpy as np

        from nbops.store.points import Columns

        if self._status is not RunStatus.RUNNING:
            raise self._ended("log")
        try:
            data = np.ascontiguousarray(values, dtype="<f8")
            at = None if steps is None else np.asarray(steps)
            whole = None if at is None else np.ascontiguousarray(at, dtype="<i8")
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"series '{name}' holds what is no number: {error}", hint="Pass arrays.") from error
        fits = whole is None or (whole.shape == data.shape and np.array_equal(whole, np.asarray(at)))
        if data.ndim != 1 or not fits:
            raise InvalidInput(
                f"series '{name}' got steps {np.shape(at) if at is not None else 'None'} and values {data.shape}",
                hint="Pass two one-dimensional arrays of equal length, steps whole numbers.",
            )
        if whole is None:
            self._workspace.log_counted(self.id, name, data.view(np.uint8).data)
        else:
            times = np.full(len(data), time.time_ns() // 1_000_000, dtype="<i8")
            self._workspace.log_arrays(Columns(whole, times, data).to_points(self.id, name))

    def log_params(self, **params: Any) -> None:
        """Add parameters; a later value replaces an earlier one."""
        clean = redact(params)
        self._change(lambda run: replace(run, params={**run.params, **clean}))

    def set_tags(self, **tags: str) -> None:
        """Add tags; a later value replaces an earlier one."""
        clean = {key: str(value) for key, value in redact(tags).items()}
        self._change(lambda run: replace(run, tags={**run.tags, **clean}))

    def log_artifact(self, item: Any, *, name: str | None = None) -> Artifact:
        """Store a file, a folder's files, bytes, JSON-able data or a figure with the run.

        Returns the artifact (of a folder: its last file).
        """
        stored = None
        for file_name, data in contents(item, name=name):
            stored = self._workspace.save_artifact(data, name=file_name, parent=self.id)
        if stored is None:
            raise InvalidInput(f"the folder {item} holds no file", hint="Log it when it has content.")
        return stored

    def use(self, dataset: Recorded | str) -> None:
        """Link a dataset (its record, id, ``name`` or ``name/version``) or a split as an input of this run."""
        used = Link(source=self.found(dataset).id, relation="used_by", target=self.id)
        self._workspace.outbox.put(links=[used])

    def found(self, dataset: Recorded | str) -> Recorded:
        """Return a dataset by its id, ``name`` or ``name/version``; what has an id itself is returned as it is."""
        from nbops.tracking.lineage import resolve

        return resolve(self._workspace, dataset, kind=Dataset) if isinstance(dataset, str) else dataset

    def finish(self, status: str = RunStatus.FINISHED, *, error: BaseException | Failure | None = None) -> None:
        """End the run; ending it twice changes nothing, and a forked child does not end its parent's run."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._status is not RunStatus.RUNNING:
                return
            ended = RunStatus(status)
            failure = failure_of(error) if isinstance(error, BaseException) else error
            for listener in tuple(metric_listeners):
                listener.run_ending(self.id)
            more = following.run_ending(self._workspace, self.id)
            self._workspace.forget(self.id)
            at = self._now()

            def closed(run: Run) -> Run:
                if run.owner != self._owner:  # resumed elsewhere, where we were taken for dead: no longer ours to end
                    return run
                context = following.joined(run.context, more)
                ended_at = max(at, run.created_at, *run.resumes)
                return replace(run, status=ended, ended_at=ended_at, error=failure, context=context)

            self._change(closed, event=f"run.{ended.lower()}", only_if={"owner": self._owner})
            following.run_ended(self._workspace, self.id)
            self._status = ended
        self._on_end(self)

    def __enter__(self) -> LiveRun:
        if self._status is not RunStatus.RUNNING:
            raise self._ended("enter")
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_name == "__enter__":  # of a class that adds to this one
            frame = frame.f_back
        self._block = enter_run(self.id, frame=frame)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block is not None:
            leave_run(self._block)
            self._block = None
        status = status_of(error)
        self.finish(status, error=None if status is RunStatus.FINISHED else error)

    def __repr__(self) -> str:
        return f"LiveRun({self.name!r}, {self.id}, {self._status})"

    def _change(
        self, change: Callable[[Run], Run], *, event: str = "", only_if: Mapping[str, Any] | None = None
    ) -> None:
        self._workspace.outbox.update(Run, self.id, change, event=event, only_if=only_if)

    def _now(self) -> float:
        """Return the time, seconds; by the clock that is never set where the other was set back since the start."""
        now = time.time()
        return now if now >= self._opened_at else self._opened_at + time.monotonic() - self._opened_clock_s

    def _ended(self, verb: str) -> Conflict:
        return Conflict(f"cannot {verb}: run '{self.name}' is {self._status}", hint="Open a new one with nb.run().")


def status_of(error: BaseException | None) -> RunStatus:
    """Return how a block ended that raised `error` (None: it did not).

    A cancelled task was interrupted, and so was a training that somebody stopped; a generator whose caller wants no
    more of it has finished.
    """
    if error is None or isinstance(error, GeneratorExit):
        return RunStatus.FINISHED
    is_cancelled = type(error).__name__ == "CancelledError" and not isinstance(error, Exception)  # asyncio's
    if isinstance(error, KeyboardInterrupt | StopAsked) or is_cancelled:
        return RunStatus.INTERRUPTED
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return RunStatus.FINISHED
    return RunStatus.FAILED


def named(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters or tags as they may be stored."""
    return redact(values or {})
