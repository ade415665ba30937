"""Rules about what a model gives to its loss: probabilities where scores are wanted, shapes, ranges, constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbops.debugging.aspects import BatchView
from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import REGRESSIONS, is_learning, is_supervised, suspects, trend
from nbops.debugging.views import Finding, History, StepView

TIMES = 4  # measured steps in a row
_SCORES = ("cross_entropy", "binary_cross_entropy_with_logits")
_LAST = {"ReLU": (0.0, None), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "Softmax": (0.0, 1.0),
         "Softplus": (0.0, None), "ReLU6": (0.0, 6.0), "Hardtanh": (-1.0, 1.0), "Softsign": (-1.0, 1.0)}  # fmt: skip


@rules.register("probabilities-for-scores")
def probabilities_for_scores(view: StepView, history: History) -> Iterator[Finding]:
    """Find softmax or sigmoid outputs that are given to a loss which applies its own.

    What it measures
        Predictions given to ``cross_entropy`` or ``binary_cross_entropy_with_logits``: rows that sum to 1, or 64 values
        and more that all lie between 0 and 1, on four measured steps in a row.
    Why it matters
        The softmax of a softmax is nearly flat: the loss cannot come near 0, and the gradient is small.
    When it is wrong
        Scores that happen to lie between 0 and 1.
    Fix
        Take the softmax or sigmoid away from the model's output.
    References
        UMLAUT, "no softmax with from_logits"; NeuraLint, double activation.
    """

    def holds(batch: BatchView) -> bool:
        p = batch.predictions
        if batch.loss_name not in _SCORES or p is None or p.min is None or p.max is None:
            return False
        count = p.sizes[0] * (p.sizes[1] if len(p.sizes) > 1 else 1)
        return bool(batch.is_softmaxed) or (count >= 64 and p.min >= 0 and p.max <= 1 and (p.std or 0) > 1e-4)

    if not _again(view, history, holds) or view.batch is None or view.optimizers > 1:
        return
    is_sure, name = bool(view.batch.is_softmaxed), view.batch.loss_name
    if not is_sure and (view.step < 20 or not all(v.batch is not None and holds(v.batch) for v in history.recent(12))):
        return
    place = _last_of(view, ("Softmax", "Sigmoid", "Softmax2d"))
    causes = likely("double-softmax", first=0.95 if is_sure else 0.85)
    yield Finding(
        layer=place or "loss", status="error", measured=1.0, limit=None, confidence=0.95 if is_sure else 0.8,
        what=f"{name} gets probabilities (every prediction is between 0 and 1), and applies "
        f"{'a softmax' if name == 'cross_entropy' else 'a sigmoid'} of its own",
        why="The loss cannot come near 0, and its gradient is small.", fix=causes[0].fix, causes=causes,
        expected="raw scores of any size", got="values between 0 and 1",
    )  # fmt: skip


@rules.register("scores-for-log-probabilities")
def scores_for_log_probabilities(view: StepView, history: History) -> Iterator[Finding]:
    """Find raw scores that are given to a loss of log-probabilities.

    What it measures
        The largest prediction given to ``nll_loss`` or ``kl_div``: above 0.001 on four measured steps in a row. The
        logarithm of a probability is never above 0.
    Why it matters
        The loss has no lower bound: making every score huge minimises it.
    When it is wrong
        Never about the fact; densities of continuous variables, which may exceed 1, are not given to these losses.
    Fix
        ``nn.CrossEntropyLoss`` for raw scores, or ``F.log_softmax`` before the loss.
    References
        torch's documentation of NLLLoss and KLDivLoss.
    """

    def holds(batch: BatchView) -> bool:
        p = batch.predictions
        return batch.loss_name in ("nll_loss", "kl_div") and p is not None and p.max is not None and p.max > 1e-3

    if _again(view, history, holds) and view.batch is not None and view.batch.predictions is not None:
        top = view.batch.predictions.max
        causes = likely("logits-to-nll", first=0.95)
        yield Finding(
            layer="loss", status="error", measured=top, limit=0.0, confidence=0.95,
            what=f"{view.batch.loss_name} gets scores up to {top:.3g}, but takes logarithms of probabilities, which "
            "are never above 0", why="The loss has no lower bound: huge scores minimise it.", fix=causes[0].fix,
            causes=causes, expected="at most 0", got=f"up to {top:.3g}",
        )  # fmt: skip


@rules.register("loss-broadcasts")
def loss_broadcasts(view: StepView, history: History) -> Iterator[Finding]:
    """Find predictions and targets whose shapes differ and are broadcast in a loss.

    What it measures
        Shapes of the two arguments of a loss that compares value by value (squared, absolute, Huber).
    Why it matters
        ``[n, 1]`` against ``[n]`` compares each prediction with every target: the best answer is then their mean.
    When it is wrong
        A target that is one for all samples, on purpose.
    Fix
        Give both the same shape: ``prediction.squeeze(-1)``.
    References
        torch warns once ("Using a target size that is different"), which is easily missed.
    """
    batch = view.batch
    if batch is None or batch.loss_name not in REGRESSIONS or batch.targets is None or batch.predictions is None:
        return
    ours, theirs = batch.predictions.sizes, batch.targets.sizes
    if ours == theirs or not theirs or max(*ours, *theirs, 1) < 2 or _without_ones(ours) != _without_ones(theirs):
        return
    causes = likely("loss-broadcast", first=0.95)
    yield Finding(
        layer="loss", status="error", measured=None, limit=None, confidence=0.97,
        what=f"{batch.loss_name} compares predictions {list(ours)} with targets {list(theirs)}: each with all of them",
        why="The shapes are broadcast against each other.", fix=causes[0].fix, causes=causes,
        expected=str(list(ours)), got=str(list(theirs)),
    )  # fmt: skip


@rules.register("output-range")
def output_range(view: StepView, history: History) -> Iterator[Finding]:
    """Find outputs that cannot reach their targets because of the last activation.

    What it measures
        The last layer, if it is an activation of bounded range, and the targets of a regression beyond that range by
        more than a twentieth of their spread, on four measured steps in a row.
    Why it matters
        The loss has a floor that no training can pass; the units sit where their slope is zero.
    When it is wrong
        Targets that are clipped on purpose by the activation.
    Fix
        Take the activation away, or scale the targets into its range.
    References
        DeepDiagnosis, "out of range".
    """
    last = next(reversed(view.layers.values()), None)

    def holds(batch: BatchView) -> bool:
        t = batch.targets
        if last is None or batch.loss_name not in REGRESSIONS or t is None or t.min is None or t.max is None:
            return False
        low, high = _LAST.get(last.kind, (None, None))
        margin = 0.05 * max(t.max - t.min, abs(t.max), 1e-6)
        return (low is not None and t.min < low - margin) or (high is not None and t.max > high + margin)

    if last is None or last.kind not in _LAST or last.sizes != _sizes(view) or not _again(view, history, holds):
        return
    low, high = _LAST[last.kind]
    targets = view.batch.targets if view.batch is not None else None
    span = f"{low:g} to {high:g}" if high is not None else f"{low:g} and above"
    got = f"{targets.min:.4g} to {targets.max:.4g}" if targets and targets.min is not None else ""
    causes = likely("output-range", "targets-not-scaled", first=0.9)
    yield Finding(
        layer=last.name, status="error", measured=targets.min if targets else None, limit=low, confidence=0.9,
        what=f"the output passes {last.kind} '{last.name}', which gives {span}; the targets go from {got}",
        why="No weights can reach those targets.", fix=causes[0].fix, causes=causes, expected=span, got=got,
    )  # fmt: skip


@rules.register("constant-output")
def constant_output(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that give the same answer for every sample.

    What it measures
        Whether all predictions of a batch of two or more are equal, bit for bit, on four measured steps in a row.
    Why it matters
        The input has no influence, and often no gradient.
    When it is wrong
        A model of a constant, on purpose; the first steps of a model whose last layer starts at zero.
    Fix
        Look at the last layers: a softmax over an axis of size 1, dead units, an input that is lost on the way.
    References
        SH-060 of Shah et al.'s collection (a softmax without ``dim`` on a batch of one row).
    """

    def holds(batch: BatchView) -> bool:
        return bool(batch.is_output_constant) and (batch.duplicate_share or 0.0) < 0.9

    if view.step < 4 or not _again(view, history, holds):
        return
    place = _last_of(view, ("Softmax",)) or "model"
    dead = any((one.dead_share or 0.0) > 0.9 or (one.zero_share or 0.0) == 1.0 for one in view.layers.values())
    names: tuple[str, ...] = ("softmax-over-wrong-axis", "constant-init", "inputs-collapsed")
    if dead:
        names = (*suspects(view, history), "dead-relu", "constant-init")
    causes = likely(*names)
    yield Finding(
        layer=place, status="error", measured=1.0, limit=None, confidence=0.9, causes=causes, fix=causes[0].fix,
        what="the model gives the same output for every sample", why=f"Most likely {causes[0].text}.",
    )  # fmt: skip


