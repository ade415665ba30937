"""Two runs side by side: cells, parameters, environment, data, metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.display import mimebundle
from nbops.core.errors import NotFound
from nbops.core.records import Run, replace
from nbops.tracking.capture.cells import CellRecorder

Execute = Callable[..., None]


@pytest.fixture
def execute(workspace: Any) -> Iterator[Execute]:
    """Return a function that executes (id, source) pairs in a shell whose cells are recorded."""
    shell = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    recorder = CellRecorder()
    shell.events.register("pre_run_cell", recorder.before)
    shell.events.register("post_run_cell", recorder.after)
    shell.run_cell("import nbops as nb")

    def run(*cells: tuple[str, str]) -> None:
        for id, source in cells:
            shell.run_cell(source, store_history=True, cell_id=id)

    yield run
    shell.events.unregister("pre_run_cell", recorder.before)
    shell.events.unregister("post_run_cell", recorder.after)
    recorder.close()
    shell.history_manager.end_session()


def changes(found: Any) -> list[tuple[str, str]]:
    return [(cell.cell_id, cell.change) for cell in found.cells if not cell.cell_id.startswith("source-")]


def differing(sides: Any) -> dict[str, tuple[Any, Any]]:
    return {side.name: (side.a, side.b) for side in sides if not side.is_same}


def test_cells_are_matched_by_id(execute: Execute) -> None:
    execute(("a", "x = 1\ny = 2"), ("old", "z = 0"), ("c", "with nb.run('one'): nb.log(loss=1.0)"))
    execute(("a", "x = 1\ny = 3"), ("new", "w = 0"), ("d", "with nb.run('two'): nb.log(loss=1.0)"))
    found = nb.diff("one", "two")
    assert changes(found) == [
        ("a", "changed"), ("old", "same"), ("c", "same"), ("new", "added"), ("d", "added"),
    ]  # fmt: skip
    assert found.changed_cells[0].lines[1:] == [" x = 1", "-y = 2", "+y = 3"]
    assert dict(changes(nb.diff("two", "one")))["new"] == "removed"


def test_notebooks_without_common_ids_are_matched_by_text(workspace: Any, tmp_path: Any) -> None:
    import nbformat

    def step(*sources: str, name: str) -> Run:
        cells = [nbformat.v4.new_code_cell(s, id=f"{name}-{i}") for i, s in enumerate(sources)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")
        return nb.run_notebook(tmp_path / f"{name}.ipynb", progress=False)

    one = step("import math", "x = math.pi * 2", "print('gone for good')", "y = x", name="one")
    two = step("import math", "x = math.pi * 3", "y = x", name="two")
    found = nb.diff(one, two)
    assert changes(found) == [("two-0", "same"), ("two-1", "changed"), ("one-2", "removed"), ("two-2", "same")]
    assert not found.is_same


def test_values_side_by_side(execute: Execute) -> None:
    data = nb.snapshot(pd.DataFrame({"x": [1, 2]}), "train")
    more = nb.snapshot(pd.DataFrame({"x": [1, 2, 3]}), "train")
    with nb.run("one", params={"lr": 0.1, "net": {"width": 8, "depth": 2}}, data=data):
        nb.log(loss=1.0, same=2.0, nan=math.nan)
    with nb.run("two", params={"lr": 0.1, "net": {"width": 16, "depth": 2}, "seed": 1}, data=more):
        nb.log(loss=0.5, same=2.0, nan=math.nan, more=1.0)
    found = nb.diff("one", "two")
    assert differing(found.params) == {"net.width": (8, 16), "seed": (None, 1)}
    assert differing(found.metrics) == {"loss": (1.0, 0.5), "more": (None, 1.0)}
    assert differing(found.data) == {"train": (f"version 1 ({data.digest[:12]})", f"version 2 ({more.digest[:12]})")}
    assert [side.name for side in found.params if side.is_same] == ["lr", "net.depth"]
    assert differing(found.environment) == {}


def test_environment(workspace: Any) -> None:
    for name in ("one", "two"):
        with nb.run(name):
            pass
    assert nb.diff("one", "two").is_same
    two = nb.find("runs", "name == 'two'")[0]
    context = {**two.context, "python": "3.0.1", "libraries": {"numpy": "0.9"}}
    context.pop("packages", None)
    workspace.store.put(replace(two, context=context))
    found = differing(nb.diff("one", "two").environment)
    assert found["python"][1] == "3.0.1"
    assert found["numpy (package)"][1] == "0.9"


def test_an_unknown_run_is_refused(workspace: Any) -> None:
    with nb.run("one"):
        pass
    with pytest.raises(NotFound):
        nb.diff("one", "three")


def test_it_shows_what_differs_and_counts_the_rest(execute: Execute) -> None:
    execute(("a", "x = '<b>'"), ("c", "with nb.run('one', params={'lr': 1, 'n': 3}): nb.log(loss=1.0)"))
    execute(("a", "x = '<i>'"), ("c", "with nb.run('two', params={'lr': 2, 'n': 3}): nb.log(loss=0.5)"))
    shown = mimebundle(nb.diff("one", "two"))
    assert "-x = '<b>'" in shown["text/plain"]
    assert "+x = '<i>'" in shown["text/plain"]
    assert "cell a" in shown["text/plain"]
    rows = {line.split()[0]: line.split()[1:] for line in shown["text/plain"].splitlines() if line.strip()}
    assert rows["lr"] == ["1", "2"]
    assert rows["loss"] == ["1", "0.5"]
    assert "n" not in rows
    assert "<b>" not in shown["text/html"].replace("<b>1", "")
    same = mimebundle(nb.diff("one", "one"))["text/plain"]
    assert "nothing differs" in same
