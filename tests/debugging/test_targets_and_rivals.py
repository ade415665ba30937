"""What a watch hears of targets, evaluations and rivals, each on a real loop that is sick and on its healthy twin."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nbops as nb
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.watch import Watch

each = pytest.mark.parametrize("sick", [True, False], ids=["sick", "healthy"])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        yield


def mlp(inputs: int = 8, outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def step(optimizer: torch.optim.Optimizer, loss: Tensor, **backward: bool) -> None:
    optimizer.zero_grad()
    loss.backward(**backward)
    optimizer.step()


def found(watch: Watch, rule: str) -> bool:
    assert watch.errors == []
    return rule in {d.name for d in watch.diagnoses}


@each
def test_class_weights(sick: bool) -> None:
    model = mlp()
    y = (torch.rand(64) < 0.1).long()
    counts = torch.bincount(y, minlength=3).clamp(min=1).float()
    weight = counts / counts.sum() if sick else counts.sum() / counts
    optimizer, x = torch.optim.SGD(model.parameters(), 0.1), torch.randn(64, 8)
    with nb.watch(model) as watch:
        for _ in range(6):
            step(optimizer, F.cross_entropy(model(x), y, weight=weight))
    assert found(watch, "class-weights-reversed") is sick


@each
def test_labels_of_which_several_hold(sick: bool) -> None:
    model = mlp()
    optimizer, x, y = torch.optim.SGD(model.parameters(), 0.1), torch.randn(32, 8), (torch.rand(32, 3) < 0.5).float()
    with nb.watch(model) as watch:
        for _ in range(6):
            step(optimizer, F.cross_entropy(model(x), y if sick else y.softmax(1)))
    assert found(watch, "targets-are-no-distribution") is sick


@each
def test_bootstrapped_target(sick: bool) -> None:
    value = mlp(outputs=1)
    optimizer = torch.optim.SGD(value.parameters(), 0.1)
    with nb.watch(value) as watch:
        for _ in range(6):
            now, after, reward = torch.randn(32, 8), torch.randn(32, 8), torch.rand(32)
            later = value(after).squeeze(1)
            target = reward + 0.9 * (later if sick else later.detach())
            step(optimizer, F.mse_loss(value(now).squeeze(1), target))
    assert found(watch, "target-with-gradient") is sick


def test_two_views_of_one_sample_may_both_have_gradients() -> None:
    """A consistency loss compares two outputs of the model, and moves both."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(6):
            x = torch.randn(32, 8)
            step(optimizer, F.mse_loss(model(x), model(x + 0.1 * torch.randn(32, 8))))
    assert not found(watch, "target-with-gradient")


@each
def test_gradients_with_graphs(sick: bool) -> None:
    model = mlp()
    optimizer, x, y = torch.optim.SGD(model.parameters(), 0.1), torch.randn(32, 8), torch.randint(0, 3, (32,))
    with nb.watch(model) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of create_graph itself
        for _ in range(6):
            step(optimizer, F.cross_entropy(model(x), y), create_graph=sick)
    assert found(watch, "gradients-with-graphs") is sick


def test_gradient_penalty_is_no_graph_in_the_gradients() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(6):
            x = torch.randn(32, 8, requires_grad=True)
            total = model(x).square().sum()
            (slope,) = torch.autograd.grad(total, [x], create_graph=True)
            step(optimizer, total + slope.norm(dim=1).sub(1).square().mean())
    assert not found(watch, "gradients-with-graphs")


@each
def test_evaluation_that_keeps_graphs(sick: bool) -> None:
    model = mlp()
    optimizer, x, y = torch.optim.SGD(model.parameters(), 0.1), torch.randn(32, 8), torch.randint(0, 3, (32,))
    with nb.watch(model) as watch:
        for _ in range(3):
            step(optimizer, F.cross_entropy(model(x), y))
        model.eval()
        outputs = []
        for _ in range(12):
            made = model(torch.randn(32, 8))
            outputs.append(made if sick else made.detach())
        model.train()
        assert len(outputs) == 12
    assert found(watch, "evaluation-keeps-graphs") is sick


@each
def test_evaluation_on_another_scale(sick: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(10):
            step(optimizer, F.cross_entropy(model(torch.randn(32, 8)), torch.randint(0, 3, (32,))))
        model.eval()
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(32, 8) * (40 if sick else 1) + (100 if sick else 0))
        model.train()
    assert found(watch, "evaluated-on-another-scale") is sick


