"""The cells of a run and the notebook that they stand in, as a page that wants to go there is told."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nbops.core.ids import new_id
from nbops.core.records import Cell, Run
from nbops.server.cells import notebook_path
from nbops.store.workspace import Workspace

Get = Callable[..., Awaitable[tuple[int, Any]]]


def made_in(source: object) -> Run:
    return Run(id=new_id(Run.prefix), created_at=time.time(), name="run", context={"source": str(source)})


def add_cell(workspace: Workspace, run: Run, executed: str, *, kept: str | None = None, **fields: Any) -> Cell:
    """Store a cell that executed one source and of which another, or the same, is kept."""
    cell = Cell(
        id=new_id(Cell.prefix), created_at=time.time(), parent=run.id, cell_id="c-1", execution_count=1,
        source_digest=hashlib.sha256(executed.encode()).hexdigest(),
        source=executed if kept is None else kept, **fields,
    )  # fmt: skip
    workspace.store.put(cell)
    return cell


async def test_a_run_names_its_notebook_as_the_server_does_and_its_cells_their_executions(
    get: Get, seeded: Workspace, jp_root_dir: Path
) -> None:
    run = made_in(jp_root_dir / "deep" / "my notes.ipynb")
    seeded.store.put(run)
    add_cell(seeded, run, "x = 1", execution="x1")
    _, page = await get("runs", run.id)
    assert page["notebook"] == "deep/my notes.ipynb"
    assert [cell["execution"] for cell in page["cells"]] == ["x1"]


@pytest.mark.parametrize(
    "source", ["/elsewhere/a.ipynb", "a.ipynb", "{root}/../a.ipynb", "{root}/train.py", "{root}", "", "{root}x/a.ipynb"]
)
def test_what_is_no_notebook_under_the_server_has_no_path(source: str, tmp_path: Path) -> None:
    assert notebook_path(made_in(source.format(root=tmp_path)), tmp_path) is None
    assert notebook_path(made_in(tmp_path / "a.ipynb"), None) is None


def test_a_root_that_is_a_link_is_known_by_both_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    for name in ("real", "link"):
        assert notebook_path(made_in(tmp_path / name / "a.ipynb"), link) == "a.ipynb"


async def test_cells_are_found_by_record_and_by_execution(get: Get, seeded: Workspace) -> None:
    run, other = made_in("a.ipynb"), made_in("b.ipynb")
    seeded.store.put(run)
    seeded.store.put(other)
    cells = [add_cell(seeded, run, f"x = {n}", execution=f"x{n}") for n in range(4)]
    elsewhere = add_cell(seeded, other, "y", execution="x1")

    async def found(**asked: Any) -> list[str]:
        status, answer = await get("runs", run.id, "cells", **asked)
        assert status == 200
        return [cell["source"] for cell in answer["cells"]]

    assert await found() == ["x = 0", "x = 1", "x = 2", "x = 3"]
    assert await found(id=cells[2].id) == ["x = 2"]
    assert await found(execution=["x1", "x3"]) == ["x = 1", "x = 3"]
    assert await found(id=cells[0].id, execution="x1") == ["x = 0", "x = 1"]
    assert await found(id=elsewhere.id) == await found(execution="none") == []
    status, told = await get("runs", "run_none", "cells")
    assert status == 404
    assert "run_none" in told["error"]


async def test_the_whole_source_is_told_and_whether_it_is_what_was_executed(get: Get, seeded: Workspace) -> None:
    run = made_in("a.ipynb")
    seeded.store.put(run)
    long = "# ä\n" * 15_000
    limit = seeded.settings.cell_source_max_bytes
    add_cell(seeded, run, long)
    add_cell(seeded, run, "token = 'abc'", kept='token = "[redacted]"')
    add_cell(seeded, run, long * 2, kept=(long * 2).encode()[: limit - 1].decode(errors="ignore"))
    _, answer = await get("runs", run.id, "cells")
    whole, redacted, cut = answer["cells"]
    assert whole["source"] == long
    assert [(cell["is_whole"], cell["is_cut"]) for cell in (whole, redacted, cut)] == [
        (True, False), (False, False), (False, True)
    ]  # fmt: skip
    _, page = await get("runs", run.id)
    assert [len(cell["source"]) for cell in page["cells"]] == [4000, 20, 4000]
