from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nbops.core.errors import InvalidInput, NotFound, ParameterError
from nbops.core.query import parse
from nbops.core.records import Run, RunStatus

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:papermill", "ignore::DeprecationWarning:dateutil")


def papermill(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", *arguments, "--engine", "nbops", "--no-progress-bar"]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL, check=False)


def execute(path: Path, output: Path | None, **options: Any) -> Any:
    from papermill import execute_notebook

    return execute_notebook(path, output, engine_name="nbops", progress_bar=False, **options)


def test_command_line_runs_a_notebook_as_a_step(
    workspace: Any, write_notebook: Any, cells_of: Any, printed: Any, tmp_path: Path
) -> None:
    path = write_notebook("print('epochs', epochs)", parameters="epochs = 1\nlr: float = 0.1")
    before = path.read_bytes()
    done = papermill(str(path), "out.ipynb", "-p", "epochs", "3", "-p", "lr", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "without encryption" not in done.stderr
    assert "Warning" not in done.stderr
    assert printed(tmp_path / "out.ipynb") == "epochs 3\n"
    assert path.read_bytes() == before
    (run,) = workspace.store.find(Run)
    assert (run.type, run.name, run.status) == ("step", "step", RunStatus.FINISHED)
    assert run.params == {"epochs": 3, "lr": 1.0}
    assert {cell.status for cell in cells_of(run).values()} == {"ok"}
    assert json.loads((tmp_path / "out.ipynb").read_text())["metadata"]["nbops"] == {"run": run.id}


def test_command_line_writes_to_stdout_where_no_path_is_given(
    workspace: Any, write_notebook: Any, tmp_path: Path
) -> None:
    done = papermill(str(write_notebook("print('hello')")), "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cells"][0]["outputs"][0]["text"] == ["hello\n"]
    assert workspace.store.count(Run) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-p", "epochs", "three"), "parameter 'epochs' of step.ipynb takes int"),
        (("-p", "epoch", "3"), "Did you mean 'epochs'"),
        (("-p", "name", "3"), "with -r instead of -p"),
    ],
)
def test_wrong_parameter_is_refused_before_a_kernel_starts(
    workspace: Any, write_notebook: Any, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    path = write_notebook("open('started', 'w').close()", parameters="epochs = 3\nname = 'x'")
    done = papermill(str(path), "out.ipynb", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "out.ipynb").exists()
    assert workspace.store.count(Run) == 0


def test_text_and_typed_parameters_pass(workspace: Any, write_notebook: Any, printed: Any, tmp_path: Path) -> None:
    path = write_notebook("print(name, sizes)", parameters="name = 'x'\nsizes: list[int] = []")
    done = papermill(str(path), "out.ipynb", "-r", "name", "007", "-y", "sizes: [1, 2]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert printed(tmp_path / "out.ipynb") == "007 [1, 2]\n"


def test_failing_cell_stops_papermill_and_fails_the_run(
    workspace: Any, write_notebook: Any, cells_of: Any, tmp_path: Path
) -> None:
    path = write_notebook("1", "raise ValueError('boom')", "open('never', 'w').close()")
    done = papermill(str(path), "out.ipynb", cwd=tmp_path)
    assert done.returncode == 1
    assert "ValueError: boom" in done.stderr
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FAILED
    assert (run.error.type, run.error.cell_id) == ("ValueError", "c2")
    assert {id: cell.status for id, cell in cells_of(run).items()} == {"c1": "ok", "c2": "error", "c3": "pending"}
    cells = [c for c in json.loads((tmp_path / "out.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
    assert [c["metadata"]["papermill"]["status"] for c in cells] == ["completed", "failed", "pending"]
    assert not (tmp_path / "never").exists()


def test_killed_kernel_ends_papermill_with_its_own_exit_code(
    workspace: Any, write_notebook: Any, tmp_path: Path
) -> None:
    path = write_notebook("1", "import os; os.kill(os.getpid(), 9)", "1", "1")
    done = papermill(str(path), "out.ipynb", cwd=tmp_path)
    assert done.returncode == 138  # papermill's code for a dead kernel
    assert "cell 2 (id c2): the kernel died: killed by SIGKILL" in done.stderr
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert [c["metadata"]["papermill"]["status"] for c in cells] == ["completed", "failed", "pending", "pending"]
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FAILED


def test_cell_timeout_is_papermills_error(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    from nbclient.exceptions import CellTimeoutError

    path = write_notebook("1", "import time; time.sleep(600)")
    with pytest.raises(CellTimeoutError, match="cell 2 \\(id c2\\): it was still running after 1 s"):
        execute(path, tmp_path / "out.ipynb", execution_timeout=1)
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FAILED


def test_exit_zero_is_success_for_papermill_too(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    notebook = execute(write_notebook("import sys; sys.exit(0)", "1 / 0"), tmp_path / "out.ipynb")
    assert [c.metadata.papermill.status for c in notebook.cells] == ["completed", "pending"]
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FINISHED


def test_output_is_optional_and_cwd_is_the_kernels(
    workspace: Any, write_notebook: Any, tmp_path: Path, kernels: Any
) -> None:
    (tmp_path / "work").mkdir()
    notebook = execute(write_notebook("import os; print(os.getcwd())"), None, cwd=tmp_path / "work")
    assert notebook.cells[0].outputs[0].text == f"{tmp_path / 'work'}\n"
    assert kernels() == []


def test_relative_output_means_the_folder_that_papermill_began_in(
    workspace: Any, write_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_notebook("1")
    for name in ("one", "two"):  # the same words mean another file in the second round
        (tmp_path / name / "work").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        execute(path, Path("out.ipynb"), cwd=tmp_path / name / "work")
        assert (tmp_path / name / "out.ipynb").exists()
        assert not (tmp_path / name / "work" / "out.ipynb").exists()


def test_last_write_of_papermill_is_in_one_piece(
    workspace: Any, write_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbops.pipelines import notebooks

    written: list[Path] = []
    write = notebooks.write_atomic
    monkeypatch.setattr(notebooks, "write_atomic", lambda path, data: (written.append(path), write(path, data)))
    inodes: list[int] = []
    out = tmp_path / "out.ipynb"
    for _ in range(2):
        execute(write_notebook("1"), out)
        inodes.append(out.stat().st_ino)
    assert written == [out] * 4  # the engine's and papermill's, each time
    assert papermill_reads(out)


def papermill_reads(path: Path) -> bool:
    from papermill.iorw import load_notebook_node, papermill_io

    assert papermill_io.listdir(str(path.parent))
    assert papermill_io.pretty_path(str(path)) == str(path)
    return len(load_notebook_node(str(path)).cells) == 1


def test_source_cannot_be_the_output(workspace: Any, write_notebook: Any) -> None:
    path = write_notebook("1")
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="would replace its source"):
        execute(path, path)
    assert path.read_bytes() == before


def test_unknown_kernel_is_told(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no kernel 'absent'"):
        execute(write_notebook("1"), tmp_path / "out.ipynb", kernel_name="absent")


def test_printed_text_goes_to_files_and_log(
    workspace: Any, write_notebook: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_notebook("import sys\nprint('to out')\nprint('to err', file=sys.stderr)\n'shown'")
    with (tmp_path / "out.txt").open("w") as out, (tmp_path / "err.txt").open("w") as err, caplog.at_level("INFO"):
        execute(path, None, stdout_file=out, stderr_file=err, log_output=True)
    assert (tmp_path / "out.txt").read_text() == "to out\n"
    assert (tmp_path / "err.txt").read_text() == "to err\n"
    assert {"to out", "to err", "'shown'"} <= {record.getMessage() for record in caplog.records}


def test_notebook_object_runs_too(workspace: Any, write_notebook: Any) -> None:
    import nbformat

    notebook: Any = nbformat.read(write_notebook("print(1)"), as_version=4)
    from papermill import execute_notebook

    execute_notebook(notebook, None, engine_name="nbops", progress_bar=False)
    (run,) = workspace.store.find(Run, parse("status == 'FINISHED'"))
    assert run.name == "notebook"


def test_paths_of_papermill_may_be_injected(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    done = papermill(str(write_notebook("1")), "out.ipynb", "--inject-paths", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_parameter_that_another_is_computed_from_is_told(
    workspace: Any, write_notebook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_notebook("1", parameters="epochs = 3\ntotal = epochs * 2")
    execute(path, None, parameters={"epochs": 4})
    assert any("total = epochs" in record.getMessage() for record in caplog.records)
    with pytest.raises(ParameterError, match="is computed there"):
        execute(path, None, parameters={"total": 4})


def test_engine_has_every_method_that_papermill_calls() -> None:
    from papermill.engines import Engine, papermill_engines

    from nbops.pipelines.engine import NbopsEngine

    engine = papermill_engines.get_engine("nbops")
    assert engine is NbopsEngine
    for name in ("execute_notebook", "nb_kernel_name", "nb_language"):
        theirs = inspect.signature(getattr(Engine, name)).parameters
        ours = inspect.signature(getattr(engine, name)).parameters
        assert list(theirs)[:2] == list(ours)[:2]
        assert {p for p in theirs if p != "kwargs"} <= set(ours)


@pytest.mark.parametrize("first", ["nbops.pipelines.engine", "papermill"])
def test_either_may_be_imported_first(first: str) -> None:
    code = (
        f"import {first}; from papermill.engines import papermill_engines; print(papermill_engines.get_engine('nbops'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "NbopsEngine" in done.stdout, done.stderr
