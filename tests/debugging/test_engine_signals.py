"""What a watch hears of the loop itself, each on a real loop that is sick and on its healthy twin."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import nbops as nb
from nbops.core.records import Diagnosis
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.rules import rules
from nbops.debugging.signals.loaders import kind_of
from nbops.debugging.views import History, StepView
from nbops.debugging.watch import Watch

Data = tuple[Tensor, Tensor]
Step = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor], None]


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def loop(
    data: Data, take: Step, *, model: nn.Module | None = None, steps: int = 12, optimizer: Any = None,
    size: int = 32, shuffled: bool = True, **watching: Any,
) -> Watch:  # fmt: skip
    """Call `take` with model, optimizer and a batch for each step."""
    model = model or mlp()
    stepper = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model, **watching) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        for i in range(steps):
            rows = torch.randint(0, len(data[0]), (size,)) if shuffled else torch.arange(i * size, (i + 1) * size)
            take(model, stepper, data[0][rows], data[1][rows])
    assert watch.errors == []
    return watch


def usual(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def causes(found: Sequence[Diagnosis], rule: str) -> list[tuple[str, str, str]]:
    """Return status, layer and first cause of what a rule found."""
    return [(d.status, d.layer, d.causes[0].name) for d in found if d.name == rule]


def seen(watch: Watch) -> StepView:
    assert watch.view is not None
    return watch.view


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[StepView]:
    """Every view that the rules get, from a rule that keeps them."""
    views: list[StepView] = []

    def spy(view: StepView, history: History) -> Iterator[Any]:
        views.append(view)
        return iter(())

    monkeypatch.setitem(rules._entries, "spy", spy)
    return views


# -- gradients that are not there -------------------------------------------------------------------------------------


def no_backward(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y)
    optimizer.step()


def cleared_too_late(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    F.cross_entropy(model(x), y).backward()
    optimizer.zero_grad()
    optimizer.step()


def cut(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x).detach().requires_grad_(), y).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("take", "layer", "cause"),
    [
        (no_backward, "optimizer", "backward-missing"), (cleared_too_late, "optimizer", "grads-cleared-before-step"),
        (cut, "loss", "graph-cut"),
    ],
)  # fmt: skip
def test_steps_without_any_gradient(digits: Data, take: Step, layer: str, cause: str) -> None:
    watch = loop(digits, take)
    assert causes(watch.diagnoses, "step-without-gradient") == [("error", layer, cause)]
    assert watch.diagnoses[0].step <= 3


def test_gradients_set_to_zero_before_the_step(digits: Data) -> None:
    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model(x), y).backward()
        optimizer.zero_grad(set_to_none=False)
        optimizer.step()

    found = causes(loop(digits, take).diagnoses, "step-without-gradient")
    assert found == [("error", "optimizer", "grads-cleared-before-step")]


def test_optimizer_of_a_part_that_is_not_used(digits: Data) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = mlp(), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    net = Net()
    found = loop(digits, usual, model=net, optimizer=torch.optim.SGD(net.spare.parameters(), 0.1)).diagnoses
    assert causes(found, "step-without-gradient") == [("error", "optimizer", "module-unused")]


def test_usual_loops_have_gradients(digits: Data) -> None:
    def accumulating(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        for part, goal in zip(x.split(8), y.split(8), strict=True):
            (F.cross_entropy(model(part), goal) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()

    for take in (usual, accumulating):
        assert loop(digits, take, steps=30).diagnoses == []


# -- gradients that nobody uses ---------------------------------------------------------------------------------------


def test_optimizer_that_never_steps(digits: Data) -> None:
    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()

    found = causes(loop(digits, take).diagnoses, "gradients-thrown-away")
    assert found == [("error", "optimizer", "step-missing")]


@pytest.mark.parametrize("is_inside", [False, True])
def test_step_outside_of_the_loop(digits: Data, is_inside: bool) -> None:
    def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        for part, goal in zip(x.split(8), y.split(8), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(part), goal).backward()
            if is_inside:
                optimizer.step()
        if not is_inside:
            optimizer.step()

    watch = loop(digits, epoch, size=48, steps=5)
    expected = [] if is_inside else [("error", "optimizer", "step-outside-loop")]
    assert causes(watch.diagnoses, "gradients-thrown-away") == expected
    assert is_inside or seen(watch).thrown_away == 5


def test_accumulation_that_is_cleared_for_each_part_is_among_the_causes(digits: Data) -> None:
    def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        for number, (part, goal) in enumerate(zip(x.split(8), y.split(8), strict=True), 1):
            optimizer.zero_grad()
            F.cross_entropy(model(part), goal).backward()
            if number % 6 == 0:
                optimizer.step()

    watch = loop(digits, epoch, size=48, steps=5)
    (found,) = [one for one in watch.diagnoses if one.name == "gradients-thrown-away"]
    assert {cause.name for cause in found.causes} >= {"step-outside-loop", "grads-cleared-before-step"}


def test_part_of_a_layer_without_a_gradient(digits: Data) -> None:
    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx: Any, slope: Tensor) -> Any:
            return slope @ ctx.saved_tensors[0], None

    class Linear(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Times.apply(x, self.weight) + self.bias  # type: ignore[no-any-return, no-untyped-call]

    for kind in (Linear, nn.Linear):
        model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), kind(16, 10))
        watch = loop(digits, usual, model=model)
        silent = ("weight",) if kind is Linear else ()
        assert seen(watch).layers["2"].silent == silent
        assert causes(watch.diagnoses, "part-without-gradient") == ([("error", "2", "graph-cut")] if silent else [])


def test_layers_that_begin_as_copies_are_no_broken_tie(digits: Data) -> None:
    """nn.TransformerEncoder copies one layer."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = nn.Sequential(nn.Unflatten(1, (8, 8)), body, nn.Flatten(), nn.Linear(64, 10))
    assert loop(digits, usual, model=model).diagnoses == []


