"""What a rule sees: plain numbers of one step, of its layers, and of the steps before. No torch here.

How the numbers are measured lives in `nbops.debugging.session` and below it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer (a module that owns parameters, or has no children) at one step; None means not measured.

    grad_norm, weight_norm : L2 over the layer's own parameters, gradient scale taken out
    update_ratio : length of the last update over the length of the weights (matrices only), before the step
    update_gain : rms of the update times the root of the fan-in: what the update alone does to a unit-variance input
    moved : whether any value with a gradient changed in the step
    is_missing : it has a gradient, and no optimizer that stepped holds it
    zero_share, dead_share : share (0 to 1) of outputs that are zero, and of units that are dead
    samples : samples (first dimension of the output) seen on sampled steps so far
    """

    name: str
    kind: str = ""
    grad_norm: float | None = None
    is_grad_finite: bool = True
    is_missing: bool = False
    weight_norm: float | None = None
    update_ratio: float | None = None
    update_gain: float | None = None
    moved: bool | None = None
    activation_mean: float | None = None
    activation_rms: float | None = None
    zero_share: float | None = None
    dead_share: float | None = None
    samples: int = 0

    def numbers(self) -> dict[str, float]:
        """Return what was measured, by name."""
        names = (
            "grad_norm", "weight_norm", "update_ratio", "update_gain",
            "activation_mean", "activation_rms", "zero_share", "dead_share",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a non-finite value was made.

    place : ``weights``, ``input``, ``output``, ``between``, ``gradient``, ``loss`` or ``unknown``
    """

    layer: str
    place: str
    detail: str
    confidence: float


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of one optimizer, just before the step is taken; `layers` in forward order.

    step : int, steps of this optimizer taken before this one (of the run, when a run is open)
    loss : last loss that the watched loss module returned since the step before, None when none is watched
    stray_steps : steps of an optimizer that holds none of the model's parameters
    skipped : evaluations of the loss since the last step of any optimizer
    is_sampled : False when only the guard looked at this step
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
    """The last completed sampled steps of one optimizer, oldest first; `sampled` counts them all."""

    def __init__(self, *, size: int = 64) -> None:
        self._views: deque[StepView] = deque(maxlen=size)
        self.sampled = 0

    def append(self, view: StepView) -> None:
        """Add a completed step."""
        self._views.append(view)
        self.sampled += 1

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

    def __iter__(self) -> Iterator[StepView]:
        return iter(tuple(self._views))

    def __len__(self) -> int:
        return len(self._views)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says. `status` is error (stops under ``on_error="stop"``), warning or hint."""

    layer: str
    status: str
    what: str
    why: str
    fix: str
    confidence: float
    measured: float | None = None
    limit: float | None = None


def norm_of(norms: Iterator[float | None]) -> float | None:
    """Return the L2 norm of a whole from the norms of its parts; None if no part is known."""
    known = [norm for norm in norms if norm is not None]
    return math.hypot(*known) if known else None
