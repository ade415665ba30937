"""The loss is found without being passed, several are told apart, and torch is put back exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, dataloader

import nbops as nb
from nbops.debugging import patches
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def batch_of(data: Data, size: int = 32) -> Data:
    rows = torch.randint(0, len(data[0]), (size,))
    return data[0][rows], data[1][rows]


def patched() -> list[Any]:
    names = [getattr(F, name) for name in patches.LOSSES]
    scaler = torch.amp.grad_scaler.GradScaler
    return [
        torch.autograd.backward, scaler.scale, scaler.step, DataLoader.__iter__,
        dataloader._BaseDataLoaderIter.__next__, *names,
    ]  # fmt: skip


def test_torch_is_put_back_exactly(digits: Data) -> None:
    before = patched()
    models = mlp(), mlp()
    first, second = (nb.watch(model) for model in models)
    assert all(a is not b for a, b in zip(before, patched(), strict=True))
    during = patched()
    first.close()
    assert patched() == during
    second.close()
    assert all(a is b for a, b in zip(before, patched(), strict=True))


def test_a_patch_of_somebody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = nb.watch(nn.Linear(2, 1))
    ours = torch.autograd.backward
    calls = []

    def theirs(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        ours(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "backward", theirs)
    watch.close()
    assert torch.autograd.backward is theirs
    w = torch.ones(1, requires_grad=True)
    (w * 2).sum().backward()
    assert w.grad is not None
    assert w.grad.item() == 2
    assert len(calls) == 1


@pytest.mark.parametrize("call", ["method", "function", "list", "scaler"])
def test_loss_is_seen_at_its_backward_pass(digits: Data, call: str) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with nb.watch(model) as watch:
        for _ in range(3):
            x, y = batch_of(digits)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if call == "method":
                loss.backward()
            elif call == "function":
                torch.autograd.backward(loss)
            elif call == "list":
                torch.autograd.backward([loss])
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            if call != "scaler":
                optimizer.step()
        view = watch.view
    assert watch.errors == []
    assert view is not None
    assert view.loss == pytest.approx(loss.item(), rel=1e-5)
    assert view.backwards == view.forwards == 1
    [place] = view.losses
    assert place.startswith("test_losses.py:")
    if call == "scaler":
        assert view.stepper is not None
        assert view.stepper.scale == 1024.0


def test_loss_written_by_hand_and_added_up(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(4):
                x, y = batch_of(digits)
                loss = -model(x).log_softmax(1)[torch.arange(32), y].mean() / 4
                loss.backward()
                total += loss.item()
            optimizer.step()
        view = watch.view
    assert view is not None
    assert view.loss == pytest.approx(total, rel=1e-5)
    assert (view.backwards, view.forwards, view.is_cleared) == (4, 4, True)


def test_losses_of_two_networks_are_told_apart(digits: Data) -> None:
    maker = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
    critic = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(), nn.Linear(32, 1))
    makes, criticises = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    watches = nb.watch(maker), nb.watch(critic)
    for _ in range(6):
        real, _ = batch_of(digits)
        false = maker(torch.randn(32, 8))
        criticises.zero_grad()
        on_real = F.softplus(-critic(real)).mean()
        on_real.backward()
        on_false = F.softplus(critic(false.detach())).mean()
        on_false.backward()
        criticises.step()
        makes.zero_grad()
        fooled = F.softplus(-critic(false)).mean()
        fooled.backward()
        makes.step()
    made, judged = (watch.view for watch in watches)
    assert made is not None
    assert judged is not None
    assert made.loss == pytest.approx(fooled.item(), rel=1e-5)
    assert judged.loss == pytest.approx(on_real.item() + on_false.item(), rel=1e-5)
    assert len(judged.losses) == 2
    assert judged.is_cleared is True
    for watch in watches:
        assert watch.diagnoses == []
        assert watch.errors == []
        watch.close()


def test_actor_and_critic_of_one_model(digits: Data) -> None:
    """One watch, two optimizers, two losses; each step minimises its own."""
    model = nn.ModuleDict({"actor": nn.Linear(64, 4), "critic": nn.Linear(64, 1)})
    acts = torch.optim.Adam(model["actor"].parameters(), 1e-2)
    values = torch.optim.Adam(model["critic"].parameters(), 1e-2)
    with nb.watch(model) as watch:
        seen = {}
        for _ in range(5):
            x, _ = batch_of(digits)
            value = model["critic"](x).squeeze(1)
            error = F.mse_loss(value, torch.ones(32))
            policy = -(model["actor"](x).log_softmax(1)[:, 0] * (1 - value.detach())).mean()
            for optimizer, loss in ((values, error), (acts, policy)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                assert watch.view is not None
                seen[id(optimizer)] = (watch.view.loss, loss.item())
    for found, wanted in seen.values():
        assert found == pytest.approx(wanted, rel=1e-5)
    assert watch.diagnoses == []


# -- gradients that are not cleared ------------------------------------------------------------------------------------


def train(data: Data, *, clear: str, steps: int = 12, clip: bool = False, set_to_none: bool = True) -> Watch:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    watch = nb.watch(model)
    for step in range(steps):
        x, y = batch_of(data)
        if clear == "before forward":
            optimizer.zero_grad(set_to_none=set_to_none)
        loss = F.cross_entropy(model(x), y)
        if clear == "before backward":
            model.zero_grad(set_to_none=set_to_none)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        if clear != "accumulate" or step % 4 == 3:
            optimizer.step()
        if clear == "after step" or (clear == "accumulate" and step % 4 == 3):
            optimizer.zero_grad(set_to_none=set_to_none)
    watch.close()
    assert watch.errors == []
    return watch


@pytest.mark.parametrize("clip", [False, True])
def test_gradients_that_are_never_cleared_are_found(digits: Data, clip: bool) -> None:
    with pytest.warns(UserWarning, match="gradients-not-cleared at step 3"):
        watch = train(digits, clear="never", clip=clip)
    [found] = watch.diagnoses
    assert (found.name, found.status, found.layer) == ("gradients-not-cleared", "error", "optimizer")
    assert "zero_grad" in found.fix


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("clear", ["before forward", "before backward", "after step", "accumulate"])
def test_cleared_gradients_are_no_finding(digits: Data, clear: str, clip: bool, set_to_none: bool) -> None:
    watch = train(digits, clear=clear, clip=clip, set_to_none=set_to_none, steps=24)
    assert watch.diagnoses == []
    assert watch.view is not None
    assert watch.view.is_cleared is True
