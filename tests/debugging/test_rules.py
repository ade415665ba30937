"""Each rule on a sick training (it fires, at the right layer) and on its healthy twin (it does not)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import nbops as nb
from nbops.core.errors import TrainingStopped
from nbops.core.records import Diagnosis
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.rules import rules
from nbops.debugging.views import History, StepView
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]
Change = Callable[[nn.Sequential], None]
SECTIONS = ("What it measures", "Why it matters", "When it is wrong", "Fix", "References")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


def train(
    data: Data, *, optimizer: Callable[[Any], torch.optim.Optimizer], prepare: Change | None = None,
    replace: Change | None = None, model: nn.Sequential | None = None, steps: int = 40, is_loss_watched: bool = True,
    schedule: Callable[[int], float] | None = None, on_error: str = "warn",
) -> Watch:  # fmt: skip
    """Train on batches of digits. `prepare` changes the model before the optimizer is built, `replace` after."""
    model = model or mlp()
    if prepare:
        prepare(model)
    stepper = optimizer(model.parameters())
    if replace:
        replace(model)
    loss = nn.CrossEntropyLoss()
    scheduler = torch.optim.lr_scheduler.LambdaLR(stepper, schedule) if schedule else None
    with nb.watch(model, loss=loss if is_loss_watched else None, on_error=on_error) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        for _ in range(steps):
            rows = torch.randint(0, len(data[0]), (64,))
            stepper.zero_grad()
            loss(model(data[0][rows]), data[1][rows]).backward()
            stepper.step()
            if scheduler:
                scheduler.step()
    assert watch.errors == []
    return watch


def named(watch: Watch, rule: str) -> list[Diagnosis]:
    return [d for d in watch.diagnoses if d.name == rule]


def test_rules_are_registered_and_documented() -> None:
    names = {"non-finite-loss", "non-finite-gradient", "no-update", "exploding-update-ratio", "dead-units"}
    assert names <= set(rules)
    assert nb.rules is rules
    for name in names:
        doc = rules[name].__doc__ or ""
        assert all(section in doc for section in SECTIONS), name


# -- no-update -------------------------------------------------------------------------------------------------------


def test_learning_rate_of_zero_is_found(digits: Data) -> None:
    watch = train(digits, optimizer=lambda p: SGD(p, 0.0))
    [found] = watch.diagnoses
    assert (found.name, found.status, found.step, found.layer) == ("no-update", "error", 5, "optimizer")
    assert "learning rate 0" in found.what
    assert "above 0" in found.fix


def test_learning_rate_of_zero_stops(digits: Data) -> None:
    with pytest.raises(TrainingStopped, match="no-update at step 5"):
        train(digits, optimizer=lambda p: SGD(p, 0.0), on_error="stop")


def test_updates_below_precision_are_found(digits: Data) -> None:
    found = train(digits, optimizer=lambda p: SGD(p, 1e-12)).diagnoses
    assert [(d.name, d.status) for d in found] == [("no-update", "error")]
    assert "precision" in found[0].why


def test_schedule_that_begins_at_zero_is_no_finding(digits: Data) -> None:
    watch = train(digits, optimizer=lambda p: SGD(p, 0.1), schedule=lambda step: min(1.0, step / 10))
    assert watch.diagnoses == []


def test_schedule_that_has_ended_at_zero_is_a_warning(digits: Data) -> None:
    watch = train(digits, optimizer=lambda p: SGD(p, 0.1), schedule=lambda step: 1.0 if step < 8 else 0.0)
    found = [(d.name, d.status, d.step) for d in watch.diagnoses]
    assert found == [("rate-vanished", "warning", 8), ("no-update", "warning", 13)]


@pytest.mark.usefixtures("no_rule_of_time")
def test_converged_model_at_rest_is_no_finding() -> None:
    """Full-batch gradient descent on a line comes to a fixed point of float32."""
    x = torch.linspace(-1, 1, 20)[:, None]
    model, loss = nn.Linear(1, 1), nn.MSELoss()
    optimizer = SGD(model.parameters(), 0.5)
    with nb.watch(model, loss=loss, sample_every=1) as watch:
        for _ in range(400):
            optimizer.zero_grad()
            loss(model(x), 3 * x + 1).backward()
            optimizer.step()
    assert watch.diagnoses == []


def test_layer_that_is_not_in_the_optimizer_is_found(digits: Data) -> None:
    def replace(model: nn.Sequential) -> None:
        model[4] = nn.Linear(32, 10)

    found = named(train(digits, optimizer=lambda p: SGD(p, 0.1), replace=replace), "no-update")
    assert [(d.layer, d.status) for d in found] == [("4", "warning")]
    assert found[0].step <= 20
    assert "no optimizer that steps holds its parameters" in found[0].what


def test_frozen_backbone_is_no_finding(digits: Data) -> None:
    def freeze(model: nn.Sequential) -> None:
        model.load_state_dict(mlp().state_dict())  # as if it had been learned
        model[:3].requires_grad_(False)

    for optimizer in (lambda p: SGD(p, 0.1), lambda p: Adam([q for q in p if q.requires_grad])):
        watch = train(digits, optimizer=optimizer, prepare=freeze)
        assert watch.diagnoses == []
        assert watch.steps == 40
        assert "grad_norm" not in watch.stats["0"]


def test_optimizer_of_another_model_is_found(digits: Data) -> None:
    """The classic of a notebook: the model's cell was run again, the optimizer's was not."""
    stale = mlp()
    found = train(digits, optimizer=lambda _: SGD(stale.parameters(), 0.1)).diagnoses
    assert [(d.name, d.status, d.layer) for d in found] == [("no-update", "error", "optimizer")]
    assert "SGD took 10 steps but holds none" in found[0].what


def test_two_optimizers_for_one_model_are_no_finding(digits: Data) -> None:
    model, loss = mlp(), nn.CrossEntropyLoss()
    body, head = SGD(model[:3].parameters(), 0.05), Adam(model[3:].parameters())
    with nb.watch(model, loss=loss) as watch:
        for step in range(60):
            rows = torch.randint(0, len(digits[0]), (64,))
            loss(model(digits[0][rows]), digits[1][rows]).backward()
            body.step()
            body.zero_grad()
            if step % 8 == 7:
                head.step()
                head.zero_grad()
    assert watch.diagnoses == []
    assert watch.steps == 60
    assert all("update_ratio" in watch.stats[name] for name in ("0", "2", "4"))


# -- exploding-update-ratio ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_loss_watched", [True, False])
@pytest.mark.parametrize(
    "optimizer", [lambda p: SGD(p, 100.0), lambda p: SGD(p, 10.0), lambda p: Adam(p, 1.0)],
    ids=["sgd100", "sgd10", "adam1"],
)  # fmt: skip
def test_huge_learning_rate_is_found(digits: Data, optimizer: Any, is_loss_watched: bool) -> None:
    found = named(train(digits, optimizer=optimizer, is_loss_watched=is_loss_watched), "exploding-update-ratio")
    assert len(found) == 1
    assert found[0].step <= 10
    assert found[0].measured is not None
    assert found[0].measured > 1
    assert "learning rate" in found[0].what


@pytest.mark.usefixtures("no_rule_of_time")
@pytest.mark.parametrize(
    "optimizer", [lambda p: SGD(p, 0.5), lambda p: SGD(p, 0.1, momentum=0.9), lambda p: Adam(p, 1e-2), Adam],
    ids=["sgd", "momentum", "adam", "adam-default"],
)  # fmt: skip
def test_usual_learning_rates_are_no_finding(digits: Data, optimizer: Any) -> None:
    assert train(digits, optimizer=optimizer, steps=200).diagnoses == []


def test_weights_that_start_at_zero_are_no_finding(digits: Data) -> None:
    def zero(model: nn.Sequential) -> None:
        nn.init.zeros_(model[4].weight)  # type: ignore[arg-type]

    for is_loss_watched in (True, False):
        for optimizer in (lambda p: SGD(p, 0.1), lambda p: Adam(p, 1e-3)):
            watch = train(digits, optimizer=optimizer, prepare=zero, is_loss_watched=is_loss_watched)
            assert watch.diagnoses == []


# -- dead-units ------------------------------------------------------------------------------------------------------


def kill(share: float) -> Change:
    def change(model: nn.Sequential) -> None:
        with torch.no_grad():
            model[2].bias[: int(share * 32)] = -50  # type: ignore[union-attr, index]

    return change


@pytest.mark.parametrize("is_loss_watched", [True, False])
def test_layer_of_dead_units_is_found(digits: Data, is_loss_watched: bool) -> None:
    watch = train(digits, optimizer=lambda p: SGD(p, 0.1), prepare=kill(1.0), is_loss_watched=is_loss_watched)
    [found] = named(watch, "dead-units")
    assert (found.name, found.layer, found.status, found.step) == ("dead-units", "2", "error", 10)
    assert found.what.startswith("100% of the units of '2'")


def test_mostly_dead_layer_is_a_warning(digits: Data) -> None:
    found = train(digits, optimizer=lambda p: SGD(p, 0.1), prepare=kill(0.875)).diagnoses
    assert [(d.name, d.layer, d.status) for d in found] == [("dead-units", "2", "warning")]
    assert found[0].measured is not None
    assert 0.875 <= found[0].measured < 1


def test_a_few_dead_units_are_no_finding(digits: Data) -> None:
    watch = train(digits, optimizer=lambda p: SGD(p, 0.1), prepare=kill(0.25))
    assert watch.diagnoses == []
    assert watch.stats["2"]["dead_share"] >= 0.25


def test_dead_units_behind_a_functional_activation_are_found(digits: Data) -> None:
    """No activation module is there to be hooked: the layer's output and gradient say it."""

    class Functional(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self[1](self[0](x)))
            return self[2](x)  # type: ignore[no-any-return]

    def change(model: nn.Sequential) -> None:
        with torch.no_grad():
            model[1].bias.fill_(-50)  # type: ignore[union-attr, operator]

    for bad in (change, None):
        model = Functional(nn.Conv1d(1, 16, 8, stride=8), nn.BatchNorm1d(16), nn.Conv1d(16, 10, 8))
        wrapped = nn.Sequential(nn.Unflatten(1, (1, 64)), model, nn.Flatten())
        if bad:
            bad(model)
        watch = train(digits, optimizer=lambda p: SGD(p, 0.05), model=wrapped)
        assert [d.layer for d in named(watch, "dead-units")] == (["1.1"] if bad else [])
        assert bad or watch.diagnoses == []


