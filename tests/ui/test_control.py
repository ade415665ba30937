"""A cell trains in a real kernel; the run's page pauses it, goes on with another learning rate, and stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from lab import LabServer, run_command, set_theme, wait_until_restored

from nbops.core.commands import Command
from nbops.core.records import Run
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

SETUP = """%load_ext nbops
import nbops as nb, torch, time
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)"""
TRAIN = """with nb.run("endless"), nb.watch(net):
    for step in range(1_000_000):
        opt.zero_grad()
        loss = net(torch.randn(8, 4)).square().mean()
        loss.backward()
        opt.step()
        nb.log(step, loss=loss.item(), steps=step)
        time.sleep(0.005)"""
AFTER = "print('rate', opt.param_groups[0]['lr'], 'hooks', len(net._forward_hooks))"
READY = """() => {
  const widget = window.jupyterapp.shell.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
# [execution count, error name] of each code cell of the notebook that is open
STATES = """() => {
  const widget = [...window.jupyterapp.shell.widgets('main')].find(one => one.context);
  return [...widget.content.model.cells].map(c => [c.executionCount,
    (c.outputs.toJSON().find(o => o.output_type === 'error') || {}).ename || '']);
}"""
BAR = ".jp-nbops-Watch"
SAID = f"{BAR} [role=status]"


def said(page: Page, text: str) -> None:
    page.wait_for_function(
        "([at, text]) => document.querySelector(at)?.innerText.includes(text)", arg=[SAID, text], timeout=30_000
    )


def write(path: Path) -> None:
    cells: list[Any] = [nbformat.v4.new_code_cell(source) for source in (SETUP, TRAIN, AFTER)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("control")
    write(root / "train.ipynb")
    write(root / "again.ipynb")
    Workspace.open(root).close()
    return start_lab(root)


def the_run(opened: Workspace, *, but: str = "") -> Run:
    """Wait until a cell has opened a run and logged to it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = [run for run in opened.store.find(Run) if run.id != but and "steps" in run.summary]
        if found:
            return found[0]
        time.sleep(0.1)
    pytest.fail("no run was opened")


def steps_of(opened: Workspace, run: str) -> int:
    return int(opened.store.get(Run, run).summary["steps"].last)


def wait_for_steps(opened: Workspace, run: str, steps: int) -> None:
    end = time.monotonic() + 60
    while steps_of(opened, run) < steps:
        assert time.monotonic() < end
        time.sleep(0.1)


def start(page: Page, path: str) -> None:
    run_command(page, "docmanager:open", path=path)
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")


def button(page: Page, name: str) -> Any:
    return page.locator(BAR).get_by_role("button", name=name, exact=True)


def test_pause_continue_and_stop_while_a_cell_runs(
    page: Page, server: LabServer, open_lab: Callable[..., None], screenshots: Path, axe: Callable[..., list[str]]
) -> None:
    open_lab(page, server)
    start(page, "train.ipynb")
    opened = Workspace.open(server.workspace_path)
    run = the_run(opened)
    run_command(page, "nbops:open-run", id=run.id)
    said(page, "Watched: Linear.")
    assert button(page, "Continue").get_attribute("aria-disabled") == "true"

    button(page, "Pause").focus()
    page.keyboard.press("Enter")
    said(page, "Paused before step ")
    step = opened.store.get(Command, opened.store.find(Command)[0].id).step
    assert step
    stood = step - 1
    wait_for_steps(opened, run.id, stood)
    assert button(page, "Pause").get_attribute("aria-disabled") == "true"
    for dark in (False, True):
        set_theme(page, dark=dark)
        page.screenshot(path=screenshots / f"watch-{'dark' if dark else 'light'}.png")
        assert axe(page, ".jp-nbops-RunPage:not(.lm-mod-hidden)") == []

    page.get_by_label("New learning rate").fill("0.25")
    page.keyboard.press("Enter")
    said(page, "Learning rate: 0.25.")
    assert page.get_by_label("New learning rate").input_value() == ""
    assert steps_of(opened, run.id) == stood
    assert [(c.name, c.status) for c in opened.store.find(Command)] == [("set-lr", "applied"), ("pause", "applied")]

    button(page, "Continue").click()
    said(page, "Continued before step ")
    wait_for_steps(opened, run.id, stood + 1)

    button(page, "Stop").click()
    page.wait_for_selector(BAR, state="detached", timeout=30_000)
    page.locator(".jp-nbops-Head .jp-nbops-Chip", has_text="interrupted").wait_for()
    page.wait_for_function(f"() => ({STATES})()[1][1] !== ''", timeout=30_000)
    assert page.evaluate(STATES)[1] == [2, "StopAsked"]
    ended = opened.store.get(Run, run.id)
    assert (ended.status, ended.error and ended.error.type) == ("INTERRUPTED", "StopAsked")
    assert ended.error
    assert "stopped before step" in ended.error.message
    page.evaluate("id => window.jupyterapp.shell.activateById(id)", page.evaluate(
        "() => [...window.jupyterapp.shell.widgets('main')].find(one => one.context).id"
    ))  # fmt: skip
    page.evaluate("""() => {
      const notebook = window.jupyterapp.shell.currentWidget.content;
      notebook.activeCellIndex = 2;
      return window.jupyterapp.commands.execute('notebook:run-cell');
    }""")
    page.locator(".jp-OutputArea-output", has_text="rate 0.25 hooks 0").wait_for()
    opened.close()


def test_notebook_7_pauses_and_a_dead_kernel_does_not_answer(
    page: Page, server: LabServer, open_lab: Callable[..., None]
) -> None:
    open_lab(page, server)
    opened = Workspace.open(server.workspace_path)
    before = {run.id for run in opened.store.find(Run)}
    start(page, "again.ipynb")
    run = the_run(opened, but=next(iter(before), ""))
    page.goto(server.page("tree"))
    wait_until_restored(page)
    run_command(page, "nbops:open-run", id=run.id)
    said(page, "Watched: Linear.")
    button(page, "Pause").click()
    said(page, "Paused before step ")
    page.evaluate("""async () => {
      const sessions = window.jupyterapp.serviceManager.sessions;
      await sessions.refreshRunning();
      const mine = [...sessions.running()].find(one => one.path === 'again.ipynb');
      await sessions.shutdown(mine.id);
    }""")
    page.wait_for_selector(BAR, state="detached", timeout=60_000)
    page.locator(".jp-nbops-Head .jp-nbops-Chip", has_text="interrupted").wait_for()
    assert opened.store.get(Run, run.id).status == "INTERRUPTED"
    assert page.locator(BAR).count() == 0
    opened.close()
