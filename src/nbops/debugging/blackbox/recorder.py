"""The black box of one watch: the last bad step as it was, and snapshots to go back to."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from dataclasses import dataclass
from statistics import median
from types import FrameType
from typing import Protocol

import torch
from torch import Tensor, nn

from nbops.core.records import Diagnosis
from nbops.debugging.batch import Call, Place
from nbops.debugging.blackbox import snapshots
from nbops.debugging.blackbox.scene import Scene, scene_of
from nbops.debugging.blackbox.snapshots import Snapshot
from nbops.debugging.control.changes import Change
from nbops.debugging.findings import stopped
from nbops.debugging.tensors import unwrap
from nbops.debugging.tracks import Track
from nbops.debugging.views import StepView

MEBIBYTE = 1 << 20
START = 64 * MEBIBYTE  # of weights, which are kept as they were before the first step
_SHARE = 0.005  # of the time that snapshots may take
_RAREST, _CLOSEST = 1000, 10
_KEPT = 2
_MOST_ROLLBACKS = 3

last_incident: Incident | None = None  # for nb.replay() without a watch


@dataclass
class Incident:
    """A step that the guard refused, as it was.

    weights : parameters and buffers, None where they were too large to be kept
    scene : the user's statements from the model's call to the backward pass, None where they were not found
    """

    step: int
    view: StepView
    model: weakref.ref[nn.Module]
    call: Call | None
    weights: dict[str, Tensor] | None
    scene: Scene | None
    watch: str = ""
    cell_id: str | None = None


class Owner(Protocol):
    """What the black box needs of a session."""

    label: str
    model_name: str
    run_id: str | None
    bad_scene: Scene | None
    _backward_frame: FrameType | None
    _backward_places: tuple[Place, ...]

    @property
    def bad_call(self) -> Call | None: ...
    def optimizers(self) -> list[torch.optim.Optimizer]: ...
    def note_change(self, change: Change) -> None: ...


class Recorder:
    """Snapshots every n steps, and the last incident.

    Parameters
    ----------
    limit_bytes : int
        What all copies of weights may take; above it there are none.
    takes_snapshots : bool
        Whether snapshots are taken at all; the weights of an incident are kept in any case.
    """

    def __init__(self, *, limit_bytes: int, takes_snapshots: bool) -> None:
        self.limit_bytes = limit_bytes
        self.incident_: Incident | None = None
        self.start: dict[str, Tensor] | None = None  # parameters and buffers before the first step
        self._is_begun = False
        self.rollbacks = 0
        self.every = _CLOSEST
        self._is_on = takes_snapshots
        self._kept: deque[Snapshot] = deque(maxlen=_KEPT)
        self._next = 0
        self._costs: deque[float] = deque(maxlen=10)
        self._last_rollback = -1

    @property
    def snapshot(self) -> Snapshot | None:
        """The last good one."""
        return self._kept[-1] if self._kept else None

    def clear(self) -> None:
        """Forget the snapshots: another run begins, or the watch ends."""
        self._kept.clear()
        self._next = 0

    def wants(self, step: int) -> bool:
        """Return whether a snapshot is due before a step."""
        return self._is_on and step >= self._next

    def keep(self, owner: Owner, model: nn.Module, track: Track) -> None:
        """Take a snapshot before a step that the guard let pass; of the weights alone before the first one."""
        if not self._is_begun:
            self._is_begun, inner = True, unwrap(model)
            self.start = snapshots.copied(inner) if snapshots.size_of(inner) <= min(START, self.limit_bytes) else None
        if not self.wants(track.steps):
            return
        started = time.perf_counter()
        inner, optimizers = unwrap(model), owner.optimizers()
        size = snapshots.size_of(inner, optimizers)
        if size > self.limit_bytes:
            self._is_on = False
            return
        if size * _KEPT > self.limit_bytes:
            self._kept.clear()
        self._kept.append(snapshots.take(inner, optimizers, track.steps))
        self._costs.append(time.perf_counter() - started)
        allowed_s = _SHARE * max(track.governor.step_s, 1e-6)
        self.every = min(_RAREST, max(_CLOSEST, math.ceil(median(self._costs) / allowed_s)))
        self._next = track.steps + self.every

    def roll_back(self, owner: Owner, model: nn.Module, step: int, *, by: str = "rollback") -> str:
        """Put the last good snapshot back, or an older one if it did not help; return what was done, "" for nothing."""
        if not self._kept:
            return ""
        if len(self._kept) > 1 and self._last_rollback >= 0 and step - self._last_rollback < _CLOSEST:
            self._kept.pop()
        snapshot = self._kept[-1]
        optimizers = owner.optimizers()
        if len(optimizers) != len(snapshot.states):  # one was made meanwhile: weights and buffers only
            snapshots.write(snapshot.values, unwrap(model))
        else:
            snapshots.put_back(snapshot, unwrap(model), optimizers)
        self._last_rollback = step
        self.rollbacks += 1
        owner.note_change(Change(step, "rollback", before=step, after=snapshot.step, by=by))
        return f"weights, buffers and optimizer state are those before step {snapshot.step} again"

    def recover(self, owner: Owner, model: nn.Module, step: int, diagnosis: Diagnosis) -> None:
        """Roll back because of a finding.

        Raises
        ------
        TrainingStopped
            There is nothing to go back to, or it was done too often.
        """
        if self.rollbacks >= _MOST_ROLLBACKS or not self.roll_back(owner, model, step, by=diagnosis.name):
            raise stopped(diagnosis)

    def note(self, owner: Owner, model: nn.Module, view: StepView, *, cell_id: str | None) -> None:
        """Keep a step that was refused: weights, batch, random state, and the statements to compute it again."""
        global last_incident
        inner, call = unwrap(model), owner.bad_call
        weights = snapshots.copied(inner) if snapshots.size_of(inner) <= self.limit_bytes else None
        scene = owner.bad_scene
        if scene is None and call is not None:
            scene = scene_of(owner._backward_frame, owner._backward_places, call.places, model)
        self.incident_ = last_incident = Incident(
            view.step, view, weakref.ref(model), call, weights, scene, owner.label or owner.model_name, cell_id
        )
