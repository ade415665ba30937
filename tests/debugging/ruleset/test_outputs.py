"""Rules about what a model gives to its loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ruleset.making import (
    Case,
    after,
    batch,
    check,
    falling,
    flat,
    floats,
    labels,
    layer,
    regression,
    step,
)  # fmt: skip

soft = floats(0.01, 0.9, sizes=(32, 10))
softmaxed = step(40, layer("net"), layer("soft", "Softmax"), batch=batch(predictions=soft, is_softmaxed=True))
sigmoided = step(
    40, layer("gate", "Sigmoid"),
    batch=batch(predictions=floats(0.1, 0.9, sizes=(64, 1)), loss_name="binary_cross_entropy_with_logits", classes=2),
)  # fmt: skip
scores = batch(loss_name="nll_loss")
squashed = step(
    9, layer("last"), layer("act", "Sigmoid", sizes=(32, 1)), batch=regression(targets=floats(-2, 2, sizes=(32, 1)))
)
constant = step(9, layer("soft", "Softmax"), batch=batch(is_output_constant=True))
one_class = step(200, batch=batch(predicted_top_share=1.0, targets=labels(2, top_share=0.97)))
ignored = step(9, batch=batch(ignore_index=0, ignored_share=0.1))
large = step(100, batch=regression(targets=floats(0, 900, sizes=(32, 1))))

CASES = [
    Case(
        "probabilities-for-scores", after(softmaxed), "error", "soft", "double-softmax",
        {
            "raw scores": after(step(40, batch=batch(is_softmaxed=False))),
            "once only": after(softmaxed, past=[step(i) for i in range(40)]),
            "a loss of probabilities": after(replace(softmaxed, batch=batch(predictions=soft, loss_name="nll_loss"))),
            "an adversary": after(replace(softmaxed, optimizers=2)),
        },
    ),
    Case(
        "probabilities-for-scores", after(sigmoided, times=12), "error", "gate", "double-softmax",
        {
            "the first steps say nothing": after(replace(sigmoided, step=10)),
            "scores left the range a while ago": after(
                sigmoided, past=[step(30), *[replace(sigmoided, step=31 + i) for i in range(8)]]
            ),
        },
        name="between 0 and 1",
    ),
    Case(
        "scores-for-log-probabilities", after(step(9, batch=scores)), "error", "loss", "logits-to-nll",
        {
            "logarithms": after(step(9, batch=batch(loss_name="nll_loss", predictions=floats(-9, -0.1)))),
            "cross-entropy takes scores": after(step(9)),
        },
    ),
    Case(
        "loss-broadcasts", after(step(0, batch=regression(targets=floats(sizes=(32,)))), times=0),
        "error", "loss", "loss-broadcast",
        {
            "equal shapes": after(step(0, batch=regression())),
            "one value for all": after(step(0, batch=regression(targets=floats(sizes=())))),
            "a batch of one": after(
                step(0, batch=regression(targets=floats(sizes=(1,)), predictions=floats(sizes=(1, 1))))
            ),
        },
    ),
    Case(
        "output-range", after(squashed), "error", "act", "output-range",
        {
            "targets in range": after(replace(squashed, batch=regression(targets=floats(0, 1, sizes=(32, 1))))),
            "an activation in the middle": after(
                step(9, layer("act", "Sigmoid", sizes=(32, 1)), layer("last", sizes=(32, 1)), batch=squashed.batch)
            ),
            "of another size than the prediction": after(
                step(9, layer("act", "ReLU", sizes=(32, 64)), batch=squashed.batch)
            ),
            "a hair beyond": after(replace(squashed, batch=regression(targets=floats(-0.02, 1, sizes=(32, 1))))),
        },
    ),
    Case(
        "constant-output", after(constant), "error", "soft", "softmax-over-wrong-axis",
        {
            "different outputs": after(step(9)),
            "equal inputs": after(step(9, batch=batch(is_output_constant=True, duplicate_share=0.97))),
            "a last layer that starts at zero": after(
                constant, past=[*[constant] * 2, *[step(2 + i) for i in range(5)]]
            ),
        },
    ),
    Case(
        "constant-output", after(step(9, layer("act", "ReLU", zero_share=1.0), batch=batch(is_output_constant=True))),
        "error", "model", "dead-relu", {"before the fourth step": after(replace(constant, step=3))}, name="dead",
    ),
    Case(
        "one-class-only", after(one_class), "warning", "batch", "classes-imbalanced",
        {
            "two classes are predicted": after(step(200, batch=batch(predicted_top_share=0.9))),
            "early": after(replace(one_class, step=90)),
            "there is one class only": after(
                step(200, batch=batch(predicted_top_share=1.0, targets=labels(1, top_share=1.0)))
            ),
            "an adversary": after(replace(one_class, optimizers=2)),
        },
    ),
    Case(
        "one-class-only", after(step(200, batch=batch(predicted_top_share=1.0))), "warning", "model",
        "labels-not-of-inputs", {"rarely": after(step(200, batch=batch(predicted_top_share=1.0)), past=[step(9)])},
        name="of even classes",
    ),
    Case(
        "class-ignored", after(ignored), "warning", "loss", "real-class-ignored",
        {
            "the default": after(step(9, batch=batch(ignore_index=-100, ignored_share=0.1))),
            "padding of tokens": after(
                step(9, batch=batch(ignore_index=0, ignored_share=0.1, inputs=labels(500, sizes=(32, 20))))
            ),
            "a mask of pixels": after(
                step(9, batch=batch(ignore_index=0, ignored_share=0.1, targets=labels(sizes=(32, 9, 9))))
            ),
        },
    ),
    Case(
        "targets-not-scaled", after(large, losses=flat(100, at=3e5)), "warning", "batch", "targets-not-scaled",
        {
            "unit scale": after(step(100, batch=regression()), losses=flat(100)),
            "the loss falls all the same": after(large, losses=falling(100, first=3e5, last=100)),
            "before 60 steps": after(large, losses=flat(50, at=3e5)),
            "a classification": after(step(100), losses=flat(100)),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
