"""The data notebook, executed as a step: it asserts its own claims, and what it recorded is found afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import nbops as nb

NOTEBOOK = Path(__file__).parents[2] / "example_notebooks" / "04_data.ipynb"


@pytest.mark.usefixtures("workspace")
def test_the_data_notebook(tmp_path: Path) -> None:
    copy = tmp_path / "work" / NOTEBOOK.name
    copy.parent.mkdir()
    shutil.copy(NOTEBOOK, copy)
    step = nb.run_notebook(copy)
    assert step.status == "FINISHED"

    second, first = nb.find("datasets")
    assert (first.name, first.version, first.profile["key"]) == ("patients", 1, ["patient"])
    assert (second.name, second.version, second.rows) == ("patients", 2, first.rows - 3)
    assert len(nb.labels("wines").frame()) > 8
    checks = nb.find("checks")
    assert {"fail", "pass"} <= {report.status for report in checks}
    assert {found.column for report in checks for found in report.results if found.check == "drift" and
            found.verdict == "fail"} == {"age"}  # fmt: skip
    assert len(nb.find("looks")) == 1
