"""The labelling widget in real front ends: keys, clicks, undo, a page that is loaded again, a kernel that is killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from lab import LabServer, run_command, set_theme, wait_until_restored

from nbops.core.labelling import LabelSet
from nbops.data.labels.keeping import read_labels
from nbops.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.leaks("Chromium and Jupyter keep helper processes until the module and the session end"),
]

PAGE = ".jp-nbops-Label-page:visible"
TEXTS = "[f'review number {i}' for i in range(12)]"
READY = """() => {
  const widget = window.jupyterapp?.shell?.currentWidget;
  return widget && widget.context && widget.context.isReady && widget.sessionContext.session?.kernel?.status === 'idle';
}"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
TYPES = "() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => cell.model.type).join()"
CLOSE_ALL = """async () => {
  for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
    if (widget.context) {
      widget.context.model.dirty = false;
    }
    widget.close();
  }
}"""


def write(path: Path, source: str) -> None:
    cells = [nbformat.v4.new_code_cell(source, id="label"), nbformat.v4.new_code_cell("1 + 1", id="next")]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


@pytest.fixture(scope="module")
def server(start_lab: Callable[..., LabServer], tmp_path_factory: pytest.TempPathFactory) -> LabServer:
    root = tmp_path_factory.mktemp("labelling")
    Workspace.open(root).close()
    return start_lab(root)


@pytest.fixture
def opened(server: LabServer) -> Iterator[Workspace]:
    workspace = Workspace.open(server.workspace_path)
    yield workspace
    workspace.close()


def answers(workspace: Workspace, name: str) -> list[tuple[str, list[Any]]]:
    """Return state and value of each answer, in the order of the moments they were given."""
    record = next(one for one in workspace.store.find(LabelSet) if one.name == name)
    return [(label.status, label.value) for label in read_labels(workspace, record)]


def source_of(name: str, items: str = TEXTS, **options: Any) -> str:
    given = "".join(f", {key}={value!r}" for key, value in options.items())
    options.setdefault("classes", ["pos", "neg"])
    classes = "" if "classes" in given else ", classes=['pos', 'neg']"
    return f"import nbops as nb\nnb.label({items}, name={name!r}, annotator='ada'{classes}{given})"


def run_first(page: Page) -> None:
    """Run the first cell of the open notebook and wait for its widget."""
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate("""async () => {
      const app = window.jupyterapp;
      app.shell.currentWidget.content.activeCellIndex = 0;
      await app.commands.execute('notebook:run-cell');
    }""")
    page.locator(PAGE).wait_for(timeout=60_000)


def open_notebook(page: Page, server: LabServer, name: str, source: str) -> None:
    write(server.root / f"{name}.ipynb", source)
    page.goto(server.page(f"lab/workspaces/{name}"))
    wait_until_restored(page)
    run_command(page, "docmanager:open", path=f"{name}.ipynb")
    run_first(page)


def expect_item(page: Page, text: str) -> None:
    page.locator(f"{PAGE} .jp-nbops-Label-item", has_text=text).wait_for(timeout=20_000)
    page.wait_for_function("() => document.querySelector('.jp-nbops-Label-page[aria-busy=false]')")


def press(page: Page, keys: str, start: int) -> None:
    """Press keys one by one, each when the next item is there."""
    for at, key in enumerate(keys, start):
        expect_item(page, f"review number {at}")
        page.keyboard.press(key)


@pytest.fixture(params=["lab", "notebook"])
def front(request: pytest.FixtureRequest, page: Page, server: LabServer) -> tuple[Page, str]:
    """A notebook with a widget, in JupyterLab or in Notebook 7."""
    name = f"keys-{request.param}"
    write(server.root / f"{name}.ipynb", source_of(name))
    if request.param == "lab":
        open_notebook(page, server, name, source_of(name))
    else:
        page.goto(server.page(f"notebooks/{name}.ipynb"))
        page.wait_for_function("window.jupyterapp && window.jupyterapp.restored", timeout=60_000)
        run_first(page)
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    return page, name


