"""Mixed precision: steps that a gradient scaler skips are no finding; a NaN that it hides is one."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import TrainingStopped
from nbops.debugging.findings import DebuggerWarning

Data = tuple[Tensor, Tensor]


def train(
    data: Data, *, is_fused: bool, on_error: str = "stop", scale: float = 2.0**16, overflow_at: int = -1,
    nan_from: int = 10**9, steps: int = 40, sample_every: int | None = None,
) -> Any:  # fmt: skip
    """Train with autocast and a scaler; an overflow makes one scaled gradient infinite, as a large scale does."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, fused=is_fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    watch = nb.watch(model, loss=loss, on_error=on_error, sample_every=sample_every)
    before = {}
    try:
        for step in range(steps):
            rows = torch.randint(0, len(data[0]), (64,))
            x = data[0][rows] * (torch.nan if step >= nan_from else 1)
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss(model(x), data[1][rows])
            scaler.scale(value).backward()
            if step == overflow_at:
                model[0].weight.grad[0, 0] = torch.inf  # type: ignore[union-attr, index]
            if step == nan_from:
                before = copy.deepcopy(model.state_dict())
            scaler.step(optimizer)
            scaler.update()
    finally:
        watch.close()
    return watch, model, before, value.item()


@pytest.mark.parametrize("is_fused", [False, True])
def test_skipped_step_is_no_finding(digits: Data, is_fused: bool) -> None:
    watch, _, _, loss = train(digits, is_fused=is_fused, overflow_at=5)
    assert watch.diagnoses == []
    assert watch.errors == []
    assert watch.steps == (40 if is_fused else 39)  # a fused optimizer is called, and skips by itself
    assert loss < 2.2


def test_skipped_step_is_no_finding_where_it_is_read_late(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where nothing is read on steps that are not sampled."""
    from nbops.debugging.session import Session

    monkeypatch.setattr(Session, "_reads_at_once", lambda self, vector: False)
    watch, *_ = train(digits, is_fused=True, on_error="warn", overflow_at=5, sample_every=10)
    assert watch.diagnoses == []
    assert watch.errors == []


@pytest.mark.parametrize("is_fused", [False, True])
def test_scale_is_taken_out_of_the_gradients(digits: Data, is_fused: bool) -> None:
    watch, *_ = train(digits, is_fused=is_fused, steps=10)
    assert 1e-4 < watch.stats["0"]["grad_norm"] < 10
    assert 1e-4 < watch.stats["0"]["update_ratio"] < 1


@pytest.mark.parametrize("is_fused", [False, True])
def test_nan_that_a_scaler_hides_is_found(digits: Data, is_fused: bool) -> None:
    """The weights stay whole, and nothing is learned any more."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DebuggerWarning)
        watch, model, before, _ = train(digits, is_fused=is_fused, on_error="warn", nan_from=12)
    [found] = watch.diagnoses
    assert (found.name, found.layer, found.step) == ("non-finite-loss", "0", 12)
    assert "the batch already holds" in found.what
    assert is_fused or "8 losses came without a step" in found.what
    assert len([w for w in told if w.category is DebuggerWarning]) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nan_that_a_scaler_hides_stops(digits: Data) -> None:
    with pytest.raises(TrainingStopped, match="non-finite-loss at step 12 in layer '0'"):
        train(digits, is_fused=False, nan_from=12)


def test_dropped_loss_scale_is_found(digits: Data) -> None:
    """Scaled gradients that nobody unscales make steps far too long for plain SGD."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu")

    def train_unscaled() -> None:
        for _ in range(20):
            rows = torch.randint(0, len(digits[0]), (64,))
            optimizer.zero_grad()
            scaler.scale(loss(model(digits[0][rows]), digits[1][rows])).backward()
            optimizer.step()  # instead of scaler.step(optimizer)

    with pytest.warns(DebuggerWarning, match="steps without the scaler"):  # the code says it before the first step
        watch = nb.watch(model, loss=loss, on_error="stop")
    with watch, pytest.raises(TrainingStopped):
        train_unscaled()
    assert watch.diagnoses[0].name == "scaler-misused"
    assert watch.diagnoses[1].name in ("exploding-update-ratio", "non-finite-loss")


def test_float16_norms_do_not_overflow(digits: Data) -> None:
    """Values of 300 are finite in float16, their norm (65,504 at most) is not."""
    model = nn.Linear(64, 4096, bias=False).half()
    optimizer = torch.optim.SGD(model.parameters(), 1e-8)
    with nb.watch(model, on_error="stop") as watch:
        for _ in range(3):
            weight = model.weight
            weight.grad = 300 * torch.randn_like(weight).sign()
            optimizer.step()
    assert watch.diagnoses == []
    assert watch.stats["Linear"]["grad_norm"] == pytest.approx(300 * (64 * 4096) ** 0.5, rel=1e-3)