@rules.register("one-class-only")
def one_class_only(view: StepView, history: History) -> Iterator[Finding]:
    """Find classifiers that name one class for every sample, long after the start.

    What it measures
        The share of the commonest class among the predictions: 99 % or more on the last ten measured steps, after
        100 steps, while the labels hold more than one class.
    Why it matters
        The figure may look good (97 % accuracy on 97 % of one class), and the model knows nothing.
    When it is wrong
        Tasks with almost nothing but one class, for which a few hundred steps are too few.
    Fix
        Weigh the loss by class, or sample the classes evenly; see that the model learns at all.
    References
        SageMaker Debugger, rule ClassImbalance (10 to 1).
    """
    if view.step < 100 or not is_supervised(view):
        return
    recent = [v.batch for v in history.recent(10) if v.batch is not None]
    shares = [b.predicted_top_share for b in recent if b.predicted_top_share is not None]
    if len(shares) < 8 or min(shares) < 0.99:
        return
    tops = [b.targets.top_share for b in recent if b.targets is not None and b.targets.top_share is not None]
    if not tops:
        tops = [b.accuracy for b in recent if b.accuracy is not None]
    common = sum(tops) / len(tops) if tops else 1.0
    if common > 0.998:
        return
    causes = likely("classes-imbalanced", "lr-too-low") if common > 0.8 else likely(
        "labels-not-of-inputs", "dead-relu", "lr-too-high", "inputs-not-scaled")  # fmt: skip
    yield Finding(
        layer="batch" if common > 0.8 else "model", status="warning", measured=min(shares), limit=0.99, confidence=0.8,
        what=f"one class is predicted for every sample, at step {view.step}; {common:.0%} of the labels are of the "
        "commonest class", why=f"Most likely {causes[0].text}.", fix=causes[0].fix, causes=causes,
    )  # fmt: skip


