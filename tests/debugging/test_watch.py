"""Attaching and letting go: exactly, once, without changing what a model can do."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import optimizer as torch_optimizer

import nbops as nb
from nbops.core.errors import InvalidInput, TrainingStopped
from nbops.core.query import parse
from nbops.core.records import Diagnosis
from nbops.debugging import stepping
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.rules import rules
from nbops.debugging.views import Finding
from nbops.store.context import CellRef, inside_run, run_of, set_cell, set_default_run

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip
Parts = tuple[nn.Sequential, torch.optim.Optimizer, nn.Module]


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, 10))


def parts() -> Parts:
    model = small()
    return model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()


def train(built: Parts, data: tuple[Tensor, Tensor], *, steps: int = 3) -> None:
    model, optimizer, loss = built
    for _ in range(steps):
        rows = torch.randint(0, len(data[0]), (32,))
        optimizer.zero_grad(set_to_none=True)
        loss(model(data[0][rows]), data[1][rows]).backward()
        optimizer.step()


def hooks_of(*modules: nn.Module) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {name: dict(getattr(m, name)) for name in HOOKS} for root in modules for m in root.modules()
    ]
    return [
        *found,
        dict(torch_optimizer._global_optimizer_pre_hooks),
        dict(torch_optimizer._global_optimizer_post_hooks),
    ]


def count_of(*modules: nn.Module) -> int:
    return sum(len(hooks) for entry in hooks_of(*modules) for hooks in entry.values() if isinstance(hooks, dict))


def test_close_restores_every_hook_dictionary(digits: tuple[Tensor, Tensor]) -> None:
    model, optimizer, loss = built = parts()
    model[0].register_forward_hook(lambda *_: None)  # a hook of the user's own stays
    before = hooks_of(model, loss)
    watch = nb.watch(model, optimizer=optimizer, loss=loss)
    assert hooks_of(model, loss) != before
    train(built, digits)
    watch.close()
    assert hooks_of(model, loss) == before
    watch.close()
    assert hooks_of(model, loss) == before
    assert not watch.is_open
    assert watch.steps == 3
    assert watch.sampled == 3


def test_block_closes_also_after_an_error(digits: tuple[Tensor, Tensor]) -> None:
    built = parts()
    before = hooks_of(built[0], built[2])
    watches = []

    def cell() -> None:
        with nb.watch(built[0], loss=built[2]) as watch:
            watches.append(watch)
            train(built, digits)
            raise KeyError

    with pytest.raises(KeyError):
        cell()
    assert hooks_of(built[0], built[2]) == before
    assert not watches[0].is_open


def test_attaching_fifty_times_attaches_once(digits: tuple[Tensor, Tensor]) -> None:
    model, _, loss = built = parts()
    before = hooks_of(model, loss)
    first = nb.watch(model, loss=loss)
    count = count_of(model, loss)
    for _ in range(50):
        watch = nb.watch(model, loss=loss)
    assert count_of(model, loss) == count
    assert not first.is_open
    train(built, digits)
    assert (watch.steps, first.steps) == (3, 0)
    watch.close()
    assert hooks_of(model, loss) == before


def test_running_the_cell_again_closes_the_watch_of_the_model_before() -> None:
    watches = []
    for _ in range(2):
        set_cell(CellRef("cell-a"))
        watches.append((nb.watch(nn.Linear(2, 2)), nb.watch(nn.ReLU()), nn.Linear(2, 2)))
    (old, old_relu, _), (new, new_relu, _) = watches
    assert [w.is_open for w in (old, old_relu)] == [False, False]
    assert new.name == "Linear"
    assert new_relu.name == "ReLU"


def test_two_models_of_one_class_in_one_cell_are_both_watched() -> None:
    set_cell(CellRef("cell-a"))
    models = [nn.Linear(2, 2), nn.Linear(2, 2)]
    watches = [nb.watch(model) for model in models]
    assert [w.is_open for w in watches] == [True, True]


def test_the_same_name_is_one_watch() -> None:
    models = [nn.Linear(2, 2), nn.Linear(2, 2)]
    watches = [nb.watch(model, name="critic") for model in models]
    assert [w.is_open for w in watches] == [False, True]
    assert watches[1].name == "critic"
    assert watches[1].model_name == "Linear"


def test_watched_model_can_be_copied_and_saved(digits: tuple[Tensor, Tensor]) -> None:
    built = parts()
    with nb.watch(built[0], loss=built[2]) as watch:
        train(built, digits)
        buffer = io.BytesIO()
        torch.save(built[0], buffer)
        buffer.seek(0)
        copies = [copy.deepcopy(built[0]), pickle.loads(pickle.dumps(built[0])), torch.load(buffer, weights_only=False)]
        for twin in copies:
            assert torch.equal(twin(digits[0][:4]), built[0](digits[0][:4]))
            train((twin, torch.optim.SGD(twin.parameters(), 0.1), nn.CrossEntropyLoss()), digits)
        assert watch.steps == 3  # a copy is not watched
        assert watch.errors == []
        train(built, digits)
        assert watch.steps == 6


def test_saved_model_loads_without_nbops() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with nb.watch(model):
        torch.save(model, "model.pt")
    code = (
        "import sys, torch; sys.modules['nbops'] = None\n"
        "model = torch.load('model.pt', weights_only=False); print(tuple(model(torch.ones(3, 2)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "(3, 2)", done.stderr


@pytest.mark.parametrize("closed", [True, False])
def test_dropped_model_is_freed_while_the_watch_is_kept(digits: tuple[Tensor, Tensor], closed: bool) -> None:
    built = parts()
    watch = nb.watch(built[0], loss=built[2], optimizer=built[1])
    train(built, digits)
    if closed:
        watch.close()
    model, weight = weakref.ref(built[0]), weakref.ref(built[0][0].weight)
    del built
    gc.collect()
    assert model() is None
    assert weight() is None
    assert watch.model is None
    assert not watch.is_open
    assert watch.steps == 3
    assert watch.stats


def test_watch_lives_without_its_handle(digits: tuple[Tensor, Tensor]) -> None:
    built = parts()
    nb.watch(built[0], on_error="stop")
    gc.collect()
    with torch.no_grad():
        built[0][3].weight[0, 0] = torch.nan
    with pytest.raises(TrainingStopped, match="layer '3'"):
        train(built, digits)


def test_results_are_the_same_as_without_a_watch(digits: tuple[Tensor, Tensor]) -> None:
    outcome = []
    for is_watched in (True, False):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10))
        built = model, torch.optim.Adam(model.parameters()), nn.CrossEntropyLoss()
        if is_watched:
            nb.watch(model, loss=built[2])
        train(built, digits, steps=30)
        outcome.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(outcome[0][name], outcome[1][name]) for name in outcome[0])


def test_statistics_of_each_layer(digits: tuple[Tensor, Tensor]) -> None:
    built = parts()
    with nb.watch(built[0], loss=built[2]) as watch:
        train(built, digits, steps=2)
        weights = built[0][0].weight.detach().clone()
        train(built, digits, steps=1)
    assert list(watch.stats) == ["0", "1", "2.0", "2.1", "3"]  # forward order
    moved = (built[0][0].weight.detach() - weights).norm() / weights.norm()
    assert watch.stats["0"]["update_ratio"] == pytest.approx(moved.item(), rel=1e-4)
    grad = torch.cat([p.grad.flatten() for p in built[0][0].parameters() if p.grad is not None]).norm().item()
    assert watch.stats["0"]["grad_norm"] == pytest.approx(grad, rel=1e-5)
    assert 0.2 < watch.stats["1"]["zero_share"] < 0.8
    assert "grad_norm" not in watch.stats["1"]
    assert watch.notes == []


def test_findings_and_series_belong_to_the_open_run(digits: tuple[Tensor, Tensor], workspace: Any) -> None:
    built = parts()
    watch = nb.watch(built[0], loss=built[2], name="digits")
    train(built, digits)
    assert watch.run_id is None
    set_cell(CellRef("cell-7"))
    with nb.run("first") as run, torch.no_grad():
        with torch.enable_grad():
            train(built, digits, steps=4)
        built[0][3].weight[0, 0] = torch.nan
        with torch.enable_grad(), pytest.warns(DebuggerWarning, match="non-finite-loss at step 4 in layer '3'"):
            train(built, digits, steps=2)
    assert watch.run_id == run.id == run_of(built[0])
    [stored] = workspace.store.find(Diagnosis, parse("name == 'non-finite-loss'"))
    assert (stored.id, stored.what) == (watch.diagnoses[0].id, watch.diagnoses[0].what)
    assert (stored.parent, stored.cell_id, stored.layer, stored.step) == (run.id, "cell-7", "3", 4)
    assert any((link.source, link.relation, link.target) == (run.id, "found", stored.id)
               for link in workspace.store.links(stored.id))  # fmt: skip
    assert any(event.kind == "diagnosis.created" for event in workspace.store.events(subject=stored.id))
    norms = nb.series(run.id, "watch/grad_norm")
    assert list(norms.steps) == [0, 1, 2, 3]
    assert all(value > 0 for value in norms.values)
    assert len(nb.series(run.id, "watch/update_ratio").steps) == 4
    with nb.run("second") as again, pytest.warns(DebuggerWarning, match="non-finite-loss at step 0"):
        train(built, digits, steps=1)  # a new run is told again, and counts from 0
    assert [d.parent for d in watch.diagnoses] == [run.id, again.id]


def test_a_run_that_is_open_already_is_noted() -> None:
    model = nn.Linear(2, 2)
    with inside_run("run_x"):
        assert nb.watch(model).run_id == "run_x"
    assert run_of(model) == "run_x"
    set_default_run(None)


def test_a_layer_that_is_replaced_is_watched_too(digits: tuple[Tensor, Tensor]) -> None:
    model, _, loss = parts()
    watch = nb.watch(model, loss=loss)
    model[3] = nn.Linear(16, 10)
    train((model, torch.optim.SGD(model.parameters(), 0.1), loss), digits, steps=3)
    assert watch.stats["3"]["activation_rms"] > 0
    watch.close()
    assert count_of(model, loss) == 0


def test_only_the_given_optimizers_are_looked_at(digits: tuple[Tensor, Tensor]) -> None:
    model, _, loss = parts()
    body, head = torch.optim.SGD(model[:3].parameters(), 0.1), torch.optim.Adam(model[3].parameters())
    with nb.watch(model, optimizer=[body], loss=loss) as watch:
        for _ in range(30):
            train((model, body, loss), digits, steps=1)
            head.step()
            head.zero_grad()
        assert watch.steps == 30
        assert watch.diagnoses == []  # the head is in an optimizer, though not in one of ours
        assert "grad_norm" not in watch.stats["3"]


def test_errors_name_what_was_given() -> None:
    model = nn.Linear(2, 2)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("net", {}, "cannot watch a str"),
        (model, {"loss": nn.functional.cross_entropy}, "loss is a function"),
        (model, {"on_error": "stopp"}, "on_error is 'stopp'\nDid you mean 'stop'?"),
        (model, {"on_error": "explode"}, "Use 'warn', 'pause', 'stop' or 'rollback'"),
        (model, {"step_ms": -1}, "step_ms is -1"),
        (model, {"sample_every": 0}, "sample_every is 0"),
        (model, {"optimizer": "adam"}, "optimizer is a str"),
        (model, {"optimizer": 3}, "optimizer is a int"),
        (
            model,
            {"optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)},
            "SGD holds no parameter of this Lin",
        ),
    ]
    for subject, given, words in cases:
        with pytest.raises(InvalidInput) as caught:
            nb.watch(subject, **given)
        assert words in str(caught.value)
        assert caught.value.hint
    assert stepping.open_sessions() == []


def test_a_broken_rule_is_switched_off_and_told(digits: tuple[Tensor, Tensor]) -> None:
    @rules.register("broken")
    def broken(view: Any, history: Any) -> list[Finding]:
        raise ZeroDivisionError("a rule of my own")

    try:
        built = parts()
        with nb.watch(built[0]) as watch:
            with pytest.warns(DebuggerWarning, match="rule 'broken' raised ZeroDivisionError") as told:
                train(built, digits)
            assert len(told) == 1
            assert watch.errors == ["rule broken: ZeroDivisionError: a rule of my own"]
            assert watch.steps == 3
    finally:
        rules.remove("broken")


def test_a_rule_of_ones_own_sees_layers_and_history(digits: tuple[Tensor, Tensor]) -> None:
    @rules.register("steep-head")
    def steep(view: Any, history: Any) -> list[Finding]:
        norm = view.layers["3"].grad_norm
        if len(history) < 2 or norm is None or norm < 1e-6:
            return []
        return [Finding("3", "warning", "steep", "because", "Nothing.", 0.5, measured=norm)]

    try:
        built = parts()
        with nb.watch(built[0]) as watch, pytest.warns(DebuggerWarning, match="steep-head at step 2 in layer '3'"):
            train(built, digits, steps=5)
        assert [d.status for d in watch.diagnoses] == ["warning"]
        assert list(watch.counts.values()) == [3]
    finally:
        rules.remove("steep-head")


def test_an_error_of_the_watch_never_breaks_the_loop(digits: tuple[Tensor, Tensor]) -> None:
    class Odd(nn.Linear):
        """Gives an output that torch cannot reduce."""

        def forward(self, x: Tensor) -> Any:
            return Lazy(super().forward(x))

    class Lazy(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            raise RuntimeError("not now")

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd(64, 10)

        def forward(self, x: Tensor) -> Any:
            return list.__getitem__(self.odd(x), 0)

    Lazy.__init__ = lambda self, value: list.append(self, value)  # type: ignore[method-assign, assignment]
    model = Outer()
    built: Any = model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()
    before = hooks_of(model)
    watch = nb.watch(model)
    with pytest.warns(DebuggerWarning, match="switched itself off after three errors"):
        train(built, digits, steps=5)
    assert len(watch.errors) == 3
    assert "not now" in watch.errors[0]
    assert not watch.is_open
    stepping.prune()
    assert hooks_of(model) == before


def test_text_form() -> None:
    model = nn.Linear(2, 2)
    watch = nb.watch(model, name="tiny")
    assert repr(watch) == "Watch(tiny): 0 steps, 0 sampled, open\n  nothing found"
    watch.close()
    assert "closed" in repr(watch)
