"""The debugging notebook, executed as a step: it asserts its own claims, and what was found stays with its runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nbops as nb

NOTEBOOK = Path(__file__).parents[2] / "example_notebooks" / "03_debugging.ipynb"


@pytest.mark.usefixtures("workspace")
def test_the_debugging_notebook(tmp_path: Path) -> None:
    copy = tmp_path / "work" / NOTEBOOK.name
    copy.parent.mkdir()
    shutil.copy(NOTEBOOK, copy)
    step = nb.run_notebook(copy)
    assert step.status == "FINISHED"

    runs = {run.name: run for run in nb.find("runs", f"parent == '{step.id}'")}
    assert {name: run.status for name, run in runs.items()} == {
        "forgotten": "FINISHED",
        "cleared": "FINISHED",
        "logarithm": "FAILED",
    }
    errors = [one for one in nb.find("diagnoses") if one.status == "error"]
    assert {(one.name, one.parent, one.cell_id) for one in errors} == {
        ("gradients-not-cleared", runs["forgotten"].id, "silent"),
        ("non-finite-loss", runs["logarithm"].id, "nan"),
    }
    assert runs["cleared"].metrics["accuracy"] > runs["forgotten"].metrics["accuracy"]