# -- optimizers -------------------------------------------------------------------------------------------------------


def test_optimizer_that_is_made_anew(digits: Data) -> None:
    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        usual(model, torch.optim.Adam(model.parameters(), 1e-3), x, y)

    watch = loop(digits, take, steps=6)
    assert causes(watch.diagnoses, "optimizer-made-anew") == [("error", "optimizer", "optimizer-rebuilt-in-loop")]
    assert seen(watch).stepper.made == 6  # type: ignore[union-attr]


def test_optimizer_of_each_stage_is_no_finding(digits: Data) -> None:
    model = mlp()
    with nb.watch(model) as watch:
        for rate in (0.1, 0.03, 0.01, 0.003, 0.001):
            optimizer = torch.optim.SGD(model.parameters(), rate)
            for rows in torch.arange(320).split(32):
                usual(model, optimizer, digits[0][rows], digits[1][rows])
    assert watch.diagnoses == []


def test_parameter_that_is_listed_twice(digits: Data) -> None:
    model = mlp()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = torch.optim.SGD([*model.parameters(), model[2].weight], 0.1)  # type: ignore[list-item]
    watch = loop(digits, usual, model=model, optimizer=optimizer)
    assert seen(watch).stepper.twice == ("2",)  # type: ignore[union-attr]
    assert causes(watch.diagnoses, "updated-twice") == [("error", "2", "parameter-twice-in-optimizer")]


@pytest.mark.parametrize("is_tied", [False, True])
def test_parameters_that_share_their_memory(digits: Data, is_tied: bool) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    weight = model[0].weight
    model[2].weight = weight if is_tied else nn.Parameter(weight.data)  # type: ignore[arg-type]
    watch = loop(digits, usual, model=model)
    assert seen(watch).stepper.twice == (() if is_tied else ("2",))  # type: ignore[union-attr]
    assert len(causes(watch.diagnoses, "updated-twice")) == (not is_tied)


