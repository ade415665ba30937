"""What a rule can read: each signal on a training where it is known, beside one where it is not there."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.signals.histograms import exponents, histogram
from nbops.debugging.views import StepView
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]


def seen(watch: Watch) -> StepView:
    assert watch.errors == []
    assert watch.view is not None
    return watch.view


def train(
    model: nn.Module, data: Data, *, steps: int = 5, size: int = 32, optimizer: Any = None, **watching: Any
) -> Watch:
    stepper = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model, **watching) as watch:
        for _ in range(steps):
            rows = torch.randint(0, len(data[0]), (size,))
            stepper.zero_grad()
            F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
            stepper.step()
    return watch


def mlp(act: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), act or nn.ReLU(), nn.Linear(16, 10))


# -- layers -----------------------------------------------------------------------------------------------------------


def test_numbers_of_a_layer_are_those_of_its_tensors(digits: Data) -> None:
    model = mlp()
    kept: dict[str, Tensor] = {}
    model[0].register_forward_hook(lambda m, a, out: kept.update(out=out.detach()))
    stepper = torch.optim.SGD(model.parameters(), 0.0)  # the weights stay
    layer = seen(train(model, digits, steps=1, optimizer=stepper)).layers["0"]
    grads = torch.cat([p.grad.flatten() for p in model[0].parameters() if p.grad is not None])
    weights = torch.cat([p.detach().flatten() for p in model[0].parameters()])
    for what, values in (("grad", grads), ("weight", weights), ("activation", kept["out"])):
        assert getattr(layer, f"{what}_rms") == pytest.approx(values.square().mean().sqrt().item(), rel=1e-4)
        assert getattr(layer, f"{what}_absmax") == pytest.approx(values.abs().max().item(), rel=1e-4)
    assert layer.activation_mean == pytest.approx(kept["out"].mean().item(), rel=1e-4, abs=1e-6)
    assert (layer.sizes, layer.calls, layer.samples, layer.is_training) == ((32, 16), 1, 32, True)
    assert layer.trainable_share == 1.0


@pytest.mark.parametrize("act", [nn.Sigmoid, nn.Tanh])
def test_saturation_is_read_at_the_input(digits: Data, act: type[nn.Module]) -> None:
    model = mlp(act())
    assert seen(train(model, digits)).layers["1"].saturated_share == 0
    with torch.no_grad():
        model[0].weight.mul_(1000)
    assert seen(train(model, digits)).layers["1"].saturated_share > 0.8  # type: ignore[operator]


def test_units_that_do_not_vary_and_units_that_learn_the_same(digits: Data) -> None:
    model = mlp()
    healthy = seen(train(model, digits)).layers
    assert healthy["0"].constant_share == 0
    assert healthy["0"].symmetric_share == 0
    for p in model.parameters():
        nn.init.constant_(p, 0.1)
    sick = seen(train(model, digits, steps=1)).layers
    assert sick["0"].symmetric_share == pytest.approx(15 / 16)
    with torch.no_grad():
        model[0].weight[:8] = 0
    assert seen(train(model, digits, steps=1)).layers["0"].constant_share == pytest.approx(0.5)


def test_histogram_has_bins_for_everything() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, -1.5, 3.0, 2.0**-45, 2.0**30, torch.nan, torch.inf, -torch.inf])
    found = histogram("a", "weight", 3, exponents(x).tolist(), x.numel())
    assert (found.zero, found.nan, found.inf, found.negative, found.total) == (2, 1, 2, 2, 10)
    assert found.counts[40] == 2  # from 1 to 2
    assert found.counts[41] == 1
    assert found.counts[0] == found.counts[63] == 1
    assert found.share_below(1.0) == pytest.approx(3 / 7)
    half = histogram("a", "weight", 3, exponents(torch.full((4,), 6e-8).half()).tolist(), 4)
    assert sum(half.counts) == 4


def test_tied_untied_and_frozen_parameters(digits: Data) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
            self.other.weight = self.one.weight
            self.twin = nn.Linear(64, 64, bias=False)
            self.twin.load_state_dict(self.one.state_dict())  # a copy, as in nn.TransformerEncoder
            self.table = nn.Embedding(64, 64)  # equal, but another parameter
            self.table.load_state_dict(self.one.state_dict())
            self.frozen = nn.Linear(64, 64).requires_grad_(False)
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = self.frozen(self.one(x)) + self.other(x) + self.twin(x) + self.table.weight.mean(0)
            return self.head(x)  # type: ignore[no-any-return]

    model = Tied()
    with pytest.warns(DebuggerWarning, match="tie-broken at step 1 in layer 'table'"):
        watch = train(model, digits, steps=2)
    view = seen(watch)
    assert view.model is not None
    assert view.model.tied == (("one.weight", "other.weight"),)
    assert view.layers["one"].tied_with == ("other",)
    assert view.model.untied == (("one.weight", "table.weight"),)
    assert view.model.frozen_changed == ()
    assert view.model.trainable_share < 0.8
    stepper = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    with nb.watch(model) as watch:
        for _ in range(2):
            stepper.zero_grad()
            F.cross_entropy(model(digits[0][:32]), digits[1][:32]).backward()
            with torch.no_grad():
                model.frozen.bias.add_(1)
            stepper.step()
    changed = seen(watch).model
    assert changed is not None
    assert changed.frozen_changed == ("frozen.bias",)


# -- optimizer, batch -------------------------------------------------------------------------------------------------


def test_optimizer_and_what_it_holds(digits: Data) -> None:
    model = mlp()
    stepper = torch.optim.AdamW([*model[0].parameters(), nn.Parameter(torch.ones(1))], 0.01, betas=(0.8, 0.9))
    found = seen(train(model, digits, optimizer=stepper)).stepper
    assert found is not None
    assert (found.kind, found.held, found.foreign, found.lrs) == ("AdamW", 2, 1, (0.01,))
    assert found.settings["betas"] == (0.8, 0.9)
    assert found.trainable_share == pytest.approx((64 * 16 + 16) / (64 * 16 + 16 + 16 * 10 + 10))


def test_batch_inputs_targets_and_predictions(digits: Data) -> None:
    model = mlp()
    batch = seen(train(model, digits, size=300)).batch
    assert batch is not None
    assert batch.loss_name == "cross_entropy"
    assert batch.inputs is not None
    assert batch.targets is not None
    assert (batch.inputs.sizes, batch.inputs.dtype, batch.inputs.min, batch.inputs.max) == ((300, 64), "float32", 0, 1)
    assert (batch.targets.min, batch.targets.max, batch.targets.distinct, batch.targets.is_integer) == (0, 9, 10, True)
    assert 0.1 <= batch.targets.top_share < 0.3  # type: ignore[operator]
    assert batch.classes == 10
    assert 0 < batch.accuracy < 1  # type: ignore[operator]
    assert 0.5 < batch.entropy <= 1  # type: ignore[operator]
    assert (batch.is_output_constant, batch.is_softmaxed, batch.ignored_share) == (False, False, 0)
    assert batch.rows > 200


def test_batch_with_defects(digits: Data) -> None:
    model = nn.Sequential(nn.Linear(64, 10), nn.Softmax(1))
    stepper = torch.optim.SGD(model.parameters(), 0.1)
    x, y = digits[0][:32].clone(), digits[1][:32].clone()
    x[16:] = x[:16]
    y[:8] = -100
    with nb.watch(model) as watch:
        for _ in range(2):
            stepper.zero_grad()
            F.cross_entropy(model(x), y).backward()
            stepper.step()
    batch = seen(watch).batch
    assert batch is not None
    assert batch.is_softmaxed is True
    assert batch.ignored_share == 0.25
    assert batch.duplicate_share == 0.5
    assert batch.repeated_share == 1.0


def test_regression_and_binary_losses(digits: Data) -> None:
    x, y = digits[0][:64], digits[1][:64].float()[:, None]
    for loss, head, name in (
        (nn.MSELoss(), nn.Identity(), "mse_loss"),
        (nn.BCELoss(), nn.Sigmoid(), "binary_cross_entropy"),
    ):
        model = nn.Sequential(nn.Linear(64, 1), head)
        goal = y if name == "mse_loss" else (y > 4).float()
        stepper = torch.optim.SGD(model.parameters(), 0.01)
        with nb.watch(model) as watch:
            for _ in range(2):
                stepper.zero_grad()
                loss(model(x), goal).backward()
                stepper.step()
        batch = seen(watch).batch
        assert batch is not None
        assert batch.loss_name == name
        assert batch.predictions is not None
        assert batch.targets is not None
        assert batch.targets.max == goal.max().item()
        assert (batch.accuracy is None) == (name == "mse_loss")


# -- evaluation -------------------------------------------------------------------------------------------------------


def evaluated(data: Data, *, mode: str, model: nn.Module | None = None, phases: int = 1, **watching: Any) -> Watch:
    model = model or nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))
    stepper = torch.optim.Adam(model.parameters(), 1e-2)
    watch = nb.watch(model, **watching)
    for _ in range(phases):
        model.train()
        for rows in torch.arange(1000).split(50):
            stepper.zero_grad()
            F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
            stepper.step()
        if mode == "eval":
            model.eval()
        with torch.no_grad():
            for rows in torch.arange(1000, 1500).split(100):
                model(data[0][rows]).argmax(1)
    watch.close()
    return watch


def test_evaluation_in_training_mode_is_found(digits: Data) -> None:
    with pytest.warns(DebuggerWarning, match="evaluated-in-training-mode"):
        watch = evaluated(digits, mode="train")
    [found] = watch.diagnoses
    assert (found.status, found.layer) == ("error", "model")
    assert "BatchNorm1d, Dropout" in found.what
    assert "model.eval()" in found.fix


def test_one_batch_of_evaluation_with_a_loss_is_found(digits: Data) -> None:
    model = nn.Sequential(nn.Linear(64, 16), nn.Dropout(), nn.Linear(16, 10))
    stepper = torch.optim.SGD(model.parameters(), 0.1)

    def loop() -> None:
        for _ in range(3):
            stepper.zero_grad()
            F.cross_entropy(model(digits[0]), digits[1]).backward()
            stepper.step()
            with torch.no_grad():
                F.cross_entropy(model(digits[0][:100]), digits[1][:100])

    with nb.watch(model) as watch, pytest.warns(DebuggerWarning, match="evaluated-in-training-mode"):
        loop()
    assert [found.name for found in watch.diagnoses] == ["evaluated-in-training-mode"]


def test_evaluation_in_evaluation_mode_is_no_finding(digits: Data) -> None:
    watch = evaluated(digits, mode="eval", phases=2)
    assert watch.diagnoses == []
    assert watch.errors == []
    found = watch._session.phases.view(watch.steps)
    assert found is not None
    assert (found.batches, found.phases, found.is_training_mode, found.active) == (5, 2, False, ())
    assert found.difference == 0.0
    assert found.rows >= 450
    assert found.leaked_share == 0.0


def test_samples_of_the_training_in_an_evaluation(digits: Data) -> None:
    model = mlp()
    stepper = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for epoch in range(2):
            for rows in torch.arange(400).split(40):
                stepper.zero_grad()
                F.cross_entropy(model(digits[0][rows]), digits[1][rows]).backward()
                stepper.step()
            if epoch == 0:
                with torch.no_grad():
                    model(digits[0][200:600])
    found = seen(watch).evaluation
    assert found is not None
    assert found.rows > 200  # of the first 256 of the batch, 200 to 455
    assert found.leaked_share == pytest.approx(200 / 256, abs=0.05)


def test_samples_without_gradients_inside_the_training_are_no_evaluation(digits: Data) -> None:
    """A generator in training mode gives samples to the critic's step."""
    maker = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 64))
    critic = nn.Linear(64, 1)
    makes, criticises = torch.optim.Adam(maker.parameters(), 1e-3), torch.optim.Adam(critic.parameters(), 1e-3)
    with nb.watch(maker) as watch:
        for _ in range(20):
            with torch.no_grad():
                false = maker(torch.randn(32, 8))
            criticises.zero_grad()
            F.softplus(critic(false)).mean().backward()
            criticises.step()
            makes.zero_grad()
            F.softplus(-critic(maker(torch.randn(32, 8)))).mean().backward()
            makes.step()
    assert watch.diagnoses == []
    assert watch.errors == []


