"""What one optimizer has done under one watch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from nbops.core.records import Diagnosis
from nbops.debugging.aspects import OptimizerView
from nbops.debugging.governor import Governor
from nbops.debugging.guard import Tripwire, scale_in
from nbops.debugging.live.timeline import Curve
from nbops.debugging.measuring import Around, Few, Layout, Owned
from nbops.debugging.signals.clearing import Clearing
from nbops.debugging.signals.losses import Losses
from nbops.debugging.tensors import pack
from nbops.debugging.views import History, StepView

_IN_TURN = 5  # steps of both optimizers


class Track:
    """Steps, history and sampling of one optimizer; `view` and `around` are set while a sampled step is taken."""

    def __init__(self, *, every: int | None, curve: Curve) -> None:
        self.steps = 0
        self.curve = curve
        self.history = History()
        self.governor = Governor(every=every)
        self.tripwire = Tripwire()
        self.tripped: list[Diagnosis] = []  # findings of a guard that keeps firing
        self.clearing = Clearing()
        self.losses = Losses()
        self.skipped = self.skipped_in_a_row = self.empty_steps = 0
        self.stepped_at = self.stepped_before = 0  # steps of all optimizers when it stepped last, and before that
        self.made = 1  # optimizers that held the same parameters so far, this one included
        self.scale: float | None = None
        self.view: StepView | None = None
        self.around: Around | None = None
        self.owned: list[Owned] = []
        self.ids: set[int] = set()
        self.few: Few | None = None
        self.began_at = 0.0
        self._groups = -1
        self._cost_s = 0.0
        self._ended_at: float | None = None
        self._trend = _Trend()

    def refresh(self, optimizer: torch.optim.Optimizer, layout: Layout, *, always: bool) -> None:
        """Find the model's parameters that the optimizer holds, again if its groups have changed."""
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if always or count != self._groups:
            self._groups = count
            self.owned = layout.owned(optimizer)
            self.ids = {id(o.tensor) for o in self.owned}
            self.few = Few(self.owned) if self.owned else None

    def few_values(self, losses: list[torch.Tensor]) -> list[float] | None:
        """Return norms that stand for all gradients, and the losses; None where they must be taken one by one."""
        if self.few is None or not self.few.is_possible:
            return None
        scalars = [*self.few.norms(), *losses]
        return list(pack(scalars).tolist()) if scalars else None

    def loss_of(self, numbers: list[float]) -> float | None:
        """Return the loss of a step from what was read: the sum over places, else the mean, else the last."""
        if self.losses.count:
            return math.fsum(numbers) if all(map(math.isfinite, numbers)) else None
        return next((value for value in reversed(numbers) if math.isfinite(value)), None)

    def began(self, at: float, *, spent_s: float) -> None:
        """Tell that a step's judging begins; `spent_s` went to hooks since the step before."""
        if self._ended_at is not None:
            self.governor.timed(max(0.0, at - self._ended_at - spent_s))
            self._ended_at = None

    def judged(self, duration_s: float) -> None:
        """Tell what it took to judge and measure before the step."""
        self._cost_s = duration_s

    def read(self, loss: float | None, grad_norm: float) -> None:
        """Add the cheap numbers of a step; a jump of them makes the next steps be sampled more often."""
        self.history.read(self.steps, loss, grad_norm)
        if loss is not None:
            self.curve.add(self.steps, loss)
        if self._trend.jumps(loss, grad_norm):
            self.governor.stir(self.steps)

    def completed(self, view: StepView, duration_s: float) -> None:
        """Add a sampled step that was taken, and what it took to measure it afterwards."""
        self.history.append(view)
        self.governor.sampled(view.step, self._cost_s + duration_s)

    def ended(self, at: float, *, steps_of_all: int) -> None:
        """Count a step; `steps_of_all` optimizers have been taken, this one included."""
        if not self.empty_steps:  # with a gradient
            self.stepped_before, self.stepped_at = self.stepped_at, steps_of_all
        self.steps += 1
        self.skipped_in_a_row = 0
        self._ended_at = at
        self.losses.clear()

    def stepper(
        self, optimizer: torch.optim.Optimizer, layout: Layout, tracks: Iterable[tuple[torch.optim.Optimizer, Track]],
        *, steps_of_all: int,
    ) -> OptimizerView:  # fmt: skip
        """Return what is known of the optimizer, one of those in `tracks`."""
        group = optimizer.param_groups[0]
        values = sum(o.tensor.numel() for o in self.owned if o.tensor.requires_grad)
        settings = {name: kept for name, value in group.items() if (kept := _plain(value)) is not None}
        return OptimizerView(
            kind=type(optimizer).__name__, settings=settings, lrs=rates_of(optimizer), held=len(self.owned),
            foreign=self._groups - len(self.owned),
            trainable_share=values / layout.trainable_values if layout.trainable_values else None,
            skipped=self.skipped, skipped_in_a_row=self.skipped_in_a_row, scale=self.scale, made=self.made,
            twice=_twice(self.owned), steps_of_all=steps_of_all, rival=_rival_of(self, tracks),
            has_graph=any(_has_graph(o.tensor) for o in self.owned[:4]),
        )  # fmt: skip


def _rival_of(track: Track, tracks: Iterable[tuple[torch.optim.Optimizer, Track]]) -> str:
    """Return the class of another optimizer that holds what this one holds, and more, and steps in turn with it."""
    for optimizer, other in tracks:
        if other is track or not track.ids <= other.ids or min(track.steps, other.steps) < _IN_TURN:
            continue
        held = sum(len(group["params"]) for group in optimizer.param_groups)
        if held > len(track.ids) and other.stepped_before < track.stepped_at < other.stepped_at:
            return type(optimizer).__name__
    return ""


def _has_graph(p: torch.Tensor) -> bool:
    return p.grad is not None and p.grad.requires_grad


def _twice(owned: list[Owned]) -> tuple[str, ...]:
    """Return the layers of parameters that are listed twice, or share their memory with another one in the list."""
    seen: dict[tuple[int, int], int] = {}
    found = []
    for o in owned:
        place = (o.tensor.data_ptr(), o.tensor.numel())
        if place[0] and place in seen:
            found.append(o.layer)
        seen[place] = 1
    return tuple(dict.fromkeys(found))


class _Trend:
    """Running means of the cheap numbers; a value that is 4 times the mean of those before is a jump."""

    def __init__(self) -> None:
        self._means: list[float | None] = [None, None]

    def jumps(self, *values: float | None) -> bool:
        found = False
        for i, value in enumerate(values):
            if value is None or not math.isfinite(value) or value <= 0:
                continue
            mean = self._means[i]
            found = found or (mean is not None and value > 4 * mean)
            self._means[i] = value if mean is None else 0.9 * mean + 0.1 * value
        return found


def rates_of(optimizer: torch.optim.Optimizer) -> tuple[float, ...]:
    """Return the learning rate of each group."""
    return tuple(float(group.get("lr", math.nan)) for group in optimizer.param_groups)


def scale_and_rate(optimizer: torch.optim.Optimizer) -> tuple[float, float]:
    """Return the factor of the loss that is still in the gradients, and the learning rate of the first group."""
    return scale_in(optimizer), rates_of(optimizer)[0]


def _plain(value: Any) -> float | bool | tuple[float, ...] | None:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple) and value and all(isinstance(one, int | float) for one in value):
        return tuple(float(one) for one in value)
    return float(value) if isinstance(value, torch.Tensor) and value.numel() == 1 else None
