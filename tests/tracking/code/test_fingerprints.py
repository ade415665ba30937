"""Fingerprints: each of the six changes for its own reason alone, and a run repeated bit for bit has the same six."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.records import Artifact, ModelVersion, Run, RunStatus, Signature, replace
from nbops.store.points import Columns
from nbops.testing import a_run, some_points
from nbops.tracking.capture.background import drain
from nbops.tracking.capture.cells import CellRecorder
from nbops.tracking.code.fingerprints import PARTS, Fingerprint, fingerprint
from nbops.verbs.grammar import Call, dispatch

FIT = """\
with nb.run("fit", params={"lr": lr}, data=train):
    for step in range(4):
        nb.log(step, loss=start / (step + 1))
    nb.log_artifact(table, name="table")"""
Make = Callable[..., Fingerprint]


@pytest.fixture
def make(workspace: Any) -> Iterator[Make]:
    """Return a function that makes a run in a shell of its own, in which one thing may be otherwise."""
    shells: list[Any] = []
    first = nb.snapshot(pd.DataFrame({"x": [1, 2]}), "train")
    second = nb.snapshot(pd.DataFrame({"x": [1, 3]}), "train")

    def run(
        *, lr: float = 0.1, other_data: bool = False, other_cell: bool = False, start: float = 1.0, weights: str = "w",
        table: bytes = b"t", change: Any = None,
    ) -> Fingerprint:  # fmt: skip
        shell = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
        recorder = CellRecorder()
        shell.events.register("pre_run_cell", recorder.before)
        shell.events.register("post_run_cell", recorder.after)
        train = second if other_data else first
        shell.user_ns.update(nb=nb, lr=lr, train=train, start=start, table=table)
        for id, source in (("a", "scale = 2" if other_cell else "scale = 1"), ("b", FIT)):
            shell.run_cell(source, store_history=True, cell_id=id).raise_error()
        recorder.close()
        shells.append(shell)
        drain()
        made = nb.find("runs", limit=1)[0]
        version(workspace, made, weights)
        if change is not None:
            workspace.store.update(Run, made.id, lambda run: replace(run, context={**run.context, **change}))
        return fingerprint(made.id)

    yield run
    for shell in shells:
        shell.history_manager.end_session()


def version(workspace: Any, run: Run, weights: str) -> None:
    """Register a model version as `nb.register` leaves it: its files have records of their own."""
    number = workspace.store.next_number("model/net")
    made = ModelVersion(id=f"mv_{number}", created_at=float(number), name="net", number=number, digest=f"{number}" * 64,
                        signature=Signature(inputs=[], outputs=[]), parent=run.id)  # fmt: skip
    workspace.store.put(made)
    for name, digest in (("model.onnx", weights), ("card.md", f"card {number}")):
        workspace.store.put(Artifact(id=f"art_{number}{name}", created_at=1.0, name=name, digest=digest, size_bytes=1,
                                     parent=made.id))  # fmt: skip


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("code", {"other_cell": True}),
        ("data", {"other_data": True}),
        ("params", {"lr": 0.2}),
        ("environment", {"change": {"python": "3.0.1"}}),
        ("environment", {"change": {"packages": {"digest": "0" * 64, "count": 1}}}),
        ("model", {"weights": "v"}),
        ("results", {"start": 1.0000000000000002}),
        ("results", {"table": b"u"}),
    ],
)
def test_a_change_of_one_changes_that_one_and_the_whole(make: Make, part: str, other: dict[str, Any]) -> None:
    before, after = make(), make(**other)
    assert before.differing(after) == [part]
    assert before.digest != after.digest


def test_the_same_again_is_the_same_and_nothing_is_missing(make: Make) -> None:
    one, two = make(), make()
    assert one.run.id != two.run.id
    assert one.digests == two.digests
    assert one.digest == two.digest
    assert [(part.name, part.of) for part in one.parts if part.name != "environment"] == [
        ("code", "2 cells"), ("data", "1 dataset"), ("params", "1 parameter"), ("model", "net/1"),
        ("results", "4 points of 1 metric, 1 file"),
    ]  # fmt: skip
    assert tuple(one.digests) == PARTS


def test_the_machine_is_in_no_hash(make: Make) -> None:
    other = make(change={"hardware": {"cpu": "Abacus 3", "gpus": [{"name": "H100"}, {"name": "H100"}]}})
    assert other.hardware == "Abacus 3, 2 × H100"
    assert make().digest == other.digest


def test_the_order_of_two_cells_counts_and_a_second_execution_does_not(make: Make, workspace: Any) -> None:
    one = make()
    cells = nb.find("cells", f"parent == '{one.run.id}'")
    again = replace(cells[0], id="cell_again", created_at=cells[0].created_at + 1e-6)
    workspace.store.put(again)
    assert fingerprint(one.run.id).digest == one.digest
    for cell, at in zip(cells, (1.0, 2.0), strict=True):
        workspace.store.put(replace(cell, created_at=at))
    workspace.store.delete(type(again), again.id)
    assert one.differing(fingerprint(one.run.id)) == ["code"]


def test_a_seed_is_a_parameter_wherever_it_was_set(workspace: Any) -> None:
    outside = a_run(context={"seed": 42}, params={"lr": 0.1}, status=RunStatus.FINISHED)
    inside = a_run(params={"lr": 0.1, "seed": 42}, status=RunStatus.FINISHED)
    other = a_run(params={"lr": 0.1}, context={"seed": 43}, status=RunStatus.FINISHED)
    for run in (outside, inside, other):
        workspace.store.put(run)
    taken = [fingerprint(run) for run in (outside, inside, other)]
    assert taken[0].differing(taken[1]) == []
    assert taken[0].differing(taken[2]) == ["params"]


def test_points_count_bit_for_bit_and_their_times_do_not(workspace: Any) -> None:
    def run(values: list[float], first: int = 0, later_ms: int = 0) -> Fingerprint:
        made = a_run(status=RunStatus.FINISHED)
        workspace.store.put(made)
        columns = Columns.of(some_points(made.id, "m", values, first=first))
        moved = Columns(columns.steps, columns.times_ms + later_ms, columns.values).to_points(made.id, "m")
        workspace.store.add_points([moved, some_points(made.id, "system/cpu", [float(later_ms)])])
        return fingerprint(made.id)

    base = run([0.0, 1.0])
    assert base.differing(run([0.0, 1.0], later_ms=5000)) == []
    assert base.differing(run([-0.0, 1.0])) == ["results"]
    assert base.differing(run([0.0, 1.0], first=1)) == ["results"]
    assert base.differing(run([0.0, 1.0, 1.0])) == ["results"]


def test_a_script_in_a_checkout_is_its_commit_and_its_patch(workspace: Any, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True, capture_output=True)

    def run() -> Fingerprint:
        with nb.run("script"):
            pass
        drain()
        return fingerprint("script")

    git("init", "-q")
    Path("fit.py").write_text("x = 1\n")
    git("add", "fit.py")
    git("commit", "-qm", "one")
    committed = run()
    assert committed.digests == run().digests
    Path("fit.py").write_text("x = 2\n")
    patched = run()
    assert committed.differing(patched) == ["code"]
    assert patched.parts[0].of.endswith("with a patch")
    git("commit", "-qam", "two")
    assert patched.differing(run()) == ["code"]


def test_files_that_were_read_are_data(workspace: Any) -> None:
    files = {"inputs": {"files": [{"path": "/a/rows.csv", "size_bytes": 3, "digest": "d1", "cell": None}]}}
    elsewhere = {"inputs": {"files": [{"path": "/b/rows.csv", "size_bytes": 3, "digest": "d1", "cell": None}]}}
    changed = {"inputs": {"files": [{"path": "/a/rows.csv", "size_bytes": 3, "digest": "d2", "cell": None}]}}
    runs = [a_run(context=context, status=RunStatus.FINISHED) for context in (files, elsewhere, changed)]
    for one in runs:
        workspace.store.put(one)
    taken = [fingerprint(one) for one in runs]
    assert taken[0].differing(taken[1]) == []
    assert taken[0].differing(taken[2]) == ["data"]


# ---- how it is shown -------------------------------------------------------------------------------------------------


def test_the_verb_shows_the_six(make: Make) -> None:
    make()
    shown = mimebundle(dispatch(["fingerprint", "fit"], Call(namespace={})))["text/plain"]
    assert "fingerprint " in shown.splitlines()[0]
    assert [line.split()[0] for line in shown.splitlines()[2:8]] == list(PARTS)
    assert "which is in no hash" in shown


def test_diff_says_first_which_of_the_six_differ(make: Make) -> None:
    one, two = make(), make(lr=0.2, start=2.0)
    found = nb.diff(one.run, two.run)
    assert found.differing == ["params", "results"]
    lines = mimebundle(found)["text/plain"].splitlines()
    assert lines[1] == "Differs: params, results. Alike: code, data, environment, model."
    same = nb.diff(one.run, make().run)
    assert same.is_same
    assert "Differs" not in mimebundle(same)["text/plain"]


def test_what_is_not_recorded_is_said(workspace: Any) -> None:
    bare = a_run(status=RunStatus.FINISHED)
    workspace.store.put(bare)
    found = fingerprint(bare)
    assert {part.of for part in found.parts} == {""}
    assert mimebundle(found)["text/plain"].count("nothing is recorded") == 6


@pytest.mark.slow
def test_two_fresh_kernels_have_one_fingerprint(workspace: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    nb.snapshot(pd.DataFrame({"x": [0.0, 1.0, 2.0]}), "line")
    train = """\
nb.seed(1)
net = torch.nn.Linear(1, 1)
rows = torch.tensor([[0.0], [1.0], [2.0]])
with nb.run("line", params={"lr": lr}, data="line"):
    nb.log(loss=float(net(rows).square().mean()) * lr)
    nb.register(net, "line", example=rows)"""
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}", metadata={"tags": ["parameters"] if i == 1 else []})
             for i, source in enumerate(("import torch\nimport nbops as nb", "lr = 0.1", train))]  # fmt: skip
    path = tmp_path / "line.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    steps = [nb.run_notebook(path, parameters=values, progress=False) for values in ({}, {}, {"lr": 0.1}, {"lr": 0.2})]
    taken = [fingerprint(run) for run in reversed(nb.find("runs", "name == 'line' and type != 'step'").records)]
    assert taken[0].digest == taken[1].digest
    assert taken[0].differing(taken[2]) == []  # the same value, injected
    assert taken[0].differing(taken[3]) == ["params", "results"]
    assert fingerprint(steps[0]).digests["results"] == fingerprint(steps[1]).digests["results"]
