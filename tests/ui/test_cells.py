"""From a point, a cell's row or an error to the notebook cell that made it, in real front ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from lab import LabServer, add_run, run_command, set_theme, wait_until_restored

from nbops.core.records import Run
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

Open = Callable[..., None]
FIRST = "for step in range(40):\n    nb.log(step, loss=2 / (step + 1), lr=0.1)"
SECOND = "for step in range(40, 80):\n    nb.log(step, loss=1 / (step + 1), lr=0.01)"
ACTIVE = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  const cell = widget && widget.content && widget.content.activeCell;
  return cell ? [widget.context.path, cell.model.id] : null;
}"""
SET_SOURCE = """source => {
  window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.setSource(source);
}"""
READY = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
IN_VIEW = """id => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  const cell = notebook.widgets.find(one => one.model.id === id).node.getBoundingClientRect();
  const seen = notebook.node.getBoundingClientRect();
  return cell.height > 0 && cell.top >= seen.top - 1 && cell.top < seen.bottom;
}"""
CLOSE_ALL = """async () => {
  for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
    if (widget.context) {
      widget.context.model.dirty = false;
    }
    widget.close();
  }
}"""
FAILED = "() => [...document.querySelectorAll('.jp-OutputArea')].some(e => e.innerText.includes('KeyError'))"


