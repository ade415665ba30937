"""Steps that are not measured in full: few calls, and yet nothing non-finite gets past them."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.measuring import Few, Owned

WIDTH = 520  # so that a layer of its square is read by itself


def made() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))


def backward(model: nn.Module) -> None:
    x = torch.randn(16, 8)
    nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)).backward()


def norm_of(model: nn.Module) -> float:
    return math.hypot(*[float(p.grad.norm()) for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("which", ["0.weight", "2.weight", "2.bias", "4.bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("when", ["while it is computed", "after it"])
def test_a_step_with_one_bad_gradient_is_not_taken(which: str, value: float, when: str) -> None:
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    bad = dict(model.named_parameters())[which]

    def spoilt(grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad.view(-1)[-1] = value
        return grad

    with nb.watch(model, sample_every=1000) as watch:
        for step in range(60):
            hook = bad.register_hook(spoilt) if step == 45 and when == "while it is computed" else None
            before = copy.deepcopy(model.state_dict())
            optimizer.zero_grad()
            backward(model)
            if step == 45 and when == "after it":
                assert bad.grad is not None
                bad.grad.view(-1)[-1] = value
            with pytest.warns(DebuggerWarning) if step == 45 else contextlib.nullcontext():
                optimizer.step()
            if hook is not None:
                hook.remove()
            same = all(torch.equal(before[name], now) for name, now in model.state_dict().items())
            assert same == (step == 45)
    assert watch.sampled < 5
    assert not watch.errors


@pytest.mark.parametrize("clipping", ["none", "clip_grad_norm_", "data"])
def test_norms_are_those_of_the_gradients_that_the_optimizer_gets(clipping: str) -> None:
    model = made()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    expected = []
    with nb.watch(model, sample_every=1000) as watch:
        for _ in range(60):
            optimizer.zero_grad()
            backward(model)
            if clipping == "clip_grad_norm_":
                nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            elif clipping == "data":
                for p in model.parameters():
                    assert p.grad is not None
                    p.grad.data.mul_(0.01)
            expected.append(norm_of(model))
            optimizer.step()
        (track,) = watch._session._tracks.values()
        found = [norm for _, _, norm in track.history.curve]
    assert found == pytest.approx(expected, rel=1e-4)
    assert not watch.errors


def test_a_model_keeps_no_hook_and_pickles() -> None:
    model = made()
    with nb.watch(model):
        backward(model)
        assert pickle.loads(pickle.dumps(model))[2].weight._post_accumulate_grad_hooks is None
        assert copy.deepcopy(model)[2].weight._post_accumulate_grad_hooks is None
    assert all(p._post_accumulate_grad_hooks is None for p in model.parameters())


def test_hooks_of_the_user_stay() -> None:
    model, seen = made(), []
    handle = model[2].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.shape))
    with nb.watch(model):
        backward(model)
    backward(model)
    assert len(seen) == 2
    handle.remove()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_norms_stand_for_all(dtype: torch.dtype) -> None:
    model = made().to(dtype)
    x = torch.randn(16, 8, dtype=dtype)
    model(x).sum().backward()
    model[4].bias.grad = None
    few = Few([Owned("layer", name, p) for name, p in model.named_parameters()])
    assert few.is_possible
    assert math.hypot(*[float(one) for one in few.norms()]) == pytest.approx(norm_of(model), rel=1e-5)


def test_sparse_narrow_and_mixed_gradients_are_taken_one_by_one() -> None:
    embedding: Any = nn.Embedding(10, 4, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    for tensors in (
        [embedding.weight],
        [torch.zeros(3, dtype=torch.bfloat16)],
        [torch.zeros(3), torch.zeros(3).double()],
    ):
        assert not Few([Owned("layer", str(i), one) for i, one in enumerate(tensors)]).is_possible
