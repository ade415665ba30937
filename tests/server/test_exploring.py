"""Which cells of a notebook are stale, as its page is told."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nbops.core.ids import new_id
from nbops.core.records import Dataset
from nbops.core.uses import DataUse
from nbops.server.exploring import workspace_path
from nbops.store.workspace import Workspace

Get = Callable[..., Awaitable[tuple[int, Any]]]


def keep(workspace: Workspace, version: int, *, name: str = "sales") -> None:
    workspace.store.put(
        Dataset(id=new_id("ds"), created_at=time.time(), name=name, version=version, digest=str(version), rows=1)
    )


def use(workspace: Workspace, cell_id: str, *, notebook: str = "deep/eda.ipynb", **fields: Any) -> None:
    record = DataUse(id=new_id("use"), created_at=time.time(), cell_id=cell_id, notebook=notebook, **fields)
    workspace.store.put(record)


async def test_a_page_is_told_which_cells_are_stale(get: Get, seeded: Workspace) -> None:
    keep(seeded, 1)
    use(seeded, "old", datasets={"sales": 1}, execution_count=3, after=["load"])
    use(seeded, "elsewhere", notebook="b.ipynb", datasets={"sales": 1})
    assert (await get("stale", notebook="deep/eda.ipynb")) == (200, {"followed": 1, "cells": []})
    keep(seeded, 2)
    use(seeded, "new", datasets={"sales": 2})
    _, found = await get("stale", notebook="deep/eda.ipynb")
    assert found["followed"] == 2
    old = next(cell for cell in found["cells"] if cell["cell_id"] == "old")
    assert old == {
        "cell_id": "old", "execution_count": 3, "why": "made from sales v1; v2 is newest",
        "moved": [["sales", 1, 2]], "after": [],
    }  # fmt: skip


async def test_of_a_notebook_that_was_executed_as_a_step_its_run_tells(get: Get, seeded: Workspace) -> None:
    keep(seeded, 1)
    keep(seeded, 2)
    use(seeded, "a", datasets={"sales": 2})
    use(seeded, "a", notebook="deep/eda.ipynb", parent="run_1", datasets={"sales": 1}, execution_count=1)
    assert (await get("stale", notebook="deep/eda.ipynb"))[1]["cells"] == []
    _, found = await get("stale", notebook="out.ipynb", run="run_1")
    assert [cell["moved"] for cell in found["cells"]] == [[["sales", 1, 2]]]


async def test_without_a_workspace_nothing_is_known(get: Get) -> None:
    assert await get("stale", notebook="a.ipynb") == (200, {"followed": 0, "cells": []})


@pytest.mark.parametrize(("path", "wanted"), [("a.ipynb", "a.ipynb"), ("deep/x.ipynb", "deep/x.ipynb")])
async def test_paths_are_those_that_kernels_record(
    path: str, wanted: str, seeded: Workspace, jp_root_dir: Path
) -> None:
    assert workspace_path(seeded, path, root=jp_root_dir) == wanted
    assert workspace_path(seeded, path, root=jp_root_dir / "sub") == f"sub/{wanted}"
    assert workspace_path(seeded, path, root=jp_root_dir.parent) == (jp_root_dir.parent / path).resolve().as_posix()
    assert workspace_path(seeded, path, root=None) == wanted


async def test_overviews_that_are_kept_are_listed_and_shown_as_pages(
    get: Get, seeded: Workspace, jp_fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    import nbops as nb
    from nbops.store.workspace import init

    assert await get("overviews") == (200, {"total": 0, "rows": []})
    own = init(seeded.path.parent)
    train = {"price": np.arange(50.0), "<b>": ["a", "b"] * 25}
    nb.snapshot(train, "sales")
    nb.overview({"train": train, "val": {"price": np.arange(60.0), "<b>": ["a", "c"] * 30}})
    own.close()
    _, found = await get("overviews")
    (row,) = found["rows"]
    assert (found["total"], row["title"]) == (1, "sales v1")
    page = await jp_fetch("nbops", "api", "v1", "overviews", row["id"])
    markup = page.body.decode()
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert markup.startswith("<!doctype html>")
    assert "price" in markup
    assert "<b>&" not in markup
    assert "&lt;b&gt;" in markup
    assert (await get("overviews", "art_nothing"))[0] == 404
