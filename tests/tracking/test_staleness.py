"""When a dataset moves on, exactly the cells that were made from its older version are stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nbops as nb
from nbops.core.uses import DataUse
from nbops.store.using import Used, note_used, origin_of
from nbops.store.workspace import Workspace
from nbops.tracking.code.names import steps_of
from nbops.tracking.staleness import stale_cells

OLD = "{'price': np.arange(50.0), 'city': ['Bonn', 'Rome'] * 25}"
NEW = "{'price': np.arange(60.0), 'city': ['Bonn', 'Rome'] * 30}"
NOTEBOOK = {
    "imports": "import numpy as np\nimport pandas as pd\nimport nbops as nb\nlimit = 20.0",
    "load": f"sales = pd.DataFrame({OLD})",
    "keep": "kept = nb.snapshot(sales, 'sales')",
    "card": "nb.profile('sales')",
    "part": "cheap = sales[sales.price < limit]",
    "chart": "bars = cheap.groupby('city').price.sum()\nbars",
    "by-function": "def total():\n    return cheap.price.sum()",
    "calls": "total()",
    "named": "kept",
    "check": "nb.check(sales)",
    "drift": "nb.drift('sales', sales)",
    "pinned": "nb.profile('sales/1')",
    "other": "pd.DataFrame({'a': [1, 2]}).sum()",
    "number": "limit + 1",
    "other-data": "weather = pd.DataFrame({'rain': np.arange(10.0)})\nnb.snapshot(weather, 'weather')\nweather.sum()",
}
DEPENDENT = ["keep", "card", "part", "chart", "by-function", "calls", "named", "check", "drift"]


def ran(shell: Any, source: str, *, cell_id: str) -> None:
    shell.run_cell(source, store_history=True, cell_id=cell_id).raise_error()


@pytest.fixture
def notebook(workspace: Workspace, shell: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shell in which the notebook was run."""
    monkeypatch.setenv("JPY_SESSION_NAME", "eda.ipynb")
    for cell_id, source in NOTEBOOK.items():
        ran(shell, source, cell_id=cell_id)
    return shell


def bump() -> None:
    """Keep the next version, as a script elsewhere would."""
    import numpy as np

    nb.snapshot(eval(NEW, {"np": np}), "sales")  # noqa: S307 - our own text


def names() -> list[str]:
    return [cell.cell_id for cell in stale_cells()]


def test_a_bump_makes_exactly_the_dependent_cells_stale(notebook: Any) -> None:
    assert names() == []
    bump()
    assert names() == DEPENDENT
    cells = {cell.cell_id: cell for cell in stale_cells()}
    assert cells["chart"].why == "made from sales v1; v2 is newest"
    assert cells["chart"].head.startswith("bars =")
    assert cells["card"].execution_count == 4
    assert len(stale_cells("")) == len(DEPENDENT)


def test_the_cell_that_makes_the_next_version_of_the_older_one_is_not_stale(notebook: Any) -> None:
    ran(notebook, "mended = nb.snapshot(sales[sales.price > 3], 'sales')\nmended", cell_id="mend")
    assert names() == DEPENDENT
    bump()
    assert names() == [*DEPENDENT, "mend"]


def test_a_copy_or_a_renamed_notebook_shows_the_same_outputs(notebook: Any, tmp_path: Path) -> None:
    bump()
    assert [*stale_cells("other.ipynb")] == []  # it has no such cells
    cells = [{"id": "card", "cell_type": "code"}, {"id": "mine"}, {"cell_type": "markdown"}]
    (tmp_path / "copy.ipynb").write_text(json.dumps({"cells": cells}))
    (cell,) = stale_cells("copy.ipynb")
    assert (cell.cell_id, cell.notebook) == ("card", "eda.ipynb")
    (tmp_path / "copy.ipynb").write_text("no notebook")
    assert [*stale_cells("copy.ipynb")] == []


def test_a_rerun_takes_the_badge_away_and_first_runs_what_reads_the_data(notebook: Any) -> None:
    bump()
    chart = next(cell for cell in stale_cells() if cell.cell_id == "chart")
    assert set(chart.after) == {"load", "keep", "part"}
    ran(notebook, NOTEBOOK["card"], cell_id="card")  # by name: it has the newest version at once
    assert "card" not in names()
    ran(notebook, NOTEBOOK["chart"], cell_id="chart")  # alone it takes the old rows again
    assert "chart" in names()
    ran(notebook, f"sales = pd.DataFrame({NEW})", cell_id="load")
    for cell_id in ("keep", "part"):
        ran(notebook, NOTEBOOK[cell_id], cell_id=cell_id)
    chart = next(cell for cell in stale_cells() if cell.cell_id == "chart")
    assert chart.after == ()  # the notebook has the newest rows already
    ran(notebook, NOTEBOOK["chart"], cell_id="chart")
    assert names() == [cell for cell in DEPENDENT if cell not in ("keep", "card", "part", "chart")]


