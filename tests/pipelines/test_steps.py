from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbops.core.errors import InvalidInput, NotebookFailed, NotFound, ParameterError
from nbops.core.protocols import StepContext
from nbops.core.query import parse
from nbops.core.records import Artifact, Cell, Link, Run, RunStatus
from nbops.pipelines.steps import output, run_notebook

Cells = Callable[[Any], dict[str, Any]]


def step(path: Path, **options: Any) -> Run:
    return run_notebook(path, progress=False, **options)


def states(path: Path) -> list[str]:
    return [cell["metadata"]["papermill"]["status"] for cell in json.loads(path.read_text("utf-8"))["cells"]]


def artifacts(workspace: Any, run: Run) -> dict[str, Artifact]:
    return {a.name: a for a in workspace.store.find(Artifact, parse(f"parent == '{run.id}'"))}


def test_run_of_a_notebook_holds_parameters_cells_and_executed_notebook(
    workspace: Any, write_notebook: Any, cells_of: Cells, printed: Any, tmp_path: Path
) -> None:
    path = write_notebook("# markdown", "print('epochs', epochs)", "", parameters="epochs: int = 3\nlr = 0.1")
    before = path.read_bytes()
    run = step(path, parameters={"epochs": "5"}, output=tmp_path / "out.ipynb")

    assert run.status is RunStatus.FINISHED
    assert (run.type, run.name, run.params) == ("step", "step", {"epochs": 5, "lr": 0.1})
    assert run.error is None
    assert run.ended_at is not None
    assert run.owner == workspace.owner
    assert run.context["source"] == str(path)
    assert run.context["notebook_digest"] == hashlib.sha256(before).hexdigest()
    assert path.read_bytes() == before
    assert printed(tmp_path / "out.ipynb") == "epochs 5\n"
    assert states(tmp_path / "out.ipynb") == ["completed"] * 5

    cells = cells_of(run)
    assert set(cells) == {"p", "injected-parameters", "c2"}  # empty and markdown cells execute nothing
    assert {cell.status for cell in cells.values()} == {"ok"}
    assert cells["c2"].source == "print('epochs', epochs)"
    assert cells["c2"].source_digest == hashlib.sha256(b"print('epochs', epochs)").hexdigest()
    assert cells["c2"].execution_count == 3
    assert 0 < cells["c2"].duration_s < 60

    kept = artifacts(workspace, run)["executed/step.ipynb"]
    assert kept.media_type == "application/x-ipynb+json"
    assert workspace.artifacts.open(kept.digest).read() == (tmp_path / "out.ipynb").read_bytes()
    assert Link(source=run.id, relation="produced", target=kept.id) in workspace.store.links(run.id)


