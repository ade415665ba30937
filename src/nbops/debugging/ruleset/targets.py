"""Rules about what a loss compares with: class weights, distributions, targets that a model makes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nbops.debugging.aspects import BatchView
from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

TIMES = 4  # measured steps in a row
UNEVEN = 3.0  # labels of the commonest class per label of the rarest
OFF = 0.05  # of a sum of probabilities


@rules.register("class-weights-reversed")
def class_weights_reversed(view: StepView, history: History) -> Iterator[Finding]:
    """Find class weights that make rare classes rarer still.

    What it measures
        Labels of which the commonest comes three times as often as the rarest, whose weight in the loss is less than
        half of the commonest's, on four measured steps in a row.
    Why it matters
        The rare class has next to no part in the loss: the model never names it.
    When it is wrong
        A rare class that is to be ignored on purpose; give it the weight 0.
    Fix
        ``weight = counts.sum() / (len(counts) * counts)``.
    References
        scikit-learn's ``class_weight="balanced"``.
    """

    def holds(batch: BatchView) -> bool:
        uneven, weight = batch.label_imbalance, batch.rare_weight
        return uneven is not None and weight is not None and uneven >= UNEVEN and 0 < weight < 0.5

    if not _again(view, history, holds) or view.batch is None:
        return
    causes = likely("class-weights-wrong", first=0.9)
    yield Finding(
        layer="loss", status="warning", measured=view.batch.rare_weight, limit=0.5, confidence=0.85, causes=causes,
        what=f"the rarest class has {view.batch.rare_weight:.2g} times the weight of the commonest, which comes "
        f"{view.batch.label_imbalance:.0f} times as often", why="The weights make the rare class rarer still.",
        fix=causes[0].fix,
    )  # fmt: skip


@rules.register("targets-are-no-distribution")
def targets_are_no_distribution(view: StepView, history: History) -> Iterator[Finding]:
    """Find targets of a cross-entropy that do not sum to 1.

    What it measures
        Sums over the classes of targets given as numbers per class: one of them off 1 by more than 0.05, on four
        measured steps in a row.
    Why it matters
        A softmax shares one whole among the classes. Labels of which several hold at once, or none, need a sigmoid for
        each.
    When it is wrong
        Targets that are weighted by sample on purpose.
    Fix
        ``nn.BCEWithLogitsLoss()`` for labels that are independent; else divide each row by its sum.
    References
        torch's documentation of CrossEntropyLoss, "probabilities for each class".
    """

    def holds(batch: BatchView) -> bool:
        return batch.target_sums is not None and (batch.target_sums[0] < 1 - OFF or batch.target_sums[1] > 1 + OFF)

    if not _again(view, history, holds) or view.batch is None or view.batch.target_sums is None:
        return
    low, high = view.batch.target_sums
    causes = likely("wrong-loss-for-task", first=0.9, fix="Use nn.BCEWithLogitsLoss() for labels that are independent.")
    yield Finding(
        layer="loss", status="warning", measured=high, limit=1.0, confidence=0.85, causes=causes, fix=causes[0].fix,
        what=f"cross_entropy gets targets whose classes sum to {low:.3g} to {high:.3g}, not to 1",
        why="A softmax shares one whole among the classes; here several hold at once, or none.",
        expected="rows that sum to 1", got=f"sums from {low:.3g} to {high:.3g}",
    )  # fmt: skip


@rules.register("target-with-gradient")
def target_with_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find bootstrapped targets that are part of the graph.

    What it measures
        The target of a loss: a constant plus a multiple of something with a graph, such as a reward plus the discounted
        value of the next state, on four measured steps in a row.
    Why it matters
        The loss then moves the target too: the value of the next state is pulled to that of this one.
    When it is wrong
        Residual-gradient methods, which want that.
    Fix
        ``target = reward + gamma * value(after).detach()``, or compute it under ``torch.no_grad()``.
    References
        Baird, "Residual Algorithms" (1995); Mnih et al., "Human-level control" (2015).
    """
    if not _again(view, history, lambda batch: batch.is_target_bootstrapped) or view.batch is None:
        return
    causes = likely("target-not-detached", first=0.9)
    yield Finding(
        layer="loss", status="warning", measured=1.0, limit=0.0, confidence=0.85, causes=causes, fix=causes[0].fix,
        what=f"the target of {view.batch.loss_name} is computed by a model, and gets a gradient",
        why="The loss pulls the target to the prediction, not only the prediction to the target.",
    )  # fmt: skip


def _again(view: StepView, history: History, holds: Callable[[BatchView], bool]) -> bool:
    """Return whether a condition holds now and on the measured steps before."""
    known = [view.batch, *(v.batch for v in history.recent(TIMES - 1))]
    return len(known) == TIMES and all(b is not None and holds(b) for b in known)
