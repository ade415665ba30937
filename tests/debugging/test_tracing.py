"""What is kept of layers over steps: bounded, and the same steps of runs of other lengths."""

from __future__ import annotations

import math

import numpy as np

from nbops.debugging.measuring import Owned
from nbops.debugging.signals.tracing import DENSE_STEPS, Tracer
from nbops.debugging.views import LayerView
from nbops.store.traces import SIGNALS

import torch  # isort: skip

GRADIENT, RMS = SIGNALS.index("grad_norm"), SIGNALS.index("activation_rms")
WEIGHT = torch.zeros(1)
HAVE = [Owned("a", "weight", WEIGHT), Owned("a", "bias", WEIGHT), Owned("b", "weight", WEIGHT)]


def traced(steps: int, *, every: int = 7, have: list[Owned] = HAVE) -> Tracer:
    tracer = Tracer()
    for step in range(steps):
        tracer.gradients(step, have, [3.0 * step, 4.0 * step, 1.0] * (len(have) // 3), about=lambda: (1.0, 0.1))
        if step % every == 0:
            tracer.measured(step, {"a": LayerView("a", "Linear", activation_rms=float(step), grad_norm=-1.0)})
    return tracer


def test_the_norms_of_a_layer_are_joined_and_what_is_known_stays() -> None:
    found = traced(10).kept("net")
    assert found is not None
    assert (found.layers, found.kinds, found.steps.tolist()) == (("a", "b"), ("Linear", ""), list(range(10)))
    assert found.values[:, 0, GRADIENT].tolist() == [5.0 * step for step in range(10)]
    assert found.values[:, 1, GRADIENT].tolist() == [1.0] * 10
    assert found.values[7, 0, RMS] == 7.0
    assert math.isnan(found.values[1, 0, RMS])
    assert found.rates.tolist() == [0.1] * 10


def test_what_is_not_finite_is_infinite_and_the_scale_of_the_loss_is_taken_out() -> None:
    tracer = Tracer()
    tracer.gradients(0, HAVE, [math.nan, 1.0, 8.0], about=lambda: (4.0, 0.1))
    found = tracer.kept("net")
    assert found is not None
    assert found.values[0, :, GRADIENT].tolist() == [math.inf, 2.0]


def test_a_long_run_is_bounded_and_has_the_steps_of_a_longer_one() -> None:
    some, more = traced(3_000).kept("net"), traced(40_000).kept("net")
    assert some is not None
    assert more is not None
    assert len(some.steps) <= 256
    assert len(more.steps) <= 256
    common = np.intersect1d(some.steps, more.steps)
    assert set(range(DENSE_STEPS)) <= set(common.tolist())
    assert set(more.steps[more.steps < 3_000].tolist()) & set(range(DENSE_STEPS, 3_000))
    assert {step for step in more.steps.tolist() if step < 3_000 and step % 512 == 0} <= set(some.steps.tolist())
    assert np.isfinite(more.values[:, 0, RMS]).sum() > 64


def test_many_layers_keep_fewer_steps() -> None:
    many = [Owned(f"layer {i}", "weight", WEIGHT) for i in range(3_000)]
    found = traced(300, have=many).kept("net")
    assert found is not None
    assert len(found.steps) <= 66
    assert Tracer().kept("net") is None