def test_executed_notebook_is_valid_and_keeps_ids(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    import nbformat

    step(write_notebook("1 + 1", parameters="x = 1"), parameters={"x": 2}, output=tmp_path / "out.ipynb")
    notebook: Any = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == ["p", "injected-parameters", "c1"]
    assert notebook.cells[2].outputs[0].data["text/plain"] == "2"
    assert notebook.metadata.papermill.parameters == {"x": 2}
    assert notebook.metadata.language_info.name == "python"


def test_executed_notebook_runs_again_with_other_parameters(
    workspace: Any, write_notebook: Any, printed: Any, tmp_path: Path
) -> None:
    step(write_notebook("print(x)", parameters="x = 1"), parameters={"x": 2}, output=tmp_path / "one.ipynb")
    step(tmp_path / "one.ipynb", parameters={"x": 3}, output=tmp_path / "two.ipynb")
    assert printed(tmp_path / "two.ipynb") == "3\n"
    assert len(json.loads((tmp_path / "two.ipynb").read_text())["cells"]) == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"epochs": "three"}, "takes int"), ({"epoch": 3}, "Did you mean 'epochs'"), ({"total": 1}, "is computed there")],
)
def test_wrong_parameter_is_refused_before_a_kernel_starts(
    workspace: Any, write_notebook: Any, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], message: str
) -> None:
    marker = Path("started")
    path = write_notebook(f"open({str(marker.resolve())!r}, 'w').close()", parameters="epochs = 3\ntotal = epochs * 2")
    started: list[Any] = []
    popen = subprocess.Popen.__init__

    def watched(self: Any, *args: Any, **options: Any) -> None:
        started.append(args)
        popen(self, *args, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", watched)
    with pytest.raises(ParameterError, match=message):
        step(path, parameters=parameters, output="out.ipynb")
    assert started == []
    assert not marker.exists()
    assert not Path("out.ipynb").exists()
    assert workspace.store.count(Run) == 0
    step(path)  # the green twin: the watch does see a kernel start
    assert len(started) == 1
    assert marker.exists()


def test_parameter_that_another_is_computed_from_warns(workspace: Any, write_notebook: Any) -> None:
    path = write_notebook("pass", parameters="epochs = 3\ntotal = epochs * 2")
    with pytest.warns(UserWarning, match="total = epochs"):
        run = step(path, parameters={"epochs": 4})
    assert len(run.context["notes"]) == 1


def test_special_values_reach_the_kernel_and_the_file_stays_json(
    workspace: Any, write_notebook: Any, printed: Any, tmp_path: Path
) -> None:
    path = write_notebook("print(a, b, c, d)", parameters="a = 1.0\nb = ''\nc = ()\nd = {}")
    given = {"a": float("nan"), "b": "π '\"\n", "c": (1,), "d": {1: None}}
    step(path, parameters=given, output="out.ipynb")
    assert printed(Path("out.ipynb")) == "nan π '\"\n (1,) {1: None}\n"
    assert "NaN" not in Path("out.ipynb").read_text("utf-8")


def test_failing_cell_fails_the_run_and_stops_there(
    workspace: Any, write_notebook: Any, cells_of: Cells, printed: Any, kernels: Any
) -> None:
    path = write_notebook("print('one')", "x = 1\nraise ValueError('boom')", "# markdown", "print('never')")
    before = path.read_bytes()
    with pytest.raises(NotebookFailed) as caught:
        step(path, output="out.ipynb")
    assert caught.value.message == "cell 2 (id c2) of step.ipynb failed: ValueError: boom"
    assert caught.value.hint.startswith("Open the executed notebook")

    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FAILED
    assert (run.error.type, run.error.message, run.error.cell_id, run.error.line) == ("ValueError", "boom", "c2", 2)
    assert "raise ValueError('boom')" in run.error.traceback
    assert "\x1b" not in run.error.traceback
    assert {id: cell.status for id, cell in cells_of(run).items()} == {"c1": "ok", "c2": "error", "c4": "pending"}
    assert cells_of(run)["c2"].error == run.error
    assert states(Path("out.ipynb")) == ["completed", "failed", "pending", "pending"]
    assert printed(Path("out.ipynb")) == "one\n"
    assert "executed/step.ipynb" in artifacts(workspace, run)
    assert path.read_bytes() == before
    assert kernels() == []


def test_failed_run_is_returned_where_no_error_is_wanted(workspace: Any, write_notebook: Any) -> None:
    run = step(write_notebook("1 / 0"), raise_on_error=False)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "ZeroDivisionError"


def test_message_without_text_and_syntax_error_are_named(workspace: Any, write_notebook: Any) -> None:
    with pytest.raises(NotebookFailed, match="failed: RuntimeError\n"):
        step(write_notebook("raise RuntimeError"))
    run = step(write_notebook("x = 1\ny = = 2"), raise_on_error=False)
    assert run.error is not None
    assert (run.error.type, run.error.line) == ("SyntaxError", 2)


def test_cell_that_may_raise_does_not_stop_the_notebook(
    workspace: Any, tmp_path: Path, write_notebook: Any, cells_of: Cells
) -> None:
    path = write_notebook("1 / 0", "print('on')")
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["metadata"]["tags"] = ["raises-exception"]
    path.write_text(json.dumps(notebook))
    run = step(path)
    assert run.status is RunStatus.FINISHED
    cells = cells_of(run)
    assert [cells["c1"].status, cells["c2"].status] == ["ok", "ok"]
    assert cells["c1"].error.type == "ZeroDivisionError"


def test_skipped_cell_stays_pending(workspace: Any, write_notebook: Any, cells_of: Cells) -> None:
    path = write_notebook("1 / 0", "print('on')")
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["metadata"]["tags"] = ["skip-execution"]
    path.write_text(json.dumps(notebook))
    run = step(path)
    assert run.status is RunStatus.FINISHED
    assert cells_of(run)["c1"].status == "pending"


def test_killed_kernel_is_the_failure_of_its_cell(
    workspace: Any, write_notebook: Any, cells_of: Cells, printed: Any, kernels: Any
) -> None:
    path = write_notebook(
        "x = 1",
        "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)",
        "print('never')",
        "print('never')",
    )
    with pytest.raises(NotebookFailed, match="cell 2 \\(id c2\\) of step.ipynb failed: KernelDied: .*SIGKILL"):
        step(path, output="out.ipynb")
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.FAILED
    assert run.error.cell_id == "c2"
    assert [cells_of(run)[f"c{n}"].status for n in (1, 2, 3, 4)] == ["ok", "error", "pending", "pending"]
    assert states(Path("out.ipynb")) == ["completed", "failed", "pending", "pending"]
    assert kernels() == []


def test_kernel_that_exits_by_itself_is_a_failure(workspace: Any, write_notebook: Any, cells_of: Cells) -> None:
    run = step(write_notebook("import os; os._exit(3)", "1"), raise_on_error=False)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert "exit code 3" in run.error.message
    assert cells_of(run)["c2"].status == "pending"


@pytest.mark.parametrize("leaving", ["import sys; sys.exit(0)", "import sys; sys.exit()", "exit()"])
def test_exit_without_an_error_ends_the_notebook_early(
    workspace: Any, write_notebook: Any, cells_of: Cells, leaving: str
) -> None:
    run = step(write_notebook("1", leaving, "1 / 0"), output="out.ipynb")
    assert run.status is RunStatus.FINISHED
    assert run.tags["ended_early"] == "c2"
    assert [cells_of(run)[f"c{n}"].status for n in (1, 2, 3)] == ["ok", "ok", "pending"]
    assert states(Path("out.ipynb")) == ["completed", "completed", "pending"]


def test_exit_with_a_code_is_a_failure(workspace: Any, write_notebook: Any, cells_of: Cells) -> None:
    run = step(write_notebook("import sys; sys.exit(3)", "1"), raise_on_error=False)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("SystemExit", "3")
    assert cells_of(run)["c2"].status == "pending"


@pytest.mark.parametrize(
    "busy",
    [
        "import time; time.sleep(600)",
        "import time\nwhile True:\n    try:\n        time.sleep(600)\n    except KeyboardInterrupt:\n        pass",
    ],
    ids=["sleeps", "ignores the interrupt"],
)
def test_time_over_interrupts_the_cell(
    workspace: Any, write_notebook: Any, cells_of: Cells, kernels: Any, busy: str
) -> None:
    run = step(write_notebook("1", busy, "1"), timeout_s=1.5, output="out.ipynb", raise_on_error=False)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "TimeoutError"
    assert "1.5 s" in run.error.message
    assert run.error.cell_id == "c2"
    assert [cells_of(run)[f"c{n}"].status for n in (1, 2, 3)] == ["ok", "error", "pending"]
    assert states(Path("out.ipynb")) == ["completed", "failed", "pending"]
    assert kernels() == []


@pytest.mark.slow
def test_run_inside_a_notebook_ends_with_it_when_time_is_over(workspace: Any, write_notebook: Any) -> None:
    code = "import nbops as nb\nnb.start('fit')\nnb.log(loss=1.0)"
    step(write_notebook(code, "import time; time.sleep(600)"), timeout_s=15, raise_on_error=False)
    (fit,) = workspace.store.find(Run, parse("name == 'fit'"))
    assert fit.status is not RunStatus.RUNNING
    assert fit.metrics == {"loss": 1.0}


def test_time_that_suffices_changes_nothing(workspace: Any, write_notebook: Any) -> None:
    assert step(write_notebook("1"), timeout_s=120).status is RunStatus.FINISHED


def test_kernel_that_cannot_start_fails_the_run(
    workspace: Any, write_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, argv in {"broken": [sys.executable, "-c", "raise SystemExit(7)"], "absent": ["/nowhere/python"]}.items():
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": [*argv, "{connection_file}"], "display_name": name, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    run = step(write_notebook("1"), kernel_name="broken", raise_on_error=False)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.type == "KernelDied"
    assert "exit code 7" in run.error.message
    with pytest.raises(NotebookFailed, match="step.ipynb failed: KernelDied: it cannot be started"):
        step(write_notebook("1"), kernel_name="absent")


def test_unknown_kernel_is_refused_with_the_nearest(workspace: Any, write_notebook: Any) -> None:
    with pytest.raises(NotFound, match="no kernel 'pyton3' is installed\nDid you mean 'python3'"):
        step(write_notebook("1"), kernel_name="pyton3")
    assert workspace.store.count(Run) == 0


def test_source_cannot_be_the_output(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    path = write_notebook("1")
    (tmp_path / "link.ipynb").symlink_to(path)
    for target in (path, tmp_path / "link.ipynb"):
        with pytest.raises(InvalidInput, match="would replace its source"):
            step(path, output=target)
    with pytest.raises(InvalidInput, match="does not exist"):
        step(path, output=tmp_path / "no" / "out.ipynb")
    with pytest.raises(NotFound, match="no folder"):
        step(path, cwd=tmp_path / "no")
    with pytest.raises(NotFound, match="no notebook"):
        step(tmp_path / "absent.ipynb")
    broken = tmp_path / "broken.ipynb"
    broken.write_text('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}')
    with pytest.raises(InvalidInput, match="is not a notebook"):
        step(broken)


def test_second_run_appends(workspace: Any, write_notebook: Any) -> None:
    path = write_notebook("print(x)", parameters="x = 1")
    first, second = step(path), step(path, parameters={"x": 2}, name="again")
    assert first.id != second.id
    assert [run.name for run in workspace.store.find(Run)] == ["again", "step"]
    assert list((workspace.path / "steps").iterdir()) == []


def test_unicode_and_spaces_in_paths(workspace: Any, write_notebook: Any, printed: Any, tmp_path: Path) -> None:
    path = write_notebook("from pathlib import Path\nprint(Path.cwd().name, '…')", name="où est/mein Gerät 数.ipynb")
    run = step(path, output=tmp_path / "où est" / "aus gabe ü.ipynb")
    assert run.name == "mein Gerät 数"
    assert printed(tmp_path / "où est" / "aus gabe ü.ipynb") == "où est …\n"
    assert "executed/mein Gerät 数.ipynb" in artifacts(workspace, run)


def test_older_notebook_gets_the_same_ids_each_time(workspace: Any, write_notebook: Any, cells_of: Cells) -> None:
    path = write_notebook("1", "1", minor=4)
    first, second = cells_of(step(path)), cells_of(step(path))
    assert set(first) == set(second)
    assert len(first) == 2


def test_code_in_the_kernel_knows_workspace_run_notebook_and_cell(
    workspace: Any, write_notebook: Any, printed: Any
) -> None:
    code = (
        "import os, json\n"
        "names = ('NBOPS_WORKSPACE', 'NBOPS_PARENT_RUN', 'JPY_SESSION_NAME')\n"
        "ids = []\n"
        "get_ipython().events.register('pre_run_cell', lambda info: ids.append(info.cell_id))\n"
    )
    path = write_notebook(code, "print(json.dumps([os.environ[n] for n in names] + ids))")
    run = step(path, output="out.ipynb")
    assert json.loads(printed(Path("out.ipynb"))) == [str(workspace.path), run.id, str(path), "c2"]


def test_run_inside_the_notebook_is_a_child_of_the_step(workspace: Any, write_notebook: Any) -> None:
    code = "import nbops as nb\nwith nb.run('fit') as run:\n    nb.log(loss=0.5)\n"
    run = step(write_notebook(code))
    (fit,) = workspace.store.find(Run, parse("name == 'fit'"))
    assert fit.parent == run.id
    assert fit.metrics == {"loss": 0.5}
    assert Link(source=run.id, relation="parent_of", target=fit.id) in workspace.store.links(run.id)


def test_step_within_an_open_run_is_its_child(workspace: Any, write_notebook: Any) -> None:
    import nbops as nb

    with nb.run("outer") as outer:
        assert step(write_notebook("1")).parent == outer.id


def test_steps_in_threads_keep_their_own_folders(
    workspace: Any, write_notebook: Any, printed: Any, tmp_path: Path
) -> None:
    path = write_notebook("import os, time\nprint(os.getcwd(), n)\ntime.sleep(0.2)", parameters="n = 0")
    here = Path.cwd()
    runs: dict[int, Run] = {}

    def one(n: int) -> None:
        folder = tmp_path / f"work {n}"
        folder.mkdir()
        runs[n] = step(path, parameters={"n": n}, cwd=folder, output=tmp_path / f"out{n}.ipynb")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [runs[n].status for n in range(4)] == [RunStatus.FINISHED] * 4
    assert [printed(tmp_path / f"out{n}.ipynb") for n in range(4)] == [f"{tmp_path}/work {n} {n}\n" for n in range(4)]
    assert Path.cwd() == here


def test_reader_never_sees_half_a_file(
    workspace: Any, write_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbops.pipelines import local
    from nbops.pipelines.notebooks import NotebookWriter

    class Eager(NotebookWriter):  # writes at every message instead of every few seconds
        def maybe(self, notebook: Any) -> None:
            self.write(notebook)

    monkeypatch.setattr(local, "NotebookWriter", Eager)
    out = tmp_path / "out.ipynb"
    reads, stop = [0], threading.Event()
    broken: list[str] = []

    def read() -> None:
        while not stop.is_set():
            if out.exists():
                try:
                    json.loads(out.read_bytes())
                    reads[0] += 1
                except ValueError as error:
                    broken.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        step(write_notebook(*["print('x' * 20_000)"] * 10), output=out)
    finally:
        stop.set()
        reader.join()
    assert broken == []
    assert reads[0] > 10
    assert [p.name for p in tmp_path.glob("*.tmp")] == [p.name for p in tmp_path.glob(".*.tmp")] == []


def test_file_is_written_few_times(workspace: Any, write_notebook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbops.pipelines import notebooks

    sizes: list[int] = []
    write = notebooks.write_atomic
    monkeypatch.setattr(notebooks, "write_atomic", lambda path, data: (sizes.append(len(data)), write(path, data)))
    step(write_notebook(*["print('x' * 20_000)"] * 30), output="out.ipynb")
    assert sum(sizes) <= 2.5 * Path("out.ipynb").stat().st_size


def test_cells_can_be_followed_while_they_run(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    path = write_notebook("1", wait, "1")
    thread = threading.Thread(target=step, args=(path,))
    thread.start()
    seen: list[str] = []
    try:
        for _ in range(600):
            seen = [c.status for c in sorted(workspace.store.find(Cell), key=lambda c: c.cell_id)]
            if seen == ["ok", "running", "pending"]:
                break
            time.sleep(0.05)
    finally:
        go.touch()
        thread.join()
    assert seen == ["ok", "running", "pending"]
    (run,) = workspace.store.find(Run)
    told = [e.kind for e in workspace.store.events() if e.subject == run.id]
    assert told[0] == "run.created"
    assert told[-1] == "run.finished"


def test_flood_of_output_is_complete(workspace: Any, write_notebook: Any, printed: Any) -> None:
    step(write_notebook("for n in range(20_000): print(n)"), output="out.ipynb")
    assert printed(Path("out.ipynb")).split() == [str(n) for n in range(20_000)]


def test_works_inside_a_running_event_loop(workspace: Any, write_notebook: Any) -> None:
    import asyncio

    path = write_notebook("1")

    async def in_a_cell() -> Run:
        return step(path)

    assert asyncio.run(in_a_cell()).status is RunStatus.FINISHED


def test_progress_is_shown(workspace: Any, write_notebook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_notebook(write_notebook("1", "1"))
    shown = capsys.readouterr().err
    assert "step: 100%" in shown
    assert "2/2" in shown


def test_workspace_above_the_notebook_is_used_where_none_is_nearer(
    write_notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbops.store.workspace import workspace as current

    monkeypatch.delenv("NBOPS_WORKSPACE", raising=False)
    (tmp_path / "project" / ".nbops").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    path = write_notebook("1", name="project/notebooks/a.ipynb")
    monkeypatch.chdir(tmp_path / "elsewhere")
    step(path)
    assert current().path == tmp_path / "project" / ".nbops"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_interrupts_the_run_and_leaves_no_kernel(
    workspace: Any, write_notebook: Any, cells_of: Cells, tmp_path: Path, number: signal.Signals
) -> None:
    import psutil

    ready = tmp_path / "ready"
    path = write_notebook(f"import os, time\nopen({str(ready)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)", "1")
    code = (
        "import signal, sys; from nbops.pipelines.steps import run_notebook\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run_notebook({str(path)!r}, output='out.ipynb', progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (ready.exists() and ready.read_text()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        kernel = int(ready.read_text())
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == (143 if number is signal.SIGTERM else -signal.SIGINT)
    assert not psutil.pid_exists(kernel)
    (run,) = workspace.store.find(Run)
    assert run.status is RunStatus.INTERRUPTED
    assert run.error.cell_id == "c1"
    assert [cells_of(run)[id].status for id in ("c1", "c2")] == ["error", "pending"]
    assert states(Path("out.ipynb")) == ["failed", "pending"]


def test_local_engine_keeps_the_contract(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    from nbops.pipelines.local import LocalEngine
    from nbops.tracking.runs import run as open_run

    good, bad = write_notebook("print(1)", name="good.ipynb"), write_notebook("1 / 0", name="bad.ipynb")
    for path, status in ((good, RunStatus.FINISHED), (bad, RunStatus.FAILED)):
        with open_run("step") as live:
            context = StepContext(path, {}, live.id, tmp_path, tmp_path / "out.ipynb")
            outcome = LocalEngine().execute(context)
        assert outcome.status == status
        assert outcome.output.exists()
        assert (outcome.error is None) == (status is RunStatus.FINISHED)


def test_outputs_of_a_step_belong_to_its_run(workspace: Any, write_notebook: Any, tmp_path: Path) -> None:
    code = (
        "import nbops as nb, numpy as np\nfrom pathlib import Path\n"
        "nb.output('accuracy', 0.5)\nnb.output('accuracy', np.float64(0.97))\n"
        "nb.output('table', {'a': [1, (2, None)]})\nnb.output('long', 'x' * 10_000)\n"
        "Path('model.txt').write_text('weights')\nnb.output('model', Path('model.txt'))\nnb.output('raw', b'123')\n"
        "with nb.run('inner'):\n    nb.output('inside', 1)\n"
    )
    run = step(write_notebook(code))
    outputs = run.context["outputs"]
    assert outputs["accuracy"] == 0.97
    assert outputs["table"] == {"a": [1, [2, None]]}
    assert outputs["inside"] == 1
    assert outputs["long"].startswith("art_")
    kept = artifacts(workspace, run)
    assert workspace.artifacts.open(kept["output/model.txt"].digest).read() == b"weights"
    assert workspace.artifacts.open(kept["output/raw.bin"].digest).read() == b"123"
    assert json.loads(workspace.artifacts.open(kept["output/table.json"].digest).read()) == {"a": [1, [2, None]]}
    assert kept["output/long.json"].size_bytes > 10_000


def test_output_outside_a_step_goes_to_the_current_run_or_none(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbops as nb

    assert output("alone", 1).parent is None
    with nb.run("here") as run:
        assert output("mine", [1]).parent == run.id
    assert workspace.store.get(Run, run.id).context["outputs"] == {"mine": [1]}
    monkeypatch.setenv("NBOPS_PARENT_RUN", "run_of_another_workspace")
    assert output("other", 1).parent is None


def test_record_can_be_an_output(workspace: Any) -> None:
    import nbops as nb

    with nb.run("here") as run:
        output("run", run.record)
    assert "art_" in workspace.store.get(Run, run.id).context["outputs"]["run"]


@pytest.mark.parametrize("name", ["", "a/b", "../up", " x", "x" * 101])
def test_output_name_is_checked(workspace: Any, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be named"):
        output(name, 1)


def test_output_value_is_checked(workspace: Any) -> None:
    with pytest.raises(InvalidInput, match="holds a object, which is no plain value"):
        output("x", {"deep": [object()]})
    with pytest.raises(NotFound, match="no file 'absent.csv'"):
        output("x", Path("absent.csv"))


def test_importing_steps_loads_no_notebook_library() -> None:
    heavy = "('nbformat', 'nbclient', 'papermill', 'jupyter_client')"
    code = f"import sys, nbops.pipelines.steps; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "[]"
