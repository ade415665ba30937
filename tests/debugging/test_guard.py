"""A NaN planted in a real training loop: named by layer and step, and stopped before it reaches the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nbops as nb
from nbops.core.errors import TrainingStopped
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.guard import Tripwire

Plant = Callable[[nn.Module, Tensor], Tensor]
NAN = float("nan")


class Net(nn.Module):
    """Two layers; `poison` makes a NaN between them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 32)
        self.act = nn.ReLU()
        self.head = nn.Linear(32, 10)
        self.poison = ""

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.body(x))
        if self.poison == "between":
            x = x - x.mean() + torch.log(x - x.max() - 1)
        return self.head(x)


class Root(nn.Module):
    """A layer whose output has an infinite slope where its input is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x * (x > 0))


class Loop:
    """Trains `model` on the digits and plants something at step 25; keeps the weights from before each step."""

    def __init__(self, data: tuple[Tensor, Tensor], *, model: nn.Module | None = None, rate: float = 0.1) -> None:
        self.images, self.labels = data
        self.model = model or Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), rate)
        self.loss = nn.CrossEntropyLoss()
        self.weights: dict[str, Tensor] = {}

    def run(self, *, steps: int = 30, at: int = 25, batch: Any = None, loss: Any = None, grads: Any = None,
            micro_batches: int = 1) -> None:  # fmt: skip
        for step in range(steps):
            self.optimizer.zero_grad()
            for micro in range(micro_batches):
                rows = torch.randint(0, len(self.images), (32,))
                x, y = self.images[rows].clone(), self.labels[rows]
                planted = step == at and micro == 0
                if planted and batch:
                    batch(self.model, x)
                value = self.loss(self.model(x), y)
                if planted and loss:
                    value = loss(value)
                value.backward()
            if step == at and grads:
                grads(self.model)
            self.weights = copy.deepcopy(self.model.state_dict())
            self.optimizer.step()

    def is_intact(self) -> bool:
        now = self.model.state_dict()
        return all(torch.equal(now[name], value) for name, value in self.weights.items())

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())


def nan_in_batch(model: nn.Module, x: Tensor) -> None:
    x[3, 5] = NAN


def poison(model: nn.Module, x: Tensor) -> None:
    model.poison = "between"  # type: ignore[assignment]


def infinity_in_weights(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model.head.weight[0, 0] = float("inf")  # type: ignore[union-attr, index]


def nan_in_gradient(model: nn.Module) -> None:
    model.body.weight.grad[0, 0] = NAN  # type: ignore[union-attr, index]


@pytest.mark.parametrize(
    ("plants", "layer", "words"),
    [
        ({"batch": nan_in_batch}, "body", "the batch already holds 1 non-finite value"),
        ({"batch": nan_in_batch, "micro_batches": 3}, "body", "the batch already holds"),
        ({"batch": poison}, "head", "after 'act' and before layer 'head'"),
        ({"batch": infinity_in_weights}, "head", "'head.weight' holds non-finite values already (1 of 320)"),
        ({"grads": nan_in_gradient}, "body", "first in the gradient of layer 'body'"),
        ({"loss": lambda value: value * NAN}, "loss", "made in the loss"),
    ],
    ids=["batch", "micro-batch", "between", "weights", "gradient", "loss"],
)
@pytest.mark.parametrize("is_loss_watched", [True, False])
def test_planted_nan_is_named_and_stopped(
    digits: tuple[Tensor, Tensor], plants: dict[str, Any], layer: str, words: str, is_loss_watched: bool
) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss if is_loss_watched else None, on_error="stop") as watch:
        with pytest.raises(TrainingStopped, match=rf"at step 25 in layer '{layer}'") as caught:
            loop.run(**plants)
        assert caught.value.hint
        assert words in str(caught.value)
        assert loop.is_intact()
        if "weights" not in words:
            assert loop.is_finite() or layer == "head"
        found = watch.diagnoses
    assert [(d.step, d.layer, d.status) for d in found] == [(25, layer, "error")]
    assert found[0].name in ("non-finite-loss", "non-finite-gradient")
    assert found[0].fix
    assert watch.steps == 25


def test_layer_with_infinite_slope_is_named(digits: tuple[Tensor, Tensor]) -> None:
    """The forward pass is finite; the slope of sqrt at 0 is not."""
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), Root(), nn.Linear(16, 10))
    loop = Loop(digits, model=model)
    with nb.watch(model, loss=loop.loss, on_error="stop"), pytest.raises(TrainingStopped) as caught:
        loop.run()
    assert "'2'" in str(caught.value)  # the last layer before it in the order of the backward pass
    assert loop.is_finite()


def test_non_finite_output_of_one_layer_is_named(digits: tuple[Tensor, Tensor]) -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(x)

    model = nn.Sequential(nn.Linear(64, 16), nn.Softplus(), nn.Linear(16, 16), nn.ReLU(), Log(), nn.Linear(16, 10))
    loop = Loop(digits, model=model)
    with nb.watch(model, loss=loop.loss, on_error="stop"):
        with pytest.raises(TrainingStopped, match=r"at step 0 in layer '4'.*first in the output of layer '4' \(Log\)"):
            loop.run()
        assert loop.is_intact()


def test_warning_is_told_once_and_counted(digits: tuple[Tensor, Tensor]) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss) as watch:
        with pytest.warns(DebuggerWarning, match="non-finite-loss at step 25 in layer 'body'") as told:
            loop.run(batch=nan_in_batch)
        assert len(told) == 1
        assert told[0].filename == __file__
        [found] = watch.diagnoses
        assert watch.counts == {found.id: 1}  # the step was not taken, so the weights of the next ones are whole
        assert watch.steps == 30
        assert loop.is_finite()
        assert "non-finite-loss at step 25 in 'body', 1x" in repr(watch)


def test_bad_step_after_bad_step_is_counted(digits: tuple[Tensor, Tensor]) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model) as watch, pytest.warns(DebuggerWarning, match="at step 25") as told:
        loop.run(batch=infinity_in_weights)
    assert len(told) == 1
    assert list(watch.counts.values()) == [5]  # steps 25 to 29


def test_stop_raises_again_when_the_loop_goes_on(digits: tuple[Tensor, Tensor]) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss, on_error="stop") as watch:
        for _ in range(2):
            with pytest.raises(TrainingStopped):
                loop.run(at=0, batch=nan_in_batch)
        loop.run(steps=3)  # and a healthy loop goes on
        assert len(watch.diagnoses) == 1
        assert list(watch.counts.values()) == [2]
        assert watch.steps == 3


def test_buffers_and_random_state_are_as_before_after_locating(digits: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 10))
    loop = Loop(digits, model=model)
    with nb.watch(model, loss=loop.loss, on_error="stop"), pytest.raises(TrainingStopped):
        loop.run(at=3, loss=lambda value: value * NAN)
    assert loop.is_intact()
    assert int(model[1].num_batches_tracked) == 4  # type: ignore[arg-type]


def test_forward_that_cannot_run_twice_still_names_a_place(digits: tuple[Tensor, Tensor]) -> None:
    class Once(Net):
        def forward(self, x: Tensor) -> Tensor:
            assert torch.is_grad_enabled()
            return super().forward(x)

    loop = Loop(digits, model=Once())
    with nb.watch(loop.model, on_error="stop") as watch, pytest.raises(TrainingStopped):
        loop.run(loss=lambda value: value * NAN)
    assert watch.diagnoses[0].layer == "head"
    assert watch.diagnoses[0].confidence == 0.5


def test_closure_is_judged_before_the_step(digits: tuple[Tensor, Tensor]) -> None:
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    x, y = digits[0][:100].clone(), digits[1][:100]
    calls: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        calls.append(loss.item())
        return loss

    with nb.watch(model, on_error="stop") as watch:
        for _ in range(6):
            optimizer.step(closure)
        assert watch.diagnoses == []
        assert watch.steps == 6
        assert calls[-1] < calls[0]
        x[0, 0] = NAN
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(TrainingStopped, match="non-finite-loss at step 6 in layer 'body'"):
            optimizer.step(closure)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_large_but_finite_gradient_is_no_nan(digits: tuple[Tensor, Tensor]) -> None:
    """A float32 norm overflows above 1e19; the values are still finite."""
    loop = Loop(digits, rate=1e-30)
    with nb.watch(loop.model, loss=loop.loss, on_error="stop") as watch:
        loop.run(steps=3, at=1, grads=lambda model: model.body.weight.grad.fill_(1e30))
    assert watch.diagnoses == []


def test_masked_logits_are_no_finding(digits: tuple[Tensor, Tensor]) -> None:
    """Minus infinity in an output is legal where loss and gradients stay finite."""

    class Masked(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.cat([super().forward(x), x[:, :2]], dim=1)
            return logits.masked_fill(torch.arange(12) >= 10, -torch.inf)

    loop = Loop(digits, model=Masked())
    with nb.watch(loop.model, loss=loop.loss, on_error="stop") as watch:
        loop.run()
    assert watch.diagnoses == []


@pytest.mark.parametrize("drops", ["before backward", "after backward"])
def test_batch_that_the_loop_drops_itself_is_no_finding(digits: tuple[Tensor, Tensor], drops: str) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss, on_error="stop") as watch:
        for step in range(8):
            loop.optimizer.zero_grad()
            x = digits[0][:32] * (NAN if step == 4 else 1)
            value = loop.loss(loop.model(x), digits[1][:32])
            if drops == "after backward":
                value.backward()
            if not torch.isfinite(value):
                continue
            if drops == "before backward":
                value.backward()
            loop.optimizer.step()
    assert watch.diagnoses == []
    assert watch.steps == 7


def test_loss_of_an_evaluation_is_not_judged(digits: tuple[Tensor, Tensor]) -> None:
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss, on_error="stop") as watch:
        loop.run(steps=3)
        with torch.no_grad():
            bad = digits[0][:8] * NAN
            assert torch.isnan(loop.loss(loop.model(bad), digits[1][:8]))
        loop.run(steps=3)
    assert watch.diagnoses == []


def test_tripwire_remembers_step_and_layer_until_it_is_read() -> None:
    wire = Tripwire()
    names = ["body", "head", "loss"]
    assert wire.read() is None
    for step, row in enumerate([[1.0, 2.0, 3.0], [1.0, torch.inf, 3.0], [NAN, NAN, NAN]]):
        assert wire.takes(names)
        wire.note(names, torch.tensor(row), step)
    assert not wire.takes(["body"])
    assert wire.read() == (1, ["head"])
    wire.note(names, torch.ones(3), 3)
    assert wire.read() is None


@pytest.mark.parametrize("is_loss_watched", [True, False])
def test_step_is_known_where_it_is_read_late(
    digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, is_loss_watched: bool
) -> None:
    """As on a GPU, where nothing is read on steps that are not sampled."""
    from nbops.debugging.session import Session

    monkeypatch.setattr(Session, "_reads_at_once", lambda self, vector: False)
    loop = Loop(digits)
    with nb.watch(loop.model, loss=loop.loss if is_loss_watched else None, sample_every=10) as watch:
        with pytest.warns(DebuggerWarning, match="at step 25"):
            loop.run(steps=40, grads=nan_in_gradient)
        found = watch.diagnoses
    assert [(d.step, d.layer, d.name) for d in found] == [(25, "body", "non-finite-gradient")]
    assert watch.errors == []
