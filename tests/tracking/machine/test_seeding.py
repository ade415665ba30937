"""One seed: what it sets and says, which runs know it, and that two fresh kernels then compute the same bits."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import InvalidInput
from nbops.core.records import Run
from nbops.tracking.machine import seeding
from nbops.verbs.grammar import Call, dispatch

torch = pytest.importorskip("torch")

TRAIN = """\
with nb.run("fit") as run:
    x, y = np.random.normal(size=(64, 8)).astype("float32"), np.random.normal(size=(64, 1)).astype("float32")
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for epoch in range(3):
        order = np.random.permutation(64)
        for start in range(0, 64, 16):
            rows = order[start : start + 16]
            loss = torch.nn.functional.mse_loss(net(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            nb.log(loss=loss.item(), draw=random.random())
    weights = torch.cat([p.detach().flatten() for p in net.parameters()]).numpy().tobytes()
    nb.log_artifact(weights, name="weights")
"""


@pytest.fixture(autouse=True)
def _as_before(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the process as it was: the seed that runs are told of, and torch's settings."""
    monkeypatch.setattr(seeding, "_last", None)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    torch.use_deterministic_algorithms(False)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def draws() -> list[Any]:
    return [random.random(), np.random.rand(), torch.rand(1).item()]


def test_equal_seeds_draw_equal_numbers() -> None:
    found = nb.seed(7)
    first = draws()
    assert draws() != first
    nb.seed(7)
    assert draws() == first
    nb.seed(8)
    assert draws() != first
    assert found.generators[:3] == ("random", "numpy", "torch on the CPU")
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_torchs_settings_can_be_left_alone() -> None:
    found = nb.seed(7, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert found.settings == ()


def test_numbers_of_numpy_are_seeds_and_the_range_has_ends() -> None:
    assert nb.seed(np.int64(3)).value == 3
    assert nb.seed(seeding.MAX_SEED).value == seeding.MAX_SEED
    for wrong in (-1, seeding.MAX_SEED + 1, 1.0, "7", None, True):
        with pytest.raises(InvalidInput, match="no seed"):
            nb.seed(wrong)


# ---- what runs know of it --------------------------------------------------------------------------------------------


def test_the_open_run_has_it_as_a_parameter() -> None:
    with nb.run("fit", params={"lr": 0.1}) as run:
        assert nb.seed(5).run == run.id
        assert run.params == {"lr": 0.1, "seed": 5}
        assert run.record.context.get("seed") is None
        nb.seed(6)
    assert run.params["seed"] == 6


def test_a_run_that_opens_later_has_it_in_its_context() -> None:
    assert nb.seed(5).run is None
    with nb.run("later") as later, nb.run("own", params={"seed": 1}) as own:
        pass
    assert (later.params, later.record.context["seed"]) == ({}, 5)
    assert (own.params, "seed" in own.record.context) == ({"seed": 1}, False)


def test_a_run_of_a_process_without_a_seed_knows_none() -> None:
    with nb.run("plain") as run:
        pass
    assert "seed" not in run.record.context


def test_seeds_that_differ_are_a_difference() -> None:
    for value, name in ((1, "one"), (2, "two")):
        nb.seed(value)
        with nb.run(name):
            pass
    found = {side.name: (side.a, side.b) for side in nb.diff("one", "two").environment if not side.is_same}
    assert found["seed"] == (1, 2)


# ---- what it says ----------------------------------------------------------------------------------------------------


def test_the_card_says_what_was_seeded_and_what_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "_hashes_alike", lambda: False)
    with nb.run("fit"):
        found = mimebundle(nb.seed(42))
    assert "seed 42" in found["text/plain"]
    assert "a parameter of run_…" in found["text/plain"]
    assert "random · numpy · torch on the CPU" in found["text/plain"]
    assert "set PYTHONHASHSEED" in found["text/html"]
    assert "No run is open" in mimebundle(nb.seed(42))["text/plain"]


def left_out(code: str, tmp_path: Path, **environ: str) -> list[str]:
    """Return what `nb.seed` leaves out in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    done = subprocess.run(
        [sys.executable, "-c", f"import nbops as nb; {code}; [print(line) for line in nb.seed(1).left_out]"],
        env=env | environ, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_torch_that_is_not_loaded_is_said(tmp_path: Path) -> None:
    said = left_out("import sys", tmp_path, PYTHONHASHSEED="0")
    assert said == ["torch is not loaded yet: seed again after the import of it"]
    assert left_out("import torch", tmp_path, PYTHONHASHSEED="11") == []


def test_a_hash_seed_that_is_set_too_late_counts_for_nothing(tmp_path: Path) -> None:
    said = left_out("import os; os.environ['PYTHONHASHSEED'] = '0'", tmp_path)
    assert [line for line in said if "PYTHONHASHSEED" in line]


def test_the_verb() -> None:
    assert dispatch(["seed", "9"], Call(namespace={})).value == 9
    assert dispatch(["seed", "9", "--fast"], Call(namespace={})).settings == ()


# ---- two fresh kernels -----------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, workspace: Any) -> Callable[[str], tuple[Run, dict[str, bytes]]]:
    """Return a function that trains in a fresh kernel after a line of code: the run, and the bits of its results."""

    def train(line: str) -> tuple[Run, dict[str, bytes]]:
        sources = ["import random\nimport numpy as np\nimport torch\nimport nbops as nb", line, TRAIN]
        cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "train.ipynb")
        nb.run_notebook(tmp_path / "train.ipynb", progress=False)
        run = nb.find("runs", "name == 'fit'", limit=1)[0]
        bits = {name: nb.series(run, name).values.tobytes() for name in ("loss", "draw")}
        (kept,) = nb.find("artifacts", f"parent == '{run.id}' and name == 'weights'")
        return run, bits | {"weights": workspace.artifacts.read(kept.digest)}

    return train


@pytest.mark.slow
def test_two_fresh_kernels_compute_the_same_bits(fresh: Callable[[str], tuple[Run, dict[str, bytes]]]) -> None:
    first, bits = fresh("nb.seed(42)")
    assert len(bits["loss"]) == 8 * 12
    assert fresh("nb.seed(42)")[1] == bits
    assert first.context["seed"] == 42
    assert nb.reproducible(first).verdict is True
    assert nb.verify(first, tolerance=0.0, progress=False).verdict is True


@pytest.mark.slow
def test_without_a_seed_they_do_not(fresh: Callable[[str], tuple[Run, dict[str, bytes]]]) -> None:
    (first, bits), (_, others) = fresh("pass"), fresh("pass")
    assert all(bits[name] != others[name] for name in bits)
    assert nb.verify(first, tolerance=0.0, progress=False).verdict is False
