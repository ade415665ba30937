"""Verifying, running again and checking out: real kernels execute the notebooks of recorded runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbops as nb
from nbops.core.errors import Conflict, InvalidInput, NotebookFailed, NotFound, ParameterError
from nbops.core.records import Run, Summary
from nbops.pipelines.captured import checkout
from nbops.pipelines.verifying import _close, _compare

TRAIN = "with nb.run('fit', params={'lr': lr}):\n    for step in range(3):\n        nb.log(loss=lr * (3 - step) + x)"
CELLS = (("a", "lr = 0.1  # rate\nx = 1.0"), ("b", "x = x * 2"), ("c", TRAIN))
Execute = Callable[..., None]


@pytest.fixture
def execute(workspace: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Execute]:
    """Return a function that executes cells in a notebook with nbops loaded, ``work/notebook.ipynb``."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "notebook.ipynb"))
    shell = InteractiveShell(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))
    shell.run_cell("%load_ext nbops\nimport nbops as nb", store_history=True, cell_id="first")

    def run(*cells: tuple[str, str]) -> None:
        for id, source in cells:
            shell.run_cell(source, store_history=True, cell_id=id)

    yield run
    shell.run_line_magic("unload_ext", "nbops")
    shell.history_manager.end_session()


def verify(run: Any, **options: Any) -> Any:
    return nb.verify(run, progress=False, **options)


def links(workspace: Any, run: Run, relation: str) -> list[str]:
    return [link.target for link in workspace.store.links(run.id) if link.relation == relation]


# ---- verify ----------------------------------------------------------------------------------------------------------


def test_a_clean_run_comes_out_again(execute: Execute, workspace: Any, kernels: Any) -> None:
    execute(*CELLS)
    found = verify("fit")
    assert (found.verdict, found.reasons, found.differences) == (True, (), ())
    assert bool(found)
    assert [(c.run, c.metric, c.what, c.before, c.after) for c in found.compared] == [
        ("fit", "loss", "last", 2.1, 2.1), ("fit", "loss", "min", 2.1, 2.1), ("fit", "loss", "max", 2.3, 2.3),
    ]  # fmt: skip
    assert found.run.tags["verified"] == "yes"
    assert (found.again.type, found.again.name, found.again.context["source"]) == (
        "verify", "fit", found.run.context["source"],
    )  # fmt: skip
    assert found.again.context["verification"]["verdict"] is True
    assert links(workspace, found.run, "verified_by") == [found.again.id]
    assert list((workspace.path / "again").iterdir()) == []
    assert kernels() == []
    again = verify("fit")  # the second time as the first: the name is not that of the repetition
    assert again.verdict
    assert again.run.id == found.run.id
    assert again.again.id != found.again.id


def test_hidden_state_comes_out_otherwise_and_its_cause_is_named(execute: Execute) -> None:
    execute(*CELLS[:2], CELLS[1], CELLS[2])  # x is doubled twice
    found = verify("fit")
    assert not found.verdict
    assert found.reasons == (
        "'loss' (last) was 4.1 and is 2.1",
        "cell [4] ran 2 times and each time changed 'x', which it starts from",
    )
    assert [c.what for c in found.differences] == ["last", "min", "max"]
    assert found.run.tags["verified"] == "no"


def test_a_name_from_nowhere_fails_and_says_so(execute: Execute) -> None:
    execute(("a", "x = 1.0"), ("c", "with nb.run('fit'):\n    nb.log(loss=x)"), ("a", "y = 1.0"))
    assert verify("fit").verdict
    execute(("a", "x = 1.0"), ("a", "y = 1.0"), ("c", "with nb.run('fit'):\n    nb.log(loss=x)"))
    found = verify("fit")
    assert not found.verdict
    assert found.reasons[0] == "the notebook failed in cell c: NameError: name 'x' is not defined"
    assert found.reasons[1] == "'loss' was not logged again"
    assert found.reasons[2].endswith("'x', defined by cell [5], which was edited afterwards")


def test_a_number_that_is_never_the_same_passes_within_the_tolerance(execute: Execute) -> None:
    execute(("c", "import os\nwith nb.run('fit'):\n    nb.log(loss=1 + os.getpid() * 1e-9, other=2.0)"))
    assert not verify("fit", tolerance={"other": 0.05, "loss": 0.0}).verdict
    assert verify("fit", tolerance={"loss": 0.05}).verdict


def test_each_of_several_runs_of_one_name_is_compared_with_its_own(execute: Execute) -> None:
    execute(("a", "with nb.run('trial'): nb.log(loss=7.0)"))
    execute(("b", "for i in range(3):\n    with nb.run('trial'): nb.log(loss=float(i))"))
    third = nb.find("runs", order_by="created_at")[2]
    assert [c.after for c in verify(third).compared] == [1.0] * 3


