"""The tracking notebook, executed as a step, and what it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nbops as nb

NOTEBOOK = Path(__file__).parents[2] / "example_notebooks" / "02_tracking.ipynb"


@pytest.mark.usefixtures("workspace")
def test_the_tracking_notebook(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    copy = tmp_path / "work" / NOTEBOOK.name
    copy.parent.mkdir()
    shutil.copy(NOTEBOOK, copy)
    step = nb.run_notebook(copy, parameters={"epochs": 3, "rates": [0.03, 0.3]})
    assert (step.status, step.params["rates"]) == ("FINISHED", [0.03, 0.3])
    sweep = nb.find("runs", "name == 'sweep'")[0]
    children = nb.find("runs", f"parent == '{sweep.id}'", order_by="metrics.accuracy desc")
    assert (len(children), sweep.parent) == (6, step.id)
    best = nb.find("runs", "tags.reviewed == 'yes'")[0]
    assert best.id == children[0].id
    assert len(best.resumes) == 1
    assert nb.series(best, "accuracy").steps.tolist() == [0, 1, 2, 3]
    assert nb.reproducible(best).verdict is True
    assert nb.audit().is_whole
