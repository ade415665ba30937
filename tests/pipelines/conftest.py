"""Notebooks written for a test, and eyes on what was stored and what still runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

WriteNotebook = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_outer_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBOPS_PARENT_RUN", raising=False)


@pytest.fixture
def write_notebook(tmp_path: Path) -> WriteNotebook:
    """Return a function that writes a notebook: cells ``c1``, ``c2`` …, the parameters cell (``p``) first if given."""

    def write(*sources: str, parameters: str | None = None, name: str = "step.ipynb", minor: int = 5) -> Path:
        cells: list[dict[str, Any]] = [_cell(source, f"c{n}") for n, source in enumerate(sources, 1)]
        if parameters is not None:
            cells.insert(0, _cell(parameters, "p", tags=["parameters"]))
        if minor < 5:
            for cell in cells:
                del cell["id"]
        kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
        notebook = {"cells": cells, "metadata": {"kernelspec": kernelspec}, "nbformat": 4, "nbformat_minor": minor}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
        return path

    return write


def _cell(source: str, id: str, *, tags: list[str] | None = None) -> dict[str, Any]:
    if source.startswith("# markdown"):
        return {"cell_type": "markdown", "id": id, "metadata": {}, "source": source}
    metadata = {"tags": tags} if tags else {}
    return {
        "cell_type": "code",
        "execution_count": 7,
        "id": id,
        "metadata": metadata,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["of an earlier execution\n"]}],
        "source": source.splitlines(keepends=True),
    }


@pytest.fixture
def cells_of(workspace: Any) -> Callable[[Any], dict[str, Any]]:
    """Return a function that gives a run's stored cells by cell id."""
    from nbops.core.query import parse
    from nbops.core.records import Cell

    return lambda run: {c.cell_id: c for c in workspace.store.find(Cell, parse(f"parent == '{run.id}'"))}


@pytest.fixture
def printed() -> Callable[[Path], str]:
    """Return a function that gives all text that an executed notebook's cells printed."""

    def text(path: Path) -> str:
        notebook = json.loads(path.read_text("utf-8"))
        outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
        return "".join("".join(out.get("text", [])) for out in outputs)

    return text


@pytest.fixture
def kernels() -> Callable[[], list[int]]:
    """Return a function that lists the living kernels which this process started."""

    def alive() -> list[int]:
        found = []
        for child in psutil.Process(os.getpid()).children(recursive=True):
            try:
                if "ipykernel" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    return alive