def test_negative_outputs_with_a_slope_are_no_finding(digits: Data) -> None:
    """LeakyReLU passes a gradient below 0."""

    def prepare(model: nn.Sequential) -> None:
        model[3] = nn.LeakyReLU()
        kill(1.0)(model)

    assert named(train(digits, optimizer=lambda p: SGD(p, 1e-4), prepare=prepare), "dead-units") == []


def test_batches_of_one_sample_are_no_finding(digits: Data) -> None:
    """On one sample half of the units are off; that they are dead takes 200 samples."""
    model, loss = mlp(), nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), 0.01)
    with nb.watch(model, loss=loss, sample_every=1) as watch:
        for row in range(150):
            optimizer.zero_grad()
            loss(model(digits[0][row : row + 1]), digits[1][row : row + 1]).backward()
            optimizer.step()
    assert watch.diagnoses == []
    assert watch.stats["1"]["zero_share"] > 0.3


def test_history_is_bounded_and_counts() -> None:
    history = History(size=3)
    for step in range(5):
        history.append(StepView(step))
    assert [view.step for view in history] == [2, 3, 4]
    assert (len(history), history.sampled) == (3, 5)
    assert [view.step for view in history.recent(2)] == [3, 4]
    assert history.streak(lambda view: view.step > 2) == 2