@rules.register("class-ignored")
def class_ignored(view: StepView, history: History) -> Iterator[Finding]:
    """Find classes that ignore_index leaves out although the data hold no padding.

    What it measures
        The share of labels equal to ``ignore_index`` when that is one of the classes and the inputs are no tokens.
    Why it matters
        The model never learns that class.
    When it is wrong
        Segmentation masks with an explicit "unlabelled" class.
    Fix
        Leave ``ignore_index`` at -100.
    References
        torch's documentation of CrossEntropyLoss.
    """

    def holds(batch: BatchView) -> bool:
        known = batch.targets is not None and len(batch.targets.sizes) == 1
        is_real = (
            batch.ignore_index is not None and batch.classes is not None and 0 <= batch.ignore_index < batch.classes
        )
        return known and is_real and 0 < (batch.ignored_share or 0.0) < 0.9

    if not _again(view, history, holds) or view.batch is None:
        return
    if view.batch.inputs is None or view.batch.inputs.is_integer:
        return
    share = view.batch.ignored_share or 0.0
    causes = likely("real-class-ignored", first=0.85)
    yield Finding(
        layer="loss", status="warning", measured=share, limit=0.0, confidence=0.85, causes=causes, fix=causes[0].fix,
        what=f"{share:.0%} of the labels are class {view.batch.ignore_index}, which ignore_index leaves out",
        why="That class is never learned.",
    )  # fmt: skip


@rules.register("targets-not-scaled")
def targets_not_scaled(view: StepView, history: History) -> Iterator[Finding]:
    """Find regressions whose targets are far from what a model gives at first, and whose loss shows it.

    What it measures
        The root mean square of the targets above 20, and a loss that after 60 steps is above a tenth of its start.
    Why it matters
        Default weights give outputs near 1: the training spends itself on reaching the scale of the targets.
    When it is wrong
        Trainings that are meant to be long.
    Fix
        Standardise the targets, and undo it on predictions.
    References
        UMLAUT and TheDeepChecker ask the same of inputs.
    """
    batch, course = view.batch, trend(history)
    if batch is None or batch.loss_name not in REGRESSIONS or batch.targets is None or batch.targets.mean is None:
        return
    size = (batch.targets.mean**2 + (batch.targets.std or 0.0) ** 2) ** 0.5
    if size < 20 or course is None or course.steps < 60 or course.fall > 0.9 or is_learning(history, by=0.9):
        return
    causes = likely("targets-not-scaled", "lr-too-low")
    yield Finding(
        layer="batch", status="warning", measured=size, limit=20.0, confidence=0.8, causes=causes, fix=causes[0].fix,
        what=f"the targets are of the size of {size:.4g}, and after {course.steps} steps the loss has fallen by "
        f"{max(0.0, course.fall):.0%} only", why="A model begins with outputs near 1 and has to grow to that scale.",
    )  # fmt: skip


def _again(view: StepView, history: History, holds: Callable[[BatchView], bool]) -> bool:
    """Return whether a condition holds now and on the measured steps before."""
    batches = [v.batch for v in history.recent(TIMES - 1)]
    known = [view.batch, *batches]
    return len(known) == TIMES and all(b is not None and holds(b) for b in known)


def _without_ones(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in sizes if size != 1)


def _sizes(view: StepView) -> tuple[int, ...]:
    return view.batch.predictions.sizes if view.batch is not None and view.batch.predictions is not None else ()


def _last_of(view: StepView, kinds: tuple[str, ...]) -> str:
    names = [one.name for one in view.layers.values() if one.kind in kinds]
    return names[-1] if names else ""
