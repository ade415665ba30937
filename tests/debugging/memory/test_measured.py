"""What a narrow convolution takes is measured: the same as by the newer profiler, and even in the number of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from nbops.debugging.memory import measured, scratch
from nbops.debugging.memory.scratch import scratch_of

CASES = [(3, 16, 24, 3, 1), (32, 64, 12, 3, 1), (16, 16, 24, 1, 1), (24, 24, 16, 3, 24)]
aten = torch.ops.aten


def operands(samples: int, inner: int, outer: int, side: int, kernel: int, groups: int) -> tuple[list[Any], list[Any]]:
    x = torch.zeros(samples, inner, side, side, dtype=torch.bfloat16)
    weight = torch.zeros(outer, inner // groups, kernel, kernel, dtype=torch.bfloat16)
    settings = [[1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], groups]
    grad = torch.zeros(samples, outer, side, side, dtype=torch.bfloat16)
    return [x, weight, None, *settings], [grad, x, weight, None, *settings, [True, True, False]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", CASES)
def test_sixteen_samples_take_what_four_and_eight_say(case: tuple[int, ...]) -> None:
    forward, backward = operands(16, *case)
    found = aten.convolution(*forward)
    assert measured.convolution(forward, found) == measured.taken_by(lambda: aten.convolution(*forward))
    said, real = (
        measured.convolution_backward(backward),
        measured.taken_by(lambda: aten.convolution_backward(*backward)),
    )
    assert said is not None
    assert real is not None
    assert abs(said - real) <= 0.02 * real


def test_nothing_is_measured_under_a_profiler_or_where_it_would_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, backward = operands(2, *CASES[0])
    found = aten.convolution(*forward)
    exact = scratch_of(aten.convolution.default, forward, found, device="cpu")
    measured._of.cache_clear()
    with profile(activities=[ProfilerActivity.CPU]):
        assert measured.taken_by(lambda: torch.zeros(9)) is None
    monkeypatch.setattr(measured, "_MOST_WORK", 0)
    assert measured.convolution(forward, found) is None
    assert measured.convolution_backward(backward) is None
    modelled = scratch_of(aten.convolution.default, forward, found, device="cpu")
    assert exact / 2 < modelled < 2 * exact  # the model of before stands in


def test_float32_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch.measured, "taken_by", lambda run: pytest.fail("it was run"))
    forward, _ = operands(2, *CASES[1])
    wide = [one.float() if isinstance(one, torch.Tensor) else one for one in forward]
    assert scratch_of(aten.convolution.default, wide, aten.convolution(*wide), device="cpu") > 0
    assert scratch_of(aten.convolution.default, forward, aten.convolution(*forward), device="cuda") == 0
