"""Rules about settings of the optimizer, the course of the loss, what is logged, and where the time goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from nbops.debugging.aspects import MetricView
from nbops.debugging.views import StepView
from ruleset.making import (
    Case,
    Seen,
    after,
    alone,
    batch,
    check,
    evaluation,
    falling,
    flat,
    floats,
    labels,
    layer,
    regression,
    rising,
    run,
    step,
    stepper,
    timing,
)  # fmt: skip


def set_to(kind: str = "SGD", *, rate: float = 0.1, **settings: float | bool | tuple[float, ...]) -> Seen:
    return alone(step(3, stepper=stepper(kind, settings=settings), lr=(rate,)))


def rates(*values: float, losses: Sequence[float] = ()) -> Seen:
    views = [step(i, lr=(rate,)) for i, rate in enumerate(values)]
    return after(views[-1], past=views[:-1], losses=losses)


def slow(ratio: float = 1e-6, *, losses: Sequence[float], norm: float = 1.0, rate: float = 0.1, kind: str = "SGD",
         first_rate: float | None = None, **settings: float) -> Seen:  # fmt: skip
    """A hundred steps whose updates are this long over the weights."""
    view = step(100, layer("0", update_ratio=ratio), stepper=stepper(kind, settings=settings), lr=(rate,))
    past = [replace(view, step=i, lr=(rate if i or first_rate is None else first_rate,)) for i in range(20)]
    return after(
        view,
        past=past,
        losses=losses,
        norms=[norm * (1 if norm < 1 else 1 + 0.3 * (-1) ** i) for i in range(len(losses))],
    )


def clipped(norm: float, *, kind: str = "SGD", losses: Sequence[float] = (), scale: float | None = None) -> Seen:
    return after(step(100, stepper=stepper(kind, scale=scale)), losses=losses or flat(100), norms=[norm] * 100)


def shrunk(weights: float, *, decay: float = 0.9, losses: Sequence[float] = ()) -> Seen:
    view = step(100, layer("0", weight_norm=weights), stepper=stepper(settings={"weight_decay": decay}))
    first = replace(view, step=0, layers={"0": layer("0", weight_norm=10.0)})
    return after(view, past=[first], losses=losses or flat(100))


def low(
    share: float, *, kind: str = "AdamW", is_low: bool = True, moved: bool = True, losses: Sequence[float] = (),
) -> Seen:  # fmt: skip
    one = layer("0", moved=moved, moved_share=share, is_low_precision=is_low, update_ratio=1e-4)
    return after(step(20, one, stepper=stepper(kind)), losses=losses)


def logged(name: str, *values: float, **fields: object) -> StepView:
    falls = sum(b < a for a, b in pairwise(values))
    metric = MetricView(name, len(values), values[0], values[-1], min(values), max(values), falls)
    return replace(step(40), moment="metric", metrics={name: metric}, **fields)  # type: ignore[arg-type]


def guessing(loss: float, **fields: Any) -> Seen:
    views = [replace(step(210 + i, layer("0", update_ratio=1e-3), loss=loss), **fields) for i in range(20)]
    return after(views[-1], past=views, losses=flat(231, at=loss))


def warm_up(steps: int = 200) -> Seen:
    views = [step(i, lr=(i * 1e-4,)) for i in range(steps - 20, steps)]
    return after(views[-1], past=views[:-1], losses=flat(steps))


negated = step(60, loss=-2.3, batch=batch(loss_value=2.3))
down = [-one for one in rising(60)]
busy = step(80, timing=timing(gpu_share=0.1))
held = step(9, timing=timing(kept_graphs=9))
overfit = evaluation(loss=1.2, best_loss=0.4, train_loss=0.1, phases=6)
grown = timing(memory_bytes=3_000_000_000, memory_growth_bytes=1_500_000_000)

CASES = [
    Case("odd-settings", set_to(momentum=0.999), "warning", "optimizer", "momentum-too-high", {
        "defaults of SGD": set_to(momentum=0.9, weight_decay=5e-4, maximize=False),
        "defaults of AdamW": set_to("AdamW", rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
        "a rate of 1 under SGD": set_to(rate=1.0),
        "strong decay of AdamW times a small rate": set_to("AdamW", rate=1e-3, weight_decay=0.5),
    }, name="momentum"),
    Case("odd-settings", set_to("Adam", rate=1e-3, betas=(0.999, 0.999)), "warning", "optimizer", "momentum-too-high", {
        "betas of a GAN": set_to("Adam", rate=2e-4, betas=(0.5, 0.999)),
    }, name="beta"),
    Case("odd-settings", set_to("Adam", rate=1e-3, eps=0.0), "warning", "optimizer", "eps-wrong", {
        "1e-4": set_to("Adam", rate=1e-3, eps=1e-4),
    }, name="eps 0"),
    Case("odd-settings", set_to("RMSprop", rate=1e-3, eps=1.0), "warning", "optimizer", "eps-wrong", {
        "SGD has none": set_to(),
    }, name="eps 1"),
    Case("odd-settings", set_to("Adam", rate=1.0), "warning", "optimizer", "lr-too-high", {
        "0.1": set_to("Adam", rate=0.1),
    }, name="rate"),
    Case("odd-settings", set_to(weight_decay=0.5), "warning", "optimizer", "weight-decay-too-high", {
        "0.05": set_to(weight_decay=0.05),
    }, name="decay"),
    Case("odd-settings", set_to(maximize=True), "error", "optimizer", "loss-sign", {
        "a policy": alone(step(3, stepper=stepper(settings={"maximize": True}), batch=batch(loss_name=""))),
    }, name="maximize"),
    Case("rate-vanished", rates(0.1, 0.1, 1e-5, losses=flat(60)), "warning", "optimizer", "scheduler-decays-too-fast", {
        "a tenth": rates(0.1, 0.1, 0.01, losses=flat(60)),
        "learned by then": rates(0.1, 0.1, 1e-5, losses=falling(60)),
        "late": after(step(401, lr=(1e-5,)), past=[step(0)], losses=flat(60)),
        "an evaluation has no rate": (evaluation(), rates(0.1, 0.1)[1]),
    }),
    Case("rate-grows", rates(*[0.1 * 1.2**i for i in range(6)]), "warning", "optimizer", "scheduler-misread", {
        "linear warm-up": rates(*[0.01 * i for i in range(1, 12)]),
        "cosine warm-up": rates(*[0.1 * (1 - math.cos(math.pi * i / 20)) for i in range(1, 12)]),
        "falling": rates(*[0.1 * 0.9**i for i in range(9)]),
        "constant": rates(*[0.1] * 9),
        "one step up": rates(0.01, 0.01, 0.1, 0.1),
    }),
    Case("rate-too-low", slow(losses=flat(100)), "warning", "optimizer", "lr-too-low", {
        "usual updates": slow(1e-3, losses=flat(100)),
        "it learns": slow(losses=falling(100)),
        "a loss at its floor": slow(losses=flat(100, at=0.01)),
        "no step at all is another rule's": slow(0.0, losses=flat(100)),
        "an adversary": (replace(slow(losses=flat(100))[0], optimizers=2), slow(losses=flat(100))[1]),
    }),
    Case("rate-too-low", slow(losses=flat(100), kind="Adam", eps=0.1), "warning", "optimizer", "eps-wrong", {
        "80 steps": slow(losses=flat(70), kind="Adam", eps=0.1),
    }, name="eps"),
    Case("rate-too-low", slow(losses=flat(100), norm=1e-3), "warning", "optimizer", "clip-too-small", {
        "it learns": slow(losses=falling(100), norm=1e-3),
    }, name="clipped"),
    Case("rate-too-low", slow(losses=flat(100), first_rate=50.0), "warning", "optimizer", "scheduler-decays-too-fast", {
        "it learns": slow(losses=falling(100), first_rate=50.0),
    }, name="decayed"),
    Case("clipped-to-nothing", clipped(1e-3), "warning", "optimizer", "clip-too-small", {
        "clipped at 1": clipped(1.0),
        "Adam rescales": clipped(1e-3, kind="Adam"),
        "it learns": clipped(1e-3, losses=falling(100)),
        "small, but not one value": after(
            step(100, stepper=stepper()), losses=flat(100), norms=[1e-3 * (1 + i % 3) for i in range(100)]
        ),
    }),
    Case("clipped-to-nothing", clipped(1e-3, kind="Adam", scale=65536.0), "warning", "optimizer", "scaler-misused", {
        "clipped at 1": clipped(1.0, kind="Adam", scale=65536.0),
    }, name="scaled gradients"),
    Case("weights-decay", shrunk(1.0), "warning", "optimizer", "weight-decay-too-high", {
        "as large as before": shrunk(9.0),
        "without decay": shrunk(1.0, decay=0.0),
        "it learns": shrunk(1.0, losses=falling(100)),
    }),
    Case("updates-swallowed", low(0.1), "warning", "0", "updates-below-precision", {
        "float32": low(0.1, is_low=False),
        "most of it moves": low(0.9),
        "it learns": low(0.2, losses=falling(60)),
        "SGD leaves small gradients alone": low(0.1, kind="SGD"),
        "no step at all is another rule's": low(0.0, moved=False),
    }),
    Case("updates-swallowed", low(0.0), "warning", "0", "updates-below-precision", {
        "most of it moves": low(0.9),
    }, name="only biases move"),
    Case("loss-not-falling", after(step(200), losses=flat(200)), "warning", "loss", "lr-too-low", {
        "it falls": after(step(200), losses=falling(200)),
        "slowly": after(step(200), losses=falling(200, last=2.2)),
        "it has fallen": after(step(200), losses=[*falling(100), *flat(100, at=2.3)]),
        "single samples": after(step(200, batch=batch(targets=labels(sizes=(1,)))), losses=flat(200)),
        "149 steps": after(step(149), losses=flat(149)),
        "at its floor": after(step(200), losses=flat(200, at=1e-4)),
        "an adversary": after(step(200, optimizers=2), losses=flat(200)),
        "a policy": after(step(200, batch=batch(loss_name="")), losses=flat(200)),
        "a warm-up": warm_up(),
    }),
    Case("loss-diverging", after(step(60), losses=rising(60)), "error", "optimizer", "lr-too-high", {
        "it falls": after(step(60), losses=falling(60)),
        "twice its start": after(step(60), losses=rising(60, last=4.6)),
        "from a start near 0": after(step(60), losses=rising(60, first=1e-4, last=0.05)),
        "an adversary": after(step(60, optimizers=2), losses=rising(60)),
    }),
    Case("loss-diverging", after(step(60, layer("0", update_ratio=1e-3)), losses=rising(60)), "error", "loss",
         "loss-sign", {"a policy": after(step(60, batch=batch(loss_name="")), losses=rising(60))}, name="evenly"),
    Case("overfitting", alone(overfit), "hint", "model", "", {
        "at its best": alone(evaluation(loss=0.4, best_loss=0.4, train_loss=0.1, phases=6)),
        "both rise": alone(evaluation(loss=1.2, best_loss=0.4, train_loss=1.1, phases=6)),
        "the third": alone(evaluation(loss=1.2, best_loss=0.4, train_loss=0.1, phases=3)),
        "several optimizers": alone(evaluation(loss=1.2, best_loss=0.4, phases=6)),
    }),
    Case("loss-sign", after(negated, losses=down), "error", "loss", "loss-sign", {
        "above 0": after(step(60), losses=flat(60)),
        "an adversary": after(replace(negated, optimizers=2), losses=down),
        "one term of several": after(replace(negated, batch=batch(loss_value=0.7)), losses=down),
        "a likelihood": after(replace(negated, batch=batch(loss_name="nll_loss")), losses=down),
        "a policy": after(replace(negated, batch=batch(loss_name="")), losses=down),
        "several losses": after(replace(negated, losses={"a:1": 1.0, "a:2": -9.0}), losses=down),
        "soft labels": after(replace(negated, batch=batch(targets=floats(0, 1, sizes=(32, 10)))), losses=down),
    }),
    Case("metric-far-off", alone(logged("acc", 0.1, 0.12, 0.1, batch=batch(accuracy=0.98))), "warning", "metric acc",
         "metric-wrong-axis", {
        "near the batch's": alone(logged("acc", 0.7, 0.8, 0.9, batch=batch(accuracy=0.98))),
        "the model is no better": alone(logged("acc", 0.1, 0.12, 0.1, batch=batch(accuracy=0.12))),
        "two values": alone(logged("acc", 0.1, 0.12, batch=batch(accuracy=0.98))),
        "another name": alone(logged("loss", 0.1, 0.12, 0.1, batch=batch(accuracy=0.98))),
    }),
    Case("no-better-than-guessing", guessing(2.29), "warning", "batch", "labels-not-of-inputs", {
        "it learns": guessing(1.9),
        "two classes": guessing(0.69, batch=batch(classes=2)),
        "one class is common": guessing(2.29, batch=batch(targets=labels(top_share=0.6))),
        "several optimizers": guessing(2.29, optimizers=2),
    }),
    Case("metric-out-of-range", alone(logged("val/acc", 150.0)), "error", "metric val/acc", "metric-broadcast", {
        "a share": alone(logged("val/acc", 0.93)),
        "a percentage": alone(logged("val/acc", 93.0, batch=batch(accuracy=0.9))),
        "another name": alone(logged("tokens", 150.0)),
    }),
    Case("metric-out-of-range", alone(logged("f1", 1.83, batch=batch(accuracy=0.9))), "error", "metric f1",
         "metric-broadcast", {
        "nothing to compare it with": alone(logged("f1", 1.83)),
    }, name="far from the batch"),
    Case("metric-accumulates", after(logged("train_loss", 1.0, 2.0, 3.0, 4.0, 5.0), losses=falling(60)), "error",
         "metric train_loss", "metric-not-reset", {
        "it falls": after(logged("train_loss", 5.0, 4.0, 3.0, 2.0, 1.0), losses=falling(60)),
        "the model overfits": after(logged("val_loss", 1.0, 2.0, 3.0, 4.0, 5.0), losses=falling(60)),
        "the loss rises too": after(logged("train_loss", 1.0, 2.0, 3.0, 4.0, 5.0), losses=rising(60)),
        "four values": after(logged("train_loss", 1.0, 2.0, 3.0, 4.0), losses=falling(60)),
        "one fall": after(logged("train_loss", 1.0, 2.0, 1.9, 4.0, 5.0), losses=falling(60)),
    }),
    Case("data-loader-bound", alone(step(80, timing=timing(data_ms=8.0, loader_workers=0))), "warning", "data",
         "loader-bound", {
        "a tenth": alone(step(80, timing=timing(data_ms=1.0, loader_workers=0))),
        "no loader": alone(step(80, timing=timing(data_ms=8.0))),
        "the start": alone(step(80, timing=timing(data_ms=8.0, loader_workers=0, steps=20))),
        "tiny steps": alone(step(80, timing=timing(step_ms=1.0, data_ms=0.9, loader_workers=0))),
    }),
    Case("graphs-kept", after(held), "error", "loss", "graph-kept", {
        "one": after(step(9, timing=timing(kept_graphs=1))),
        "two steps": after(held, times=1),
        "summed over four steps": after(step(9, timing=timing(kept_graphs=4))),
    }),
    Case("memory-grows", alone(step(80, timing=grown)), "hint", "loop", "graph-kept", {
        "a little": alone(step(80, timing=replace(grown, memory_growth_bytes=200_000_000))),
        "of a large process": alone(
            step(80, timing=replace(grown, memory_bytes=40_000_000_000))
        ),
        "the start": alone(step(80, timing=replace(grown, steps=10))),
    }),
    Case("uneven-steps", alone(step(80, timing=timing(outlier_share=0.08, step_ms=30.0))), "hint", "loop", "", {
        "even": alone(step(80, timing=timing(outlier_share=0.01))),
        "short": alone(step(80, timing=timing(outlier_share=0.08, step_ms=1.0))),
    }),
    Case("low-gpu-use", after(busy), "hint", "loop", "", {
        "busy": after(step(80, timing=timing(gpu_share=0.9))),
        "no GPU": after(step(80, timing=timing())),
        "the start": after(replace(busy, step=30)),
    }),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rule(case: Case) -> None:
    check(case)


FLAT = [
    (step(200, batch=batch(is_output_constant=True)), "dead-relu"),
    (step(200, layer("g", "Sigmoid", saturated_share=0.9)), "saturated-activation"),
    (step(200, layer("h", dead_share=0.6)), "dead-relu"),
    (step(200, layer("h", update_ratio=1e-6)), "lr-too-low"),
    (step(200, *[layer(str(i), update_ratio=1e-3, grad_rms=10.0 ** (3 * i)) for i in range(4)]), "vanishing-gradient"),
    (step(200, layer("h", update_ratio=1e-3), batch=batch(inputs=floats(0, 255))), "inputs-not-scaled"),
    (step(200, layer("h", update_ratio=0.2)), "lr-too-high"),
    (step(200, layer("h", update_ratio=1e-3)), "labels-not-of-inputs"),
]


@pytest.mark.parametrize(("view", "cause"), FLAT)
def test_why_the_loss_does_not_fall(view: StepView, cause: str) -> None:
    [found] = run("loss-not-falling", after(view, losses=flat(200)))
    assert found.causes[0].name == cause


def test_regression_on_whole_numbers_is_one_of_the_positive_losses() -> None:
    view = replace(step(60, loss=-2.0), batch=regression(targets=labels(sizes=(32, 1)), loss_value=2.0))
    assert [f.layer for f in run("loss-sign", after(view, losses=[-2.0] * 60))] == ["loss"]
