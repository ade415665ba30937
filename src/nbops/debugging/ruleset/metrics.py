"""Rules about what is logged: metrics that cannot be, or that count on from epoch to epoch."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import trend
from nbops.debugging.views import Finding, History, StepView

_BOUNDED = re.compile(r"(^|[_/. -])(acc|accuracy|auc|auroc|f1|precision|recall|iou|dice)\d?($|[_/. -])", re.IGNORECASE)
_LOSS = re.compile(r"loss|error|nll|perplexity", re.IGNORECASE)
_FAR = 0.3  # from the share of right predictions in the batch that was measured
_RISES = 4


@rules.register("metric-out-of-range")
def metric_out_of_range(view: StepView, history: History) -> Iterator[Finding]:
    """Find logged metrics whose values cannot be.

    What it measures
        Metrics logged with ``nb.log`` whose names say accuracy, AUC, F1, precision, recall, IoU or Dice: below 0, above
        100, or above 1 and, as a percentage, far from the share of right predictions in the batch that was measured.
    Why it matters
        The formula is wrong: predictions of shape (B,) compared with labels of shape (B, 1) count B times, a counter is
        not reset, or a sum was not divided.
    When it is wrong
        A metric of one of these names with another scale.
    Fix
        Compare shapes before counting: ``(pred.argmax(1) == y.view(-1)).float().mean()``; reset counters each epoch.
    References
        The accuracy of 1.83 of a program in Shah et al.'s collection of silent bugs.
    """
    own = view.batch.accuracy if view.batch is not None else None
    for metric in view.metrics.values():
        value = metric.last
        if not _BOUNDED.search(metric.name):
            continue
        is_far = value > 1 and own is not None and abs(value / 100 - own) > _FAR and abs(metric.max / 100 - own) > _FAR
        if not (value < 0 or value > 100 or is_far):
            continue
        beside = f"; {own:.0%} of the last measured batch were right" if own is not None else ""
        yield Finding(
            layer=f"metric {metric.name}", status="error", measured=value, limit=1.0,
            confidence=0.95 if not is_far else 0.8,
            what=f"the metric '{metric.name}' is {value:g}, but can only be from 0 to 1 (or 100 %){beside}",
            why="More matches were counted than there are samples: shapes that broadcast, or a counter never reset.",
            causes=likely("metric-broadcast", "metric-wrong-denominator", "metric-not-reset"),
            fix="Give predictions and labels the same shape before comparing them, and divide by the samples counted.",
        )  # fmt: skip


@rules.register("metric-accumulates")
def metric_accumulates(view: StepView, history: History) -> Iterator[Finding]:
    """Find logged losses that rise with every value although the loss of single steps falls.

    What it measures
        A metric named after a loss or an error that has risen at least four times in a row, to twice its first value,
        beside the loss that is minimised, which has fallen by a tenth.
    Why it matters
        A sum that is not reset at each epoch hides what the training does.
    When it is wrong
        The loss of another data set, which rises when the model overfits; it rarely doubles without one fall.
    Fix
        Set the sum and its count to zero at the beginning of each epoch.
    References
        SH-039 of Shah et al.'s collection.
    """
    course = trend(history)
    if course is None or course.fall < 0.1:
        return
    for metric in view.metrics.values():
        if not _LOSS.search(metric.name) or re.search("val|test|eval", metric.name, re.IGNORECASE):
            continue
        if metric.count <= _RISES or metric.falls or metric.last < 1.5 * metric.first or metric.first <= 0:
            continue
        causes = likely("metric-not-reset", "metric-wrong-denominator", first=0.85)
        yield Finding(
            layer=f"metric {metric.name}", status="error", measured=metric.last, limit=metric.first,
            confidence=0.85, causes=causes,
            what=f"the metric '{metric.name}' has risen {metric.count - 1} times in a row, from {metric.first:.4g} to "
            f"{metric.last:.4g}, while the loss of the steps fell from {course.first:.4g} to {course.last:.4g}",
            why="A sum is not set to zero at each epoch.", fix=causes[0].fix,
        )  # fmt: skip


@rules.register("metric-far-off")
def metric_far_off(view: StepView, history: History) -> Iterator[Finding]:
    """Find accuracies that are far below what the model shows on its own batches.

    What it measures
        A logged accuracy beside the share of right predictions in the last measured batch: at most half of it, three
        times or more, while that share is 85 % or more.
    Why it matters
        Either the formula is wrong, or the model does far worse on other data than on those it trains on.
    When it is wrong
        Accuracies of a harder task than the one that is trained.
    Fix
        ``argmax(1)``, one shape for predictions and labels, ``model.eval()``, the same preparation of the inputs.
    References
        TheDeepChecker, train/eval mode similarity.
    """
    own = view.batch.accuracy if view.batch is not None else None
    if view.moment != "metric" or own is None or own < 0.85:
        return
    for metric in view.metrics.values():
        if not re.search(r"acc", metric.name, re.IGNORECASE) or metric.count < 3 or metric.max > 1:
            continue
        if metric.max > 0.5 * own:
            continue
        causes = likely("metric-wrong-axis", "metric-broadcast", "eval-preprocessing-differs", "eval-in-train-mode")
        yield Finding(
            layer=f"metric {metric.name}", status="warning", measured=metric.last, limit=0.5 * own, confidence=0.7,
            what=f"the metric '{metric.name}' is {metric.last:.3g}, and {own:.0%} of the last batch were right",
            why="The formula is wrong, or the evaluation differs from the training.", causes=causes, fix=causes[0].fix,
        )  # fmt: skip
