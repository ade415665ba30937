"""Exports: what is written is all there is, and comes back bit for bit; MLflow's layout is read by our importer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nbops as nb
from nbops.core.errors import InvalidInput, QuerySyntaxError
from nbops.core.records import Run, RunStatus
from nbops.store.workspace import init
from nbops.testing import a_run, some_points

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

ODD = [0.1, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    store = workspace.store
    params = {"lr": 0.1, "deep": {"x": [1]}, "text": "a\n#b: 'c'", "n": 3}
    a = a_run(name="a: “long” " + "name " * 40, status=RunStatus.FINISHED, created_at=1000.5, ended_at=1002.25,
              params=params, tags={"team": "x"}, note="ü")  # fmt: skip
    b = a_run(name="b", parent=a.id, status=RunStatus.FAILED, created_at=1001.0, ended_at=1001.5)
    for run in (a, b):
        store.put(run)
    store.link(a.id, "parent_of", b.id)
    store.add_points([some_points(a.id, "sub/odd", ODD), some_points(a.id, "loss", [0.5] * 5000, first=7)])
    workspace.save_artifact(b"bytes", name="deep/f.bin", parent=a.id)
    return workspace


def test_parquet_holds_every_point_and_value(filled: Workspace, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    report = nb.export_runs(tmp_path / "out")
    assert (report.counts, report.is_well) == ({"runs": 2, "points": 5007, "files": 1}, True)
    tables = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist() for name in
              ("runs", "params", "tags", "points", "files")}  # fmt: skip
    runs = {row["name"]: row for row in tables["runs"]}
    a = next(row for name, row in runs.items() if name.startswith("a"))
    assert (a["created_at"], a["ended_at"], a["status"], a["note"]) == (1000.5, 1002.25, "FINISHED", "ü")
    assert runs["b"]["parent"] == a["id"]
    odd = [row for row in tables["points"] if row["metric"] == "sub/odd"]
    assert str([row["value"] for row in odd]) == str(ODD)
    assert [row["step"] for row in odd] == list(range(len(ODD)))
    assert {row["time_ms"] for row in odd} == {1}
    params = {row["key"]: (row["value"], row["number"]) for row in tables["params"]}
    assert params["lr"] == ("0.1", 0.1)
    assert params["deep"] == ('{"x":[1]}', None)
    assert tables["tags"] == [{"run": a["id"], "key": "team", "value": "x"}]
    assert [row["name"] for row in tables["files"]] == ["deep/f.bin"]
    nb.export_runs(tmp_path / "out", where="name == 'b'")  # again: replaced
    assert pq.read_table(tmp_path / "out" / "runs.parquet").num_rows == 1


def test_mlflows_layout_comes_back_through_our_importer(filled: Workspace, tmp_path: Path) -> None:
    before = {run.name: run for run in filled.store.find(Run)}
    odd = next(nb.series(run, "sub/odd") for run in before.values() if "sub/odd" in run.summary)
    for _ in range(2):  # an export over an export is the same
        report = nb.export_runs(tmp_path / "out", format="mlflow")
        assert report.counts == {"runs": 2, "points": 5007, "files": 1}
    assert report.where == str(tmp_path / "out" / "mlruns")
    other = init(tmp_path / "other")
    assert nb.import_runs(tmp_path / "out").counts == {"runs": 2, "points": 5007, "files": 1}
    after = {run.name: run for run in other.store.find(Run)}
    assert set(after) == set(before)
    a = next(run for name, run in after.items() if name.startswith("a"))
    old = before[a.name]
    assert (a.created_at, a.ended_at, a.status, a.note) == (1000.5, 1002.25, RunStatus.FINISHED, "ü")
    assert (after["b"].status, after["b"].parent) == (RunStatus.FAILED, a.id)
    assert a.params == {"lr": "0.1", "deep": '{"x":[1]}', "text": "a\n#b: 'c'", "n": "3"}
    assert (a.tags["team"], a.tags["nbops.id"]) == ("x", old.id)
    back = nb.series(a, "sub/odd")
    assert back.values.tobytes() == odd.values.tobytes()
    assert (back.steps.tolist(), back.times_ms.tolist()) == (odd.steps.tolist(), odd.times_ms.tolist())
    assert str(a.summary["loss"]) == str(old.summary["loss"])
    (file,) = nb.find("artifacts")
    assert (file.name, other.artifacts.read(file.digest)) == ("deep/f.bin", b"bytes")


def test_names_that_mlflow_does_not_take_are_changed_and_told(workspace: Workspace, tmp_path: Path) -> None:
    run = a_run(name="r", status=RunStatus.FINISHED, params={"a": 1, "a/b": 2, "../up": 3, "ok name": 4, "x?": 5})
    workspace.store.put(run)
    workspace.save_artifact(b"1", name="../../escape", parent=run.id)
    report = nb.export_runs(tmp_path / "out", format="mlflow")
    assert sum("for MLflow takes no such name" in line for line in report.problems) == 3
    assert sum("leads out of the run's folder" in line for line in report.problems) == 1
    assert not (tmp_path / "escape").exists()
    init(tmp_path / "other")
    nb.import_runs(tmp_path / "out")
    (back,) = nb.find("runs")
    assert sorted(back.params.values()) == ["1", "2", "3", "4", "5"]


def test_a_lost_file_is_told_and_the_rest_written(filled: Workspace, tmp_path: Path) -> None:
    (file,) = nb.find("artifacts")
    filled.artifacts.delete(file.digest)
    report = nb.export_runs(tmp_path / "out", format="mlflow")
    assert report.counts == {"runs": 2, "points": 5007, "files": 0}
    assert "cannot be copied" in report.problems[0]


def test_only_the_runs_asked_for(filled: Workspace, tmp_path: Path) -> None:
    assert nb.export_runs(tmp_path / "o", where="status == 'FAILED'", format="mlflow").counts["runs"] == 1
    assert nb.export_runs(tmp_path / "o", where="name == 'none'").counts == {"runs": 0, "points": 0, "files": 0}
    with pytest.raises(QuerySyntaxError):
        nb.export_runs(tmp_path / "o", where="name ==")


def test_what_cannot_be_written_is_refused(filled: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="as 'parqet'") as caught:
        nb.export_runs(tmp_path / "o", format="parqet")
    assert "parquet" in caught.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="is a file"):
        nb.export_runs(tmp_path / "file")
