"""The black box: weights stay whole, and the bad step is computed again and explained, with everything put back."""

from __future__ import annotations

import copy
import gc
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nbops as nb
from nbops.core.errors import Conflict, NotFound, TrainingStopped
from nbops.debugging.blackbox import recorder
from nbops.debugging.blackbox.replay import Replay
from nbops.debugging.watch import Watch

pytestmark = pytest.mark.filterwarnings("ignore::nbops.debugging.findings.DebuggerWarning")
Data = tuple[Tensor, Tensor]
NAN = float("nan")
AT = 7


class Layer(nn.Module):
    """Computes `function` once the model is at its bad step."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.is_bad = False

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.is_bad else x


class Broken(torch.autograd.Function):
    """Its backward pass divides by zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad / torch.zeros_like(grad)


def zero_by_zero(x: Tensor) -> Tensor:
    return (x - x) / (x - x)


def log_of_zero(x: Tensor) -> Tensor:
    return torch.log(torch.relu(x))


def root_at_zero(x: Tensor) -> Tensor:
    return torch.sqrt(x * 0)


def overflow(x: Tensor) -> Tensor:
    return torch.exp(x * 1e6)


def half_overflow(x: Tensor) -> Tensor:
    return (x.half() * 60000 * 60000).float()


def softmax_by_hand(x: Tensor) -> Tensor:
    powers = torch.exp(x * 1000)
    return powers / powers.sum(1, keepdim=True)


class Program:
    """A training on the digits that goes wrong at step `AT`."""

    def __init__(self, data: Data, function: Callable[[Tensor], Tensor] | None = None, **watching: Any) -> None:
        self.data = data
        self.layer = Layer(function or (lambda x: x))
        self.model = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), self.layer, nn.Dropout(0.1), nn.Linear(16, 10)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.watch: Watch = nb.watch(self.model, **watching)
        self.before: dict[str, Tensor] = {}
        self.losses: list[float] = []

    def run(self, *, steps: int = 10, inputs: bool = False, weights: bool = False, loss: str = "") -> Watch:
        for step in range(steps):
            rows = torch.randint(0, len(self.data[0]), (32,))
            x, y = self.data[0][rows].clone(), self.data[1][rows]
            is_bad = step == AT
            self.layer.is_bad = is_bad
            if is_bad:
                if inputs:
                    x[[3, 11], 5] = NAN
                if weights:
                    with torch.no_grad():
                        self.model[4].weight[2, 0] = NAN  # type: ignore[index, union-attr]
                self.before = copy.deepcopy(self.model.state_dict())
            self.optimizer.zero_grad()
            out = self.model(x)
            if loss == "log" and is_bad:
                chances = out.softmax(1) * (out.softmax(1) > 2)
                value = -torch.log(chances[torch.arange(32), y]).mean()
            else:
                value = F.cross_entropy(out, y)
                if loss == "factor" and is_bad:
                    value = value * NAN
            self.losses.append(value.item())
            value.backward()
            self.optimizer.step()
        return self.watch


def line_of(name: str) -> str:
    """Return the line of this file that holds a name's own operation."""
    return {
        "zero_by_zero": "return (x - x) / (x - x)", "log_of_zero": "return torch.log(torch.relu(x))",
        "root_at_zero": "return torch.sqrt(x * 0)", "overflow": "return torch.exp(x * 1e6)",
        "half_overflow": "return (x.half() * 60000 * 60000).float()",
        "softmax_by_hand": "powers = torch.exp(x * 1000)",
    }[name]  # fmt: skip


def everything(program: Program) -> list[Any]:
    """Return model, optimizer, gradients and random states, to be compared bit by bit."""
    return [
        copy.deepcopy(program.model.state_dict()), copy.deepcopy(program.optimizer.state_dict()),
        [None if p.grad is None else p.grad.clone() for p in program.model.parameters()],
        torch.get_rng_state().clone(), random.getstate(), np.random.get_state()[1].tolist(),  # type: ignore[index]
    ]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def replayed(program: Program) -> Replay:
    before = everything(program)
    found = nb.replay(program.watch)
    assert same(before, everything(program))
    assert not any(m._forward_hooks for m in program.model[0].modules()) or program.watch.is_open
    assert (found.step, found.batch, found.is_reproduced) == (AT, AT, True), repr(found)
    assert found.notes == []
    assert program.watch.errors == []
    return found


