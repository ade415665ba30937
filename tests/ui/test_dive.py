"""A dive in JupyterLab: dropdowns choose, a click lists the rows, and the static picture stays in the notebook."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from lab import LabServer, run_command, set_theme, wait_until_restored

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
    pytest.mark.skipif(importlib.util.find_spec("ipywidgets") is None, reason="the extra viz is not installed"),
]

SOURCE = """import numpy as np
import pandas as pd
import nbops as nb
rng = np.random.default_rng(0)
rows = 100_000
sales = pd.DataFrame({
    "price": rng.lognormal(3, 1, rows), "weight": rng.normal(size=rows),
    "city": rng.choice(["Bonn", "Rome", "Oslo"], rows), "note": [f"row {i}" for i in range(rows)],
})
nb.dive(sales, x="price", facet="city")"""
READY = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("dive")
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cell = nbformat.v4.new_code_cell(SOURCE, id="dive")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), root / "dive.ipynb")
    return start_lab(root)


def test_dropdowns_choose_and_a_click_lists_rows(page: Page, server: LabServer, screenshots: Path) -> None:
    page.goto(server.page("lab/workspaces/dive"))
    wait_until_restored(page)
    run_command(page, "docmanager:open", path="dive.ipynb")
    page.wait_for_function(READY, timeout=60_000)
    run_command(page, "notebook:run-all-cells")
    first = page.locator(".widget-hbox .widget-button").first
    first.wait_for(timeout=60_000)
    assert page.locator(".nbops .name", has_text="data").count() == 1
    count = page.locator(".widget-hbox .widget-button").nth(1).inner_text()
    page.locator(".widget-hbox .widget-button").nth(1).click()
    rows = page.locator(".widget-html .nbops table")
    rows.wait_for(timeout=20_000)
    assert f"of {count} rows" in page.locator(".widget-html .nbops").last.inner_text()
    assert 30 < rows.locator("tbody tr").count() <= 200
    page.locator(".widget-dropdown select").nth(1).select_option("weight")
    page.locator(".widget-html svg").wait_for(timeout=20_000)
    assert "of 100,000 points" in page.locator(".widget-html").first.inner_text()
    page.locator(".widget-hbox .widget-button").nth(2).click()
    rows.wait_for(timeout=20_000)
    page.screenshot(path=screenshots / "dive-light.png")
    set_theme(page, dark=True)
    page.screenshot(path=screenshots / "dive-dark.png")
    set_theme(page, dark=False)
    run_command(page, "docmanager:save")
    page.wait_for_timeout(500)
    saved = json.loads((server.root / "dive.ipynb").read_text())
    (card, _) = saved["cells"][0]["outputs"]
    assert "<svg" in "".join(card["data"]["text/html"])  # what stands in the file needs no kernel and no script
    assert "widget-view" not in str(list(card["data"]))
    assert len((server.root / "dive.ipynb").read_bytes()) < 80_000
