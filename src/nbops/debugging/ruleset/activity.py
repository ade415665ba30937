"""Rules about what layers give: units that never fire."""

from __future__ import annotations

from collections.abc import Iterator

from nbops.debugging.causes import likely
from nbops.debugging.rules import rules
from nbops.debugging.ruleset.trends import suspects
from nbops.debugging.views import Finding, History, StepView

WARM_UP_STEPS = 10
DEAD_SHARE = 0.8


@rules.register("dead-units")
def dead_units(view: StepView, history: History) -> Iterator[Finding]:
    """Find layers most of whose units are off for every sample and get no gradient.

    What it measures
        Per unit of a linear, convolution or normalisation layer: its largest output before the activation over the
        batch, and its gradient. A unit is dead when the output is never above 0 and weight and bias get a gradient
        of exactly 0, on five sampled steps in a row and over at least 200 samples. It fires at 80 %
        of the units.
    Why it matters
        A dead unit never comes back: its gradient is 0 for every sample, so the layer lost that capacity.
    When it is wrong
        Layers that an architecture switches off for long (experts that are not routed to).
    Fix
        A lower learning rate, a bias that starts at 0, LeakyReLU or GELU, He initialisation.
    References
        SageMaker Debugger, rule DeadRelu (layer limit 50 %; half of the units of a small healthy network may be off
        from the start, so ours is 80 %). The gradient is judged too because activity alone raises false alarms: see
        DeepDiagnosis, "dead node".
    """
    if view.step < WARM_UP_STEPS or not view.grad_norm:
        return  # all gradients zero: the loss is at its floor or the graph is cut, which says nothing about units
    for layer in view.layers.values():
        share = layer.dead_share
        if share is None or share < DEAD_SHARE:
            continue
        causes = likely(*suspects(view, history), "dead-relu", "lr-too-high", "init-too-large")
        yield Finding(
            layer=layer.name, status="error" if share == 1.0 else "warning", measured=share, limit=DEAD_SHARE,
            confidence=0.9 if share == 1.0 else 0.75, causes=causes,
            what=f"{share:.0%} of the units of '{layer.name}' are off for every sample and get no gradient",
            why="Their input to the activation is never above 0: a large negative bias, too large a step before, or "
            "inputs that are not centred.",
            fix="Lower the learning rate, start the bias at 0, or use LeakyReLU or GELU after this layer.",
        )  # fmt: skip
        if share == 1.0:
            return  # layers behind see a constant input, and may look dead because of this one
