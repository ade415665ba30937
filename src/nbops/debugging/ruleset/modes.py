"""Rules about training and evaluation mode, and what should stay as it is: ties, frozen weights, replicas."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

TIMES = 5
DRIFT = 0.5  # of a deviation
LEAST_ROWS = 16  # samples of an evaluation


@rules.register("evaluated-in-training-mode")
def evaluated_in_training_mode(view: StepView, history: History) -> Iterator[Finding]:
    """Find evaluations of a model that is still in training mode.

    What it measures
        Forward passes without gradients while the model itself is in training mode and holds active dropout or batch
        normalisation. Passes that come with nearly every step are part of the training, unless a loss is computed
        of them without gradients.
    Why it matters
        Dropout makes the result worse and random; batch normalisation uses and changes its statistics: the validation
        data leaks into the model.
    When it is wrong
        Monte-Carlo dropout in which the whole model, and not just its dropout modules, was put into training mode.
    Fix
        ``model.eval()`` before the evaluation, ``model.train()`` after it.
    References
        TheDeepChecker, mode-switch test.
    """
    seen = view.evaluation
    if view.moment != "evaluation" or seen is None or not seen.is_training_mode or not seen.active:
        return
    is_part_of_training = seen.phases > max(2, seen.steps // 2)
    is_rare = seen.phases >= 2 and seen.steps >= 8 * seen.phases
    if seen.losses == 0 and (is_part_of_training or (seen.batches < 2 and not is_rare)):
        return
    kinds = ", ".join(seen.active)
    yield Finding(
        layer="model", status="error", measured=float(seen.batches), limit=0.0, confidence=0.9,
        what=f"the model was evaluated in training mode, with active {kinds}",
        why="Dropout drops values at random and batch normalisation uses, and changes, the statistics of the batch.",
        fix="Call model.eval() before the evaluation and model.train() after it.",
        causes=likely("eval-in-train-mode", first=0.95),
    )  # fmt: skip


@rules.register("trained-in-evaluation-mode")
def trained_in_evaluation_mode(view: StepView, history: History) -> Iterator[Finding]:
    """Find trainings that go on in evaluation mode.

    What it measures
        The mode of the model in the forward passes of five measured steps in a row (of two, as an error, if the
        training began in training mode), if it holds dropout or batch normalisation.
    Why it matters
        Dropout is off, and running statistics stay those of the moment when the mode was switched.
    When it is wrong
        Fine-tuning with normalisation in evaluation mode on purpose; that is a hint only, if it began so.
    Fix
        ``model.train()`` after each evaluation.
    References
        TheDeepChecker, mode-switch test.
    """
    first = history.first.model.is_training if history.first is not None and history.first.model is not None else None
    times = 2 if first else TIMES
    models = [v.model for v in (*history.recent(times - 1), view) if v.model is not None]
    if len(models) < times or any(m.is_training is not False or not (m.has_dropout or m.has_batchnorm) for m in models):
        return
    causes = likely("train-in-eval-mode", first=0.9)
    yield Finding(
        layer="model", status="error" if first else "hint", measured=float(times), limit=0.0, confidence=0.9,
        what="the model is trained in evaluation mode", causes=causes, fix=causes[0].fix,
        why="An evaluation switched the mode, and nothing switched it back." if first else "model.eval() was called.",
    )  # fmt: skip


@rules.register("evaluated-on-another-scale")
def evaluated_on_another_scale(view: StepView, history: History) -> Iterator[Finding]:
    """Find evaluations whose inputs are on another scale than those of the training.

    What it measures
        Mean and standard deviation of floating inputs of an evaluation, beside those of the measured training steps: a
        mean that is off by half of the training's deviation and by six times what its batches differ, or a deviation
        that is less than 0.6 or more than 1.7 times as large.
    Why it matters
        The model sees there what it has never seen: normalised in training, raw in the evaluation.
    When it is wrong
        New data that really are different; then the figure says so too.
    Fix
        Apply the same preprocessing, with the training set's numbers, to both.
    References
        Sculley et al., "Hidden Technical Debt" (2015), training-serving skew.
    """
    seen = view.evaluation
    if view.moment != "evaluation" or seen is None or seen.inputs is None or seen.trained is None:
        return
    ours, theirs = seen.inputs, seen.trained
    is_known = theirs.batches >= 5 and theirs.std > 0 and ours.sizes == theirs.sizes
    if not is_known or seen.phases > max(2, seen.steps // 2):
        return
    off, ratio = abs(ours.mean - theirs.mean), ours.std / theirs.std
    is_moved = off > max(0.5 * theirs.std, 6 * theirs.spread)
    is_stretched = not 0.6 <= ratio <= 1.7 and abs(ours.std - theirs.std) > 6 * theirs.spread
    if not (is_moved or is_stretched) or seen.rows < LEAST_ROWS:
        return
    causes = likely("eval-preprocessing-differs", first=0.85)
    yield Finding(
        layer="batch", status="warning", measured=ours.mean, limit=theirs.mean, confidence=0.85, causes=causes,
        what=f"the evaluation's inputs have mean {ours.mean:.3g} and deviation {ours.std:.3g}, the training's "
        f"{theirs.mean:.3g} and {theirs.std:.3g}", why="They were not prepared in the same way.", fix=causes[0].fix,
        expected=f"{theirs.mean:.3g} ± {theirs.std:.3g}", got=f"{ours.mean:.3g} ± {ours.std:.3g}",
    )  # fmt: skip


@rules.register("random-evaluation")
def random_evaluation(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that drop values at random although they are in evaluation mode.

    What it measures
        Two passes of one evaluation batch, once per watch: whether their results differ, and whether a dropout function
        was applied meanwhile. Without dropout a difference is a hint: the model may sample on purpose.
    Why it matters
        Figures of the evaluation are worse than they should be, and random; so are predictions.
    When it is wrong
        Monte-Carlo dropout.
    Fix
        ``F.dropout(x, training=self.training)``, or an ``nn.Dropout`` that is made in ``__init__``.
    References
        TrainCheck, transformers-33844.
    """
    seen = view.evaluation
    if view.moment != "evaluation" or seen is None or not seen.difference or seen.difference < 1e-5:
        return
    if seen.is_training_mode:
        return
    causes = likely("dropout-always-on", first=0.9 if seen.dropout else 0.4)
    yield Finding(
        layer="model", status="error" if seen.dropout else "hint", measured=seen.difference, limit=0.0, causes=causes,
        confidence=0.95 if seen.dropout else 0.5, fix=causes[0].fix,
        what="two evaluations of the same batch differ" + (", and dropout was applied" if seen.dropout else ""),
        why="Dropout is on whatever the mode." if seen.dropout else "Something in the model is random.",
    )  # fmt: skip


