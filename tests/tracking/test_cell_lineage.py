"""Each point, file, check, dataset and model knows the cell that made it: in a shell, in tasks, after a re-run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import nbops as nb
from nbops.core.errors import NotFound
from nbops.core.records import Artifact, CheckReport, Dataset, ModelVersion
from nbops.server.reading import run_series
from nbops.store.context import CellRef, set_cell
from nbops.store.points import Columns
from nbops.store.workspace import Workspace


def ran(shell: Any, source: str, *, cell_id: str) -> None:
    shell.run_cell(source, store_history=True, cell_id=cell_id).raise_error()


def test_points_know_the_execution_of_the_cell_that_logged_them(workspace: Workspace, shell: Any) -> None:
    ran(shell, "import nbops as nb\nrun = nb.start('long')", cell_id="open")
    ran(shell, "for i in range(3): nb.log(loss=i)", cell_id="first")
    ran(shell, "for i in range(2): nb.log(loss=10 + i, acc=1.0)", cell_id="second")
    ran(shell, "for i in range(3): nb.log(loss=20 + i)", cell_id="first")
    ran(shell, "nb.log_series('whole', None, [1.0, 2.0])\nnb.end()", cell_id="last")
    loss = nb.series("long", "loss")
    made_in = [loss.cell_at(step) for step in range(8)]
    assert [cell and cell.cell_id for cell in made_in] == ["first"] * 3 + ["second"] * 2 + ["first"] * 3
    counts = [cell.execution_count or 0 for cell in made_in if cell]
    assert counts[0] == counts[2] < counts[3] < counts[5] == counts[7]
    cell = loss.cell_at(6)
    assert cell is not None
    assert cell.source == "for i in range(3): nb.log(loss=20 + i)"
    whole = nb.series("long", "whole").cell_at(1)
    assert whole is not None
    assert whole.cell_id == "last"
    (shown,) = run_series(workspace, loss.run, metrics=["loss"], px=100)["series"]
    assert [[step, cell] for step, cell, _ in shown["cells"]] == [[0, "first"], [3, "second"], [5, "first"]]
    with pytest.raises(NotFound, match="has no point at step 99"):
        loss.cell_at(99)


def test_everything_that_is_stored_knows_its_cell(workspace: Workspace, shell: Any) -> None:
    ran(shell, "import nbops as nb, numpy as np, torch\nx = np.arange(40.0).reshape(20, 2)", cell_id="imports")
    ran(shell, "with nb.run('all') as run:\n    nb.log_artifact({'a': 1}, name='config')", cell_id="file")
    ran(shell, "nb.snapshot({'a': x[:, 0]}, 'table')", cell_id="data")
    ran(shell, "nb.check({'a': x[:, 0]})", cell_id="check")
    model = "nb.register(torch.nn.Linear(2, 1), 'line', example=torch.ones(4, 2))"
    ran(shell, model, cell_id="model")
    kinds = {Artifact: "file", Dataset: "data", CheckReport: "check", ModelVersion: "model"}
    for kind, cell_id in kinds.items():
        found = {record.cell_id for record in workspace.store.find(kind)}  # type: ignore[attr-defined]
        assert cell_id in found, kind
    assert nb.find("artifacts", "cell_id == 'file'")[0].name == "config.json"


def test_a_task_keeps_its_cell_while_others_execute(workspace: Workspace) -> None:
    """A task that a cell left running logs for that cell, not for the one that executes meanwhile."""

    async def slow(run: nb.LiveRun, go: asyncio.Event) -> None:
        await go.wait()
        run.log(slow=1.0)

    async def notebook() -> nb.LiveRun:
        go = asyncio.Event()
        run = nb.run("tasks")
        set_cell(CellRef("starts"))
        task = asyncio.create_task(slow(run, go))
        await asyncio.sleep(0)
        set_cell(None)
        set_cell(CellRef("other"))
        run.log(quick=1.0)
        go.set()
        await task
        set_cell(None)
        run.finish()
        return run

    run = asyncio.run(notebook())
    made_in = {metric: nb.series(run, metric).cell_at(0) for metric in ("slow", "quick")}
    assert {metric: cell and cell.cell_id for metric, cell in made_in.items()} == {"slow": "starts", "quick": "other"}


def test_a_thread_logs_for_the_cell_that_executes_and_outside_cells_nobody_does(workspace: Workspace) -> None:
    with nb.run("threads") as run:
        nb.log(before=1.0)
        set_cell(CellRef("busy"))
        thread = threading.Thread(target=lambda: run.log(inside=1.0))
        thread.start()
        thread.join()
        set_cell(None)
        nb.log(before=2.0)
    assert nb.series(run, "before").cell_at(1) is None
    inside = nb.series(run, "inside").cell_at(0)
    assert inside is not None
    assert inside.cell_id == "busy"


def test_cells_survive_chunks_joins_and_cuts() -> None:
    import numpy as np

    def part(n: int, cells: Any) -> Columns:
        return Columns(np.arange(n), np.zeros(n, "<i8"), np.zeros(n), cells)

    whole = Columns.joined(
        [part(3, ((0, "a"),)), part(2, ()), part(0, ()), part(4, ((0, "a"), (2, "b"))), part(1, ((0, "b"),))]
    )
    assert whole.cells == ((0, "a"), (3, ""), (5, "a"), (7, "b"))
    assert whole.slice(4, 8).cells == ((0, ""), (1, "a"), (3, "b"))
    assert whole.take(whole.steps == 0).cells == ((0, "a"), (1, ""), (2, "a"), (3, "b"))
    assert part(2, ()).slice(0, 1).cells == ()