@each
def test_two_optimizers_of_one_model(sick: bool) -> None:
    maker, critic = mlp(4, 2), mlp(2, 1)
    made_by = torch.optim.SGD(maker.parameters(), 0.01)
    judged_by = torch.optim.SGD([*critic.parameters(), *(maker.parameters() if sick else ())], 0.01)
    with nb.watch(maker) as watch:
        for _ in range(20):
            step(judged_by, F.softplus(critic(maker(torch.randn(16, 4)))).mean())
            step(made_by, F.softplus(-critic(maker(torch.randn(16, 4)))).mean())
    assert found(watch, "trained-by-two-optimizers") is sick


def test_shared_trunk_with_two_heads_is_no_rivalry() -> None:
    """The second optimizer holds a part of the model; the first one all of it, once."""
    model = mlp()
    whole, head = torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(model[2].parameters(), 0.1)
    x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
    with nb.watch(model) as watch:
        for _ in range(10):
            step(whole, F.cross_entropy(model(x), y))
        for _ in range(10):
            step(head, F.cross_entropy(model(x), y))
    assert not found(watch, "trained-by-two-optimizers")


@each
def test_frozen_statistics_that_move(sick: bool) -> None:
    norm = nn.BatchNorm1d(8)
    model = nn.Sequential(norm, nn.Linear(8, 3))
    norm.requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(60):
            if not sick:
                norm.eval()
            step(optimizer, F.cross_entropy(model(torch.randn(32, 8) + 2), torch.randint(0, 3, (32,))))
    assert found(watch, "frozen-statistics-moved") is sick


@each
def test_adversary_that_has_won(sick: bool) -> None:
    maker, critic = mlp(4, 2), mlp(2, 1)
    slow = torch.optim.SGD(maker.parameters(), 0.05)
    fast = torch.optim.Adam(critic.parameters(), 0.05 if sick else 1e-3)
    with nb.watch(maker) as watch:
        for _ in range(150):
            for _ in range(8 if sick else 1):
                real, fake = torch.randn(32, 2) * 0.3 + torch.tensor([3.0, -3.0]), maker(torch.randn(32, 4)).detach()
                step(fast, F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean())
            judged = critic(maker(torch.randn(32, 4)))
            step(slow, -F.softplus(judged).mean() if sick else F.softplus(-judged).mean())
    assert found(watch, "adversary-without-gradient") is sick


@each
def test_parts_of_each_batch_that_are_cleared_again(sick: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for i in range(32):
            if sick or i % 4 == 0:
                optimizer.zero_grad()
            (F.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,))) / 4).backward()
            if i % 4 == 3:
                optimizer.step()
    assert found(watch, "gradients-thrown-away") is sick


@each
def test_gradients_that_a_step_by_hand_has_used(sick: bool) -> None:
    model = mlp()
    with nb.watch(model) as watch:
        for _ in range(30):
            model.zero_grad()
            F.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,))).backward()
            with torch.no_grad():
                for p in () if sick else model.parameters():
                    p -= 0.1 * p.grad
    assert found(watch, "gradients-thrown-away") is sick


@each
def test_generator_that_learns_from_what_is_detached(sick: bool) -> None:
    maker, critic = mlp(4, 2), mlp(2, 1)
    made_by, judged_by = torch.optim.Adam(maker.parameters()), torch.optim.Adam(critic.parameters())
    with nb.watch(maker) as watch:
        for _ in range(25):
            fake = maker(torch.randn(16, 4))
            step(judged_by, F.softplus(critic(fake.detach())).mean() + F.softplus(-critic(torch.randn(16, 2))).mean())
            step(made_by, F.softplus(-critic(fake.detach() if sick else fake)).mean())
    assert found(watch, "step-without-gradient") is sick


def test_choice_of_actions_on_known_states_is_no_leak() -> None:
    """Double Q-learning: the best next action is looked up without gradients, at each step."""
    model, states = mlp(8, 2), torch.randn(96, 8)  # a third of them is only ever reached, never left
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for _ in range(40):
            rows, after = torch.randperm(64)[:48], torch.randperm(96)[:48]
            with torch.no_grad():
                best = model(states[after]).argmax(1)
            step(optimizer, F.cross_entropy(model(states[rows]), best))
    assert not found(watch, "evaluation-leak")