def write(path: Path, sources: dict[str, str]) -> None:
    """Write a notebook of code cells; a long text before each sends the next out of view."""
    cells: list[Any] = []
    for id, source in sources.items():
        text = "\n\n".join(f"line {n} before {id}" for n in range(30))
        cells += [nbformat.v4.new_markdown_cell(text, id=f"text-{id}"), nbformat.v4.new_code_cell(source, id=id)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("cells")
    opened = Workspace.open(root)
    script = add_run(opened, "script", type="script", context={"source": str(root / "train.py")})
    for step in range(20):
        opened.log(script.id, step, {"loss": 1 / (step + 1)})
    opened.close()
    (root / "deep").mkdir()
    write(root / "deep" / "train.ipynb", {
        "open": "%load_ext nbops\nimport nbops as nb\nrun = nb.start('two-cells')",
        "first": FIRST, "second": SECOND, "close": "nb.end()",
        "fails": "%%mlops run doomed\nconfig = {}\nconfig['lr']",
    })  # fmt: skip
    return start_lab(root)


@pytest.fixture(scope="module")
def ran(shared_page: Page, server: LabServer) -> Path:
    """The notebook, which was run in JupyterLab and logged from two cells; the last one failed."""
    shared_page.goto(server.page("lab/workspaces/ran"))
    wait_until_restored(shared_page)
    path = "deep/train.ipynb"
    run_command(shared_page, "docmanager:open", path=path)
    shared_page.wait_for_function(READY, timeout=60_000)
    run_command(shared_page, "notebook:run-all-cells")
    shared_page.wait_for_function(FAILED, timeout=60_000)
    run_command(shared_page, "docmanager:save")
    return server.root / path


@pytest.fixture
def notebook(ran: Path) -> Iterator[Path]:
    """The notebook as it ran, to be edited; it is put back afterwards."""
    before = ran.read_bytes()
    yield ran
    ran.write_bytes(before)


@pytest.fixture
def front(shared_page: Page, ran: Path) -> Page:
    """JupyterLab with nothing open."""
    shared_page.evaluate(CLOSE_ALL)
    return shared_page


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def open_run(page: Page, server: LabServer, name: str) -> Locator:
    """Open a run's page; return its chart of the loss."""
    opened = Workspace.open(server.workspace_path)
    run = next(run for run in opened.store.find(Run) if run.name == name)
    opened.close()
    run_command(page, "nbops:open-run", id=run.id)
    page.locator(".jp-nbops-Page h1", has_text=name).wait_for()
    return page.locator(".jp-nbops-Chart[data-metric=loss]")


def at_share(chart: Locator, share: float) -> dict[str, float]:
    """Return where on a chart a share of its steps lies."""
    chart.locator(".jp-nbops-Line > path").wait_for()
    axis = chart.locator(".jp-nbops-Axes line").first
    left, right = float(axis.get_attribute("x1") or 0), float(axis.get_attribute("x2") or 0)
    return {"x": left + share * (right - left), "y": 80}


def expect_active(page: Page, path: str, cell: str) -> None:
    page.wait_for_function(f"([path, id]) => ({ACTIVE})()?.join() === path + ',' + id", arg=[path, cell])
    page.wait_for_function("() => document.activeElement?.closest('.jp-Notebook')")
    calm = 0
    for _ in range(100):  # what is above it is laid out meanwhile, and may push it away for a moment
        calm = calm + 1 if page.evaluate(IN_VIEW, cell) else 0
        if calm == 4:
            return
        page.wait_for_timeout(100)
    pytest.fail(f"the cell '{cell}' is not in view")


def test_the_readout_names_the_cell_and_a_click_goes_there(front: Page, server: LabServer, screenshots: Path) -> None:
    chart = open_run(front, server, "two-cells")
    svg, readout = chart.locator("svg"), chart.locator(".jp-nbops-Readout")
    for share, step, cell in ((0.25, "20", "[2]"), (0.75, "59", "[3]")):
        svg.hover(position=at_share(chart, share))
        assert re.fullmatch(rf"step {step}: 0\.\d+ · cell \{cell}", readout.inner_text())
    front.screenshot(path=screenshots / "cells-hover-light.png")
    svg.click(position=at_share(chart, 0.25))
    expect_active(front, "deep/train.ipynb", "first")
    front.screenshot(path=screenshots / "cells-jumped-light.png")
    open_run(front, server, "two-cells")
    svg.click(position=at_share(chart, 0.75))
    expect_active(front, "deep/train.ipynb", "second")
    assert front.locator(".jp-NotebookPanel").count() == 1
    assert front.locator(".jp-nbops-Notice").count() == 0
    assert front.locator(".jp-Dialog").count() == 0


def test_a_page_that_was_closed_opens_again(front: Page, server: LabServer) -> None:
    open_run(front, server, "two-cells").wait_for()
    front.evaluate(CLOSE_ALL)
    open_run(front, server, "two-cells").wait_for()
    assert front.locator(".jp-nbops-RunPage").count() == 1


def test_rows_of_the_table_go_there_too(front: Page, server: LabServer) -> None:
    open_run(front, server, "two-cells")
    front.locator(".jp-nbops-Cells tr", has_text="range(40, 80)").locator("code").click()
    expect_active(front, "deep/train.ipynb", "second")
    open_run(front, server, "two-cells")
    front.get_by_role("button", name="[2]", exact=True).click()
    expect_active(front, "deep/train.ipynb", "first")
    assert front.evaluate(ACTIVE) == ["deep/train.ipynb", "first"]


def test_the_line_of_a_failure_goes_there(front: Page, server: LabServer) -> None:
    open_run(front, server, "doomed")
    card = front.locator(".jp-nbops-Head .jp-nbops-Error")
    assert "KeyError cell [5], line 3" in card.inner_text()
    card.get_by_role("button", name="cell [5]").click()
    expect_active(front, "deep/train.ipynb", "fails")
    open_run(front, server, "doomed")
    front.locator(".jp-nbops-Cells-error", has_text="KeyError").click()
    expect_active(front, "deep/train.ipynb", "fails")


def notice(page: Page, text: str) -> Locator:
    shown = page.locator(".jp-nbops-Notice", has_text=text)
    shown.wait_for()
    assert page.locator(".jp-nbops-Notice").count() == 1
    assert page.locator(".jp-Dialog").count() == 0
    assert shown.evaluate("notice => notice.contains(document.activeElement)")
    return shown


def lines(shown: Locator) -> list[str]:
    return shown.locator(".jp-nbops-Lines > div").all_inner_texts()


def test_a_cell_that_has_changed_is_shown_with_its_changes_first(
    front: Page, server: LabServer, notebook: Path
) -> None:
    edit(notebook, lambda nb: nb["cells"][3].update(source=FIRST.replace("0.1", "0.5") + "\nprint('new')"))
    chart = open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    shown = notice(front, "Cell [2] of train.ipynb has changed since it ran.")
    assert lines(shown) == [
        "  for step in range(40):", "− " + FIRST.split("\n")[1], "+ " + FIRST.split("\n")[1].replace("0.1", "0.5"),
        "+ print('new')",
    ]  # fmt: skip
    assert front.locator(".jp-NotebookPanel").count() == 0
    front.keyboard.press("Escape")
    shown.wait_for(state="detached")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    shown.get_by_role("button", name="Go to the cell as it is now").click()
    expect_active(front, "deep/train.ipynb", "first")
    open_run(front, server, "two-cells")
    shown.wait_for(state="detached")


def test_a_change_that_is_not_saved_counts_and_an_undone_one_does_not(
    front: Page, server: LabServer, notebook: Path
) -> None:
    chart = open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.75))
    expect_active(front, "deep/train.ipynb", "second")
    for source, changed in (("pass", True), (SECOND, False)):
        run_command(front, "nbops:open-cell", path="deep/train.ipynb", id="second")
        expect_active(front, "deep/train.ipynb", "second")
        front.evaluate(SET_SOURCE, source)
        open_run(front, server, "two-cells")
        chart.locator("svg").click(position=at_share(chart, 0.75))
        if changed:
            assert lines(notice(front, "has changed"))[-1] == "+ pass"
        else:
            expect_active(front, "deep/train.ipynb", "second")


