"""Rules about targets, about what evaluations are given and keep, and about models trained against each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbops.debugging.aspects import Spread
from ruleset.making import Case, after, alone, batch, check, evaluation, labels, layer, model, regression, step, stepper

reversed_weights = step(30, batch=batch(label_imbalance=9.0, rare_weight=0.1))
several = step(30, batch=batch(target_sums=(0.0, 3.0)))
bootstrapped = step(30, batch=regression(is_target_bootstrapped=True))
usual = Spread(8, (3, 32, 32), 0.0, 1.0, 0.02)
unscaled = replace(usual, mean=0.45, std=0.27)
raw = evaluation(inputs=unscaled, trained=usual)
rivals = step(30, stepper=stepper("Adam", rival="SGD"))
graphs = step(30, stepper=stepper(has_graph=True))
kept = evaluation(kept_graphs=8)
drifted = step(30, model=model(drifted=(("norm", 0.9),)))
faded = step(100, layer("0", update_ratio=1e-7), optimizers=2)
fading = [0.1] * 20 + [1e-5] * 80

CASES = [
    Case(
        "class-weights-reversed", after(reversed_weights), "warning", "loss", "class-weights-wrong",
        {
            "weights that make up for it": after(step(30, batch=batch(label_imbalance=9.0, rare_weight=9.0))),
            "even labels": after(step(30, batch=batch(label_imbalance=1.5, rare_weight=0.4))),
            "a class that is left out": after(step(30, batch=batch(label_imbalance=9.0, rare_weight=0.0))),
            "no weights": after(step(30)),
            "one batch": alone(reversed_weights),
        },
    ),
    Case(
        "targets-are-no-distribution", after(several), "warning", "loss", "wrong-loss-for-task",
        {
            "smoothed or mixed labels": after(step(30, batch=batch(target_sums=(0.9999, 1.0001)))),
            "class numbers": after(step(30, batch=batch(targets=labels()))),
            "one batch": alone(several),
        },
    ),
    Case(
        "target-with-gradient", after(bootstrapped), "warning", "loss", "target-not-detached",
        {"detached": after(step(30, batch=regression())), "one batch": alone(bootstrapped)},
    ),
    Case(
        "evaluated-on-another-scale", alone(raw), "warning", "batch", "eval-preprocessing-differs",
        {
            "the same scale": alone(evaluation(inputs=replace(usual, mean=0.1, std=0.9), trained=usual)),
            "batches that differ as much": alone(
                evaluation(inputs=replace(usual, mean=0.6), trained=replace(usual, spread=0.2))
            ),
            "a few training steps": alone(evaluation(inputs=unscaled, trained=replace(usual, batches=3))),
            "inputs of another shape": alone(
                evaluation(inputs=replace(usual, mean=5.0, sizes=(3, 64, 64)), trained=usual)
            ),
            "a sample per step": alone(evaluation(inputs=unscaled, trained=usual, phases=40, steps=40)),
            "few samples": alone(evaluation(inputs=unscaled, trained=usual, rows=8)),
        },
    ),
    Case(
        "evaluated-on-another-scale", alone(evaluation(inputs=replace(usual, std=3.0), trained=usual)), "warning",
        "batch", "eval-preprocessing-differs",
        {"a little wider": alone(evaluation(inputs=replace(usual, std=1.5), trained=usual))}, name="stretched",
    ),
    Case(
        "trained-by-two-optimizers", alone(rivals), "warning", "optimizer", "detach-missing",
        {"one optimizer": alone(step(30, stepper=stepper("Adam")))},
    ),
    Case(
        "gradients-with-graphs", after(graphs), "warning", "loss", "graph-kept",
        {"plain gradients": after(step(30, stepper=stepper())), "one step": alone(graphs)},
    ),
    Case(
        "evaluation-keeps-graphs", alone(kept), "error", "model", "graph-kept",
        {"a few": alone(evaluation(kept_graphs=6)), "under no_grad": alone(evaluation())},
    ),
    Case(
        "frozen-statistics-moved", alone(drifted), "warning", "norm", "running-stats-wrong",
        {
            "a little": alone(step(30, model=model(drifted=(("norm", 0.2),)))),
            "the first steps": alone(replace(drifted, step=10)),
            "nothing is frozen": alone(step(30, model=model())),
        },
    ),
    Case(
        "adversary-without-gradient", after(faded, norms=fading), "warning", "model", "gan-unbalanced",
        {
            "alone": after(replace(faded, optimizers=1), norms=fading),
            "it moves": after(step(100, layer("0", update_ratio=1e-3), optimizers=2), norms=fading),
            "even from the start": after(faded, norms=[1e-5] * 100),
            "before 60 steps": after(replace(faded, step=40), norms=fading[:40]),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)