@pytest.mark.parametrize("is_low", [True, False])
def test_share_of_the_weights_that_a_step_changes(digits: Data, is_low: bool) -> None:
    dtype = torch.bfloat16 if is_low else torch.float32
    model = mlp().to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
    watch = loop((digits[0].to(dtype), digits[1]), usual, model=model, optimizer=optimizer)
    layer = seen(watch).layers["0"]
    assert layer.is_low_precision is is_low
    assert layer.moved_share is not None
    assert (layer.moved_share < 0.3) if is_low else (layer.moved_share > 0.9)
    assert len(causes(watch.diagnoses, "updates-swallowed")) == is_low


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_inside", [True, False])
def test_seed_inside_of_the_loop(digits: Data, is_inside: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        torch.manual_seed(1)
        for _ in range(12):
            if is_inside:
                torch.manual_seed(1)
            rows = torch.randint(0, len(digits[0]), (32,))
            usual(model, optimizer, digits[0][rows], digits[1][rows])
    assert seen(watch).seedings == is_inside
    expected = [("error", "batch", "same-batch-always")] if is_inside else []
    assert causes(watch.diagnoses, "same-batch-always") == expected


@pytest.mark.parametrize("is_named", [True, False])
def test_loader_that_is_begun_anew_at_each_step(digits: Data, is_named: bool) -> None:
    """Also where the loader is nobody's but its iterator's."""
    known = DataLoader(TensorDataset(*digits), batch_size=32)

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        loader = known if is_named else DataLoader(TensorDataset(*digits), batch_size=32)
        usual(model, optimizer, *next(iter(loader)))

    watch = loop(digits, take)
    assert causes(watch.diagnoses, "same-batch-always") == [("error", "batch", "same-batch-always")]
    assert seen(watch).timing.loader_batches == 57  # type: ignore[union-attr]


def test_loader_that_is_read_to_its_end(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for x, y in DataLoader(TensorDataset(*digits), batch_size=64, shuffle=True, drop_last=True):
            usual(model, optimizer, x, y)
    assert watch.diagnoses == []
    assert seen(watch).timing.is_stream is False  # type: ignore[union-attr]


@pytest.mark.parametrize("is_named", [True, False])
def test_loader_that_gives_nothing(digits: Data, is_named: bool) -> None:
    few, model = TensorDataset(digits[0][:20], digits[1][:20]), mlp()
    known = DataLoader(few, batch_size=64, drop_last=True)
    with nb.watch(model) as watch, pytest.warns(DebuggerWarning, match="loader-empty"):
        assert list(known if is_named else DataLoader(few, batch_size=64, drop_last=True)) == []
    assert causes(watch.diagnoses, "loader-empty") == [("error", "batch", "loader-empty")]
    assert "20 rows" in watch.diagnoses[0].what


def test_loader_of_no_rows_is_no_finding(digits: Data) -> None:
    model = mlp()
    with nb.watch(model) as watch:
        assert list(DataLoader(TensorDataset(digits[0][:0]), batch_size=4)) == []
    assert watch.diagnoses == []


class Stream(IterableDataset[Any]):
    def __init__(self, data: Data) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        yield from zip(*self.data, strict=True)


def test_stream(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model) as watch:
        for x, y in DataLoader(Stream((digits[0][:640], digits[1][:640])), batch_size=64):
            usual(model, optimizer, x, y)
    timing = seen(watch).timing
    assert timing is not None
    assert (timing.is_stream, timing.loader_batches, timing.loader_workers) == (True, None, 0)
    assert watch.diagnoses == []


class Noisy(Dataset[Any]):
    def __init__(self, generator: Any) -> None:
        self.rng = generator

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        return self.rng.standard_normal(4)


def test_random_generator_that_workers_copy() -> None:
    shared = Noisy(np.random.default_rng(0))
    assert kind_of(DataLoader(shared, num_workers=1), 1) == (False, "rng")
    assert kind_of(DataLoader(shared), 0) == (False, "")
    assert kind_of(DataLoader(shared, num_workers=1, worker_init_fn=print), 1) == (False, "")
    assert kind_of(DataLoader(Noisy(None), num_workers=1), 1) == (False, "")


@pytest.mark.parametrize("is_leaky", [True, False])
def test_column_of_the_label(is_leaky: bool) -> None:
    x = torch.randn(400, 6)
    y = (x[:, :3].sum(1) > 0).float()[:, None]
    if is_leaky:
        x[:, 4] = 3 * y[:, 0] - 1
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()

    watch = loop((x, y), take, model=model)
    batch = seen(watch).batch
    assert batch is not None
    assert batch.label_correlation is not None
    assert (batch.label_column == 4 and batch.label_correlation > 0.999) or not is_leaky
    assert len(causes(watch.diagnoses, "label-in-inputs")) == is_leaky


def test_the_last_value_of_a_window_is_no_label() -> None:
    series = torch.sin(torch.arange(500) / 20) + 0.05 * torch.randn(500)
    windows, following = series.unfold(0, 24, 1)[:-1], series[24:, None]
    model = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 1))

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()

    watch = loop((windows, following), take, model=model)
    batch = seen(watch).batch
    assert batch is not None
    assert batch.label_column is None
    assert causes(watch.diagnoses, "label-in-inputs") == []


