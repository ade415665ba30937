"""Every look at a sealed test set is counted, whoever looks, and what the count means is told."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nbops as nb
from nbops.core.errors import InvalidInput
from nbops.core.records import Link
from nbops.core.splits import Look
from nbops.data.splits.sealing import optimism, say_optimism, share_error
from nbops.store.context import inside_run
from nbops.store.workspace import Workspace

FRAME = pd.DataFrame({"id": range(500), "x": np.arange(500) % 7})


def sealed(**options: Any) -> Any:
    return nb.split(FRAME, key="id", seal=True, name="people", **options)


def test_a_look_gives_the_rows_and_is_counted(workspace: Workspace) -> None:
    split = sealed()
    assert (split.is_sealed, split.looks) == (True, 0)
    with inside_run("run_1"), split.open_test("final score") as test:
        assert set(test) == set(range(500)) - set(split.train)
    assert split.looks == 1
    assert (split.look("again") == test).all()
    second, first = workspace.store.find(Look)
    assert (first.name, first.number, first.parent, first.rows) == ("final score", 1, "run_1", len(test))
    assert (second.name, second.number, second.parent) == ("again", 2, None)
    assert Link(source=split.id, relation="looked_at_by", target="run_1") in workspace.store.links(split.id)


def test_the_rows_of_data_are_sealed_too(workspace: Workspace) -> None:
    train, test = sealed().take(FRAME)
    assert len(train) + len(test) == 500
    assert repr(test) == f"<sealed test set of split 'people': {len(test)} rows>"
    with test.open("accuracy") as rows:
        assert len(rows) == len(test)
        assert type(rows) is pd.DataFrame
    assert test.looks == 1


def test_a_sealed_test_set_is_not_handed_out_by_the_way(workspace: Workspace) -> None:
    split = sealed()
    for attempt in (
        lambda: list(split.test), lambda: split.test[0], lambda: np.asarray(split.test), lambda: split.side,
        lambda: FRAME.iloc[split.test],
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="the test set of split 'people' is sealed\nOpen it with"):
            attempt()
    assert set(split.masks) == {"train", "val"}
    assert split.looks == 0


def test_the_count_belongs_to_the_rows_and_not_to_the_handle(workspace: Workspace) -> None:
    sealed().look("one")
    again = sealed()
    assert again.looks == 1
    renamed = nb.split(FRAME.sample(frac=1, random_state=0), key="id", seal=True, name="other")
    assert renamed.looks == 1
    assert sealed(salt="b").looks == 0


def test_what_was_sealed_once_stays_sealed_and_what_was_open_can_be_sealed(workspace: Workspace) -> None:
    sealed()
    assert nb.split(FRAME, key="id", name="people").is_sealed
    assert nb.split(FRAME, key="id", name="by another name").is_sealed
    later = nb.split(FRAME, key="id", test=0.3, name="open")
    assert not later.is_sealed
    again = nb.split(FRAME, key="id", test=0.3, name="open", seal=True)
    assert (again.id, again.is_sealed) == (later.id, True)


def test_a_look_needs_a_reason_and_a_seal(workspace: Workspace) -> None:
    for why in ("", "  ", None):
        with pytest.raises(InvalidInput, match="why is"):
            sealed().look(why)
    assert sealed().looks == 0
    with pytest.raises(InvalidInput, match="split 'open' is not sealed\nSeal it"):
        nb.split(FRAME, name="open").open_test("x")
    assert nb.split(FRAME, name="open").looks == 0


_LOOK = """
import sys, pandas as pd, numpy as np, nbops as nb
split = nb.split(pd.DataFrame({"id": range(500), "x": np.arange(500) % 7}), key="id", seal=True, name="people")
print("ready", flush=True)
for i in range(int(sys.argv[1])):
    split.look(f"variant {i}")
    print("looked", flush=True)
"""


def test_two_processes_lose_no_look(workspace: Workspace) -> None:
    split = sealed()
    running = [subprocess.Popen([sys.executable, "-c", _LOOK, "15"], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert split.looks == 30
    assert sorted(look.number for look in workspace.store.find(Look)) == list(range(1, 31))


def test_a_killed_process_has_counted_what_it_saw(workspace: Workspace) -> None:
    split = sealed()
    process = subprocess.Popen([sys.executable, "-c", _LOOK, "100000"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += line == "looked\n"
        if seen == 5:
            break
    os.kill(process.pid, signal.SIGKILL)
    seen += process.stdout.read().count("looked\n")
    process.wait(30)
    process.stdout.close()
    time.sleep(0)
    assert split.looks in (seen, seen + 1)  # the one that was counted and not yet handed out
    numbers = sorted(look.number for look in workspace.store.find(Look))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_expected_optimism_bounds_what_the_best_of_many_gains() -> None:
    assert optimism(1) == 0.0
    assert optimism(200) == pytest.approx(math.sqrt(2 * math.log(200)))
    best = np.random.default_rng(0).normal(size=(4000, 200)).max(axis=1).mean()
    assert 0.8 * optimism(200) < best < optimism(200)
    assert share_error(100) == 0.05
    assert share_error(0) == 0.0
    assert "√(2 ln 200)" in say_optimism(200, 400)
    assert "at most 8.1 points" in say_optimism(200, 400)


def test_runs_and_model_versions_tell_how_often_their_test_set_was_seen(workspace: Workspace) -> None:
    import torch

    split = sealed()
    split.look("tuning")
    with nb.run("fit") as run:
        split.look("score")
        nb.log(acc=0.9)
    said = str(run)
    assert "Looked at the sealed test set of people: 1 look of 2 so far" in said
    assert "√(2 ln 2)" in " ".join(said.split())
    version = nb.register(torch.nn.Linear(2, 1), "net", example=np.zeros((3, 2), np.float32), run=run.id)
    assert (version.tags["test_split"], version.tags["test_looks"]) == ("people", "2")
    with nb.run("blind") as blind:
        nb.log(acc=0.5)
    other = nb.register(torch.nn.Linear(2, 1), "net", example=np.zeros((3, 2), np.float32), run=blind.id)
    assert "test_looks" not in other.tags
    assert "sealed" not in str(blind)
