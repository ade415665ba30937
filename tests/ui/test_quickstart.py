"""The quickstart in a real JupyterLab: run cell by cell, the run appears in the panel, a failing cell stops Run All."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from lab import LabServer, run_command

from nbops.core.records import Endpoint, Run
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

NOTEBOOK = Path(__file__).parents[2] / "example_notebooks" / "01_quickstart.ipynb"
Open = Callable[..., None]
# The model of the open notebook: [[source, execution_count, error name] …] of its code cells.
STATES = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code');
  return cells.map(c => [c.sharedModel.getSource(), c.executionCount,
    (c.outputs.toJSON().find(o => o.output_type === 'error') || {}).ename || '']);
}"""
READY = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("quickstart")
    shutil.copy(NOTEBOOK, root)
    Workspace.open(root).close()
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in ("%load_ext nbops\nimport nbops as nb", "%%mlops run doomed\n1 / 0", "print('never')")
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "failing.ipynb")
    return start_lab(root)


def open_notebook(page: Page, name: str) -> None:
    run_command(page, "docmanager:open", path=name)
    page.wait_for_function(READY, timeout=60_000)


def states(page: Page) -> list[tuple[str, int | None, str]]:
    return [tuple(cell) for cell in page.evaluate(STATES)]


def test_the_quickstart_runs_and_its_run_appears(
    page: Page, server: LabServer, open_lab: Open, screenshots: Path
) -> None:
    page.set_viewport_size({"width": 1600, "height": 1000})
    open_lab(page, server)
    open_notebook(page, NOTEBOOK.name)
    run_command(page, "nbops:open-panel")
    run_command(page, "notebook:run-all-cells")

    row = page.locator(".jp-nbops-Table-body [role=row]").filter(has_text="digits-cnn")
    row.first.wait_for(timeout=120_000)
    page.wait_for_function(
        f"() => {{ const s = ({STATES})(); return s.every(c => c[1]) || s.some(c => c[2]); }}", timeout=180_000
    )
    assert [cell for cell in states(page) if cell[2]] == []
    finished = row.filter(has_text="finished")
    finished.first.wait_for(timeout=10_000)

    opened = Workspace.open(server.workspace_path)
    run = next(run for run in opened.store.find(Run) if run.name == "digits-cnn")
    endpoint = opened.store.find(Endpoint)[0]
    opened.close()
    assert (run.status, run.type, endpoint.status) == ("FINISHED", "notebook", "STOPPED")
    ids = [cell["id"] for cell in json.loads(NOTEBOOK.read_text())["cells"]]
    assert run.cell_id in ids

    page.evaluate("() => { const w = window.jupyterapp.shell.currentWidget; w.content.activeCellIndex = 8; }")
    page.locator(".jp-OutputArea", has_text="digits-cnn").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.screenshot(path=str(screenshots / "quickstart-light.png"))
    run_command(page, "apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    page.wait_for_timeout(500)
    page.screenshot(path=str(screenshots / "quickstart-dark.png"))
    heights = page.evaluate("[...document.querySelectorAll('.js-plotly-plot .main-svg')].map(e => e.clientHeight)")
    assert heights
    assert min(heights) > 250  # a plot that follows its container shrinks to nothing when the theme changes

    finished.first.locator(".jp-nbops-Row-name").click()
    page.wait_for_selector(".jp-nbops-Page h1")
    page.wait_for_selector(".jp-nbops-Page svg")
    page.screenshot(path=str(screenshots / "quickstart-run-dark.png"))


def test_a_failing_run_cell_stops_run_all(page: Page, server: LabServer, open_lab: Open, screenshots: Path) -> None:
    open_lab(page, server)
    open_notebook(page, "failing.ipynb")
    run_command(page, "notebook:run-all-cells")
    page.wait_for_function(f"() => ({STATES})().some(c => c[2])", timeout=60_000)
    page.wait_for_function(READY, timeout=60_000)
    assert [(count, error) for _, count, error in states(page)] == [(1, ""), (2, "ZeroDivisionError"), (None, "")]
    page.screenshot(path=str(screenshots / "failing-light.png"))
    opened = Workspace.open(server.workspace_path)
    run = next(run for run in opened.store.find(Run) if run.name == "doomed")
    opened.close()
    notebook = json.loads((server.root / "failing.ipynb").read_text())
    assert (run.status, run.error and run.error.type) == ("FAILED", "ZeroDivisionError")
    assert run.error
    assert run.error.cell_id == notebook["cells"][1]["id"]
