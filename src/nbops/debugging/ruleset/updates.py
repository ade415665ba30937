"""Rules about what the optimizer's step does to the weights: nothing, or far too much."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, LayerView, StepView

STILL_STEPS = 5  # sampled steps in a row without any change
STRAY_STEPS = 10  # steps of foreign optimizers only, before the model counts as forgotten
MISSING_AFTER = 15  # steps to wait for a second optimizer
RATIO_ONCE, GAIN_ONCE = 10.0, 2.0  # 10: WeightUpdateRatio of SageMaker Debugger
RATIO_AGAIN, GAIN_AGAIN, TIMES_AGAIN = 1.0, 1.0, 3


@rules.register("no-update")
def no_update(view: StepView, history: History) -> Iterator[Finding]:
    """Find weights that training cannot change.

    What it measures
        Up to 4,096 values of each tensor before and after the step; which tensors have a gradient but lie in no
        optimizer that steps; optimizers that hold none of the model's parameters.
    Why it matters
        The loop runs and the loss moves a little, but (a part of) the model learns nothing.
    When it is wrong
        A part that is left out of the optimizer on purpose without ``requires_grad_(False)``; a learning-rate
        warm-up that stays at 0 for five steps or more.
    Fix
        A learning rate above 0, an optimizer built from this model's parameters, or freezing what is meant to rest.
    References
        SageMaker Debugger, rule UnchangedTensor; TrainCheck, invariant "parameters change after step".
    """
    if view.stray_steps >= STRAY_STEPS:
        yield Finding(
            layer="optimizer", status="error", measured=float(view.stray_steps), limit=0.0, confidence=0.9,
            causes=likely("optimizer-of-other-parameters", first=0.9),
            what=f"{view.optimizer} took {view.stray_steps} steps but holds none of the model's parameters",
            why="The optimizer was built from another model object, often one of an earlier execution of the cell.",
            fix="Build the optimizer again from model.parameters() after building the model.",
        )  # fmt: skip
        return
    still = history.streak(_stands_still)
    is_zero, from_start = not any(view.lr), still == history.sampled
    if still >= STILL_STEPS and (is_zero or from_start):  # a converged model may come to rest, at any rate
        rates = ", ".join(f"{rate:g}" for rate in view.lr)
        yield Finding(
            layer="optimizer" if is_zero else "(all)", status="error" if from_start else "warning",
            measured=0.0, limit=0.0, confidence=0.98 if is_zero else 0.85,
            causes=likely(*(("scheduler-not-stepped", "scheduler-misread", "lr-too-low") if is_zero else (
                "updates-below-precision", "lr-too-low")), first=0.7),
            what=f"no weight changed in {STILL_STEPS} steps although gradients are not zero (learning rate {rates})",
            why="The learning rate is 0." if is_zero else "The updates are too small for the weights' precision, or "
            "the optimizer does not apply them.",
            fix="Set a learning rate above 0; look at the scheduler." if is_zero else "Raise the learning rate, or "
            "keep the weights in float32.",
        )  # fmt: skip
    if view.step >= MISSING_AFTER:
        for layer in view.layers.values():
            if layer.is_missing:
                yield Finding(
                    layer=layer.name, status="warning", measured=layer.grad_norm, limit=0.0, confidence=0.7,
                    causes=likely("parameters-not-in-optimizer", "optimizer-of-other-parameters", first=0.85),
                    what=f"layer '{layer.name}' gets gradients, but no optimizer that steps holds its parameters",
                    why="It was added or replaced after the optimizer was built, or was not passed to it.",
                    fix="Build the optimizer after the last change of the model, from all its parameters; or call "
                    "requires_grad_(False) on the layer if it is meant to rest.",
                )  # fmt: skip


@rules.register("exploding-update-ratio")
def exploding_update_ratio(view: StepView, history: History) -> Iterator[Finding]:
    """Find steps that are longer than the weights they change.

    What it measures
        For each weight matrix: length of the update over length of the weights, and the rms of the update times the
        root of the fan-in. It fires on a ratio above 10 (gain above 2) once in the last five sampled steps, or above 1
        (gain above 1) three times, if the loss is not known to have fallen since the first step.
    Why it matters
        One step overwrites what was learned; next come infinities, dead units or a flat loss.
    When it is wrong
        Very small initial weights under an adaptive optimizer, before the loss is seen to fall.
    Fix
        A learning rate ten times smaller, a warm-up, or gradient clipping.
    References
        SageMaker Debugger, rule WeightUpdateRatio (large 10.0); typical healthy ratios lie near 1e-3.
    """
    if history.sampled < 3 or _has_improved(view, history):
        return
    recent = history.recent(5)
    if not any(_explodes([v.layers[name] for v in recent if name in v.layers]) for name in view.layers):
        return
    # The first layer to be too fast is named, so that what follows from it is no second finding.
    step, ratio, name = min(
        (v.step, -(layer.update_ratio or 0.0), name)
        for v in history
        for name, layer in v.layers.items()
        if _is_above(layer, RATIO_AGAIN, GAIN_AGAIN)
    )
    ratio = -ratio
    rates = ", ".join(f"{rate:g}" for rate in view.lr)
    causes = likely(*_why_fast(view), first=0.75)
    yield Finding(
        layer=name, status="error", measured=ratio, limit=RATIO_AGAIN, confidence=0.85, causes=causes,
        what=f"the update of '{name}' at step {step} was {ratio:.3g} times as long as its weights "
        f"(learning rate {rates})",
        why="The learning rate is too large for the gradients, so each step overwrites the weights.",
        fix="Divide the learning rate by 10 or more, warm it up, or clip with torch.nn.utils.clip_grad_norm_.",
    )  # fmt: skip


def _why_fast(view: StepView) -> tuple[str, ...]:
    """Return what may make the steps too long, likeliest first."""
    batch = view.batch
    if view.backwards > 3:
        return ("accumulation-not-scaled", "lr-too-high", "exploding-gradient")
    if (
        batch is not None
        and batch.inputs is not None
        and not batch.inputs.is_integer
        and (max(abs(batch.inputs.max or 0.0), abs(batch.inputs.min or 0.0)) > 50)
    ):
        return ("inputs-not-scaled", "lr-too-high", "inputs-corrupted")
    if (
        batch is not None
        and batch.loss_name.endswith("_loss")
        and batch.targets is not None
        and (
            abs(batch.targets.mean or 0.0) + (batch.targets.std or 0.0) > 20 and batch.targets.dtype.startswith("float")
        )
    ):
        return ("targets-not-scaled", "lr-too-high", "exploding-gradient")
    return ("lr-too-high", "loss-reduction-sum", "exploding-gradient")


def _stands_still(view: StepView) -> bool:
    moved = [layer.moved for layer in view.layers.values() if layer.moved is not None]
    return bool(moved) and not any(moved)


def _explodes(layers: list[LayerView]) -> bool:
    again = [layer for layer in layers if _is_above(layer, RATIO_AGAIN, GAIN_AGAIN)]
    return len(again) >= TIMES_AGAIN or any(_is_above(layer, RATIO_ONCE, GAIN_ONCE) for layer in again)


def _is_above(layer: LayerView, ratio: float, gain: float) -> bool:
    return (layer.update_ratio or 0.0) > ratio and (layer.update_gain or 0.0) > gain


def _has_improved(view: StepView, history: History) -> bool:
    first = next((v.loss for v in history if v.loss is not None), None)
    return first is not None and view.loss is not None and math.isfinite(view.loss) and view.loss < first