def test_a_cell_that_uses_the_data_no_more_is_forgotten(notebook: Any, workspace: Workspace) -> None:
    bump()
    ran(notebook, "1 + 1", cell_id="card")
    assert "card" not in names()
    record = next(one for one in workspace.store.find(DataUse) if one.cell_id == "card")
    assert record.datasets == {}


def test_a_restarted_kernel_knows_the_cells_of_the_one_before(notebook: Any, workspace: Workspace) -> None:
    from nbops.store import using
    from nbops.tracking.capture.cells import CellRecorder

    bump()
    using.forget()
    notebook._nbops_session._recorder.close()
    notebook._nbops_session._recorder = CellRecorder(notebook)
    assert names() == DEPENDENT
    ran(notebook, "1 + 1", cell_id="card")
    assert "card" not in names()


def test_a_notebook_that_a_step_executed_keeps_its_own_uses(
    notebook: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bump()
    monkeypatch.setenv("NBOPS_PARENT_RUN", "run_step")
    ran(notebook, NOTEBOOK["card"], cell_id="card")
    monkeypatch.delenv("NBOPS_PARENT_RUN")
    assert "card" in names()  # what the notebook itself shows is as old as before
    assert "card" not in [cell.cell_id for cell in stale_cells("out.ipynb", run="run_step")]


def test_of_two_versions_the_older_one_counts(workspace: Workspace, shell: Any) -> None:
    ran(shell, "import numpy as np, nbops as nb\na, b = np.arange(5.0), np.arange(6.0)", cell_id="make")
    ran(shell, "nb.snapshot(a, 'rows')\nnb.snapshot(b, 'rows')", cell_id="keep")
    ran(shell, "a.sum() + b.sum()", cell_id="both")
    ran(shell, "b.sum()", cell_id="new")
    assert names() == ["both"]  # to run "keep" again would change nothing


def test_what_a_magic_takes_counts(workspace: Workspace, shell: Any) -> None:
    ran(shell, "import numpy as np, nbops as nb\nrows = {'a': np.arange(5.0)}", cell_id="make")
    ran(shell, "%mlops snapshot rows --name rows", cell_id="keep")
    ran(shell, "%mlops profile rows", cell_id="card")
    nb.snapshot({"a": [1.0, 2.0]}, "rows")
    assert names() == ["keep", "card"]


def test_objects_are_known_as_long_as_they_live(workspace: Workspace) -> None:
    import numpy as np

    array = np.arange(3.0)
    first = nb.snapshot({"a": array, "b": [1, 2, 3]}, "rows")
    assert origin_of(array).uses == {Used("rows", 1)}
    assert origin_of({"a": array}).uses == origin_of((array, 1)).uses == origin_of(first).uses
    assert not origin_of(np.arange(3.0))
    assert not origin_of([1, 2, 3])
    note_used(nb.snapshot(np.arange(4.0), "rows"), array)
    assert origin_of(array).uses == {Used("rows", 2)}


@pytest.mark.parametrize(
    ("source", "takes", "makes", "changes"),
    [
        ("a = b + c", ["b", "c"], ["a"], []),
        ("a = a + 1", ["a"], [], ["a"]),
        ("a[0] = b", ["a", "b"], [], ["a"]),
        ("ax.plot(b)", ["ax", "b"], [], ["ax"]),
        ("import a", [], [], []),
        ("def f():\n    return b", ["b"], ["f"], []),
        ("for i in b:\n    a = i", ["b"], [], ["i", "a"]),
        ("a, c = b", ["b"], ["a", "c"], []),
        ("%mlops overview b", ["b"], [], []),
        ("not python", [], [], []),
        ("a = (", [], [], []),
    ],
)
def test_steps(source: str, takes: list[str], makes: list[str], changes: list[str], shell: Any) -> None:
    steps = steps_of(source)
    if source in ("not python", "a = ("):
        assert [step.makes for step in steps] in ([], [()])
        return
    (step,) = steps
    assert (sorted(step.takes), sorted(step.makes), sorted(step.changes)) == (
        sorted(takes),
        sorted(makes),
        sorted(changes),
    )


def test_the_verb_lists_them(notebook: Any) -> None:
    assert f"{len(DEPENDENT) + 1} cells are made from data that is newest" in str(
        notebook.run_line_magic("mlops", "stale")
    )
    bump()
    said = str(notebook.run_line_magic("mlops", "stale"))
    assert said.startswith("! 9 stale cells  eda.ipynb")
    assert "[6]" in said
    assert "made from sales v1; v2 is newest" in said
    assert "eda.ipynb" in str(notebook.run_line_magic("mlops", "stale --all")).splitlines()[2]
    assert "nothing stale" not in said


def test_a_card_that_is_shown_again_tells_it_too(workspace: Workspace) -> None:
    kept = nb.snapshot({"a": [1.0, 2.0]}, "rows")
    assert "newest" not in str(kept)
    nb.snapshot({"a": [1.0, 3.0]}, "rows")
    assert "! made from rows v1; v2 is newest" in str(kept)
    assert "v2 is newest" in kept._repr_mimebundle_()["text/html"]