def test_a_run_without_a_name_and_the_runs_inside_it(execute: Execute) -> None:
    inner = "with nb.run():\n    nb.log(a=1.0)\n    with nb.run('part'): nb.log(b=2.0)"
    execute(("a", "with nb.run(): nb.log(z=3.0)"), ("b", inner))
    outer = next(r for r in nb.find("runs") if r.cell_id == "b" and r.parent is None)
    found = verify(outer)
    assert found.verdict
    assert [c.metric for c in found.compared] == ["a"] * 3 + ["b"] * 3
    part = verify("part")
    assert part.verdict
    assert [(c.metric, c.after) for c in part.compared] == [("b", 2.0)] * 3


def test_a_run_of_magics(execute: Execute) -> None:
    execute(("a", "x = 2.0"), ("b", "%%mlops run fit --quiet\nnb.log(loss=x)"))
    assert verify("fit").verdict


def test_cells_executed_before_recording_come_from_the_file(execute: Execute, tmp_path: Path) -> None:
    first = nbformat.v4.new_code_cell("import math as m\nhalf = 0.5", id="zero", execution_count=1)
    unrelated = nbformat.v4.new_code_cell("1 / 0", id="bad", execution_count=2)
    cells = [first, unrelated, nbformat.v4.new_code_cell("with nb.run('fit'): nb.log(loss=half)", id="c")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "work" / "notebook.ipynb")
    execute(("c", "half = globals().get('half', 0.5)\nwith nb.run('fit'): nb.log(loss=half)"))
    execute(("c", "with nb.run('fit'): nb.log(loss=half)"))
    found = verify("fit")
    assert found.verdict, found.reasons


def test_a_step_is_verified_by_its_executed_notebook(workspace: Any, write_notebook: Any) -> None:
    source = "import nbops as nb\nwith nb.run('fit'): nb.log(loss=lr * 2)"
    path = write_notebook(source, parameters="lr: float = 0.1\nn = 3")
    step = nb.run_notebook(path, parameters={"lr": 0.4}, progress=False)
    path.unlink()
    for run in (step, nb.find("runs", "name == 'fit'")[0]):
        found = verify(run)
        assert found.verdict, found.reasons
        assert found.again.params == {"lr": 0.4, "n": 3}
        assert [c.after for c in found.compared] == [0.8] * 3


def test_what_cannot_be_verified(execute: Execute, workspace: Any) -> None:
    with nb.run("script"):
        nb.log(loss=1.0)
    with pytest.raises(NotFound, match="no recorded cells"):
        verify("script")
    with pytest.raises(NotFound):
        verify("nothing")
    execute(("c", f"text = '{'x' * workspace.settings.cell_source_max_bytes}'\nwith nb.run('long'): nb.log(loss=1.0)"))
    with pytest.raises(InvalidInput, match="of cell c not all source is stored"):
        verify("long")


def test_a_source_that_was_not_stored_whole_is_taken_from_the_file(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBOPS_CELL_SOURCE_MAX_BYTES", "1000")
    nb.init(tmp_path)
    source = f"text = '{'x' * 1000}'\nwith nb.run('long'): nb.log(loss=1.0)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="c", execution_count=1)])
    nbformat.write(notebook, tmp_path / "work" / "notebook.ipynb")
    execute(("c", source))
    assert verify("long").verdict


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "same"),
    [
        (1.0, 1.0, 0.0, True), (1.0, 1.1, 0.05, False), (1.0, 1.1, 0.1, True), (1000.0, 1001.0, 1e-3, True),
        (math.nan, math.nan, 0.0, True), (math.nan, 1.0, 10.0, False), (math.inf, math.inf, 0.0, True),
        (math.inf, 1.0, 10.0, False), (1e-9, 0.0, 1e-6, True),
    ],
)  # fmt: skip
def test_tolerance(a: float, b: float, tolerance: float, same: bool) -> None:
    assert _close(a, b, tolerance) is same


def test_what_is_measured_of_the_machine_is_not_compared() -> None:
    def run(**values: float) -> Run:
        one = {n.replace("__", "/"): Summary(last=v, min=v, max=v, first=v, last_step=0, count=1, nan_count=0)
               for n, v in values.items()}  # fmt: skip
        return Run(id="run_1", created_at=0.0, name="r", summary=one)

    found = _compare([(run(loss=1.0, system__cpu=3.0), run(loss=1.0, system__cpu=4.0, extra=1.0))], 0.0)
    assert {(c.metric, c.is_same) for c in found} == {("loss", True), ("extra", False)}


# ---- rerun -----------------------------------------------------------------------------------------------------------


