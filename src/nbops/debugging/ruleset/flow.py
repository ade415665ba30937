"""Rules about how values and gradients pass through the layers: lost, fading, growing, equal, stuck."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import is_learning, is_supervised, matrices, mean_of, suspects, trend
from nbops.debugging.views import Finding, History, StepView

TIMES = 5
VANISHED = 1e-3
SATURATED = 0.8
SYMMETRIC = 0.9
FIRST_LOSS = 5.0  # times the loss of guessing
FADED, GROWN = 1e-4, 1e3


@rules.register("layer-without-gradient")
def layer_without_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find layers that are called and held by the optimizer, and never get a gradient.

    What it measures
        Layers with trainable weights that gave an output on each of the last five measured steps and had no gradient,
        or one of exactly zero throughout, while layers behind them had one.
    Why it matters
        Those layers stay as they were at the start.
    When it is wrong
        Parts that rest for the first steps on purpose (a schedule of unfreezing, a gate that starts at zero).
    Fix
        Look between that layer and the next one that learns: detach, item, NumPy, argmax, rounding, no_grad.
    References
        TrainCheck, invariant "parameters change after step".
    """
    recent = [*history.recent(TIMES - 1), view]
    if len(recent) < TIMES or view.step < TIMES or not view.grad_norm or view.optimizers > 1:
        return
    lost = [one for one in view.layers.values() if one.is_held and one.trainable_share and one.calls]
    lost = [one for one in lost if all(_is_without(v, one.name) for v in recent)]
    if not lost:
        return
    zero = any(one.grad_norm == 0.0 for one in lost)
    half = zero and all(one.is_low_precision for one in lost)
    dead = any(
        (one.dead_share or 0) > 0.9 or (one.zero_share == 1.0 and one.kind in ("ReLU",)) for one in view.layers.values()
    )
    equal = all(one.weight_absmax == 0.0 for one in lost) and zero
    names: tuple[str, ...] = (
        ("nondifferentiable-op", "graph-cut") if zero else ("graph-cut", "nondifferentiable-op", "output-unused")
    )
    if equal:
        names = ("constant-init",)
    elif dead:
        names = (*suspects(view, history), "dead-relu", *names)
    elif half:
        names = ("gradients-underflow", *names)
    causes = likely(*names, first=0.85)
    last, more = lost[-1].name, f" and {len(lost) - 1} others" if len(lost) > 1 else ""
    yield Finding(
        layer=last, status="error", measured=0.0, limit=0.0, confidence=0.9, causes=causes, fix=causes[0].fix,
        what=f"layer '{last}'{more} gives an output, but its weights get "
        f"{'a gradient of exactly 0' if zero else 'no gradient'}",
        why=f"Most likely {causes[0].text}.",
        evidence={"layers": [one.name for one in lost][:20]},
    )  # fmt: skip


def _is_without(view: StepView, name: str) -> bool:
    layer = view.layers.get(name)
    return layer is not None and layer.calls > 0 and not layer.grad_norm