# -- evaluations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "expected"), [(300, 1), (400, 0), (0, 0)], ids=["shares", "apart", "the same"])
def test_samples_that_training_and_evaluation_share(digits: Data, first: int, expected: int) -> None:
    """Known once the training brings nothing new, in the second epoch; told when the evaluation is over."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with nb.watch(model, sample_every=1) as watch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DebuggerWarning)
        for _ in range(3):
            model.train()
            for rows in torch.arange(400).split(40):
                usual(model, optimizer, digits[0][rows], digits[1][rows])
            model.eval()
            with torch.no_grad():
                for rows in (first + torch.arange(200) * 7 % 200).split(50):
                    model(digits[0][rows])
    assert watch.errors == []
    assert len(causes(watch.diagnoses, "evaluation-leak")) == expected


def test_an_evaluation_after_the_last_step_is_judged_whole(digits: Data) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def train_and_evaluate() -> None:
        for _ in range(3):
            for rows in torch.arange(400).split(40):
                usual(model, optimizer, digits[0][rows], digits[1][rows])
        model.eval()
        with torch.no_grad():
            for first in [*[500] * 9, *range(380, 390)]:  # the first batches share nothing with the training
                model(digits[0][first : first + 40])

    with pytest.warns(DebuggerWarning, match="evaluation-leak"), nb.watch(model, sample_every=1) as watch:
        train_and_evaluate()
    assert len(causes(watch.diagnoses, "evaluation-leak")) == 1


@pytest.mark.parametrize("is_on", [True, False])
def test_dropout_in_an_evaluation_is_heard(digits: Data, judged: list[StepView], is_on: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.dropout(x, training=True if is_on else self.training))  # type: ignore[no-any-return]

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.train()
        usual(model, optimizer, x, y)
        model.eval()
        with torch.no_grad():
            model(x), model(x)

    watch = loop(digits, take, model=Net(), steps=3)
    last = next(v.evaluation for v in reversed(judged) if v.moment == "evaluation")
    assert last is not None
    assert last.dropout is is_on
    assert last.difference is not None
    assert (last.difference > 0.1) is is_on
    assert causes(watch.diagnoses, "random-evaluation") == ([("error", "model", "dropout-always-on")] if is_on else [])


@pytest.mark.parametrize("is_by_hand", [True, False])
def test_dropout_layers_switched_on_by_hand_are_a_hint_at_most(digits: Data, is_by_hand: bool) -> None:
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.train()
        usual(model, optimizer, x, y)
        model.eval()
        for part in model.modules():
            if part is not model and (not is_by_hand or isinstance(part, nn.Dropout)):
                part.train()  # Monte-Carlo dropout; or an eval() that does not reach the layers
        with torch.no_grad():
            model(x), model(x)

    found = causes(loop(digits, take, model=net, steps=3).diagnoses, "random-evaluation")
    assert [status for status, _, _ in found] == (["hint"] if is_by_hand else ["error"])


def test_losses_of_evaluations_and_of_the_training(digits: Data, judged: list[StepView]) -> None:
    losses: list[float] = []

    def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.train()
        for part, goal in zip(x.split(32), y.split(32), strict=True):
            usual(model, optimizer, part, goal)
        model.eval()
        with torch.no_grad():
            losses.append(F.cross_entropy(model(digits[0][-200:]), digits[1][-200:]).item())

    watch = loop(digits, epoch, size=640, steps=3, sample_every=1)
    found = [v.evaluation for v in judged if v.moment == "evaluation" and v.evaluation and v.evaluation.losses]
    assert [one.loss for one in found] == pytest.approx(losses)
    assert [one.best_loss for one in found] == [None, pytest.approx(losses[0]), pytest.approx(min(losses[:2]))]
    trained = [v.loss for v in judged if v.moment == "step" and v.loss is not None]
    assert found[-1].train_loss == pytest.approx(np.median(trained[-20:]))
    assert watch.diagnoses == []


# -- a value that is not finite ---------------------------------------------------------------------------------------


class Planted(nn.Module):
    """Takes the logarithm of a number below 0 (a square root at 0, behind which the slope is infinite) when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Linear(64, 16), nn.Linear(16, 10), ""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.body(x))
        if self.how == "log":
            x = torch.log(x - 1e-3)
        if self.how == "sqrt":
            x = torch.sqrt(x * 0)
        return self.head(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("how", "rule", "cause", "op", "phase"),
    [
        ("log", "non-finite-loss", "log-of-zero", "aten.log", "forward"),
        ("sqrt", "non-finite-gradient", "sqrt-at-zero", "aten.div", "backward"),
    ],
)  # fmt: skip
def test_operation_of_a_bad_value_is_named(digits: Data, how: str, rule: str, cause: str, op: str, phase: str) -> None:
    model = Planted()

    def take(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        model.how = how if next(numbers) == 8 else ""  # type: ignore[assignment]
        usual(model, optimizer, x, y)

    numbers = itertools.count()
    found = loop(digits, take, model=model, on_error="warn").diagnoses
    assert [(d.name, d.step, d.status) for d in found] == [(rule, 8, "error")]
    assert found[0].causes[0].name == cause
    assert (found[0].evidence["op"], found[0].evidence["phase"]) == (op, phase)
    assert f"torch.{how}" in found[0].code
    assert found[0].fix == found[0].causes[0].fix
    assert all(torch.isfinite(p).all() for p in model.parameters())
