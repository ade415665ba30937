"""Files, queries and streams are read as data; what cannot be is refused with a line that says why."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy

import nbops as nb
from nbops.core.errors import InvalidInput, MissingDependency, NotFound
from nbops.data.frames import read
from nbops.data.profiles.making import profile
from nbops.data.sources import is_path

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


@pytest.fixture(scope="module", autouse=True)
def _arrow_has_its_pipe(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Arrow opens one pipe for signals at the first CSV file, and keeps it."""
    path = tmp_path_factory.mktemp("first") / "first.csv"
    path.write_text("a\n1\n")
    read(path)


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"n": [1, 2, None], "t": ["a", None, ""], "f": [0.5, 1.5, float("nan")]})


def test_parquet_and_csv_files_are_read(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    for path in (tmp_path / "a.parquet", str(tmp_path / "a.parquet")):
        frame = read(path, label="n")
        assert (frame.names, frame.rows, frame.label) == (["n", "t", "f"], 3, "n")
    (tmp_path / "a.csv").write_text('n,t,day\n1,a,2024-01-02\n,"",2024-01-03\n3,NA,\n')
    frame = read(tmp_path / "a.csv")
    assert [(c.dtype, c.missing_count) for c in frame.columns] == [("int64", 1), ("text", 1), ("date", 1)]
    assert frame.column("t").value(1) == ""
    (tmp_path / "a.tsv").write_text("n\tt\n1\tb,c\n")
    assert read(str(tmp_path / "a.tsv")).column("t").value(0) == "b,c"
    (tmp_path / "empty.csv").write_text("")
    assert read(tmp_path / "empty.csv").names == []


def test_which_text_is_a_path() -> None:
    assert is_path("sales.csv")
    assert is_path("a/b.PARQUET")
    assert is_path(Path("anything"))
    assert not is_path("sales")
    assert not is_path("sales/3")


def test_a_query_is_read_through_an_engine() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    pd.DataFrame({"a": [1, 2, None], "b": ["x", None, "z"]}).to_sql("t", engine, index=False)
    frame = read((engine, "select a, b from t where b is not null"), label="b")
    assert [(c.name, c.dtype, c.missing_count) for c in frame.columns] == [("a", "float64", 1), ("b", "text", 0)]
    assert read((engine, "select a from t where 1 = 0")).rows == 0
    with pytest.raises(InvalidInput, match="'a'.*\n.*as ax"):
        read((engine, "select a, a from t"))
    engine.dispose()


class Stream:
    """What only speaks Arrow's stream interface."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._inner.__arrow_c_stream__(requested_schema)


def test_whatever_streams_arrow_is_read(table: pa.Table) -> None:
    assert read(Stream(table)).names == ["n", "t", "f"]
    assert read(Stream(pl.DataFrame({"a": [1]}))).names == ["a"]
    assert read(Stream(pa.chunked_array([[1, 2], [3]]))).column("X").values.tolist() == [1, 2, 3]


def test_a_file_that_is_not_there_or_of_another_sort_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("a\n1\n")
    with pytest.raises(NotFound, match="no file.*salse.csv'\nDid you mean 'sales.csv'"):
        read(tmp_path / "salse.csv")
    with pytest.raises(NotFound, match="no file.*\nLook in"):
        read(tmp_path / "zzz.parquet")
    with pytest.raises(InvalidInput, match="ends in .parquet"):
        read(tmp_path / "notes.txt")
    with pytest.raises(InvalidInput, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("call", [read, profile])
def test_a_file_that_is_cut_off_is_refused(call: Any, tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInput, match="a.parquet' as Parquet.*\nThe file may be cut off"):
        call(path)
    middle = data.index(b"PAR1") + 4
    path.write_bytes(data[:middle] + b"\xff" * 40 + data[middle + 40 :])
    with pytest.raises(InvalidInput, match="as Parquet"):
        call(path)


def test_a_csv_file_with_ragged_rows_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3,4,5\n")
    with pytest.raises(InvalidInput, match="a.csv' as CSV.*3,4,5"):
        read(path)


def test_a_column_name_used_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    for call in (read, profile):
        with pytest.raises(InvalidInput, match="used twice.*a"):
            call(path)


def test_without_pyarrow_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match="pip install 'nbops\\[pandas\\]'"):
        read(tmp_path / "a.csv")


def test_a_path_is_data_for_checks_and_snapshots_too(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"a": [1, 2, 3]}).to_parquet("a.parquet")
    assert nb.check("a.parquet").rows == 3
    kept = nb.snapshot(Path("a.parquet"), "numbers")
    assert kept.digest == nb.snapshot({"a": np.array([1, 2, 3])}, "numbers").digest
    assert nb.check(os.fspath("a.parquet"), baseline="a.parquet", suite=["outside-baseline"]).passed
    with pytest.raises(NotFound, match="no dataset 'a'"):
        nb.check("a")