def test_a_cell_or_a_notebook_that_is_gone_is_shown_as_it_ran(front: Page, server: LabServer, notebook: Path) -> None:
    edit(notebook, lambda nb: nb["cells"].pop(3))
    chart = open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    assert lines(notice(front, "train.ipynb does not have this cell now.")) == FIRST.split("\n")
    notebook.unlink()
    row = front.get_by_role("button", name="[3]", exact=True)
    row.click()
    shown = notice(front, "train.ipynb is not there any more")
    assert lines(shown) == SECOND.split("\n")
    shown.get_by_role("button", name="Close").click()
    shown.wait_for(state="detached")
    assert row.evaluate("row => row === document.activeElement")


def test_a_notebook_that_cannot_be_read_is_said_and_is_gone_to_when_it_can(front: Page, server: LabServer) -> None:
    chart = open_run(front, server, "two-cells")
    asked = "**/api/contents/deep/train.ipynb?*"
    front.route(asked, lambda route: route.fulfill(status=500, json={"message": "Unreadable Notebook"}))
    chart.locator("svg").click(position=at_share(chart, 0.25))
    shown = notice(front, "Unreadable Notebook")
    front.unroute(asked)
    chart.locator("svg").click(position=at_share(chart, 0.25))
    shown.wait_for(state="detached")
    expect_active(front, "deep/train.ipynb", "first")
    assert front.evaluate(ACTIVE) == ["deep/train.ipynb", "first"]


def test_a_renamed_notebook_is_found_while_it_is_open(front: Page, server: LabServer, notebook: Path) -> None:
    chart = open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    expect_active(front, "deep/train.ipynb", "first")
    front.evaluate("window.jupyterapp.shell.currentWidget.context.rename('renamed.ipynb')")
    front.wait_for_function("window.jupyterapp.shell.currentWidget.context.path === 'deep/renamed.ipynb'")
    open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.75))
    expect_active(front, "deep/renamed.ipynb", "second")
    assert front.evaluate(ACTIVE) == ["deep/renamed.ipynb", "second"]
    (notebook.parent / "renamed.ipynb").unlink()


def test_the_keyboard_walks_the_points_and_goes_there(front: Page, server: LabServer) -> None:
    chart = open_run(front, server, "two-cells")
    at_share(chart, 0.5)
    slider = chart.get_by_role("slider")
    slider.focus()
    said = [slider.get_attribute("aria-valuetext")]
    for key in ("ArrowLeft", "Home", "ArrowRight", "PageUp"):
        front.keyboard.press(key)
        said.append(slider.get_attribute("aria-valuetext"))
    assert said == [
        "step 79: loss 0.0125, cell [3]", "step 78: loss 0.01266, cell [3]", "step 0: loss 2, cell [2]",
        "step 1: loss 1, cell [2]", "step 9: loss 0.2, cell [2]",
    ]  # fmt: skip
    assert chart.locator(".jp-nbops-Readout").inner_text() == "step 9: 0.2 · cell [2]"
    front.keyboard.press("Enter")
    expect_active(front, "deep/train.ipynb", "first")
    open_run(front, server, "two-cells")
    chart.locator(".jp-nbops-Readout button").focus()
    front.keyboard.press("Enter")
    expect_active(front, "deep/train.ipynb", "first")
    open_run(front, server, "two-cells")
    slider.focus()
    front.keyboard.press("Escape")
    assert chart.locator(".jp-nbops-Readout").inner_text() == "0.0125 · cell [3]"


