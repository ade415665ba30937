"""Looking into a training and changing it while it runs: functions on layers, breakpoints, live changes, commands."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nbops as nb
from nbops.core.commands import Command
from nbops.core.errors import Conflict, InvalidInput, NotFound, QuerySyntaxError, TrainingStopped
from nbops.core.ids import new_id
from nbops.debugging.control.conditions import parse_condition
from nbops.debugging.control.watchpoints import Glance
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.views import LayerView

Data = tuple[Tensor, Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv1(x.view(-1, 1, 8, 8))))  # type: ignore[no-any-return]


def train(
    model: nn.Module, data: Data, *, steps: int = 10, lr: float = 0.1, rate_at: dict[int, float] | None = None
) -> Any:
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for step in range(steps):
        if rate_at and step in rate_at:
            optimizer.param_groups[0]["lr"] = rate_at[step]
        rows = torch.randint(0, len(data[0]), (32,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
        optimizer.step()
    return optimizer


def fresh() -> Net:
    torch.manual_seed(1)
    return Net()


# -- functions on layers ----------------------------------------------------------------------------------------------


def test_a_function_sees_outputs_gradients_and_weights(digits: Data, capsys: pytest.CaptureFixture[str]) -> None:
    model = fresh()
    seen: list[Glance] = []
    with nb.watch(model) as watch:
        watch.on("conv*", seen.append, kinds=("forward", "gradient", "weight"))
        watch.on("conv1", print)
        train(model, digits, steps=1)
    by_kind = {(one.kind, one.name): one for one in seen}
    assert set(by_kind) == {("forward", ""), ("gradient", "weight"), ("gradient", "bias"), ("weight", "weight"),
                            ("weight", "bias")}  # fmt: skip
    output = by_kind["forward", ""]
    assert output.input_sizes == ((32, 1, 8, 8),)
    assert output.sizes == (32, 4, 8, 8)
    assert output.norm == pytest.approx(output.values.norm().item(), rel=1e-5)
    assert output.nan_share == 0
    assert output.histogram.total == 32 * 4 * 64
    assert output.rms == pytest.approx(output.values.square().mean().sqrt().item(), rel=1e-5)
    assert by_kind["gradient", "weight"].absmax > 0
    assert "conv1 forward at step 0: [32, 4, 8, 8] float32, norm" in capsys.readouterr().out


def test_a_number_that_it_returns_is_a_metric_of_the_run(digits: Data, workspace: Any) -> None:
    model = fresh()

    def largest(view: Glance) -> float:
        return view.absmax

    with nb.run("functions") as run, nb.watch(model) as watch:
        watch.on("conv1", largest, kinds="gradient", every=3)
        train(model, digits, steps=7)
    found = nb.series(run, "watch/largest/conv1.weight")
    assert list(found.steps) == [0, 3, 6]
    assert watch.results["watch/largest/conv1.weight"] == found.values[-1] > 0


def test_containers_can_be_looked_at_too(digits: Data) -> None:
    model = fresh()
    seen: list[Glance] = []
    with nb.watch(model, sample_every=5) as watch:
        watch.on("head", seen.append, every=2)
        train(model, digits, steps=6)
    assert [(one.step, one.sizes) for one in seen] == [(0, (32, 10)), (2, (32, 10)), (4, (32, 10))]
    assert not any(m._forward_hooks for m in model.modules())


def test_an_unknown_layer_is_an_error_that_names_the_nearest() -> None:
    model = fresh()
    with nb.watch(model) as watch:
        with pytest.raises(NotFound) as caught:
            watch.on("conv2", print)
        assert "no layer 'conv2'" in str(caught.value)
        assert "conv1" in caught.value.hint
        with pytest.raises(InvalidInput, match="no kind 'gradients'"):
            watch.on("conv1", print, kinds="gradients")
        with pytest.raises(InvalidInput, match="cannot be called"):
            watch.on("conv1", 3)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="every is 0"):
            watch.on("conv1", print, every=0)
        with pytest.raises(NotFound, match="conv7"):
            watch.inspect("conv7")
    with pytest.raises(Conflict, match="is closed"):
        watch.on("conv1", print)


def test_a_broken_function_is_switched_off_and_told(digits: Data) -> None:
    model = fresh()

    def broken(view: Glance) -> None:
        raise ZeroDivisionError

    words = "function 'broken' raised ZeroDivisionError"
    with nb.watch(model) as watch:
        watch.on("*", broken)
        with pytest.warns(DebuggerWarning, match=words) as told:
            train(model, digits, steps=3)
    assert len(told) == 1
    assert watch.steps == 3


def test_inspect_gives_weights_gradients_outputs_and_histograms(digits: Data) -> None:
    model = fresh()
    with nb.watch(model) as watch:
        train(model, digits, steps=3)
        found = watch.inspect("conv1")
        assert found.kind == "Conv2d"
        assert found.weights["weight"].mean == pytest.approx(model.conv1.weight.mean().item(), rel=1e-4)
        assert found.gradients["bias"].sizes == (4,)
        assert found.outputs is not None
        assert found.outputs.sizes == (32, 4, 8, 8)
        assert set(found.histograms) == {"weight", "gradient", "activation"}
        assert "gradient weight [4, 1, 3, 3]: mean" in repr(found)
        one = watch.histogram("conv1", "weight")
        assert (one.total, one.size, one.step) == (40, 40, 0)
        with pytest.raises(NotFound, match="no histogram of the weigth"):
            watch.histogram("conv1", "weigth")


# -- conditions -------------------------------------------------------------------------------------------------------


def test_conditions_are_parsed_and_never_evaluated() -> None:
    layers = ("conv1", "head.1")
    numbers = {"step": 7, "loss": 2.0, "grad_norm": 1500.0, "lr": 0.1, "update_ratio": None, "scale": None,
               "layers": {"conv1": LayerView("conv1", zero_share=0.95)}}  # fmt: skip
    cases = {
        "grad_norm > 1e3": True, "grad_norm > 1e3 and step >= 8": False, "loss > 1 or step == 0": True,
        "not loss > 1": False, "1 < loss <= 2": True, "loss / step < 0.3 * 1": True, "-loss < 0": True,
        'layers["conv1"].zero_share > 0.9': True, 'layers["head.1"].zero_share > 0.9': False, "update_ratio > 0": False,
        "loss / 0 > 1": False, "step % 7 == 0": True,
    }  # fmt: skip
    for text, wanted in cases.items():
        assert parse_condition(text, layers=layers).holds(numbers) is wanted, text
    assert parse_condition("loss > 1", layers=layers).is_cheap
    assert not parse_condition('layers["conv1"].grad_norm > 1', layers=layers).is_cheap


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grad_norm >", "cannot parse"), ("__import__('os')", "cannot be used"), ("los > 1", "Did you mean 'loss'?"),
        ('layers["conv2"].grad_norm > 1', "Did you mean 'conv1'?"), ("loss.item() > 1", "cannot be used"),
        ('layers["conv1"].grad_nrm > 1', "Did you mean 'grad_norm'?"), ("[x for x in y]", "cannot be used"),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_an_error(text: str, words: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_condition(text, layers=("conv1",))
    assert words in f"{caught.value}"


# -- breakpoints and changes -------------------------------------------------------------------------------------------


def test_break_fires_at_the_right_step_and_the_run_goes_on_as_a_fresh_one_with_that_schedule(
    digits: Data, workspace: Any
) -> None:
    model, twin = fresh(), fresh()
    hits: list[int] = []

    def lower(watch: Any) -> None:
        hits.append(watch.steps)
        watch.set_lr(0.01)

    with nb.run("edited") as run, nb.watch(model) as watch:
        watch.break_if("step == 6", then=lower)
        train(model, digits, steps=12)
    train(twin, digits, steps=12, rate_at={6: 0.01})
    assert hits == [6]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    [change] = watch.changes
    assert (change.step, change.what, change.before, change.after, change.by) == (6, "lr", [0.1], 0.01, "code")
    [event] = [e for e in workspace.store.events(subject=run.id) if e.kind == "watch.changed"]
    assert event.payload == {"step": 6, "what": "lr", "before": [0.1], "after": 0.01, "by": "code"}
    assert event.actor


def test_break_on_a_layer_measures_each_step(digits: Data) -> None:
    model = fresh()
    hits: list[int] = []
    with nb.watch(model, sample_every=50) as watch:
        watch.break_if('layers["conv1"].grad_norm > 0 and step > 3', then=lambda w: hits.append(w.steps))
        train(model, digits, steps=8)
        assert hits == [4]  # once, until it was false again
        watch.clear_breaks()
        train(model, digits, steps=3)
    assert hits == [4]


def test_pause_where_nobody_can_answer_stops_the_loop(digits: Data) -> None:
    model = fresh()
    with nb.watch(model) as watch:
        watch.break_if("step == 3")
        with pytest.raises(TrainingStopped, match=r"paused before step 3: step == 3 became true\. Nobody can answer"):
            train(model, digits)
        assert watch.steps == 3


def test_pause_ends_when_its_time_is_over(digits: Data) -> None:
    model = fresh()
    with nb.watch(model, pause_s=0.1) as watch:
        watch.break_if("step == 2")
        with pytest.raises(TrainingStopped, match="Nobody answered in 0.1 s"):
            train(model, digits)


def wait_until(is_true: Any) -> None:
    until = time.monotonic() + 30
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_another_thread_resumes_steps_and_changes(digits: Data) -> None:
    model, twin = fresh(), fresh()
    steps: list[int] = []
    with nb.watch(model, pause_s=60) as watch:
        watch.break_if("step == 4")

        def somebody() -> None:
            wait_until(lambda: watch.is_paused)
            steps.append(watch.steps)
            watch.set_lr(0.02)
            watch.step()
            wait_until(lambda: watch.steps == 5 and watch.is_paused)
            steps.append(watch.steps)
            watch.resume()

        helper = threading.Thread(target=somebody)
        helper.start()
        train(model, digits)
        helper.join()
    assert steps == [4, 5]
    train(twin, digits, rate_at={4: 0.02})
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert [(c.step, c.what) for c in watch.changes] == [
        (4, "pause"), (4, "lr"), (4, "step"), (5, "pause"), (5, "resume"),
    ]  # fmt: skip


def test_a_finding_pauses_with_the_model_intact(digits: Data) -> None:
    model = fresh()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loop() -> None:
        for step in range(6):
            optimizer.zero_grad()
            F.cross_entropy(model(digits[0][:32] * (torch.nan if step == 3 else 1)), digits[1][:32]).backward()
            optimizer.step()

    with nb.watch(model, on_error="pause", pause_s=60) as watch:
        helper = threading.Thread(target=lambda: (wait_until(lambda: watch.is_paused), watch.resume()))
        helper.start()
        with pytest.warns(DebuggerWarning, match="non-finite-loss"):
            loop()
        helper.join()
    assert watch.steps == 6
    assert all(p.isfinite().all() for p in model.parameters())
    assert [c.what for c in watch.changes] == ["pause", "resume"]


def test_stop_from_another_thread(digits: Data) -> None:
    model = fresh()
    with nb.watch(model, pause_s=60) as watch:
        watch.break_if("step == 2")
        helper = threading.Thread(target=lambda: (wait_until(lambda: watch.is_paused), watch.stop()))
        helper.start()
        with pytest.raises(TrainingStopped, match="stopped before step 2 by code"):
            train(model, digits)
        helper.join()


def test_batch_size_of_the_training_loader_changes(digits: Data) -> None:
    model = fresh()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(TensorDataset(*digits), batch_size=32)
    other = DataLoader(TensorDataset(*digits), batch_size=64)
    sizes = []
    with nb.watch(model) as watch:
        for step, (x, y) in enumerate(loader):
            sizes.append(len(x))
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if step == 3:
                watch.set_batch_size(100)
            if step == 6:
                break
        with torch.no_grad():
            model(next(iter(other))[0])
    assert sizes == [32, 32, 32, 32, 100, 100, 100]
    assert (loader.batch_size, other.batch_size, len(loader)) == (100, 64, 18)
    assert [(c.step, c.what, c.before, c.after) for c in watch.changes] == [(4, "batch_size", [32], 100)]


def test_what_cannot_be_changed(digits: Data) -> None:
    model = fresh()
    with nb.watch(model) as watch:
        train(model, digits, steps=2)
        for bad in (-1, float("nan"), "fast"):
            with pytest.raises(InvalidInput, match="a learning rate of"):
                watch.set_lr(bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="a batch size of"):
            watch.set_batch_size(1.5)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="no data loader"):
            watch.set_batch_size(16)


def command(name: str, run: str, value: float | None = None) -> Command:
    return Command(id=new_id(Command.prefix), created_at=time.time(), name=name, parent=run, value=value, actor="ann")


def test_commands_of_the_store_are_carried_out_and_answered(digits: Data, workspace: Any) -> None:
    model = fresh()
    with nb.run("controlled") as run, nb.watch(model, pause_s=60) as watch:
        watch.break_if("step == 3")
        sent = [command("set-lr", run.id, 0.05), command("set-batch-size", run.id, 8.0), command("resume", run.id)]

        def somebody() -> None:
            wait_until(lambda: watch.is_paused)
            for one in sent:
                workspace.store.put(one)

        helper = threading.Thread(target=somebody)
        helper.start()
        optimizer = train(model, digits)
        helper.join()
    assert optimizer.param_groups[0]["lr"] == 0.05
    answers = [workspace.store.get(Command, one.id) for one in sent]
    assert [(a.status, a.step) for a in answers] == [("applied", 3), ("refused", 3), ("applied", 3)]
    assert "no data loader" in answers[1].note
    assert [(c.what, c.by) for c in watch.changes] == [("pause", "code"), ("lr", "ann"), ("resume", "ann")]
