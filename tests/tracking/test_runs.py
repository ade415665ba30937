"""Runs as a user meets them: with, start and end, logging, failing, nesting, and what is left when a process ends."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import nbops as nb
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.ids import new_id
from nbops.core.records import Dataset, RunStatus
from nbops.store.context import CellRef, set_cell
from nbops.store.workspace import Workspace
from nbops.tracking import runs

pytestmark = pytest.mark.usefixtures("workspace")


def test_a_run_keeps_what_it_was_told() -> None:
    with nb.run("baseline", params={"lr": 0.1}, tags={"team": "x"}) as run:
        nb.log(loss=2.0)
        nb.log(loss=1.0, acc=0.5)
        nb.log(step=10, loss=0.5)
        nb.log_params(epochs=3)
        run.set_tags(stage="dev")
    record = nb.find("runs")[0]
    assert (record.name, record.status, record.type) == ("baseline", "FINISHED", "script")
    assert (record.params, record.tags) == ({"lr": 0.1, "epochs": 3}, {"team": "x", "stage": "dev"})
    assert record.metrics == {"acc": 0.5, "loss": 0.5}
    assert nb.series(run, "loss").steps.tolist() == [0, 1, 10]
    assert record.duration_s is not None
    assert record.context["python"].startswith("3.")


def test_params_are_durable_before_the_run_ends(workspace: Workspace) -> None:
    with nb.run("open", params={"lr": 0.1}) as run:
        other = Workspace.open(workspace.path)
        assert other.store.get(type(run.record), run.id).params == {"lr": 0.1}
        other.close()


def test_an_exception_fails_the_run_and_goes_on_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError), nb.run("bad"):
        _ = 1 / 0
    record = nb.find("runs")[0]
    assert (record.status, record.error.type, record.error.message) == (
        "FAILED",
        "ZeroDivisionError",
        "division by zero",
    )
    assert "test_runs.py" in record.error.traceback


def test_an_interrupt_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt), nb.run("stopped"):
        raise KeyboardInterrupt
    assert nb.find("runs")[0].status == "INTERRUPTED"


def test_nested_runs_know_their_parent() -> None:
    with nb.run("outer") as outer, nb.run("inner") as inner:
        nb.log(loss=1.0)
    assert inner.record.parent == outer.id
    assert outer.record.metrics == {}
    assert [(e.relation, e.target) for e in nb.lineage(outer).links] == [("parent_of", inner.id)]


def test_threads_do_not_mix_their_runs() -> None:
    barrier = threading.Barrier(4)

    def work(name: str) -> None:
        with nb.run(name):
            for _ in range(50):
                barrier.wait()
                nb.log(mine=float(name))

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for record in nb.find("runs"):
        summary = record.summary["mine"]
        assert (summary.min, summary.max, summary.count) == (float(record.name), float(record.name), 50)


def test_start_spans_cells_and_end_returns_the_record() -> None:
    nb.start("long")
    nb.log(x=1.0)
    record = nb.end()
    assert (record.status, record.metrics) == (RunStatus.FINISHED, {"x": 1.0})
    with pytest.raises(NotFound, match="no run was started"):
        nb.end()


def test_running_the_start_cell_again_supersedes() -> None:
    set_cell(CellRef("cell-a"))
    first = nb.start("a")
    set_cell(CellRef("cell-a"))
    second = nb.start("a")
    set_cell(CellRef("cell-b"))
    third = nb.start("b")
    nb.end()
    assert [r.record.status for r in (first, second, third)] == ["SUPERSEDED", "FINISHED", "FINISHED"]
    assert first.record.cell_id == "cell-a"


def test_logging_without_a_run_says_what_to_do() -> None:
    with pytest.raises(NotFound, match=r"no run is open\nOpen one: with nb\.run"):
        nb.log(loss=1.0)


def test_logging_to_an_ended_run_is_refused() -> None:
    with nb.run("a") as run:
        pass
    for call in (lambda: run.log(x=1.0), lambda: run.log_series("x", None, [1.0]), run.__enter__):
        with pytest.raises(Conflict, match="run 'a' is FINISHED"):
            call()
    run.finish("FAILED")
    assert run.record.status == "FINISHED"


def test_a_metric_may_be_called_step_only_as_the_step() -> None:
    with nb.run() as run:
        nb.log(4, loss=1.0)
        nb.log(step=6, loss=2.0)
    assert nb.series(run, "loss").steps.tolist() == [4, 6]


def test_series_are_logged_whole() -> None:
    with nb.run() as run:
        run.log(big=0.0)
        nb.log_series("big", None, np.arange(10_000) / 7)
        nb.log_series("odd", [5, 3, 9], [math.nan, math.inf, -0.0])
    back = nb.series(run.id, "big")
    assert len(back) == 10_001
    np.testing.assert_array_equal(back.values[1:], np.arange(10_000) / 7)
    assert back.steps[-1] == 10_000
    assert nb.series(run.name, "odd").steps.tolist() == [5, 3, 9]


@pytest.mark.parametrize(
    ("steps", "values"), [([1, 2], [1.0]), ([1.5], [1.0]), (None, ["a"]), (None, [[1.0]]), (["x"], [1.0])]
)
def test_bad_series_are_refused(steps: object, values: object) -> None:
    with nb.run() as run, pytest.raises(InvalidInput, match="'s'"):
        run.log_series("s", steps, values)


def test_names_are_bounded() -> None:
    for name in ("", "  ", "x" * 251):
        with pytest.raises(InvalidInput, match="cannot be named"):
            nb.run(name)


def test_secrets_are_redacted() -> None:
    with nb.run(
        params={"api_key": "k", "db": {"password": "p", "host": "h"}, "max_tokens": 5, "tokenizer": "bpe"}
    ) as run:
        pass
    assert run.record.params == {
        "api_key": "[redacted]", "db": {"password": "[redacted]", "host": "h"}, "max_tokens": 5, "tokenizer": "bpe",
    }  # fmt: skip


def test_artifacts_of_all_sorts(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.txt").write_text("b")
    with nb.run() as run:
        nb.log_artifact(folder / "a.txt")
        nb.log_artifact(str(folder))
        nb.log_artifact(b"\0\1", name="raw.bin")
        nb.log_artifact({"a": [1, math.inf]}, name="config")
        with pytest.raises(NotFound, match="no file 'gone'"):
            nb.log_artifact("gone")
        with pytest.raises(InvalidInput, match="has no name"):
            nb.log_artifact({"a": 1})
        with pytest.raises(InvalidInput, match="cannot be stored"):
            nb.log_artifact(object(), name="x")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InvalidInput, match="holds no file"):
            nb.log_artifact(tmp_path / "empty")
    names = sorted(a.name for a in nb.find("artifacts", f"parent == '{run.id}'"))
    assert names == ["a.txt", "config.json", "out/a.txt", "out/deep/b.txt", "raw.bin"]


def test_figures_become_pictures(workspace: Workspace) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    with nb.run():
        artifact = nb.log_artifact(figure_module.Figure(), name="plot")
    assert (artifact.name, artifact.media_type) == ("plot.png", "image/png")
    assert workspace.artifacts.read(artifact.digest).startswith(b"\x89PNG")


def test_data_is_linked(workspace: Workspace) -> None:
    dataset = Dataset(id=new_id("ds"), created_at=1.0, name="digits", version=2, digest="d", rows=3)
    workspace.store.put(dataset)
    with nb.run("a", data=dataset) as a, nb.run("b", data=["digits/2"]) as b:
        b.use("digits")
    lineage = nb.lineage("digits")
    assert {e.target for e in lineage.links if e.relation == "used_by"} == {a.id, b.id}
    with pytest.raises(NotFound, match="no dataset 'digit'\nDid you mean 'digits'"):
        nb.run("c", data="digit")
    assert nb.find("runs", "name == 'c'").total == 0


def test_a_parent_is_taken_from_the_pipeline_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runs.PARENT_VARIABLE, "run_step")
    with nb.run() as run:
        pass
    assert run.record.parent == "run_step"


SCRIPT = """
    import sys
    import nbops as nb
    nb.start("script")
    nb.log(x=1.0)
    {last}
    """


@pytest.mark.parametrize(
    ("last", "status", "error"),
    [("pass", "FINISHED", None), ("raise KeyError('k')", "FAILED", "KeyError"), ("sys.exit(0)", "FINISHED", None)],
)
def test_a_run_left_open_ends_as_its_script_did(last: str, status: str, error: str | None) -> None:
    code = textwrap.dedent(SCRIPT).format(last=last)
    subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False)
    record = nb.find("runs")[0]
    assert (record.status, record.error and record.error.type) == (status, error)


def test_git_is_read_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbops.tracking.capture.revision import git_revision

    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run([*git, "init", "-q", "-b", "trunk"], check=True)
    assert git_revision(tmp_path) == {"branch": "trunk"}
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    assert git_revision(tmp_path) == {"branch": "trunk", "commit": commit}
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert git_revision(tmp_path)["commit"] == commit
    subprocess.run([*git, "worktree", "add", "-q", "-b", "side", str(tmp_path / "w")], check=True)
    assert git_revision(tmp_path / "w") == {"branch": "side", "commit": commit}
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert git_revision(tmp_path) == {"commit": commit}


def test_reading_back_with_the_wrong_name_suggests() -> None:
    with nb.run("only"):
        nb.log(loss=1.0)
    with pytest.raises(NotFound, match="no metric 'los'\nDid you mean 'loss'"):
        nb.series("only", "los")
    with pytest.raises(NotFound, match="no kind of record 'rnus'\nDid you mean 'runs'"):
        nb.find("rnus")
    with pytest.raises(NotFound, match="no record 'onyl'\nDid you mean 'only'"):
        nb.lineage("onyl")
    with pytest.raises(NotFound, match="a int has no lineage"):
        nb.lineage(3)
    with pytest.raises(InvalidInput, match="cannot be negative"):
        nb.find("runs", limit=-1)


def test_find_pages_and_counts() -> None:
    for i in range(5):
        with nb.run(f"r{i}", params={"i": i}):
            pass
    page = nb.find("runs", "params.i >= 1", order_by="params.i desc", limit=2, offset=1)
    assert ([r.name for r in page], page.total) == (["r3", "r2"], 4)
    assert nb.find("runs", limit=None).total == 5


def test_a_forked_child_logs_to_runs_of_its_own() -> None:
    import os

    with nb.run("parent") as run:
        nb.log(x=1.0)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                with nb.run("child", parent=run.id):
                    nb.log(x=2.0)
                nb.workspace().close()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        nb.log(x=3.0)
    assert nb.series("parent", "x").values.tolist() == [1.0, 3.0]
    assert nb.series("child", "x").values.tolist() == [2.0]
