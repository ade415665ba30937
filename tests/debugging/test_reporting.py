"""How a watch stands, as others read it: a record that outlasts the kernel, and the state of a run that was stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import nbops as nb
from nbops.core.errors import StopAsked, TrainingStopped
from nbops.core.records import Run


def train(model: nn.Module, steps: int = 6) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    assert holds()


def states() -> list[str]:
    return [state.status for state in nb.find("watches")]


def test_how_a_watch_stands_is_a_record_that_outlasts_it(workspace: Any) -> None:
    model = nn.Linear(4, 1)
    with nb.run("told") as run, nb.watch(model, name="net", pause_s=60) as watch:
        [state] = nb.find("watches")
        assert (state.name, state.status, state.parent, state.lr) == ("net", "open", run.id, None)
        watch.break_if("step == 2")
        seen = []

        def somebody() -> None:
            wait_until(lambda: states() == ["paused"])
            seen.extend(nb.find("watches"))
            watch.set_lr(0.5)
            watch.resume()

        helper = threading.Thread(target=somebody)
        helper.start()
        train(model)
        helper.join()
    [paused] = seen
    assert (paused.step, paused.note, paused.lr) == (2, "step == 2 became true", 0.1)
    [state] = nb.find("watches")
    assert (state.status, state.lr, [c["what"] for c in state.changes]) == ("closed", 0.5, ["pause", "lr", "resume"])


def test_a_run_that_somebody_stopped_is_interrupted_and_waits_no_more(workspace: Any) -> None:
    model = nn.Linear(4, 1)
    watch = nb.watch(model, pause_s=60)
    watch.break_if("step == 2")
    helper = threading.Thread(target=lambda: (wait_until(lambda: watch.is_paused), watch.stop()))
    helper.start()

    def cell() -> None:
        with nb.run("stopped"):
            train(model)

    with pytest.raises(StopAsked, match="stopped before step 2 by code"):
        cell()
    helper.join()
    [run] = workspace.store.find(Run)
    assert (run.status, run.error.type) == ("INTERRUPTED", "StopAsked")
    assert states() == ["open"]
    watch.close()
    assert states() == ["closed"]


def test_a_run_that_the_debugger_stopped_for_an_error_failed(workspace: Any) -> None:
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.fill_(float("nan"))

    def cell() -> None:
        with nb.run("sick"), nb.watch(model, on_error="stop"):
            train(model)

    with pytest.raises(TrainingStopped) as told:
        cell()
    assert not isinstance(told.value, StopAsked)
    assert nb.find("runs")[0].status == "FAILED"


def test_a_pause_that_ends_by_itself_is_not_told_as_one_that_lasts(workspace: Any) -> None:
    model = nn.Linear(4, 1)
    with nb.run("late"), nb.watch(model, pause_s=0.2) as watch:
        watch.break_if("step == 2")
        with pytest.raises(TrainingStopped, match="Nobody answered"):
            train(model)
        assert states() == ["open"]
