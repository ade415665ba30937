"""The main job from end to end: the quickstart through papermill with our engine, and what it leaves behind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.records import CheckReport, Dataset, Endpoint, ModelVersion, Run

NOTEBOOK = Path(__file__).parents[2] / "example_notebooks" / "01_quickstart.ipynb"


@pytest.fixture
def notebook(tmp_path: Path, workspace: Any) -> Path:
    copy = tmp_path / "work" / NOTEBOOK.name
    copy.parent.mkdir()
    shutil.copy(NOTEBOOK, copy)
    return copy


def text_of(executed: dict[str, Any]) -> str:
    """Return all text outputs of an executed notebook."""
    found = []
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain") or ""
            found.append("".join(text))
    return "\n".join(found)


def executed_notebook(workspace: Any, step: Run) -> dict[str, Any]:
    artifact = nb.find("artifacts", f"parent == '{step.id}' and 'executed' in name")[0]
    parsed: dict[str, Any] = json.loads(workspace.artifacts.read(artifact.digest))
    return parsed


def test_the_whole_life_of_a_model(notebook: Path, workspace: Any) -> None:
    before = notebook.read_bytes()
    step = nb.run_notebook(notebook, parameters={"epochs": 5})
    assert (step.status, step.params["epochs"]) == ("FINISHED", 5)
    assert notebook.read_bytes() == before

    executed = executed_notebook(workspace, step)
    text = text_of(executed)
    accuracy = float(re.search(r"accuracy over HTTP: ([\d.]+)", text)[1])  # type: ignore[index]
    assert accuracy >= 0.95
    assert re.search(r"p50 [\d.]+ ms", text)

    run = nb.find("runs", "name == 'digits-cnn'")[0]
    assert (run.status, run.parent, run.params["epochs"]) == ("FINISHED", step.id, 5)
    assert run.summary["loss"].count == 5 * 43
    assert run.cell_id == "train"
    assert nb.find("diagnoses").total == 0

    (dataset,) = nb.find("datasets")
    assert (dataset.ref if hasattr(dataset, "ref") else f"{dataset.name}/{dataset.version}", dataset.rows) == (
        "digits/1",
        1797,
    )
    (report,) = nb.find("checks")
    assert report.passed

    (version,) = nb.find("models")
    assert (version.ref, version.parent) == ("digits/1", run.id)
    assert version.metrics["test_accuracy"] >= 0.95
    (endpoint,) = nb.find("endpoints")
    assert (endpoint.status, endpoint.models) == ("STOPPED", ["digits/1"])

    kinds = {type(node) for node in nb.lineage("digits@prod").nodes}
    assert {Dataset, Run, ModelVersion, Endpoint} <= kinds
    assert CheckReport not in kinds or report.id

    cells = nb.find("cells", f"parent == '{step.id}'", order_by="created_at")
    assert {cell.status for cell in cells} == {"ok"}
    assert "train" in {cell.cell_id for cell in cells}


def test_the_executed_notebook_stays_small_and_has_no_script(notebook: Path, workspace: Any) -> None:
    step = nb.run_notebook(notebook, parameters={"epochs": 3})
    executed = executed_notebook(workspace, step)
    for cell in executed["cells"]:
        assert len(json.dumps(cell.get("outputs", []))) <= 80_000
    assert "<script" not in json.dumps(executed)


def test_a_second_run_adds_a_second_version_of_the_model_and_none_of_the_data(notebook: Path) -> None:
    for seed in (0, 1):
        nb.run_notebook(notebook, parameters={"epochs": 5, "seed": seed})
    assert nb.find("datasets").total == 1
    assert sorted(v.number for v in nb.find("models")) == [1, 2]
    assert nb.find("aliases")[0].number == 2
    assert nb.find("runs", "type == 'step' and status == 'FINISHED'").total == 2