def test_dropout_that_is_active_in_evaluation_gives_two_answers(digits: Data) -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)
            self.calls: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.calls.append(len(x))
            return self.head(F.dropout(x))  # type: ignore[no-any-return]

    model = Forgetful()
    state = None
    stepper = torch.optim.SGD(model.parameters(), 0.1)

    def loop() -> None:
        nonlocal state
        for _ in range(2):
            stepper.zero_grad()
            F.cross_entropy(model(digits[0][:32]), digits[1][:32]).backward()
            stepper.step()
            model.eval()
            with torch.no_grad():
                torch.manual_seed(5)
                model(digits[0][:8])
                state = torch.get_rng_state()
            model.train()

    with nb.watch(model) as watch, pytest.warns(DebuggerWarning, match="random-evaluation"):
        loop()
    found = seen(watch).evaluation
    assert found is not None
    assert found.difference > 0.1  # type: ignore[operator]
    assert model.calls == [32, 8, 32, 8]  # the second pass left no trace
    torch.manual_seed(5)
    with torch.no_grad():
        model.eval()
        model(digits[0][:8])
    assert torch.equal(torch.get_rng_state(), state)


def test_training_in_evaluation_mode_is_known(digits: Data) -> None:
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)).eval()
    view = seen(train(model, digits))
    assert view.model is not None
    assert (view.model.is_training, view.model.has_batchnorm, view.model.has_dropout) == (False, True, False)
    assert view.forwards == 1
    model.train()
    model[1].eval()
    again = seen(train(model, digits)).model
    assert again is not None
    assert (again.is_training, again.switched) == (True, ("1",))


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_metric_that_cannot_be_is_found(digits: Data, workspace: Any) -> None:
    model = mlp()
    stepper = torch.optim.Adam(model.parameters(), 1e-2)
    x, y = digits[0][:200], digits[1][:200]

    def loop() -> None:
        for _ in range(20):
            stepper.zero_grad()
            out = model(x)
            F.cross_entropy(out, y).backward()
            stepper.step()
            right = (out.argmax(1) == y[:, None]).float().sum() / len(y)  # (200, 200): each match counts often
            nb.log(val_acc=right.item())

    with nb.run("wrong"), nb.watch(model) as watch, pytest.warns(DebuggerWarning, match="metric-out-of-range"):
        loop()
    [found] = watch.diagnoses
    assert (found.name, found.layer) == ("metric-out-of-range", "metric val_acc")
    assert found.measured is not None
    assert found.measured > 1


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_metric_as_share_and_as_percentage_are_no_finding(digits: Data, workspace: Any, factor: float) -> None:
    model = mlp()
    stepper = torch.optim.Adam(model.parameters(), 1e-2)
    with nb.run("right"), nb.watch(model) as watch:
        for _ in range(25):
            rows = torch.randint(0, 1000, (64,))
            stepper.zero_grad()
            out = model(digits[0][rows])
            F.cross_entropy(out, digits[1][rows]).backward()
            stepper.step()
            nb.log(accuracy=factor * (out.argmax(1) == digits[1][rows]).float().mean().item(), loss=3.0)
        assert watch.diagnoses == []
        metric = watch._session.metrics.view()["accuracy"]
    assert (metric.count, metric.min <= metric.first, metric.falls > 0) == (25, True, True)