@rules.register("part-without-gradient")
def part_without_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find parameters of a layer that learns which themselves never get a gradient.

    What it measures
        Whether a weight of a layer has no gradient on the last five measured steps, while its bias has one.
    Why it matters
        A backward pass written by hand that returns None for the weight leaves it as it was.
    When it is wrong
        Layers whose weight is replaced by another one in forward.
    Fix
        Return a gradient for every input of ``torch.autograd.Function`` that needs one.
    References
        torch's documentation of extending autograd.
    """
    recent = [*history.recent(TIMES - 1), view]
    if len(recent) < TIMES or view.step < TIMES:
        return
    for layer in view.layers.values():
        if layer.silent and all(v.layers.get(layer.name) is not None and v.layers[layer.name].silent for v in recent):
            causes = likely("graph-cut", first=0.5)
            yield Finding(
                layer=layer.name, status="error", measured=0.0, limit=0.0, confidence=0.85, causes=causes,
                what=f"{', '.join(layer.silent)} of layer '{layer.name}' never gets a gradient, its others do",
                why="A backward pass written by hand returns none, or the weight is not what forward uses.",
                fix="Return a gradient for every input that needs one; use the parameter itself in forward.",
            )  # fmt: skip


@rules.register("vanishing-gradient")
def vanishing_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that fade on their way to the first layers of a model that does not learn.

    What it measures
        The rms of the gradient of the first third of the layers beside the last layer's: below a thousandth in the
        mean of five measured steps, while the loss has not fallen by a third.
    Why it matters
        The first layers stay random, and the rest learns from random features.
    When it is wrong
        Fine-tuning with layer-wise rates, where the first layers are to rest.
    Fix
        ReLU or GELU instead of sigmoid, normalisation, residual connections, an initialisation that fits.
    References
        SageMaker Debugger, rule VanishingGradient (an absolute 1e-7); AUTOTRAINER (ratio 1e-3). Ours is relative and
        asks for the effect on the loss.
    """
    recent = history.recent(TIMES)
    if view.step < 30 or len(recent) < TIMES or view.optimizers > 1 or is_learning(history):
        return
    layers = [(one, mean_of(recent, one.name, "grad_rms")) for one in matrices(view)]
    known = [(one, rms) for one, rms in layers if rms]
    if len(known) < 4:
        return
    (first, low), top = min(known[: max(1, len(known) // 3)], key=lambda pair: pair[1]), known[-1][1]
    if low > VANISHED * top:
        return
    saturated = any((one.saturated_share or 0) > 0.5 for one in view.layers.values())
    small = any((one.weight_rms or 1.0) < 5e-3 for one, _ in known)
    causes = likely("vanishing-gradient", *(["init-too-small"] if small else []),
                    *(["saturated-activation"] if saturated else []), "init-too-small")  # fmt: skip
    yield Finding(
        layer=first.name, status="warning", measured=low / top, limit=VANISHED, confidence=0.8, causes=causes,
        what=f"the gradient of '{first.name}' is {low / top:.1e} of that of '{known[-1][0].name}'",
        why="It fades on its way back through the layers.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("exploding-gradient")
def exploding_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find gradients that are or become thousands of times longer than usual.

    What it measures
        The norm of all gradients: above 1,000 times the median of the steps before (1e6 in the first steps), three
        times within a hundred steps, while the loss is above where it began.
    Why it matters
        One such step undoes what a thousand others have learned.
    When it is wrong
        Rare samples of huge loss.
    Fix
        Clip with ``torch.nn.utils.clip_grad_norm_``; a lower rate.
    References
        AUTOTRAINER, exploding gradient (ratio 70).
    """
    norms = [norm for _, _, norm in list(history.curve)[-100:] if math.isfinite(norm) and norm > 0]
    course = trend(history)
    if len(norms) < 30 or course is None or course.last < course.first:
        return
    middle = sorted(norms)[len(norms) // 2]
    usual = max((norm for _, _, norm in list(history.curve)[:10] if math.isfinite(norm)), default=0.0)
    high = [norm for norm in norms if norm > 1e3 * middle and norm > 3 * usual]
    if len(high) < 3:
        return
    causes = likely("exploding-gradient", "lr-too-high")
    yield Finding(
        layer="(all)", status="warning", measured=max(high) / middle, limit=1e3, confidence=0.75, causes=causes,
        what=f"{len(high)} of the last {len(norms)} gradients were more than 1,000 times as long as usual",
        why="The gradient grows on its way through the layers or steps.", fix=causes[0].fix,
    )  # fmt: skip


@rules.register("saturated-units")
def saturated_units(view: StepView, history: History) -> Iterator[Finding]:
    """Find sigmoid and tanh layers that sit in their flat parts while the model does not learn.

    What it measures
        The share of inputs of a sigmoid (tanh) beyond 6 (3): above 80 % on five measured steps in a row. It is a
        warning from step 20 on while the loss has not fallen by a third, else a hint.
    Why it matters
        The slope there is below a hundredth of its maximum, so almost no gradient passes.
    When it is wrong
        Gates that are meant to be open or shut; the last layer of a good classifier.
    Fix
        Smaller initial weights, scaled inputs, normalisation before the activation.
    References
        SageMaker Debugger, rule SaturatedActivation; DeepDiagnosis, "saturated activation" (50 % beyond 5).
    """
    recent = history.recent(TIMES - 1)
    if view.step < 20 or len(recent) < TIMES - 1:
        return
    names = [one.name for one in view.layers.values() if (one.saturated_share or 0.0) > SATURATED]
    stuck = [name for name in names if all(_saturated(v, name) for v in recent)]
    if not stuck or (stuck == [next(reversed(view.layers))] and is_learning(history)):
        return
    wide = view.batch is not None and view.batch.inputs is not None and (view.batch.inputs.std or 0.0) > 5
    causes = likely("inputs-not-scaled", "saturated-activation", "init-too-large") if wide else likely(
        "saturated-activation", "init-too-large", "lr-too-high")  # fmt: skip
    share = view.layers[stuck[0]].saturated_share or 0.0
    yield Finding(
        layer=stuck[0], status="hint" if is_learning(history) else "warning", measured=share, limit=SATURATED,
        confidence=0.75, causes=causes, fix=causes[0].fix,
        what=f"{share:.0%} of the inputs of '{stuck[0]}' are in the flat part of its activation",
        why=f"Most likely {causes[0].text}.",
    )  # fmt: skip


def _saturated(view: StepView, name: str) -> bool:
    return name in view.layers and (view.layers[name].saturated_share or 0.0) > SATURATED


@rules.register("symmetric-units")
def symmetric_units(view: StepView, history: History) -> Iterator[Finding]:
    """Find layers whose units all learn the same thing.

    What it measures
        The share of rows of a weight's gradient that equal an earlier one and are not zero, of 32 rows: 90 % or more on
        three measured steps in a row.
    Why it matters
        Units that start equal and get equal gradients stay one unit for ever.
    When it is wrong
        Layers that are averaged over their outputs on purpose.
    Fix
        Initialise the weights at random.
    References
        TheDeepChecker, "wrong_init constant".
    """
    recent = [*history.recent(2), view]
    if len(recent) < 3:
        return
    for layer in view.layers.values():
        shares = [v.layers[layer.name].symmetric_share for v in recent if layer.name in v.layers]
        if len(shares) == 3 and all(share is not None and share >= SYMMETRIC for share in shares):
            if len(layer.sizes) > 1 and layer.sizes[-1] < 3 and "Conv" not in layer.kind:
                continue
            causes = likely("constant-init", first=0.9)
            yield Finding(
                layer=layer.name, status="error", measured=shares[-1], limit=SYMMETRIC, confidence=0.9, causes=causes,
                what=f"the units of '{layer.name}' all get the same gradient", fix=causes[0].fix,
                why="They started equal, and stay one unit.",
            )  # fmt: skip
            return


@rules.register("poor-start")
def poor_start(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that begin far from where an untrained model should be.

    What it measures
        At the first two steps: a classification loss more than five times that of guessing; outputs of the layers that
        grow a thousandfold, or fade to a ten-thousandth, from the first layer to the last. Layers that give exactly 0
        are left out: their weights start at 0 on purpose, as the last ones of adapters, flows and residual branches.
    Why it matters
        The first hundred steps only repair the start, or the signal never gets through.
    When it is wrong
        A model that was trained before, on other data.
    Fix
        The default initialisation, ``nn.init.kaiming_normal_`` with the gain of the activation, smaller embeddings.
    References
        SageMaker Debugger, rule PoorWeightInitialization; TheDeepChecker, initial loss near ``-log(1/k)``.
    """
    if view.step > 1 or history.sampled or not view.layers:
        return
    batch, layers = view.batch, [one for one in matrices(view) if one.activation_rms]
    if batch is not None and batch.classes and view.loss is not None and batch.loss_name == "cross_entropy":
        guess, loss = math.log(batch.classes), view.loss / max(1, view.backwards)  # micro-batches are added
        wide = batch.inputs is not None and not batch.inputs.is_integer and (batch.inputs.std or 0.0) > 10
        if loss > FIRST_LOSS * guess + 3 and batch.targets is not None and batch.targets.is_integer:
            causes = (
                likely("inputs-not-scaled", "init-too-large") if wide else likely("init-too-large", "inputs-not-scaled")
            )
            yield Finding(
                layer="batch" if wide else layers[-1].name if layers else "model", status="warning", measured=loss,
                limit=FIRST_LOSS * guess + 3, confidence=0.8, causes=causes, fix=causes[0].fix,
                what=f"the first loss is {loss:.4g}; guessing one of {batch.classes} classes gives {guess:.3g}",
                why=f"Most likely {causes[0].text}.",
            )  # fmt: skip
            return
    if len(layers) < 4:
        return
    ratio = (layers[-1].activation_rms or 0.0) / (layers[0].activation_rms or 1.0)
    if FADED < ratio < GROWN:
        return
    causes = (
        likely("init-too-large", "exploding-gradient") if ratio > 1 else likely("init-too-small", "vanishing-gradient")
    )
    steep = next((b for a, b in pairwise(layers) if _jumps(a.activation_rms, b.activation_rms)), layers[-1])
    yield Finding(
        layer=steep.name, status="warning", measured=ratio, limit=GROWN if ratio > 1 else FADED, confidence=0.8,
        what=f"outputs {'grow' if ratio > 1 else 'fade'} by a factor of {ratio:.1e} from '{layers[0].name}' to "
        f"'{layers[-1].name}' before any training", causes=causes, fix=causes[0].fix,
        why=f"Most likely {causes[0].text}.",
    )  # fmt: skip


def _jumps(a: float | None, b: float | None) -> bool:
    return bool(a) and bool(b) and not 0.2 < (b or 0.0) / (a or 1.0) < 5


@rules.register("never-on")
def never_on(view: StepView, history: History) -> Iterator[Finding]:
    """Find ReLU layers that are off for every sample from the first step.

    What it measures
        The share of zeros behind a ReLU: all of them on the first three measured steps and later.
    Why it matters
        Nothing passes, forward or backward.
    When it is wrong
        Layers whose input is shut off on purpose at first.
    Fix
        Start the bias at 0, use the default initialisation.
    References
        SageMaker Debugger, rules AllZero and DeadRelu.
    """
    recent = [*history.recent(2), view]
    if len(recent) < 3 or not is_supervised(view):
        return
    for layer in view.layers.values():
        if layer.kind in ("ReLU", "ReLU6") and all(
            layer.name in v.layers and v.layers[layer.name].zero_share == 1.0 for v in recent
        ):
            causes = likely(*suspects(view, history), "dead-relu", "init-too-large", "lr-too-high")
            yield Finding(
                layer=layer.name, status="error", measured=1.0, limit=1.0, confidence=0.9, causes=causes,
                what=f"'{layer.name}' gives zero for every sample and unit", why="Its inputs are never above 0.",
                fix=causes[0].fix,
            )  # fmt: skip
            return
