"""Rules about the course of the loss: flat, growing, swinging, good in training only; and what they share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from nbops.core.records import Cause
from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, LayerView, StepView

FLAT_STEPS, FLAT_SAMPLES = 150, 1000
FLAT_SHARE = 0.03  # by which the loss must have fallen
GROWTH = 3.0
OVERFIT_RATIO = 2.0
SMALL_UPDATE = 3e-5  # of the weights, per step
_SUPERVISED = ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss",
               "l1_loss", "smooth_l1_loss", "huber_loss")  # fmt: skip
_POSITIVE = ("cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
REGRESSIONS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


@dataclass(frozen=True)
class Trend:
    """The loss so far: median of the first ten steps and of the last twenty, the smallest such median, its spread."""

    steps: int
    first: float
    last: float
    best: float
    noise: float

    @property
    def fall(self) -> float:
        """Share of the first loss by which it has fallen; negative where it rose."""
        return (self.first - self.last) / max(abs(self.first), 1e-12)


def trend(history: History) -> Trend | None:
    """Return the trend of the loss, None before 30 steps with a loss."""
    losses = history.losses()
    if len(history.start) < 10 or len(losses) < 30:
        return None
    first = statistics.median(history.start)
    medians = [statistics.median(losses[i : i + 20]) for i in range(0, len(losses) - 19, 20)]
    last = losses[-20:]
    return Trend(history.curve[-1][0] + 1, first, statistics.median(last), min(medians), statistics.pstdev(last))


def is_supervised(view: StepView) -> bool:
    """Return whether one loss function of a target is minimised by one optimizer: no adversary, no policy."""
    if view.optimizers > 1 or view.batch is None or view.batch.loss_name not in _SUPERVISED:
        return False
    return view.loss is None or view.loss >= 0


def is_learning(history: History, *, by: float = 0.3) -> bool:
    """Return whether the loss is known to have fallen by a share of its first value."""
    found = trend(history)
    return found is not None and found.fall >= by


def warming_up(history: History) -> bool:
    """Return whether the learning rate is still rising."""
    recent = history.recent(4)
    return len(recent) > 1 and max(recent[-1].lr, default=0.0) > 1.01 * max(recent[0].lr, default=0.0)


def mean_of(views: list[StepView], layer: str, field: str) -> float | None:
    """Return the mean of a number of one layer over some steps, None where it was never measured."""
    values = [getattr(v.layers[layer], field) for v in views if layer in v.layers]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def suspects(view: StepView, history: History) -> tuple[str, ...]:
    """Return what batch and steps give away as a cause of units that died or gradients that are gone."""
    found, batch = ["model-too-small"] * _has_bottleneck(view), view.batch
    inputs = batch.inputs if batch is not None else None
    if inputs is not None and not inputs.is_integer and max(abs(inputs.max or 0.0), abs(inputs.min or 0.0)) > 50:
        found.append("inputs-not-scaled")
    if view.backwards > 3:
        found.append("accumulation-not-scaled")
    if any((one.update_ratio or 0.0) > 0.1 for v in history for one in v.layers.values()):
        found.append("lr-too-high")
    return tuple(found)


def _has_bottleneck(view: StepView) -> bool:
    """Return whether all that a later layer sees passes through one unit and its activation."""
    layers = list(view.layers.values())
    return any(
        one.kind == "Linear" and len(one.sizes) == 2 and one.sizes[1] == 1 and after.sizes == one.sizes
        and after.kind != "Linear" and any(rest.kind == "Linear" for rest in layers[i + 2 :])
        for i, (one, after) in enumerate(pairwise(layers))
    )  # fmt: skip


def matrices(view: StepView) -> list[LayerView]:
    """Return the layers with weights that learn, in forward order; normalisations and biases alone are left out."""
    return [one for one in view.layers.values() if one.update_ratio is not None or (one.grad_rms is not None
            and one.kind not in ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm"))]  # fmt: skip


@rules.register("loss-not-falling")
def loss_not_falling(view: StepView, history: History) -> Iterator[Finding]:
    """Find supervised trainings whose loss stays where it began.

    What it measures
        The median loss of the last twenty steps beside that of the first ten, after 150 steps and 1,000 targets of a
        loss function of torch, and whether the spread of the losses could hide a fall.
    Why it matters
        Nothing is learned, whatever else looks right.
    When it is wrong
        Tasks that stay at one level for long before they fall; a warm-up of the learning rate is waited for.
    Fix
        By cause: a higher rate where updates are tiny, inputs that are scaled, labels that belong to their inputs.
    References
        SageMaker Debugger, rule LossNotDecreasing; DeepDiagnosis, "loss not decreasing".
    """
    found = trend(history)
    if found is None or found.steps < FLAT_STEPS or not is_supervised(view) or warming_up(history):
        return
    targets = view.batch.targets if view.batch is not None else None
    if targets is not None and found.steps * max(targets.sizes, default=1) < FLAT_SAMPLES:
        return
    if found.fall >= FLAT_SHARE or found.best < (1 - FLAT_SHARE) * found.first or found.last < 1e-3:
        return
    if found.first - found.last > 2 * found.noise / math.sqrt(20):
        return  # it falls slowly, but it does
    causes = _why_flat(view, history)
    yield Finding(
        layer="batch" if causes[0].name.startswith(("labels", "inputs")) else "loss", status="warning",
        measured=found.fall, limit=FLAT_SHARE, confidence=0.75,
        what=f"the loss has not fallen in {found.steps} steps: {found.first:.4g} at first, {found.last:.4g} now",
        why=f"Most likely {causes[0].text}.", fix=causes[0].fix, causes=causes,
        evidence={"first": found.first, "last": found.last, "noise": found.noise},
    )  # fmt: skip


def _why_flat(view: StepView, history: History) -> tuple[Cause, ...]:
    recent, batch = history.recent(5), view.batch
    ratio = max((v.update_ratio or 0.0 for v in recent), default=0.0)
    layers = [one for one in view.layers.values() if one.grad_rms is not None]
    if batch is not None and batch.is_output_constant:
        return likely("dead-relu", "vanishing-gradient", "softmax-over-wrong-axis")
    if any((one.saturated_share or 0) > 0.7 for one in view.layers.values()):
        return likely("saturated-activation", "inputs-not-scaled", "init-too-large")
    if any((one.dead_share or 0) > 0.5 for one in view.layers.values()):
        return likely("dead-relu", "lr-too-high", "init-too-large")
    if ratio < SMALL_UPDATE:
        return likely("lr-too-low", "clip-too-small", "vanishing-gradient")
    if len(layers) > 3 and (layers[0].grad_rms or 0.0) < 1e-3 * (layers[-1].grad_rms or 0.0):
        return likely("vanishing-gradient", "init-too-small", "saturated-activation")
    if batch is not None and batch.inputs is not None and (batch.inputs.std or 0.0) > 10:
        return likely("inputs-not-scaled", "lr-too-high", "labels-not-of-inputs")
    if ratio > 0.05:
        return likely("lr-too-high", "labels-not-of-inputs", "inputs-not-scaled")
    return likely("labels-not-of-inputs", "lr-too-high", "lr-too-low")


@rules.register("loss-diverging")
def loss_diverging(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings whose loss grows far above where it began.

    What it measures
        The median loss of the last twenty steps: three times that of the first ten, and of the best twenty so far.
    Why it matters
        The steps make the model worse; next come infinities.
    When it is wrong
        Losses whose weights are raised on purpose while the model trains.
    Fix
        A learning rate ten times smaller, cleared gradients, or the right sign of the objective.
    References
        TheDeepChecker, "loss must fall"; TrainCheck, program SO-60335387.
    """
    found = trend(history)
    if found is None or not is_supervised(view) or found.best <= 0:
        return
    base = max(found.first, found.best)
    if found.last < GROWTH * base or found.last < 0.1:
        return
    recent = history.recent(3)
    is_even = all(v.update_ratio is not None and v.update_ratio < 0.02 for v in recent)
    names = ("loss-sign", "lr-too-high", "targets-not-scaled") if is_even and found.steps > 40 else (
        "lr-too-high", "exploding-gradient", "momentum-too-high")  # fmt: skip
    causes = likely(*names)
    yield Finding(
        layer="loss" if names[0] == "loss-sign" else "optimizer", status="error", measured=found.last / base,
        limit=GROWTH, confidence=0.85, causes=causes, fix=causes[0].fix,
        what=f"the loss grows: {found.first:.4g} at first, {found.best:.4g} at best, {found.last:.4g} now",
        why=f"Most likely {causes[0].text}.",
    )  # fmt: skip