# -- time and memory --------------------------------------------------------------------------------------------------


class Slow(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        time.sleep(0.0005)
        return super().__getitem__(index)


def test_waiting_for_data_is_found(digits: Data) -> None:
    model = mlp()
    stepper = torch.optim.SGD(model.parameters(), 0.1)

    def loop() -> None:
        for x, y in DataLoader(Slow(*digits), batch_size=40):
            stepper.zero_grad()
            F.cross_entropy(model(x), y).backward()
            stepper.step()

    with nb.watch(model, sample_every=1) as watch, pytest.warns(DebuggerWarning, match="data-loader-bound"):
        loop()
    [found] = watch.diagnoses
    assert (found.name, found.layer, found.status) == ("data-loader-bound", "data", "warning")
    timing = seen(watch).timing
    assert timing is not None
    assert (timing.loader_workers, timing.batch_size) == (0, 40)
    assert timing.data_ms > 20
    assert timing.data_ms < timing.step_ms


def test_part_that_exceeds_the_budget_is_named(digits: Data) -> None:
    class Heavy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.02)
            return self.head(x)  # type: ignore[no-any-return]

    over = seen(train(Heavy(), digits, step_ms=5)).timing
    assert over is not None
    assert (over.over, over.budget_ms) == ("forward", 5)
    assert over.forward_ms > 15
    kept = seen(train(Heavy(), digits, step_ms=5000)).timing
    assert kept is not None
    assert kept.over == ""
    assert kept.memory_bytes > 10_000_000  # type: ignore[operator]
    assert sum(kept.parts.values()) == pytest.approx(kept.step_ms, rel=0.5)


@pytest.mark.parametrize("keeps", [True, False])
def test_graphs_that_somebody_keeps(digits: Data, keeps: bool) -> None:
    model = mlp()
    stepper = torch.optim.SGD(model.parameters(), 0.1)
    total: Any = 0.0
    with nb.watch(model) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        for _ in range(12):
            stepper.zero_grad()
            loss = F.cross_entropy(model(digits[0][:32]), digits[1][:32])
            loss.backward()
            total = total + (loss if keeps else loss.item())
            stepper.step()
    timing = seen(watch).timing
    assert timing is not None
    assert (timing.kept_graphs > 8) is keeps
    assert keeps or timing.kept_graphs <= 2
    assert [d.name for d in watch.diagnoses] == (["graphs-kept"] if keeps else [])


def test_cost_of_the_watch_is_known(digits: Data) -> None:
    cost = train(mlp(), digits, steps=10).cost
    assert cost["steps_per_s"] > 0
    assert 0 < cost["watch_share"] < 1
