"""Rules of the guard: NaN and infinity in the loss or in a gradient, judged before the step is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

_FIXES = {
    "weights": "Set the layer's weights to finite values, or load the last good ones; then find what wrote them.",
    "input": "Drop or impute non-finite values when the batch is made; nb.check(data) names the columns.",
    "output": "Look at that layer's operation: log or sqrt of 0, division by 0, overflow of float16; clamp its input.",
    "between": "Look at the operations in forward() before that layer: log, sqrt, division, exp; clamp their input.",
    "gradient": "Look at that layer's backward pass: sqrt or norm at 0, 0/0 behind torch.where; add a small eps.",
    "loss": "Check targets for NaN and for values out of range; use a loss that takes logits; add eps inside log().",
    "unknown": "Run that batch again with torch.autograd.set_detect_anomaly(True).",
}


@rules.register("non-finite-loss")
def non_finite_loss(view: StepView, history: History) -> Iterator[Finding]:
    """Find a loss that is NaN or infinite.

    What it measures
        The value that the watched loss module returned, on every step.
    Why it matters
        Every gradient behind it is non-finite, so one step would destroy every weight.
    When it is wrong
        Never about the fact. The layer named may be wrong where a layer gives infinities on purpose
        (masks made of -inf inside a module).
    Fix
        Depends on where the value was made: the batch, a layer's operation, or the loss.
    References
        SageMaker Debugger, rule ExplodingTensor; DeepDiagnosis, symptom "numerical error".
    """
    if view.is_loss_finite:
        return
    where = view.origin.detail if view.origin else "its origin could not be located"
    what = f"the loss is {_spell(view.loss)}: {where}"
    if view.skipped:
        what += f"; {view.skipped} losses came without a step of the optimizer, so a gradient scaler may skip them all"
    yield _finding(view, what, "A step with this loss would make every weight non-finite.", measured=view.loss)


@rules.register("non-finite-gradient")
def non_finite_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that hold NaN or infinity while the loss is finite or not watched.

    What it measures
        Norms of all gradients that the optimizer is about to use, on every step.
    Why it matters
        The step would write the value into the weights, and from there into every later output.
    When it is wrong
        Never about the fact. Steps that a gradient scaler skips are not judged. After ``clip_grad_norm_`` one
        NaN has spread to all gradients, so the layer is less sure.
    Fix
        Depends on where the value was made: the batch, the forward pass, or one layer's backward pass.
    References
        SageMaker Debugger, rule ExplodingTensor.
    """
    bad = [layer.name for layer in view.layers.values() if not layer.is_grad_finite]
    if not bad or not view.is_loss_finite:
        return
    where = view.origin.detail if view.origin else f"first in layer '{bad[-1]}'"
    what = f"the gradient of {len(bad)} of {len(view.layers)} layers is non-finite: {where}"
    why = "The step would write NaN or infinity into the weights."
    yield _finding(view, what, why, measured=float(len(bad)), limit=0.0, layer=bad[-1])


def _finding(
    view: StepView, what: str, why: str, *, measured: float | None, limit: float | None = None, layer: str = "loss"
) -> Finding:
    origin = view.origin
    return Finding(
        layer=origin.layer if origin else layer,
        status="error",
        what=what,
        why=why,
        fix=_FIXES[origin.place if origin else "unknown"],
        confidence=origin.confidence if origin else 0.5,
        measured=measured,
        limit=limit,
    )


def _spell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "NaN"
    return "infinite" if value > 0 else "minus infinite"
