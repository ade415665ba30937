"""Rules about how values and gradients pass through the layers, and what a step does to the weights."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nbops.debugging.views import LayerView, Origin, StepView
from ruleset.making import (
    Case,
    Seen,
    after,
    alone,
    batch,
    check,
    falling,
    flat,
    floats,
    layer,
    regression,
    run,
    step,
    stepper,
)  # fmt: skip


def held(name: str, kind: str = "Linear", **numbers: float | bool | str | None) -> LayerView:
    return layer(name, kind, is_held=True, trainable_share=1.0, calls=1, **numbers)


def deep(*slopes: float, share: float = 0.0) -> StepView:
    """Layers with these gradients, first to last."""
    return step(60, *[layer(str(i), grad_rms=s, grad_norm=s, saturated_share=share) for i, s in enumerate(slopes)])


def started(*sizes: float, loss: float = 2.3, high: float = 2.0) -> Seen:
    """The first step of a model whose layers give outputs of these sizes."""
    layers = [layer(str(i), grad_rms=1.0, activation_rms=size) for i, size in enumerate(sizes)]
    return alone(step(0, *layers, loss=loss, batch=batch(inputs=floats(-high, high))))


def stages(*lengths: float, last: float = 2.0) -> Seen:
    """Updates of these lengths over the weights, one per step."""
    views = [
        step(i, layer("0", update_ratio=r, update_gain=r, moved=True), loss=1.0 + i) for i, r in enumerate(lengths)
    ]
    return after(replace(views[-1], loss=last), past=views[:-1])


def still(rate: float, *, moved_first: bool = False) -> Seen:
    views = [step(i, layer("0", moved=moved_first and i == 0, grad_norm=1.0), lr=(rate,)) for i in range(9)]
    return after(views[-1], past=views[:-1])


lost = step(9, held("body"), held("head", grad_norm=1.0))
blocked = step(9, held("body", grad_norm=0.0, weight_absmax=1.0), held("head", grad_norm=1.0))
silent = step(9, layer("f", silent=("weight",), grad_norm=1.0))
fading = deep(1e-6, 1e-4, 1e-2, 1.0)
gate = step(60, layer("g", "Sigmoid", saturated_share=0.95), layer("last", grad_norm=1.0))
last_gate = step(60, layer("last", grad_norm=1.0), layer("g", "Sigmoid", saturated_share=0.95))
twins = step(9, layer("h", symmetric_share=0.97, sizes=(32, 16)))
off = step(3, layer("a", "ReLU", zero_share=1.0))
dead = step(20, layer("h", dead_share=1.0), layer("next", dead_share=1.0, grad_norm=0.1))
spikes = [1.0] * 90 + [5e4, 1.0, 6e4, 1.0, 7e4]

CASES = [
    Case(
        "layer-without-gradient", after(lost), "error", "body", "graph-cut",
        {
            "it has one": after(step(9, held("body", grad_norm=0.1), held("head", grad_norm=1.0))),
            "frozen": after(step(9, layer("body", calls=1, trainable_share=0.0), held("head", grad_norm=1.0))),
            "not in the optimizer": after(step(9, layer("body", calls=1, trainable_share=1.0), held("h", grad_norm=1))),
            "not called": after(step(9, replace(held("body"), calls=0), held("head", grad_norm=1.0))),
            "an adversary's": after(replace(lost, optimizers=2)),
            "a gate that starts at zero": after(
                lost, past=[step(i, held("body", grad_norm=float(i > 6)), held("head", grad_norm=1)) for i in range(9)]
            ),
        },
    ),
    Case(
        "layer-without-gradient", after(blocked), "error", "body", "nondifferentiable-op",
        {"four steps": after(blocked, times=3)}, name="zeros",
    ),
    Case(
        "layer-without-gradient",
        after(step(9, held("body", grad_norm=0.0, is_low_precision=True, weight_absmax=1), held("h", grad_norm=1.0))),
        "error", "body", "gradients-underflow", {"the start": after(replace(lost, step=4), times=4)}, name="half",
    ),
    Case(
        "layer-without-gradient",
        after(step(9, held("body", grad_norm=0.0, weight_absmax=0.0), held("h", grad_norm=1.0))),
        "error", "body", "constant-init", {"all of them": after(step(9, held("body", grad_norm=0.0)))},
        name="weights of zero",
    ),
    Case(
        "part-without-gradient", after(silent), "error", "f", "graph-cut",
        {
            "once": after(silent, past=[step(i, layer("f", grad_norm=1.0)) for i in range(9)]),
            "all of it has one": after(step(9, layer("f", grad_norm=1.0))),
        },
    ),
    Case(
        "vanishing-gradient", after(fading, losses=flat(60)), "warning", "0", "vanishing-gradient",
        {
            "even": after(deep(0.1, 0.2, 0.5, 1.0), losses=flat(60)),
            "it learns": after(fading, losses=falling(60)),
            "shallow": after(deep(1e-6, 1e-3, 1.0), losses=flat(60)),
            "an adversary": after(replace(fading, optimizers=2), losses=flat(60)),
            "early": after(replace(fading, step=20), losses=flat(20)),
        },
    ),
    Case(
        "exploding-gradient", after(step(95), losses=flat(95), norms=spikes), "warning", "(all)", "exploding-gradient",
        {
            "even": after(step(95), losses=flat(95), norms=[1.0] * 95),
            "a rare sample": after(step(95), losses=flat(95), norms=[*[1.0] * 90, 5e4, *[1.0] * 4]),
            "it learns": after(step(95), losses=falling(95), norms=spikes),
        },
    ),
    Case(
        "saturated-units", after(gate, losses=flat(60)), "warning", "g", "saturated-activation",
        {
            "half of it": after(step(60, layer("g", "Sigmoid", saturated_share=0.5)), losses=flat(60)),
            "the start": after(replace(gate, step=10), losses=flat(60)),
            "the last layer of a good classifier": after(last_gate, losses=falling(60)),
        },
    ),
    Case(
        "saturated-units", after(gate, losses=falling(60)), "hint", "g", "saturated-activation",
        {"once": after(gate, past=[step(i, layer("g", saturated_share=0.0)) for i in range(9)])}, name="it learns",
    ),
    Case(
        "saturated-units", after(replace(gate, batch=batch(inputs=floats(0, 255))), losses=flat(60)), "warning", "g",
        "inputs-not-scaled", {"open": after(step(60, layer("g", "Tanh", saturated_share=0.1)))}, name="large inputs",
    ),
    Case(
        "symmetric-units", after(twins), "error", "h", "constant-init",
        {
            "different": after(step(9, layer("h", symmetric_share=0.0, sizes=(32, 16)))),
            "two outputs": after(step(9, layer("h", symmetric_share=1.0, sizes=(32, 2)))),
            "two steps": after(twins, times=1),
        },
    ),
    Case(
        "poor-start", started(1.0, 1.0, 1.0, 1.0, loss=40.0), "warning", "3", "init-too-large",
        {
            "the loss of guessing": started(1.0, 1.1, 0.9, 1.0),
            "eight micro-batches": alone(step(0, layer("0"), loss=18.4, backwards=8)),
            "a later step": after(step(9, layer("0", grad_rms=1.0, activation_rms=1.0), loss=40.0)),
            "a regression of large targets": alone(step(0, layer("0"), loss=4e4, batch=regression())),
        },
        name="loss",
    ),
    Case(
        "poor-start", started(1.0, 1.0, loss=40.0, high=200.0), "warning", "batch", "inputs-not-scaled",
        {"a good loss": started(1.0, 1.0, high=200.0)}, name="loss of large inputs",
    ),
    Case(
        "poor-start", started(1.0, 1.2, 40.0, 4e4), "warning", "2", "init-too-large",
        {"tenfold": started(1.0, 2.0, 5.0, 10.0)}, name="growing",
    ),
    Case(
        "poor-start", started(1.0, 0.5, 1e-3, 1e-5), "warning", "2", "init-too-small",
        {
            "a hundredth": started(1.0, 0.3, 0.1, 0.01),
            "three layers": started(1.0, 1e-3, 1e-6),
            "a last layer of zeros": started(1.0, 0.8, 1.0, 0.9, 0.0),
        },
        name="fading",
    ),
    Case(
        "never-on", after(off, times=2), "error", "a", "dead-relu",
        {
            "half of it is on": after(step(3, layer("a", "ReLU", zero_share=0.5))),
            "two steps": after(off, times=1),
            "an adversary": after(replace(off, optimizers=2)),
            "a dropout layer": after(step(3, layer("d", "Dropout", zero_share=1.0))),
        },
    ),
    Case(
        "dead-units", alone(dead), "error", "h", "dead-relu",
        {
            "a few": alone(step(20, layer("h", dead_share=0.5, grad_norm=0.1))),
            "the start": alone(replace(dead, step=9)),
            "no gradient at all": alone(step(20, layer("h", dead_share=1.0, grad_norm=0.0))),
        },
    ),
    Case(
        "no-update", still(0.0), "error", "optimizer", "scheduler-not-stepped",
        {"it moves": after(step(9, layer("0", moved=True)))}, name="rate 0",
    ),
    Case(
        "no-update", still(1e-12), "error", "(all)", "updates-below-precision",
        {"at rest after a while": still(0.1, moved_first=True)}, name="precision",
    ),
    Case(
        "no-update", still(0.0, moved_first=True), "warning", "optimizer", "scheduler-not-stepped",
        {"no gradient, no statement": after(step(9, layer("0")))}, name="schedule ended at 0",
    ),
    Case(
        "no-update", alone(StepView(0, optimizer="SGD", stray_steps=10)), "error", "optimizer",
        "optimizer-of-other-parameters", {"a critic's first": alone(StepView(0, stray_steps=9))}, name="stray",
    ),
    Case(
        "no-update", alone(step(15, layer("head", is_missing=True, grad_norm=1.0))), "warning", "head",
        "parameters-not-in-optimizer",
        {"a second optimizer may come": alone(step(14, layer("head", is_missing=True, grad_norm=1.0)))}, name="missing",
    ),
    Case(
        "exploding-update-ratio", stages(0.1, 2.0, 2.0, 3.0, 0.1), "error", "0", "lr-too-high",
        {
            "usual": stages(0.01, 0.02, 0.01, 0.01, 0.01),
            "twice": stages(0.1, 2.0, 2.0, 0.1, 0.1),
            "the loss has fallen": stages(0.1, 2.0, 2.0, 3.0, 0.1, last=0.5),
        },
    ),
    Case(
        "non-finite-loss",
        alone(step(9, loss=math.nan, origin=Origin("f", "output", "in f", 0.9, op="aten.log.default"))),
        "error", "f", "log-of-zero", {"finite": alone(step(9)), "not known": alone(step(9, loss=None))},
    ),
    Case(
        "non-finite-gradient",
        alone(step(9, layer("f", is_grad_finite=False),
                   origin=Origin("f", "gradient", "in f", 0.9, op="aten.sqrt.default", phase="backward"))),
        "error", "f", "sqrt-at-zero",
        {
            "finite": alone(step(9, layer("f"))),
            "the loss says it": alone(step(9, layer("f", is_grad_finite=False), loss=math.nan)),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("op", "phase", "cause"),
    [
        ("aten.div.Tensor", "forward", "division-by-zero"), ("aten.div.Tensor", "backward", "where-gradient"),
        ("aten.log.default", "backward", "where-gradient"), ("aten.log1p.default", "forward", "domain-error"),
        ("aten._softmax.default", "forward", "mask-all-inf"), ("aten.exp.default", "forward", "exp-overflow"),
        ("aten.acos.default", "forward", "domain-error"), ("aten.pow.Tensor_Scalar", "backward", "where-gradient"),
        ("aten.linalg_vector_norm.default", "backward", "sqrt-at-zero"),
        ("aten.mm.default", "forward", "exploding-gradient"),
        ("aten.addmm.default", "forward", "exploding-gradient"),
        ("aten._log_softmax.default", "forward", "mask-all-inf"),
        ("aten.logsumexp.default", "forward", "mask-all-inf"), ("aten.expm1.default", "forward", "exp-overflow"),
        ("aten.native_layer_norm.default", "forward", "exploding-gradient"),
        ("aten.native_batch_norm.default", "forward", "exploding-gradient"),
    ],
)  # fmt: skip
def test_cause_of_a_bad_value_by_its_operation(op: str, phase: str, cause: str) -> None:
    origin = Origin("f", "output", "in f", 0.9, op=op, phase=phase)
    [found] = run("non-finite-loss", alone(step(9, loss=math.nan, origin=origin)))
    assert found.causes[0].name == cause
    assert found.evidence["op"] == op


@pytest.mark.parametrize(("place", "cause"), [("input", "nan-in-data"), ("weights", "lr-too-high")])
def test_cause_of_a_bad_value_by_its_place(place: str, cause: str) -> None:
    [found] = run("non-finite-loss", alone(step(9, loss=math.inf, origin=Origin("batch", place, "there", 0.9))))
    assert found.causes[0].name == cause


def test_too_long_steps_by_what_goes_in() -> None:
    """Large inputs or targets make steps long at a usual rate."""
    _, history = stages(0.1, 2.0, 2.0, 3.0, 3.0)
    for seen, cause in ((batch(inputs=floats(0, 255)), "inputs-not-scaled"),
                        (regression(targets=floats(0, 900, sizes=(32, 1))), "targets-not-scaled")):  # fmt: skip
        view = step(5, layer("0", update_ratio=3.0, update_gain=3.0), loss=9.0, batch=seen)
        [found] = run("exploding-update-ratio", (view, history))
        assert found.causes[0].name == cause


def test_rates_of_two_groups_are_told() -> None:
    view, history = still(0.0)
    [found] = run("no-update", (replace(view, lr=(0.0, 0.0), stepper=stepper()), history))
    assert "learning rate 0, 0" in found.what
