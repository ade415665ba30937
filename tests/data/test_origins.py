"""What is told of a source by itself: git, DVC and Delta Lake versions, the code and the script that read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

import nbops as nb
from nbops.core.errors import InvalidInput, MissingDependency
from nbops.core.records import Source
from nbops.data.datasets import read_data
from nbops.data.delta import delta_of, is_delta, read_delta
from nbops.data.frames import read
from nbops.data.origins import told_source
from nbops.store.workspace import Workspace

TABLE = Path(__file__).parent / "tables" / "delta"  # as delta-rs 1.6 wrote it: made, appended to, a row deleted


@pytest.fixture(scope="module", autouse=True)
def _arrow_has_its_pipe(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Arrow opens one pipe for signals at the first CSV file, and keeps it."""
    path = tmp_path_factory.mktemp("first") / "first.csv"
    path.write_text("a\n1\n")
    read(path)


def git(folder: Path, *words: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(["git", *name, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one committed file of data in a folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sales.csv").write_text("a,b\n1,2\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "data")
    git(tmp_path, "commit", "-qm", "data")
    return tmp_path


def test_a_file_in_git_tells_commit_state_and_path(workspace: Workspace, checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    file = Path("data/sales.csv")
    dataset = nb.snapshot(file, "sales")
    assert dataset.source.origin == "data/sales.csv"
    assert dataset.source.versions == {"git": head, "git_dirty": "no", "git_path": "data/sales.csv"}
    assert dataset.source.extraction_code == head
    file.write_text("a,b\n1,3\n")
    changed = nb.snapshot(file, "sales", source={"label_set": "v2", "entry_point": "load.py"})
    assert changed.source.versions["git_dirty"] == "yes"
    assert (changed.source.label_set, changed.source.entry_point) == ("v2", "load.py")
    assert changed.source.extraction_code == f"{head} (dirty)"
    git(checkout, "commit", "-qam", "later")
    assert nb.snapshot(file, "sales") == changed  # what was told with this content stays
    assert nb.snapshot(file, "sales", source={"label_set": "v3"}).source.versions == changed.source.versions
    shown = str(changed)
    assert all(text in shown for text in (head[:7], "label set", "git path"))


def test_a_folder_and_a_file_that_git_does_not_know(workspace: Workspace, checkout: Path) -> None:
    assert nb.snapshot("data", "files").source.versions["git_path"] == "data"
    (checkout / "data" / "new.csv").write_text("a\n1\n")
    assert told_source("data/new.csv").versions == {}
    assert told_source(pd.DataFrame()).origin == ""


def test_outside_git_nothing_is_claimed(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert told_source("x.csv") == Source(origin="x.csv")
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert told_source("x.csv") == Source(origin="x.csv")


def test_the_script_that_runs_is_the_entry_point(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "load.py").write_text("import nbops as nb; print(nb.snapshot({'a': [1]}, 'd').source.entry_point)")
    done = subprocess.run([sys.executable, "load.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "load.py"


def test_a_query_tells_its_database_without_the_password(workspace: Workspace, tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/x.db")
    assert told_source((engine, "select 1 as a")).origin == f"sqlite:///{tmp_path}/x.db select 1 as a"
    engine.dispose()


# ---- DVC -------------------------------------------------------------------------------------------------------------


def test_a_dvc_file_beside_the_data_tells_digest_and_revision(workspace: Workspace, checkout: Path) -> None:
    file = checkout / "data" / "big.csv"
    file.write_text("a\n1\n")
    (checkout / "data" / "big.csv.dvc").write_text(
        "outs:\n- md5: 3aa3dbb1ab1b28dbb4ef2b8b3c1a8a32\n  size: 4\n  hash: md5\n  path: big.csv\n"
    )
    assert told_source(file).versions["dvc_md5"] == "3aa3dbb1ab1b28dbb4ef2b8b3c1a8a32"
    git(checkout, "add", "data/big.csv.dvc")
    git(checkout, "commit", "-qm", "track")
    dataset = nb.snapshot(file, "big")
    assert dataset.source.versions == {
        "dvc_md5": "3aa3dbb1ab1b28dbb4ef2b8b3c1a8a32", "dvc_rev": git(checkout, "rev-parse", "HEAD"),
    }  # fmt: skip


def test_a_stage_in_dvc_lock_tells_the_digest(workspace: Workspace, checkout: Path) -> None:
    out = checkout / "data" / "features"
    out.mkdir()
    (out / "1.txt").write_text("x")
    (checkout / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  make:\n    cmd: python make.py\n    outs:\n"
        "    - path: data/features\n      md5: abc123.dir\n      nfiles: 1\n"
    )
    assert told_source(out).versions["dvc_md5"] == "abc123.dir"
    assert "dvc_md5" not in told_source(checkout / "data" / "sales.csv").versions


@pytest.mark.parametrize("text", ["outs: 3", "[", "- a", "outs:\n- 3", "outs:\n- path: other.csv", "\x00"])
def test_what_only_looks_like_dvc_is_no_source(workspace: Workspace, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "x.csv.dvc").write_text(text)
    (tmp_path / "dvc.lock").write_text(text)
    assert told_source(tmp_path / "x.csv").versions == {}


# ---- Delta Lake ------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A copy of the table that may be changed."""
    return shutil.copytree(TABLE, tmp_path / "delta")


def test_a_delta_table_is_read_by_its_log_and_keeps_its_version(workspace: Workspace, table: Path) -> None:
    dataset = nb.snapshot(table, "orders", store=True)
    assert dataset.source.versions == {"delta": "2"}
    assert dataset.source.origin == str(table)
    assert "delta" in str(dataset)
    data = read_data(dataset)
    assert data["id"].to_pylist() == [1, 3, 5, 7, 4, 6, 0]  # 2 was deleted, so its file was written anew
    assert data["city"].to_pylist()[:2] == ["Bonn a/b", "Bonn a/b"]
    kinds = {field.name: str(field.type) for field in data.schema}
    assert (kinds["price"], kinds["at"], kinds["day"]) == ("decimal128(8, 2)", "timestamp[us, tz=UTC]", "date32[day]")
    assert nb.snapshot(str(table), "orders") == dataset
    assert nb.profile(str(table)).rows == 7
    (table / "_delta_log" / f"{2:020}.json").unlink()
    before = nb.snapshot(table, "orders")
    assert (before.version, before.rows, before.source.versions) == (2, 8, {"delta": "1"})


def test_columns_that_came_later_and_empty_partitions_are_null(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "x.parquet")
    kinds = [("a", "long"), ("b", "string"), ("p", "integer"), ("m", {"type": "map", "keyType": "string",
             "valueType": "long", "valueContainsNull": True}), ("s", {"type": "struct", "fields": [
             {"name": "z", "type": "double", "nullable": True}]})]  # fmt: skip
    schema = {"type": "struct", "fields": [{"name": n, "type": t, "nullable": True} for n, t in kinds]}
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"schemaString": json.dumps(schema), "partitionColumns": ["p"]}},
        {"add": {"path": "x.parquet", "partitionValues": {"p": ""}}},
    ]
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    found = read_delta(tmp_path)
    assert found.to_pydict() == {"a": [1, 2], "b": [None] * 2, "p": [None] * 2, "m": [None] * 2, "s": [None] * 2}
    actions[2]["add"]["partitionValues"]["p"] = "7"
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions)))
    assert read_delta(tmp_path)["p"].to_pylist() == [7, 7]
    (log / f"{0:020}.json").write_text("\n".join(map(json.dumps, actions[:2])))
    assert (read_delta(tmp_path).num_rows, read(tmp_path).names) == (0, ["a", "b", "p", "m", "s"])


def test_a_checkpoint_stands_for_the_commits_before_it(table: Path) -> None:
    log = table / "_delta_log"
    whole = read_delta(table)
    rows: list[dict[str, Any]] = []
    files: dict[str, Any] = {}
    for number in (0, 1):
        for line in (log / f"{number:020}.json").read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files[action["add"]["path"]] = action
            elif "metaData" in action:
                rows.append({"metaData": {k: action["metaData"][k] for k in ("schemaString", "partitionColumns")}})
    pq.write_table(pa.Table.from_pylist([{"protocol": None, "metaData": None, "add": None, **one}
                                         for one in [*rows, *files.values()]]),
                   log / f"{1:020}.checkpoint.parquet")  # fmt: skip
    (log / f"{0:020}.json").unlink()
    assert read_delta(table).equals(whole)


def test_a_table_that_needs_more_than_its_log_asks_for_the_library(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)  # as where it is not installed
    first = table / "_delta_log" / f"{0:020}.json"
    first.write_text(first.read_text().replace('"minReaderVersion":1', '"minReaderVersion":3'))
    with pytest.raises(MissingDependency, match="reader version 3, which needs deltalake\nInstall it with") as told:
        nb.snapshot(table, "orders")
    assert "nbops[delta]" in told.value.hint


def test_damaged_tables_are_said(workspace: Workspace, table: Path) -> None:
    log = table / "_delta_log"
    (log / f"{2:020}.json").write_text("{")
    with pytest.raises(InvalidInput, match="cannot read the Delta table"):
        nb.snapshot(table, "orders")
    (log / f"{2:020}.json").unlink()
    next(table.glob("city=Ulm/*.parquet")).unlink()
    with pytest.raises(InvalidInput, match="cannot read the Delta table.*\nThe table may be incomplete"):
        nb.snapshot(table, "orders")
    (log / f"{0:020}.json").unlink()
    with pytest.raises(InvalidInput, match="has gaps"):
        nb.snapshot(table, "orders")
    (log / f"{1:020}.json").unlink()
    with pytest.raises(InvalidInput, match="has no version in its log"):
        nb.snapshot(table, "orders")


def test_what_is_no_delta_table() -> None:
    assert not is_delta("x.parquet")
    assert not is_delta(pd.DataFrame())
    assert delta_of(3) is None


@pytest.mark.leaks("deltalake keeps an event loop")
def test_the_library_reads_the_same(workspace: Workspace, table: Path) -> None:
    import deltalake

    for version in (0, 1, 2):
        handle = deltalake.DeltaTable(table, version=version)
        ours, theirs = read_delta(handle), pa.table(handle.to_pyarrow_table())
        assert ours.sort_by("id").to_pydict() == theirs.sort_by("id").to_pydict()
        assert nb.snapshot(handle, "orders").source.versions == {"delta": str(version)}
    other = table.with_name("other")
    deltalake.write_deltalake(other, pa.table({"t": pa.array([1], pa.timestamp("us"))}))
    assert deltalake.DeltaTable(other).protocol().min_reader_version == 3
    assert read_delta(other).num_rows == 1
