"""Rules about models that are trained against each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding, History, StepView

STEPS = 60
FAINT = 1e-3  # norm of all gradients
STILL = 3e-5  # of the weights, per step


@rules.register("adversary-without-gradient")
def adversary_without_gradient(view: StepView, history: History) -> Iterator[Finding]:
    """Find models that learn nothing any more because their adversary has won.

    What it measures
        With several optimizers: the norm of all gradients, whose median over twenty steps is below 0.001 and below a
        third of that of the first ten, and updates below 0.00003 of the weights in every layer.
    Why it matters
        The loser gets no gradient to catch up with: a generator stays as it is while its critic is always right.
    When it is wrong
        A model that has reached its goal; its loss is then near the value of a draw.
    Fix
        Fewer or slower steps of the stronger one, and the non-saturating loss of a generator.
    References
        Goodfellow et al., "Generative Adversarial Networks" (2014), section 3; Arjovsky and Bottou (2017).
    """
    norms = [norm for _, _, norm in history.curve if math.isfinite(norm)]
    if view.optimizers < 2 or len(norms) < STEPS or view.step < STEPS:
        return
    first, last = statistics.median(norms[:10]), statistics.median(norms[-20:])
    recent = history.recent(3)
    moves = [one.update_ratio for v in recent for one in v.layers.values() if one.update_ratio is not None]
    if len(recent) < 3 or not moves or max(moves) >= STILL or not last < min(FAINT, first / 3):
        return
    causes = likely("gan-unbalanced", "vanishing-gradient", first=0.75)
    yield Finding(
        layer="model", status="warning", measured=last, limit=FAINT, confidence=0.75, causes=causes, fix=causes[0].fix,
        what=f"the gradients have faded to {last:.1e}, and the model does not move any more, while another one does",
        why="Its adversary is always right, and leaves it no slope.",
    )  # fmt: skip