def test_rerun_replaces_the_value_that_a_cell_assigns(execute: Execute, workspace: Any) -> None:
    execute(*CELLS)
    again = nb.rerun("fit", lr=0.5, progress=False)
    assert (again.name, again.params, again.metrics) == ("fit", {"lr": 0.5}, {"loss": 2.5})
    first = nb.find("runs", "name == 'fit'", order_by="created_at")[0]
    assert first.metrics == {"loss": 2.1}
    assert links(workspace, first, "rerun_as") == [again.id]
    both = nb.rerun(first, lr=0.0, x=3.0, progress=False)
    assert both.metrics == {"loss": 6.0}


def test_rerun_sets_the_parameters_of_a_step(workspace: Any, write_notebook: Any) -> None:
    path = write_notebook(
        "import nbops as nb\nwith nb.run('fit'): nb.log(loss=lr * n)", parameters="lr: float = 0.1\nn = 3"
    )
    step = nb.run_notebook(path, parameters={"lr": 0.5}, progress=False)
    again = nb.rerun(step, n=4, progress=False)
    assert again.params == {"lr": 0.5, "n": 4}
    assert nb.rerun("fit", lr=2, progress=False).metrics == {"loss": 8.0}  # of the newest: n is 4
    with pytest.raises(ParameterError, match="no parameter 'm'"):
        nb.rerun(step, m=4, progress=False)


@pytest.mark.parametrize(
    ("cells", "params", "message", "hint"),
    [
        (CELLS, {"lrr": 1.0}, "no cell of notebook.ipynb assigns 'lrr' a plain value", "Did you mean 'lr'?"),
        ((("d", "lr = 5"), *CELLS), {"lr": 1.0}, "notebook.ipynb assigns 'lr' in 2 places", "parameters"),
        (CELLS, {"lr": object()}, "parameter 'lr' of notebook.ipynb takes float", "Give float"),
    ],
)
def test_rerun_refuses(execute: Execute, cells: Any, params: Any, message: str, hint: str) -> None:
    execute(*cells)
    with pytest.raises(ParameterError) as caught:
        nb.rerun("fit", progress=False, **params)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(nb.find("runs")) == 1  # nothing was started


def test_rerun_of_a_failing_notebook_raises(execute: Execute) -> None:
    execute(("a", "n = 1"), ("c", "with nb.run('fit'): nb.log(loss=1 / n)"))
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        nb.rerun("fit", n=0, progress=False)


# ---- checkout --------------------------------------------------------------------------------------------------------


def test_checkout_writes_the_notebook_as_it_was(execute: Execute, tmp_path: Path) -> None:
    execute(("a", "print('hello')\nlr = 0.1\nx = 1.0"), *CELLS[1:], ("a", "lr = 9"))
    path = checkout("fit")
    notebook: Any = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.name.startswith("notebook-")
    assert [c.id for c in notebook.cells] == ["nbops-setup", "a", "b", "c"]
    assert notebook.cells[0].source == "%load_ext nbops\nimport nbops as nb"
    assert notebook.cells[1].source == "print('hello')\nlr = 0.1\nx = 1.0"
    assert notebook.cells[3].execution_count == 4
    assert notebook.metadata.nbops.run == nb.find("runs")[0].id
    before = path.read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        checkout("fit")
    assert path.read_bytes() == before
    assert checkout("fit", to=tmp_path / "as-it-was.ipynb").read_bytes() == before
    with pytest.raises(NotFound, match="no folder"):
        checkout("fit", to=tmp_path / "nowhere" / "x.ipynb")


def test_checkout_has_the_text_of_the_file_and_its_parameters_cell(execute: Execute, tmp_path: Path) -> None:
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    sources = [code(s, id=id, execution_count=1) for id, s in CELLS]
    sources[0].metadata["tags"] = ["parameters", "other"]
    cells = [md("# Title", id="t"), *sources[:2], md("Train.", id="u"), sources[2], md("End.", id="v")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "work" / "notebook.ipynb")
    execute(*CELLS)
    notebook: Any = nbformat.read(checkout("fit"), as_version=4)
    assert [c.id for c in notebook.cells] == ["nbops-setup", "t", "a", "b", "u", "c", "v"]
    assert notebook.cells[2].metadata.tags == ["parameters"]
    assert nb.rerun("fit", lr=0.5, progress=False).metrics == {"loss": 2.5}


def test_checkout_of_a_step_is_its_executed_notebook(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    step = nb.run_notebook(write_notebook("print(lr)", parameters="lr = 1"), parameters={"lr": 2}, progress=False)
    found = json.loads(checkout(step, to=tmp_path).read_text())
    assert [c["id"] for c in found["cells"]] == ["p", "c1"]


def test_in_a_process_of_its_own(execute: Execute, tmp_path: Path) -> None:
    execute(*CELLS)
    code = "import nbops as nb; print(nb.verify('fit', progress=False).verdict)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
