"""Rules of the guard: NaN and infinity in the loss or in a gradient, judged before the step is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from nbops.core.records import Cause
from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, Origin, StepView

_FIXES = {
    "weights": "Set the layer's weights to finite values, or load the last good ones; then find what wrote them.",
    "input": "Drop or impute non-finite values when the batch is made; nb.check(data) names the columns.",
    "output": "Look at that layer's operation: log or sqrt of 0, division by 0, overflow of float16; clamp its input.",
    "between": "Look at the operations in forward() before that layer: log, sqrt, division, exp; clamp their input.",
    "gradient": "Look at that layer's backward pass: sqrt or norm at 0, 0/0 behind torch.where; add a small eps.",
    "loss": "Check targets for NaN and for values out of range; use a loss that takes logits; add eps inside log().",
    "unknown": "Run that batch again with torch.autograd.set_detect_anomaly(True).",
}


_OPS: tuple[tuple[tuple[str, ...], Callable[[bool], tuple[str, ...]]], ...] = (
    (("softmax", "logsumexp"), lambda back: ("mask-all-inf", "exploding-gradient", "exp-overflow")),
    (("layer_norm", "batch_norm", "group_norm"), lambda back: ("exploding-gradient", "lr-too-high", "half-overflow")),
    (("sqrt", "norm", "cdist", "std", "var", "dist"), lambda back: (
        ("sqrt-at-zero", "where-gradient", "division-by-zero") if back else ("domain-error", "exp-overflow"))),
    (("log1p",), lambda back: ("domain-error", "log-of-zero")),
    (("log",), lambda back: ("where-gradient", "log-of-zero") if back else ("log-of-zero", "domain-error")),
    (("exp", "sinh", "cosh"), lambda back: ("exp-overflow", "lr-too-high")),
    (("div", "reciprocal"), lambda back: (
        ("where-gradient", "sqrt-at-zero", "division-by-zero") if back else ("division-by-zero", "exp-overflow"))),
    (("acos", "asin", "atanh", "acosh", "pow"), lambda back: (
        ("where-gradient", "sqrt-at-zero") if back else ("domain-error", "half-overflow", "exp-overflow"))),
    (("mm", "linear", "conv", "add", "sum"), lambda back: ("exploding-gradient", "lr-too-high", "half-overflow")),
    (("mul", "square"), lambda back: ("half-overflow", "exploding-gradient", "lr-too-high")),
)  # fmt: skip


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
    why = "The step would have written NaN or infinity into the weights, so it was not taken: they are whole."
    yield _finding(view, what, why, measured=float(len(bad)), limit=0.0, layer=bad[-1])


def _finding(
    view: StepView, what: str, why: str, *, measured: float | None, limit: float | None = None, layer: str = "loss"
) -> Finding:
    origin = view.origin
    causes = _causes_of(origin)
    return Finding(
        layer=origin.layer if origin else layer,
        status="error",
        what=what,
        why=why,
        fix=causes[0].fix if causes else _FIXES[origin.place if origin else "unknown"],
        confidence=origin.confidence if origin else 0.5,
        measured=measured,
        limit=limit,
        causes=causes,
        code=origin.code if origin else "",
        evidence={"op": origin.op, "phase": origin.phase, "samples": list(origin.samples[:20])}
        if origin and origin.op
        else {},
    )


def _causes_of(origin: Origin | None) -> tuple[Cause, ...]:
    """Return what made the value, by the operation that the replay named."""
    if origin is None:
        return ()
    if origin.place in ("input", "weights"):
        return (
            likely("nan-in-data", "division-by-zero", first=0.9) if origin.place == "input" else likely("lr-too-high")
        )
    op = origin.op.partition(".")[2].rstrip("_")
    is_back = origin.phase == "backward"
    if origin.place == "gradient" and op and not is_back:  # made in the forward pass, and hidden from the loss
        return likely("where-gradient", "domain-error", first=0.8)
    if is_back and "where" in origin.code:
        return likely("where-gradient", "sqrt-at-zero", first=0.8)
    if is_back and any(word in origin.code for word in ("sqrt", "norm", "cdist", "std")):
        return likely("sqrt-at-zero", "where-gradient", first=0.85)
    for parts, names in _OPS:
        if any(part in op for part in parts):
            found = names(is_back)
            if is_back and op.startswith("div") and origin.inf:  # 0/0 behind torch.where gives NaN only
                found = tuple(name for name in found if name != "where-gradient")
            return likely(*found, first=0.85)
    return likely("exploding-gradient", "lr-too-high", "nan-in-data", first=0.4)


def _spell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "NaN"
    return "infinite" if value > 0 else "minus infinite"