def test_the_run_of_a_script_names_no_cell(front: Page, server: LabServer) -> None:
    chart = open_run(front, server, "script")
    chart.locator("svg").click(position=at_share(chart, 0.5))
    assert re.fullmatch(r"step (9|10): 0\.\d+", chart.locator(".jp-nbops-Readout").inner_text())
    front.wait_for_timeout(500)
    assert front.locator(".jp-nbops-CellLink, .jp-nbops-Notice, .jp-Dialog").count() == 0


def test_without_notebooks_in_the_front_end_the_source_is_shown(
    page: Page, server: LabServer, ran: Path, open_lab: Open
) -> None:
    def switch_off(route: Route) -> None:
        answer = route.fetch()
        off = '"disabledExtensions": ["@jupyterlab/notebook-extension"'
        route.fulfill(response=answer, body=re.sub(r'"disabledExtensions": \[', off, answer.text()))

    page.route("**/lab/workspaces/**", switch_off)
    open_lab(page, server)
    chart = open_run(page, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    assert lines(notice(page, "Notebooks cannot be opened here.")) == FIRST.split("\n")


def test_in_notebook_7_the_cell_is_selected_in_a_tab_of_its_own(page: Page, server: LabServer, ran: Path) -> None:
    page.goto(server.page("tree"))
    wait_until_restored(page)
    chart = open_run(page, server, "two-cells")
    with page.context.expect_page() as opened:
        chart.locator("svg").click(position=at_share(chart, 0.25))
    tab = opened.value
    wait_until_restored(tab)
    expect_active(tab, "deep/train.ipynb", "first")
    page.bring_to_front()
    chart.locator("svg").click(position=at_share(chart, 0.75))
    expect_active(tab, "deep/train.ipynb", "second")
    assert len(page.context.pages) == 2
    page.bring_to_front()
    page.evaluate("() => { window.open = () => null; }")  # as a browser does that lets pages open no tabs
    chart.locator("svg").click(position=at_share(chart, 0.25))
    link = notice(page, "The browser did not open the tab").get_by_role("link")
    assert (link.get_attribute("href") or "").endswith("/user/alice/notebooks/deep/train.ipynb#cell-id=first")


def test_pictures_and_accessibility(
    front: Page, server: LabServer, notebook: Path, screenshots: Path, axe: Callable[..., list[str]]
) -> None:
    edit(notebook, lambda nb: nb["cells"][3].update(source=FIRST.replace("0.1", "0.5") + "\nprint('new')"))
    chart = open_run(front, server, "two-cells")
    chart.locator("svg").click(position=at_share(chart, 0.25))
    notice(front, "has changed")
    for name in ("dark", "light"):
        set_theme(front, dark=name == "dark")
        front.locator("#jupyterlab-splash").wait_for(state="detached")
        front.screenshot(path=screenshots / f"cells-changed-{name}.png")
        assert axe(front, ".jp-nbops-RunPage") == []
    edit(notebook, lambda nb: nb["cells"].pop(5))
    front.get_by_role("button", name="[3]", exact=True).click()
    notice(front, "does not have this cell")
    front.screenshot(path=screenshots / "cells-gone-light.png")
    assert axe(front, ".jp-nbops-RunPage") == []
    front.evaluate(CLOSE_ALL)
    open_run(front, server, "doomed").page.locator(".jp-nbops-Error").wait_for()
    edit(notebook, lambda nb: nb["cells"][-1].update(source="%%mlops run doomed\nconfig = {'lr': 1}"))
    front.locator(".jp-nbops-Head .jp-nbops-CellLink").last.click()
    notice(front, "has changed")
    front.screenshot(path=screenshots / "cells-error-light.png")
    assert axe(front, ".jp-nbops-RunPage") == []