@pytest.mark.parametrize(
    ("function", "op", "phase"),
    [
        (zero_by_zero, "aten.div", "forward"), (log_of_zero, "aten.log", "forward"),
        (root_at_zero, "aten.div", "backward"), (overflow, "aten.exp", "forward"),
        (half_overflow, "aten.mul", "forward"), (softmax_by_hand, "aten.exp", "forward"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("on_error", ["warn", "stop"])
def test_operation_and_line_of_a_planted_nan(
    digits: Data, function: Callable[[Tensor], Tensor], op: str, phase: str, on_error: str
) -> None:
    program = Program(digits, function, on_error=on_error)
    if on_error == "stop":
        with pytest.raises(TrainingStopped):
            program.run()
    else:
        program.run(steps=AT + 1)
    assert all(p.isfinite().all() for p in program.model.parameters())
    found = replayed(program)
    assert (found.op, found.phase) == (op, phase)
    assert found.code == line_of(function.__name__)
    assert found.file == __file__
    if phase == "forward":
        assert found.module == "2"
        assert found.samples
    assert [d.step for d in program.watch.diagnoses] == [AT]
    program.watch.close()


def test_nan_in_the_batch(digits: Data) -> None:
    program = Program(digits)
    program.run(inputs=True)
    assert all(p.isfinite().all() for p in program.model.parameters())
    found = replayed(program)
    assert (found.place, found.samples, found.module) == ("input", [3, 11], "0")
    assert found.code == "out = self.model(x)"
    [count] = [one for one in program.watch.nonfinite if one.what == "input"]
    assert (count.layer, count.nan, count.inf, count.first_step) == ("0", 2, 0, AT)


def test_nan_in_the_weights(digits: Data) -> None:
    program = Program(digits)
    program.run(weights=True)
    found = replayed(program)
    assert (found.place, found.module) == ("weights", "4")
    assert "'4.weight' holds non-finite values already (1 of 160)" in found.what
    assert program.model[4].weight.isnan().sum() == 1  # no step has spread it
    [count] = [one for one in program.watch.nonfinite if one.what == "weight"]
    assert (count.layer, count.nan) == ("4", 1)


@pytest.mark.parametrize(("loss", "op", "code"), [
    ("log", "aten.log", "value = -torch.log(chances[torch.arange(32), y]).mean()"),
    ("factor", "aten.mul", "value = value * NAN"),
])  # fmt: skip
def test_nan_in_a_loss_that_is_written_in_the_loop(digits: Data, loss: str, op: str, code: str) -> None:
    program = Program(digits)
    program.run(loss=loss)
    seen = str(program.losses)
    found = replayed(program)
    assert (found.op, found.phase, found.code) == (op, "loss", code)
    assert str(program.losses) == seen  # the loop's own lists are not written to again


class Logarithm(nn.Module):
    """Takes the logarithm of its inputs in its own forward, before any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.log(x + 1e-3 if self.training else x)
        return self.layer(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("is_sick", [True, False])
def test_an_operation_between_layers_belongs_to_the_forward_pass(digits: Data, is_sick: bool) -> None:
    x, y = digits
    model = Logarithm().train(not is_sick)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with nb.watch(model) as watch:
        F.cross_entropy(model(x[:32]), y[:32]).backward()
        optimizer.step()
        if not is_sick:
            assert watch.incident is None
            return
    found = nb.replay(watch)
    assert (found.op, found.phase, found.place) == ("aten.log", "forward", "between")
    assert found.code == "x = torch.log(x + 1e-3 if self.training else x)"
    assert found.samples == [int(row) for row in (x[:32] == 0).any(1).nonzero().flatten()]
    assert watch.diagnoses[0].causes[0].fix.startswith("Clamp its input or use log1p")


def test_nan_in_the_backward_pass_of_a_function_of_ones_own(digits: Data) -> None:
    program = Program(digits, Broken.apply)
    program.run(steps=AT + 1)
    found = replayed(program)
    assert (found.op, found.phase) == ("aten.div", "backward")
    assert found.code == "return grad / torch.zeros_like(grad)"
    assert [d.name for d in program.watch.diagnoses] == ["non-finite-gradient"]


def test_memory_that_nobody_wrote_to_is_not_blamed(digits: Data) -> None:
    def scratch(x: Tensor) -> Tensor:
        taken = torch.empty_like(x)
        taken.copy_(x)
        return Broken.apply(taken)

    torch.use_deterministic_algorithms(True)  # fills unwritten memory with NaN
    try:
        program = Program(digits, scratch)
        program.run(steps=AT + 1)
        found = replayed(program)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (found.op, found.phase) == ("aten.div", "backward")


def test_infinite_masks_are_not_blamed(digits: Data) -> None:
    def masked(x: Tensor) -> Tensor:
        scores = x.masked_fill(x > -1e9, -torch.inf)  # every value: the softmax of a row is 0/0
        return scores.softmax(1)

    program = Program(digits, masked)
    program.run(steps=AT + 1)
    found = replayed(program)
    assert found.op == "aten._softmax"
    assert found.code == "return scores.softmax(1)"


def test_micro_batch_that_is_bad_is_the_one_that_is_replayed(digits: Data) -> None:
    model = nn.Sequential(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model):
        for step in range(3):
            optimizer.zero_grad()
            for micro in range(3):
                x = digits[0][32 * micro : 32 * micro + 32].clone()
                if (step, micro) == (1, 0):
                    x[5, 0] = NAN
                loss = F.cross_entropy(model(x), digits[1][32 * micro : 32 * micro + 32])
                loss.backward()
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        found = nb.replay()
    assert (found.step, found.samples) == (1, [5])


def test_helper_functions_are_followed(digits: Data) -> None:
    """The model is called in one function, backward in another, the step in a third."""
    model = nn.Sequential(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def forward(x: Tensor) -> Tensor:
        return model(x)  # type: ignore[no-any-return]

    def loss_of(out: Tensor, y: Tensor, step: int) -> Tensor:
        scaled = out / (step - 2 if step == 2 else 1)
        return F.cross_entropy(scaled, y)

    def back(loss: Tensor) -> None:
        loss.backward()

    with nb.watch(model):
        for step in range(4):
            optimizer.zero_grad()
            out = forward(digits[0][:32])
            loss = loss_of(out, digits[1][:32], step)
            back(loss)
            optimizer.step()
    found = nb.replay()
    assert (found.step, found.op) == (2, "aten.div")
    assert found.code == "scaled = out / (step - 2 if step == 2 else 1)"


def test_gradient_written_by_hand_is_not_reproduced(digits: Data) -> None:
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model):
        F.cross_entropy(model(digits[0][:32]), digits[1][:32]).backward()
        assert model.weight.grad is not None
        model.weight.grad[0, 0] = NAN
        optimizer.step()
    found = nb.replay()
    assert not found.is_reproduced
    assert "written into a gradient" in found.what


def test_what_cannot_be_replayed(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "last_incident", None)
    with pytest.raises(NotFound, match="no step was refused"):
        nb.replay()
    model = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = nb.watch(model)
    F.cross_entropy(model(digits[0][:32] * NAN), digits[1][:32]).backward()
    optimizer.step()
    del model, optimizer
    gc.collect()
    with pytest.raises(Conflict, match="the model of that step is gone"):
        nb.replay(watch)


# -- rollback ----------------------------------------------------------------------------------------------------------


def test_rollback_puts_weights_buffers_and_optimizer_back_and_goes_on(digits: Data) -> None:
    program = Program(digits, on_error="rollback")
    program.run(inputs=True, steps=12)
    watch = program.watch
    assert watch.errors == []
    [change] = watch.changes
    assert (change.what, change.before, change.after) == ("rollback", AT, 0)
    assert all(p.isfinite().all() for p in program.model.parameters())
    assert len(program.optimizer.state) == len(list(program.model.parameters()))
    assert watch.steps == 12


def test_rollback_is_exact(digits: Data) -> None:
    program = Program(digits, on_error="rollback")
    before = copy.deepcopy(program.model.state_dict())
    program.run(steps=6)
    assert not same(before, program.model.state_dict())
    done = program.watch.rollback()
    assert "before step 0" in done
    now = program.model.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in before if not name.startswith("1."))
    assert program.optimizer.state_dict()["state"] == {}


def test_rollback_is_bounded(digits: Data) -> None:
    program = Program(digits, on_error="rollback")

    def bad_for_ever() -> None:
        for _ in range(10):
            program.optimizer.zero_grad()
            (program.model(digits[0][:32]).sum() * NAN).backward()
            program.optimizer.step()

    program.run(steps=3)
    with pytest.raises(TrainingStopped):
        bad_for_ever()
    assert len(program.watch.changes) == 3
    assert all(p.isfinite().all() for p in program.model.parameters())


def test_without_snapshots_there_is_nothing_to_go_back_to(digits: Data) -> None:
    program = Program(digits)
    program.run(steps=3)
    with pytest.raises(NotFound, match="no snapshot"):
        program.watch.rollback()
    large = Program(digits, on_error="rollback", snapshot_mb=0.001)
    with pytest.raises(TrainingStopped):
        large.run(inputs=True)


def test_ring_keeps_three_batches_within_its_limit(digits: Data) -> None:
    program = Program(digits)
    program.run(steps=5)
    ring = program.watch._session.ring
    assert [call.step for call in ring.calls] == [2, 3, 4]
    assert ring.size_bytes == 3 * 32 * 64 * 4
    small = Program(digits, batch_mb=32 * 64 * 4 / 2**20)
    small.run(steps=5)
    assert len(small.watch._session.ring.calls) == 1
