"""Both entrances read the code: preflight, and a watch by itself; together they tell each line once."""

from __future__ import annotations

import gc
import linecache
import sys
import warnings
import weakref
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nbops as nb
from nbops.debugging import muting
from nbops.debugging.findings import DebuggerWarning
from nbops.debugging.reading import running
from nbops.debugging.watch import Watch
from tests.debugging.reading.cells import read

X, Y = torch.randn(64, 8), torch.randint(0, 3, (64,))
RULE = "clipped-at-wrong-place"


@pytest.fixture(autouse=True)
def _nothing_told() -> Iterator[None]:
    running._told.clear()
    yield
    running._told.clear()


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def clip_too_early(*, steps: int, looks: str) -> tuple[list[nb.Watch], list[object]]:
    net, criterion = mlp(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    reports = [nb.preflight(net, (X, Y), loss=criterion, optimizer=optimizer)] if "preflight" in looks else []
    watches = [nb.watch(net)] if "watch" in looks else []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(net(X), Y)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        loss.backward()
        optimizer.step()
    return watches, reports


def test_preflight_reads_the_calling_code() -> None:
    _, (report,) = clip_too_early(steps=0, looks="preflight")
    (found,) = [d for d in report.findings if d.name == RULE]
    assert (found.status, found.phase, found.step) == ("error", "preflight", -1)
    assert found.code == "torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)"
    assert found.causes[0].name == "clip-at-wrong-place"


def test_watch_reads_when_it_is_attached() -> None:
    with pytest.warns(DebuggerWarning, match="clipped before they are computed"):
        (watch,), _ = clip_too_early(steps=0, looks="watch")
    (found,) = watch.diagnoses
    assert (found.name, found.phase, found.step, found.line is not None) == (RULE, "training", -1, True)
    watch.close()


def test_both_tell_a_line_once() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (watch,), (report,) = clip_too_early(steps=2, looks="preflight and watch")
    assert [d.name for d in report.findings if d.name == RULE] == [RULE]
    assert [d.name for d in watch.diagnoses] == []
    watch.close()


def test_two_models_of_one_loop_are_told_once_and_again_when_it_runs_again() -> None:
    def loop() -> int:
        net, other = mlp(), mlp()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            watches = [nb.watch(net), nb.watch(other)]
            for _ in range(1):
                loss = F.cross_entropy(net(X) + other(X), Y)
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                loss.backward()
                torch.optim.SGD(net.parameters(), 0.1).step()
                net.zero_grad()
        for watch in watches:
            watch.close()
        return sum(RULE in str(one.message) for one in caught)

    assert [loop(), loop()] == [1, 1]


def attach(net: nn.Module) -> Watch:
    return nb.watch(net, on_error="stop")


def test_a_loop_elsewhere_is_read_at_its_first_backward_pass() -> None:
    """As in a notebook whose loop stands in a later cell; nothing is stopped for what was read."""
    net = mlp()
    watch = attach(net)
    cell = """
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(X), Y)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    loss.backward()
    optimizer.step()
"""
    name = "/tmp/ipykernel_1/loop-elsewhere.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
    assert watch.diagnoses == []
    with pytest.warns(DebuggerWarning, match="clipped before they are computed"):
        exec(compile(cell, name, "exec"), {"net": net, "torch": torch, "F": F, "X": X, "Y": Y})  # noqa: S102
    linecache.cache.pop(name)
    assert [(d.name, d.line) for d in watch.diagnoses] == [(RULE, 6)]
    watch.close()


def test_a_muted_rule_is_not_told(workspace: object) -> None:
    muting.mute(RULE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (watch,), _ = clip_too_early(steps=1, looks="watch")
    assert [(d.name, d.status) for d in watch.diagnoses] == [(RULE, "muted")]
    watch.close()


def test_reading_keeps_nothing_alive() -> None:
    def look() -> weakref.ref[nn.Module]:
        net = mlp()
        running.findings(model=net)
        alive = weakref.ref(net)
        del net
        return alive

    gc.disable()
    try:
        assert look()() is None
    finally:
        gc.enable()


def test_the_locals_that_somebody_keeps_stay() -> None:
    def look() -> dict[str, object]:
        kept = locals()
        net = mlp()
        running.findings(model=net)
        return kept

    assert isinstance(look()["net"], nn.Module)


def test_code_that_cannot_be_parsed_gives_nothing() -> None:
    """What IPython runs may be kept as it was typed, with magics."""
    name, typed = "/tmp/ipykernel_1/with-magics.py", "%time 1\nlook(net)\n"
    linecache.cache[name] = (len(typed), None, typed.splitlines(keepends=True), name)
    found: list[object] = []
    space = {"look": lambda: found.extend(running.findings(sys._getframe(1), model=mlp()))}
    exec(compile("\nlook()", name, "exec"), space)  # noqa: S102 - the test's own code
    linecache.cache.pop(name)
    assert found == []


def test_a_rule_that_fails_is_noted_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbops.debugging.reading.noting import readings

    def broken(reading: object) -> list[object]:
        raise RuntimeError("no")

    readings.add("broken-reading", broken)
    try:
        errors: list[str] = []
        assert read("look(net)\n", errors=errors) == []
        assert errors == ["reading rule broken-reading: RuntimeError: no"]
    finally:
        readings.remove("broken-reading")


class Trainer:
    """A loop in the methods of an object that is made after the watch was attached."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        self.kept: dict[str, torch.Tensor] = {}

    def train_epoch(self) -> None:
        for _ in range(2):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(X), Y)
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            loss.backward()
            self.optimizer.step()

    def fit(self, epochs: int) -> None:
        for epoch in range(epochs):
            self.train_epoch()
            if epoch == 0:
                self.kept = self.net.state_dict()
        self.net.load_state_dict(self.kept)


def test_methods_are_read_while_they_run() -> None:
    net = mlp()
    watch = nb.watch(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(net).fit(2)
    assert sorted(d.name for d in watch.diagnoses) == ["best-state-not-copied", RULE]
    watch.close()