@rules.register("overfitting")
def overfitting(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that get better on what they train on and worse on what they are evaluated on.

    What it measures
        The mean loss of an evaluation beside the smallest one so far: more than twice that, while the training loss is
        below half of the evaluation's.
    Why it matters
        What is learned now is the training set by heart; an earlier state of the weights was better.
    When it is wrong
        Evaluations of different data sets in turn.
    Fix
        Stop at the best evaluation, more data or augmentation, weight decay or dropout, a smaller model.
    References
        SageMaker Debugger, rule Overfit (ratio 0.1; most healthy small trainings pass that, so ours is 2).
    """
    seen = view.evaluation
    if view.moment != "evaluation" or seen is None or seen.best_loss is None or seen.loss is None or seen.phases < 4:
        return
    train = seen.train_loss
    if train is None or seen.loss < OVERFIT_RATIO * seen.best_loss or train > 0.5 * seen.loss or seen.loss < 0.05:
        return
    yield Finding(
        layer="model", status="hint", measured=seen.loss / seen.best_loss, limit=OVERFIT_RATIO, confidence=0.6,
        what=f"the loss of the evaluation is {seen.loss:.4g}, and was {seen.best_loss:.4g}; in training {train:.4g}",
        why="The model learns its training samples by heart.",
        fix="Stop at the best evaluation; add data, augmentation, dropout or weight decay.",
    )  # fmt: skip


@rules.register("loss-sign")
def loss_sign(view: StepView, history: History) -> Iterator[Finding]:
    """Find loops that minimise the negative of a loss.

    What it measures
        Ten steps in a row whose minimised value is below zero, and is the negative of what a loss function gave that is
        never negative (cross-entropy of classes, squared or absolute error).
    Why it matters
        Training makes the model worse, without bound.
    When it is wrong
        Adversaries; they are left out where a second optimizer is seen, or gradients are reversed inside the model.
    Fix
        Minimise the loss itself.
    References
        DeepCrime, operator "change loss".
    """
    batch = view.batch
    if batch is None or view.optimizers > 1 or batch.loss_name not in _POSITIVE or batch.targets is None:
        return
    if batch.loss_name == "cross_entropy" and not batch.targets.is_integer:
        return
    losses = history.losses(10)
    if len(losses) < 10 or max(losses) >= 0 or len(view.losses) > 1 or view.loss is None or not batch.loss_value:
        return
    if not math.isclose(view.loss, -batch.loss_value, rel_tol=1e-3):  # one term of several
        return
    causes = likely("loss-sign", first=0.95)
    yield Finding(
        layer="loss", status="error", measured=losses[-1], limit=0.0, confidence=0.9, causes=causes, fix=causes[0].fix,
        what=f"what is minimised is {losses[-1]:.4g}, but {batch.loss_name} is never below 0",
        why="The loss is negated, so each step makes the model worse.",
    )  # fmt: skip


@rules.register("no-better-than-guessing")
def no_better_than_guessing(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that after hundreds of steps know no more than the frequencies of the answers.

    What it measures
        After 200 steps: a cross-entropy of five classes or more above 93 % of that of guessing, while no class
        makes up a third of the labels; a squared error above 97 % of the variance of the targets.
    Why it matters
        The inputs tell the model nothing about the targets, although it trains.
    When it is wrong
        Tasks that are nearly all noise, and models that learn the task late.
    Fix
        Look at ten samples beside their labels; let the model learn one batch by heart.
    References
        TheDeepChecker, data-dependency test; DeepCrime, operator "change labels".
    """
    course, batch = trend(history), view.batch
    if course is None or course.steps < 200 or not is_supervised(view) or batch is None or warming_up(history):
        return
    recent = [v.batch for v in history.recent(10) if v.batch is not None and v.batch.targets is not None]
    if len(recent) < 5 or any(b.loss_name != batch.loss_name for b in recent):
        return
    if batch.loss_name == "cross_entropy" and (batch.classes or 0) >= 5:
        tops = [b.targets.top_share or 0.0 for b in recent if b.targets is not None]
        floor, level = math.log(batch.classes or 2), 0.93
        if max(tops) > 0.34:
            return
    elif batch.loss_name == "mse_loss" and not any(b.targets is not None and b.targets.is_integer for b in recent):
        floor = statistics.fmean((b.targets.std or 0.0) ** 2 for b in recent if b.targets is not None)
        level = 0.97
    else:
        return
    if floor <= 0 or course.last < level * floor or course.last > 3 * floor:
        return
    causes = _why_flat(view, history)
    yield Finding(
        layer="batch" if causes[0].name.startswith(("labels", "inputs")) else "loss", status="warning",
        measured=course.last, limit=level * floor, confidence=0.7, causes=causes, fix=causes[0].fix,
        what=f"after {course.steps} steps the loss is {course.last:.4g}; guessing would give {floor:.4g}",
        why=f"Most likely {causes[0].text}.",
    )  # fmt: skip
