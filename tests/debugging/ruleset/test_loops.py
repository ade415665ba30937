"""Rules about the loop around the model, and about modes, ties and replicas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbops.debugging.aspects import RankView
from nbops.debugging.views import StepView
from ruleset.making import (
    Case,
    after,
    alone,
    batch,
    check,
    evaluation,
    layer,
    model,
    step,
    stepper,
)  # fmt: skip

empty = StepView(3, optimizer="SGD", lr=(0.1,), empty_steps=3)
zero = step(9, layer("0", grad_norm=0.0), layer("1", grad_norm=0.0))
thrown = StepView(0, moment="backward", thrown_away=10)
anew = stepper("Adam", made=5, steps_of_all=5)
trained = model(is_training=True, has_dropout=True)
rested = model(is_training=False, has_dropout=True)

CASES = [
    Case(
        "backward-fails", alone(step(3, moment="backward", failure="backward through the graph a second time")),
        "error", "loss", "graph-kept",
        {"it ran": alone(step(3)), "another error": alone(step(3, failure="CUDA error"))},
    ),
    Case(
        "gradients-not-cleared", alone(step(5, uncleared_steps=3)), "error", "optimizer", "grads-not-cleared",
        {"twice is accumulation": alone(step(5, uncleared_steps=2)), "cleared": alone(step(5, is_cleared=True))},
    ),
    Case(
        "gradients-thrown-away", alone(thrown), "error", "optimizer", "step-missing",
        {
            "a few before the first step": alone(replace(thrown, thrown_away=9)),
            "importance of weights, after the training": alone(replace(thrown, step=50)),
        },
    ),
    Case(
        "gradients-thrown-away", alone(step(4, thrown_away=19, thrown_before=19)), "error", "optimizer",
        "step-outside-loop",
        {
            "once": alone(step(4, thrown_away=19)),
            "a bad batch was dropped": alone(step(4, thrown_away=1, thrown_before=1)),
        },
        name="a step per epoch",
    ),
    Case(
        "gradients-thrown-away", after(step(20, thrown_away=3)), "error", "optimizer", "grads-cleared-before-step",
        {
            "an adversary": after(step(20, thrown_away=3, optimizers=2)),
            "the first steps": after(step(3, thrown_away=3), times=3),
        },
        name="parts of each batch",
    ),
    Case(
        "step-without-gradient", alone(replace(empty, step=19, empty_steps=20, optimizers=2)), "error", "optimizer",
        "backward-missing",
        {"an adversary that rests": alone(replace(empty, step=60, empty_steps=20, optimizers=2))},
        name="never, beside another optimizer",
    ),
    Case(
        "step-without-gradient", alone(empty), "error", "optimizer", "backward-missing",
        {
            "two steps": alone(replace(empty, empty_steps=2)),
            "an adversary's": alone(replace(empty, optimizers=2)),
        },
        name="no backward pass",
    ),
    Case(
        "step-without-gradient", alone(replace(empty, passes=1, lost_passes=1)), "error", "loss", "graph-cut",
        {"it has some": alone(step(3, passes=1))}, name="reached nothing",
    ),
    Case(
        "step-without-gradient", alone(replace(empty, passes=1)), "error", "optimizer", "module-unused",
        {"it has some": alone(step(3, passes=1, backwards=1))}, name="reached others",
    ),
    Case(
        "step-without-gradient", alone(replace(empty, passes=1, backwards=1)), "error", "optimizer",
        "grads-cleared-before-step", {"it has some": alone(step(3, passes=1, backwards=1))}, name="gone",
    ),
    Case(
        "step-without-gradient", after(zero), "error", "optimizer", "grads-cleared-before-step",
        {
            "a loss at its floor": after(replace(zero, loss=0.0)),
            "one layer learns": after(step(9, layer("0", grad_norm=0.0), layer("1", grad_norm=1.0))),
            "the first steps": after(replace(zero, step=4), times=4),
        },
        name="zeros",
    ),
    Case(
        "step-without-gradient", after(step(9, layer("a", "ReLU", grad_norm=0.0, zero_share=1.0))), "error", "model",
        "dead-relu", {"alive": after(step(9, layer("a", "ReLU", grad_norm=0.1, zero_share=0.5)))}, name="dead",
    ),
    Case(
        "step-without-gradient",
        after(step(9, layer("s", "Softmax", grad_norm=0.0), batch=batch(is_output_constant=True))), "error", "model",
        "softmax-over-wrong-axis", {"it learns": after(step(9, layer("s", "Softmax", grad_norm=0.1)))},
        name="softmax of one",
    ),
    Case(
        "optimizer-made-anew", alone(step(1, stepper=anew)), "error", "optimizer", "optimizer-rebuilt-in-loop",
        {
            "one per stage": alone(step(1, stepper=replace(anew, steps_of_all=400))),
            "three": alone(step(1, stepper=replace(anew, made=3, steps_of_all=3))),
        },
    ),
    Case(
        "updated-twice", alone(step(1, stepper=stepper(twice=("head",)))), "error", "head",
        "parameter-twice-in-optimizer", {"once": alone(step(1, stepper=stepper()))},
    ),
    Case(
        "evaluated-in-training-mode", alone(evaluation(is_training_mode=True, active=("Dropout",))), "error", "model",
        "eval-in-train-mode",
        {
            "evaluation mode": alone(evaluation()),
            "nothing depends on the mode": alone(evaluation(is_training_mode=True)),
            "a generator's samples": alone(
                evaluation(is_training_mode=True, active=("BatchNorm2d",), phases=40, steps=40)
            ),
        },
    ),
    Case(
        "trained-in-evaluation-mode",
        after(step(9, model=rested), past=[step(0, model=trained), step(8, model=rested)]),
        "error", "model", "train-in-eval-mode",
        {
            "training mode": after(step(9, model=trained)),
            "nothing depends on the mode": after(step(9, model=model(is_training=False))),
            "one step": after(step(9, model=rested), past=[step(8, model=trained)]),
        },
        name="from an evaluation on",
    ),
    Case(
        "trained-in-evaluation-mode", after(step(9, model=rested)), "hint", "model", "train-in-eval-mode",
        {"four steps": after(step(9, model=rested), times=3)}, name="from the start",
    ),
    Case(
        "random-evaluation", alone(evaluation(difference=0.4, dropout=True)), "error", "model", "dropout-always-on",
        {
            "equal": alone(evaluation(difference=0.0, dropout=True)),
            "not tried": alone(evaluation()),
            "training mode is another rule's": alone(evaluation(difference=0.4, dropout=True, is_training_mode=True)),
        },
    ),
    Case(
        "random-evaluation", alone(evaluation(difference=0.4)), "hint", "model", "dropout-always-on",
        {"rounding": alone(evaluation(difference=1e-6))}, name="it samples",
    ),
    Case(
        "tie-broken", alone(step(9, model=model(untied=(("embed.weight", "head.weight"),)))), "error", "head",
        "tie-broken", {"tied": alone(step(9, model=model(tied=(("embed.weight", "head.weight"),))))},
    ),
    Case(
        "frozen-weights-changed", alone(step(9, model=model(frozen_changed=("body.weight",)))), "hint", "body", "",
        {"at rest": alone(step(9, model=model(trainable_share=0.5)))},
    ),
    Case(
        "replicas-differ", alone(step(9, ranks=RankView(2, 9, ("body.weight",)))), "error", "body", "replicas-differ",
        {"equal": alone(step(9, ranks=RankView(2, 9))), "one process": alone(step(9))},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