@rules.register("tie-broken")
def tie_broken(view: StepView, history: History) -> Iterator[Finding]:
    """Find weights that were one parameter when the watch began and are two now.

    What it measures
        Pairs of names that stood for one and the same parameter, or for equal ones of two kinds of layers (an embedding
        and the output), and now stand for two of different values.
    Why it matters
        A tied embedding and output layer learn apart, and a file of the model may hold only one of them.
    When it is wrong
        Ties that are undone on purpose.
    Fix
        Assign the Parameter itself again after loading or moving the model.
    References
        TrainCheck; transformers' ``tie_weights``.
    """
    if view.model is None or not view.model.untied:
        return
    first, second = view.model.untied[0]
    causes = likely("tie-broken", first=0.9)
    yield Finding(
        layer=second.rpartition(".")[0] or second, status="error", measured=1.0, limit=0.0, confidence=0.9,
        what=f"'{first}' and '{second}' were one parameter, and are two now", causes=causes, fix=causes[0].fix,
        why="One of them was replaced.",
    )  # fmt: skip


@rules.register("frozen-weights-changed")
def frozen_weights_changed(view: StepView, history: History) -> Iterator[Finding]:
    """Find weights that do not require a gradient and change all the same.

    What it measures
        Some values of each frozen parameter from one measured step to the next.
    Why it matters
        What was meant to rest moves: left-over gradients, weight decay, or a write of one's own.
    When it is wrong
        Averages of weights (a teacher, a target network) that are written on purpose; so it is a hint.
    Fix
        Leave frozen parameters out of the optimizer.
    References
        TrainCheck, invariant on frozen parameters.
    """
    if view.model is None or not view.model.frozen_changed:
        return
    names = view.model.frozen_changed
    yield Finding(
        layer=names[0].rpartition(".")[0] or names[0], status="hint", measured=float(len(names)), limit=0.0,
        what=f"'{names[0]}' does not require a gradient, and changed", confidence=0.5,
        why="It is in the optimizer with a gradient that was left over, or something writes to it.",
        fix="Leave frozen parameters out of the optimizer; set their gradients to None.",
    )  # fmt: skip


@rules.register("frozen-statistics-moved")
def frozen_statistics_moved(view: StepView, history: History) -> Iterator[Finding]:
    """Find batch normalisation with frozen weights whose running statistics move all the same.

    What it measures
        Running mean and variance of normalisations without trainable weights that are in training mode, beside those
        when the watch began: a mean difference above half of a deviation.
    Why it matters
        A frozen backbone gives other features at the end than those that the head was trained on.
    When it is wrong
        New data to which the statistics shall adapt.
    Fix
        Put frozen normalisation into evaluation mode after each ``model.train()``.
    References
        Keras' guide to transfer learning, section on BatchNormalization.
    """
    if view.model is None or not view.model.drifted or view.model.drifted[0][1] < DRIFT or view.step < 20:
        return
    name, far = view.model.drifted[0]
    causes = likely("running-stats-wrong", "frozen-by-accident", first=0.85)
    yield Finding(
        layer=name, status="warning", measured=far, limit=DRIFT, confidence=0.8, causes=causes,
        what=f"the weights of '{name}' are frozen, and its running statistics went {far:.1f} deviations away",
        why="It is in training mode, so each batch moves them.",
        fix=f"Call eval() on '{name}' after each model.train().",
    )  # fmt: skip


@rules.register("replicas-differ")
def replicas_differ(view: StepView, history: History) -> Iterator[Finding]:
    """Find replicas of a model that do not hold the same weights.

    What it measures
        Sums of each parameter, compared across the processes of ``torch.distributed`` after a step.
    Why it matters
        The replicas train apart: their gradients are averaged for weights that are not the same.
    When it is wrong
        Models that are split across processes on purpose, if each part is watched under one name.
    Fix
        ``DistributedDataParallel`` before the first step; the same steps on every rank.
    References
        TrainCheck, deepspeed-1801.
    """
    if view.ranks is None or not view.ranks.differing:
        return
    names, causes = view.ranks.differing, likely("replicas-differ", first=0.9)
    yield Finding(
        layer=names[0].rpartition(".")[0] or names[0], status="error", measured=float(len(names)), limit=0.0,
        what=f"{len(names)} parameters are not the same on all {view.ranks.ranks} ranks, '{names[0]}' first",
        why="The replicas did not start equal, or stepped differently.", confidence=0.95, causes=causes,
        fix=causes[0].fix,
    )  # fmt: skip
