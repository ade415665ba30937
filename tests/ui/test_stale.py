"""A dataset moves on: a badge on exactly the cells that were made from it, in JupyterLab and in Notebook 7."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from lab import LabServer, run_command, set_theme, wait_until_restored

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

CELLS = {
    "start": "%load_ext nbops\nimport json\nimport numpy as np\nimport pandas as pd\nimport nbops as nb",
    "load": "rows = json.load(open('rows.json'))\nsales = pd.DataFrame({'price': np.arange(float(rows))})",
    "keep": "nb.snapshot(sales, 'sales')",
    "card": "nb.profile('sales')",
    "part": "cheap = sales[sales.price < 20]",
    "chart": "float(cheap.price.sum())",
    "over": "nb.overview(sales)",
    "pinned": "nb.profile('sales/1')",
    "other": "pd.DataFrame({'a': [1, 2]}).sum()",
}
DEPENDENT = ["keep", "card", "part", "chart", "over"]
BADGES = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  return notebook.widgets.filter(c => c.node.querySelector(':scope > .jp-nbops-Stale')).map(c => c.model.id);
}"""
READY = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
RAN = """count => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  return cells.at(-1).model.executionCount >= count;
}"""
RESTART = """async () => {
  await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart();
}"""
BUMP = (
    "import json, numpy as np, pandas as pd, nbops as nb\n"
    "rows = json.load(open('rows.json'))\nnb.snapshot(pd.DataFrame({'price': np.arange(float(rows))}), 'sales')"
)


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("stale")
    cells: list[Any] = [nbformat.v4.new_code_cell(source, id=id) for id, source in CELLS.items()]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    (root / "deep").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "deep" / "eda.ipynb")
    (root / "deep" / "rows.json").write_text("50")
    return start_lab(root)


def bump(server: LabServer, rows: int) -> None:
    """Let a script elsewhere keep the next version."""
    (server.root / "deep" / "rows.json").write_text(json.dumps(rows))
    subprocess.run([sys.executable, "-c", BUMP], cwd=server.root / "deep", check=True, capture_output=True, timeout=120)


def expect_badges(page: Page, wanted: list[str]) -> None:
    page.wait_for_function(f"wanted => ({BADGES})().join() === wanted.join()", arg=wanted, timeout=60_000)


def test_a_bump_elsewhere_puts_a_badge_on_exactly_the_dependent_cells(
    page: Page, server: LabServer, screenshots: Path, axe: Callable[..., list[str]]
) -> None:
    page.goto(server.page("lab/workspaces/stale"))
    wait_until_restored(page)
    run_command(page, "docmanager:open", path="deep/eda.ipynb")
    page.wait_for_function(READY, timeout=60_000)
    run_command(page, "notebook:run-all-cells")
    page.wait_for_function(RAN, arg=len(CELLS), timeout=60_000)
    page.wait_for_timeout(2_500)  # the last look after a run
    expect_badges(page, [])
    bump(server, 60)
    expect_badges(page, DEPENDENT)
    badge = page.locator("[data-windowed-list-index], .jp-Cell").locator(".jp-nbops-Stale").first
    assert badge.inner_text().splitlines()[0] == "! made from sales v1; v2 is newest"
    run_command(page, "notebook:move-cursor-up")
    page.screenshot(path=screenshots / "stale-light.png")
    assert axe(page, ".jp-nbops-Stale") == []
    set_theme(page, dark=True)
    page.screenshot(path=screenshots / "stale-dark.png")
    assert axe(page, ".jp-nbops-Stale") == []
    set_theme(page, dark=False)

    # they survive the kernel and the page
    run_command(page, "docmanager:save")
    page.evaluate(RESTART)
    page.reload()
    wait_until_restored(page)
    page.wait_for_function(READY, timeout=60_000)
    expect_badges(page, DEPENDENT)


def test_notebook_7_shows_them_and_one_click_runs_what_is_needed(
    page: Page, server: LabServer, screenshots: Path
) -> None:
    from playwright.sync_api import expect

    page.goto(server.page("notebooks/deep/eda.ipynb"))
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget", timeout=60_000)
    page.wait_for_function(READY, timeout=60_000)
    expect_badges(page, DEPENDENT)
    page.screenshot(path=screenshots / "stale-notebook7.png")
    page.evaluate("window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0")
    run_command(page, "notebook:run-cell")  # the kernel is a new one
    cell = page.locator(".jp-Cell", has_text="float(cheap.price.sum())")
    cell.get_by_role("button", name="Run again").click()
    expect_badges(page, ["card", "over"])  # the data was read again, and of what depends on it only what was asked for
    expect(cell.locator(".jp-OutputArea-output")).to_have_text("190.0", timeout=30_000)
    run_command(page, "nbops:run-stale-cells")
    expect_badges(page, [])


def test_a_server_without_the_extension_leaves_notebooks_alone(page: Page, start_lab: Callable[..., LabServer]) -> None:
    plain = start_lab(extension=False)
    cell = nbformat.v4.new_code_cell("1 + 1", id="a")
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), plain.root / "a.ipynb")
    page.goto(plain.page("lab/workspaces/plain"))
    wait_until_restored(page)
    run_command(page, "docmanager:open", path="a.ipynb")
    page.wait_for_function(READY, timeout=60_000)
    run_command(page, "notebook:run-all-cells")
    page.wait_for_function(RAN, arg=1, timeout=60_000)
    page.wait_for_timeout(1_000)
    assert page.evaluate(BADGES) == []
    assert page.locator(".jp-Dialog").count() == 0
