"""What a rule sees: plain numbers of one step, of its layers, and of the steps before. No torch here.

How the numbers are measured lives in `nbops.debugging.session` and below it; what a step says
beside its layers (batch, optimizer, time …) in `nbops.debugging.aspects`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nbops.core.records import Cause
from nbops.debugging.aspects import (
    BatchView,
    EvaluationView,
    MetricView,
    ModelView,
    OptimizerView,
    RankView,
    TimingView,
)  # fmt: skip

_NUMBERS = (
    "grad_norm", "grad_rms", "grad_absmax", "weight_norm", "weight_rms", "weight_absmax", "update_ratio", "update_gain",
    "activation_mean", "activation_rms", "activation_absmax", "zero_share", "dead_share", "constant_share",
    "saturated_share", "symmetric_share",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer (a module that owns parameters, or has no children) at one step; None means not measured.

    kind, sizes : class of the module; shape of its output
    grad_norm, weight_norm : L2 over the layer's own parameters, gradient scale taken out
    grad_rms, weight_rms : the same over the root of the number of values
    grad_absmax, weight_absmax : largest absolute value of them
    update_ratio : length of the last update over the length of the weights (matrices only), before the step
    update_gain : rms of the update times the root of the fan-in: what the update alone does to a unit-variance input
    moved : whether any value with a gradient changed in the step
    is_missing : it has a gradient, and no optimizer that stepped holds it
    activation_mean, activation_rms, activation_absmax : of its output
    zero_share, dead_share : share (0 to 1) of outputs that are zero, and of units that are dead
    constant_share : share of units (channels of a convolution) whose output is the same over the whole batch, for a
        batch of two samples or more
    saturated_share : sigmoid and tanh modules: share of inputs where the slope is below 1 % of its maximum
        (beyond 6 and beyond 3)
    symmetric_share : share of rows of a weight's gradient that equal an earlier row and are not zero, of 32 rows: units
        that learn the same thing
    samples : samples (first dimension of the output) seen on sampled steps so far
    calls : forward calls since the last step
    is_training : mode of the module in its last call
    moved_share : share of its values with a gradient that the step changed, of those looked at
    is_held : whether the optimizer that steps holds one of its parameters
    trainable_share : share of its values that require a gradient
    is_low_precision : whether one of its parameters has 16 bits or fewer
    silent : its parameters without a gradient that the optimizer holds, where others of the layer have one
    tied_with : other layers that share one of its parameters
    """

    name: str
    kind: str = ""
    sizes: tuple[int, ...] = ()
    grad_norm: float | None = None
    grad_rms: float | None = None
    grad_absmax: float | None = None
    is_grad_finite: bool = True
    is_missing: bool = False
    weight_norm: float | None = None
    weight_rms: float | None = None
    weight_absmax: float | None = None
    update_ratio: float | None = None
    update_gain: float | None = None
    moved: bool | None = None
    moved_share: float | None = None
    is_held: bool = False
    activation_mean: float | None = None
    activation_rms: float | None = None
    activation_absmax: float | None = None
    zero_share: float | None = None
    dead_share: float | None = None
    constant_share: float | None = None
    saturated_share: float | None = None
    symmetric_share: float | None = None
    samples: int = 0
    calls: int = 0
    is_training: bool | None = None
    trainable_share: float | None = None
    is_low_precision: bool = False
    silent: tuple[str, ...] = ()
    tied_with: tuple[str, ...] = ()

    def numbers(self) -> dict[str, float]:
        """Return what was measured, by name."""
        values = {name: getattr(self, name) for name in _NUMBERS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Histogram:
    """How the absolute values of a tensor spread over powers of two. Nothing is dropped.

    counts : of the 64 bins [2^e, 2^(e+1)) with e from -40 to 23; smaller and larger values are in the outer bins
    zero, nan, inf : counts of zeros, NaN and infinities
    negative : how many values are below 0
    size : values of the tensor; `counts` are of at most 262,144 evenly spaced ones
    """

    layer: str
    what: str  # weight, gradient, activation
    step: int
    counts: tuple[int, ...]
    zero: int = 0
    nan: int = 0
    inf: int = 0
    negative: int = 0
    size: int = 0

    LOWEST = -40

    @property
    def total(self) -> int:
        """Number of values that were counted."""
        return sum(self.counts) + self.zero + self.nan + self.inf

    def share_below(self, limit: float) -> float:
        """Return the share of finite values, zeros included, whose bin lies below `limit` (an absolute value)."""
        finite = sum(self.counts) + self.zero
        last = math.floor(math.log2(limit)) - self.LOWEST if limit > 0 else 0
        return (self.zero + sum(self.counts[: max(0, last)])) / finite if finite else 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a non-finite value was made.

    place : ``weights``, ``input``, ``output``, ``between``, ``gradient``, ``loss`` or ``unknown``
    nan, inf : how many values were NaN and infinite there, where they were counted
    op, code, phase, samples : what computing the step again gave: the operation that made the first non-finite
        value, the line that called it, ``forward``, ``loss`` or ``backward``, samples of the batch; empty if it was not
    """

    layer: str
    place: str
    detail: str
    confidence: float
    nan: int = 0
    inf: int = 0
    op: str = ""
    code: str = ""
    phase: str = ""
    samples: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of one optimizer, just before the step is taken; `layers` in forward order.

    Between steps a view is judged too when an evaluation or a logged metric calls for it (`moment`); it has no layers.

    step : int, steps of this optimizer taken before this one (of the run, when a run is open)
    moment : ``step``, ``evaluation``, ``metric`` or ``backward``: what the view was made for
    loss : what the step minimises: sum of the losses whose ``backward()`` reached this optimizer's parameters since its
        gradients were cleared, loss scale taken out; else the mean of what the watched loss module returned; None when
        neither is seen
    losses : the same one by one, by the place of the ``backward()`` call: ``train.py:12`` or ``cell abc:3``
    stray_steps : steps of an optimizer that holds none of the model's parameters
    skipped : evaluations of the loss since the last step of any optimizer
    is_sampled : False when only the guard looked at this step
    backwards, forwards : backward passes that reached this optimizer's parameters, and forward calls of the model with
        gradients, since the step before
    is_cleared : whether the gradients of the step before were gone (None, or written to) before a backward pass added
        to them; None when it cannot be known (first step, no backward pass seen)
    uncleared_steps : for how many steps in a row, this one included, they were not
    empty_steps : for how many steps in a row the optimizer found no gradient at all
    passes, lost_passes : backward passes since the step before, and those that reached no parameter of the model
    thrown_away : gradients that were cleared before any step used them, since the step before
    thrown_before : the same between the two steps before
    optimizers : how many optimizers have stepped so far
    empty_loader : how many rows a data set has whose loader gave no batch at all; None if there is none
    failure : message of the error that a backward pass ended with
    seedings : times that a random state was seeded anew since the step before
    batch, stepper, model, evaluation, metrics, timing, ranks : see `nbops.debugging.aspects`
    """

    step: int
    layers: dict[str, LayerView] = field(default_factory=dict)
    loss: float | None = None
    origin: Origin | None = None
    optimizer: str = ""
    lr: tuple[float, ...] = ()
    stray_steps: int = 0
    skipped: int = 0
    is_sampled: bool = True
    moment: str = "step"
    losses: dict[str, float] = field(default_factory=dict)
    backwards: int = 0
    forwards: int = 0
    is_cleared: bool | None = None
    uncleared_steps: int = 0
    empty_steps: int = 0
    passes: int = 0
    lost_passes: int = 0
    thrown_away: int = 0
    thrown_before: int = 0
    optimizers: int = 1
    seedings: int = 0
    empty_loader: int | None = None
    failure: str = ""
    batch: BatchView | None = None
    stepper: OptimizerView | None = None
    model: ModelView | None = None
    evaluation: EvaluationView | None = None
    metrics: dict[str, MetricView] = field(default_factory=dict)
    timing: TimingView | None = None
    ranks: RankView | None = None

    @property
    def grad_norm(self) -> float | None:
        """L2 norm of all measured gradients."""
        return norm_of(layer.grad_norm for layer in self.layers.values())

    @property
    def update_ratio(self) -> float | None:
        """Largest update ratio of all layers."""
        return max((v.update_ratio for v in self.layers.values() if v.update_ratio is not None), default=None)

    @property
    def is_loss_finite(self) -> bool:
        """False only for a loss that is known and is NaN or infinite."""
        return self.loss is None or math.isfinite(self.loss)


class History:
    """The last completed sampled steps of one optimizer, oldest first; `sampled` counts them all.

    start : the losses of the first ten steps
    curve : the last 1,000 steps at which the cheap numbers were read, as ``(step, loss, grad_norm)``: every step on the
        CPU, sampled ones on a GPU; a number that is not known is NaN
    """

    def __init__(self, *, size: int = 64) -> None:
        self._views: deque[StepView] = deque(maxlen=size)
        self.sampled = 0
        self.start: list[float] = []
        self.first: StepView | None = None
        self.curve: deque[tuple[int, float, float]] = deque(maxlen=1000)

    def append(self, view: StepView) -> None:
        """Add a completed step."""
        self._views.append(view)
        self.first = self.first or view
        self.sampled += 1

    def read(self, step: int, loss: float | None, grad_norm: float) -> None:
        """Add the cheap numbers of a step."""
        if loss is not None and len(self.start) < 10:
            self.start.append(loss)
        self.curve.append((step, math.nan if loss is None else loss, grad_norm))

    def recent(self, count: int) -> list[StepView]:
        """Return the last `count` views, oldest first; fewer when there are fewer."""
        return list(self._views)[-count:]

    def streak(self, holds: Callable[[StepView], bool]) -> int:
        """Return for how many of the latest views in a row `holds` is true."""
        count = 0
        for view in reversed(self._views):
            if not holds(view):
                break
            count += 1
        return count

    def losses(self, count: int = 1000) -> list[float]:
        """Return the finite losses of the last `count` steps of `curve`, oldest first."""
        return [loss for _, loss, _ in list(self.curve)[-count:] if math.isfinite(loss)]

    def __iter__(self) -> Iterator[StepView]:
        return iter(tuple(self._views))

    def __len__(self) -> int:
        return len(self._views)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says. `status` is error (stops under ``on_error="stop"``), warning or hint; likeliest cause first."""

    layer: str
    status: str
    what: str
    why: str
    fix: str
    confidence: float
    measured: float | None = None
    limit: float | None = None
    causes: tuple[Cause, ...] = ()
    expected: str = ""
    got: str = ""
    code: str = ""
    line: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def norm_of(norms: Iterator[float | None]) -> float | None:
    """Return the L2 norm of a whole from the norms of its parts; None if no part is known."""
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known else None