def test_ten_items_by_keys_undo_and_the_page_loaded_again(front: tuple[Page, str], opened: Workspace) -> None:
    page, name = front
    press(page, "1212121212", 0)
    expect_item(page, "review number 10")
    expected = [("given", ["pos"]), ("given", ["neg"])] * 5
    assert answers(opened, name) == expected
    page.keyboard.press("Backspace")
    expect_item(page, "review number 9")
    assert answers(opened, name) == [*expected[:-1], ("undone", ["neg"])]
    page.keyboard.press("Control+z")
    expect_item(page, "review number 8")
    press(page, "22", 8)
    expect_item(page, "review number 10")
    page.keyboard.press("Space")
    expect_item(page, "review number 11")
    assert page.locator(f"{PAGE} .jp-nbops-Label-facts").inner_text() == "10 of 12 · 1 skipped · ada"
    assert page.evaluate(CELLS) == 2
    run_command(page, "docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    page.reload()
    page.wait_for_function(READY, timeout=60_000)
    expect_item(page, "review number 11")
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    page.keyboard.press("1")
    expect_item(page, "review number 10")
    page.keyboard.press("2")
    page.locator(PAGE, has_text="All are labelled").wait_for()
    end = [*expected[:8], ("given", ["neg"]), ("given", ["neg"]), ("given", ["pos"]), ("given", ["neg"])]
    assert answers(opened, name) == end
    saved = json.loads((opened.path.parent / f"{name}.ipynb").read_text())["cells"][0]["outputs"][0]["data"]
    assert "10 of 12" in "".join(saved["text/html"]), (
        "the card in the file is that of the last answer before it was saved"
    )


def test_keys_are_the_widgets_inside_and_the_notebooks_outside(
    page: Page, server: LabServer, opened: Workspace
) -> None:
    open_notebook(page, server, "manners", source_of("manners", question="Is it good?"))
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    for key in ("a", "b", "x", "d", "d", "y", "m", "3", "Shift+M", "Delete"):  # would add, cut, delete or turn cells
        page.keyboard.press(key)
    assert page.evaluate(CELLS) == 2
    assert page.evaluate(TYPES) == "code,code"
    assert answers(opened, "manners") == []
    page.keyboard.press("?")
    page.locator(f"{PAGE} .jp-nbops-Label-help", has_text="Backspace").wait_for()
    page.keyboard.press("Control+s")  # the application's own shortcut still works
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    page.keyboard.press("Shift+Enter")  # runs the cell: the widget of the new run answers
    expect_item(page, "review number 0")
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    page.keyboard.press("Escape")
    run_command(page, "notebook:enter-command-mode")
    page.keyboard.press("b")
    page.wait_for_function(f"() => ({CELLS})() === 3")
    assert answers(opened, "manners") == []


def test_a_click_answers_and_keys_go_on(page: Page, server: LabServer, opened: Workspace) -> None:
    open_notebook(page, server, "clicks", source_of("clicks", notes=True))
    page.get_by_role("button", name="neg").click()
    expect_item(page, "review number 1")
    page.keyboard.press("1")
    expect_item(page, "review number 2")
    page.keyboard.press("n")
    page.keyboard.type("dd 1x is a typo")
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    expect_item(page, "review number 3")
    page.get_by_role("button", name="Undo").click()
    expect_item(page, "review number 2")
    page.keyboard.press("2")
    expect_item(page, "review number 3")
    assert answers(opened, "clicks") == [("given", ["neg"]), ("given", ["pos"]), ("given", ["neg"])]
    assert page.evaluate(CELLS) == 2
    record = next(one for one in opened.store.find(LabelSet) if one.name == "clicks")
    labels = read_labels(opened, record)
    notes = [event.payload for event in opened.store.events(subject=labels[2].id)]
    assert [payload["item"] for payload in notes] == [labels[2].name] * 3
    assert all(0 < (label.duration_s or 0) < 60 for label in labels)


def test_several_classes_toggle_and_a_suggestion_is_taken_by_enter(
    page: Page, server: LabServer, opened: Workspace
) -> None:
    open_notebook(page, server, "multi", source_of("multi", multi=True, classes=["red", "green", "blue"]))
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    for key in ("1", "3", "1", "2", "Enter"):
        page.keyboard.press(key)
    expect_item(page, "review number 1")
    page.keyboard.press("Enter")
    expect_item(page, "review number 2")
    assert answers(opened, "multi") == [("given", ["green", "blue"]), ("given", [])]
    page.evaluate(CLOSE_ALL)
    open_notebook(page, server, "hint", source_of("hint", suggest=["neg"] * 12))
    page.locator(f"{PAGE} .jp-nbops-Label-hint", has_text="suggested: neg").wait_for()
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    page.keyboard.press("Enter")
    expect_item(page, "review number 1")
    assert answers(opened, "hint") == [("given", ["neg"])]


def test_a_killed_kernel_loses_nothing_and_the_cell_goes_on(page: Page, server: LabServer, opened: Workspace) -> None:
    open_notebook(page, server, "killed", "import os\n" + source_of("killed"))
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    press(page, "121", 0)
    expect_item(page, "review number 3")
    page.evaluate("""() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
      .requestExecute({ code: 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)' })""")
    page.locator(".jp-nbops-Label-notice:visible", has_text="run this cell").wait_for(timeout=60_000)
    assert page.locator(".jp-nbops-Label-static:visible", has_text="3 of 12").count() == 1
    assert [value for _, value in answers(opened, "killed")] == [["pos"], ["neg"], ["pos"]]
    page.get_by_role("dialog").get_by_role("button", name="Ok").click()
    run_first(page)
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    press(page, "22", 3)
    expect_item(page, "review number 5")
    assert [value for _, value in answers(opened, "killed")] == [["pos"], ["neg"], ["pos"], ["neg"], ["neg"]]


def test_pictures_rows_and_what_a_function_shows(page: Page, server: LabServer, screenshots: Path) -> None:
    pictures = "__import__('numpy').arange(3 * 64, dtype='uint8').reshape(3, 8, 8)"
    open_notebook(page, server, "pictures", source_of("pictures", pictures))
    box = page.locator(f"{PAGE} img").bounding_box()
    assert box is not None
    assert box["width"] >= 100
    page.evaluate(CLOSE_ALL)
    rows = "[{'title': '<b>A &amp; B</b>', 'price': 3.5}, {'title': 'C', 'price': None}]"
    open_notebook(page, server, "rows", source_of("rows", rows))
    assert page.locator(f"{PAGE} td").all_inner_texts() == ["<b>A &amp; B</b>", "3.5"]
    page.evaluate(CLOSE_ALL)
    shown = source_of("shown", "[1, 2]").replace(")", ", show=lambda x: __import__('IPython.display').display.HTML("
                                                  "f'<i class=mine>{x * 21}</i>'))")  # fmt: skip
    open_notebook(page, server, "shown", shown)
    assert page.locator(f"{PAGE} i.mine").inner_text() == "21"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_and_heard(
    page: Page, server: LabServer, axe: Callable[..., list[str]], screenshots: Path, dark: bool
) -> None:
    name = f"looks-{'dark' if dark else 'light'}"
    source = source_of(name, question="How does the customer feel?", notes=True, suggest=["neg"] * 12)
    open_notebook(page, server, name, source)
    set_theme(page, dark=dark)
    page.locator(PAGE).click(position={"x": 5, "y": 5})
    press(page, "1", 0)
    expect_item(page, "review number 1")
    page.keyboard.press("?")
    page.screenshot(path=screenshots / f"labelling-{name}.png")
    assert axe(page, ".jp-nbops-Label-page") == []
    assert page.locator(f"{PAGE} [aria-live=polite]").inner_text() == "Item 2 of 12"
    assert page.get_by_role("progressbar", name="labelled").get_attribute("aria-valuenow") == "1"
