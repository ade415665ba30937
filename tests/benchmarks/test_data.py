"""Profiles of tables, beside what pandas, polars, DuckDB, ydata-profiling and Evidently tell, where installed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

import nbops as nb

GROUP = "Data"

# Peak of the process while a file is profiled, over what it held before; in a process of its own.
PROGRAM = """
import sys, time

import pyarrow, pyarrow.parquet

import nbops as nb


def memory(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) / 1000


nb.profile(sys.argv[1])  # imports and first calls
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew: that of the parent is inherited
before = memory("VmRSS")
begin = time.perf_counter()
made = nb.profile(sys.argv[2])
seconds = time.perf_counter() - begin
print(made.rows, seconds, memory("VmHWM") - before)
"""


def columns_of(rows: int, seed: int) -> dict[str, Any]:
    """Return 20 columns: 12 of numbers, 4 of categories, 2 of text, a date and a flag."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {f"f{i}": rng.normal(i, 1 + i, rows) for i in range(6)}
    made |= {f"l{i}": rng.lognormal(i, 1, rows) for i in range(2)}
    made |= {f"i{i}": rng.integers(0, 10 ** (2 + 2 * i), rows) for i in range(4)}
    for i, size in enumerate((3, 12, 50, 180)):
        made[f"c{i}"] = np.array([f"category {k}" for k in range(size)], object)[rng.integers(0, size, rows)]
    words = np.array([f"word{k}" for k in range(5000)], object)
    made["t0"] = words[rng.integers(0, 5000, rows)] + " " + words[rng.integers(0, 5000, rows)]
    made["t1"] = np.array([f"user-{k:09d}" for k in rng.permutation(rows)], object)
    made["d"] = (rng.integers(15_000, 20_000, rows)).astype("datetime64[D]").astype("datetime64[us]")
    made["b"] = rng.random(rows) < 0.3
    return made


def seconds(call: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


@pytest.fixture(scope="module")
def frame() -> Any:
    pd = pytest.importorskip("pandas")
    text = "str" if pd.__version__ >= "3" else "string[pyarrow]"  # what version 3 does by itself
    return pd.DataFrame(columns_of(1_000_000, 0)).astype(dict.fromkeys(["c0", "c1", "c2", "c3", "t0", "t1"], text))


@pytest.mark.leaks("Evidently keeps an event loop")
def test_profile_of_a_million_rows_in_memory(bench: Any, frame: Any) -> None:
    assert nb.profile(frame).columns["f0"]["mean"] == pytest.approx(frame["f0"].mean())
    ours = seconds(lambda: nb.profile(frame), 3)
    peers = {"pandas describe": seconds(lambda: frame.describe(include="all"), 1)}
    if find_spec("polars"):
        import polars as pl

        table = pl.from_pandas(frame)
        peers["polars describe"] = seconds(table.describe, 3)
    if find_spec("duckdb"):
        import duckdb

        peers["DuckDB describe"] = seconds(lambda: duckdb.from_df(frame).describe().fetchall(), 3)
    if find_spec("ydata_profiling"):
        from ydata_profiling import ProfileReport

        peers["ydata-profiling minimal"] = seconds(lambda: ProfileReport(frame, minimal=True).get_description(), 1)
    if find_spec("evidently"):
        from evidently import Report
        from evidently.presets import DataSummaryPreset

        peers["Evidently summary"] = seconds(lambda: Report([DataSummaryPreset()]).run(frame, None), 1)
    what = "`nb.profile` of 1,000,000 rows × 20 columns of pandas (peers: no correlations, meaning, duplicates, bins)"
    bench.row(GROUP, what, ours=ours, unit="s", peers=peers, goal="≤ 2 s on 2 cores")


def test_profile_of_a_file_larger_than_it_may_hold(bench: Any, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns_of(1000, 0)), tmp_path / "small.parquet")
    parts = 10
    with pq.ParquetWriter(tmp_path / "large.parquet", pa.table(columns_of(1000, 0)).schema) as writer:
        for part in range(parts):
            writer.write_table(pa.table(columns_of(1_000_000, part)), row_group_size=500_000)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "small.parquet", tmp_path / "large.parquet"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows, ours, peak = map(float, done.stdout.split())
    assert rows == parts * 1_000_000
    said = "`nb.profile` of a Parquet file of 10,000,000 rows × 20 columns"
    peers = {}
    if find_spec("duckdb"):
        import duckdb

        query = f"summarize select * from '{tmp_path / 'large.parquet'}'"
        peers["DuckDB summarize"] = seconds(lambda: duckdb.sql(query).fetchall(), 1)
    bench.row(GROUP, said, ours=ours, unit="s", peers=peers, goal="≤ 20 s on 2 cores")
    bench.row(GROUP, f"{said}, peak of memory above the start", ours=peak, unit="MB", peers={}, goal="≤ 400 MB")


def test_the_page_of_a_wide_table(bench: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {f"n{i}": rng.lognormal(0, 1, 27_000) for i in range(60)} | {
        f"t{i}": np.array([f"value {k}" for k in range(150)], object)[rng.integers(0, 150, 27_000)] for i in range(20)
    }
    begin = time.perf_counter()
    page = nb.profile(data).report(tmp_path / "page.html")
    assert all(name in page.read_text(encoding="utf-8") for name in data)
    bench.row(GROUP, "profile of 27,000 rows × 80 columns, and its page", ours=time.perf_counter() - begin, unit="s",
              peers={}, goal="≤ 2 s")  # fmt: skip
    bench.row(GROUP, "the page of 27,000 rows × 80 columns (ydata-profiling, as reported by a user: 291 MB)",
              ours=page.stat().st_size / 1e6, unit="MB", peers={}, goal="≤ 1 MB")  # fmt: skip


def stored(ws: Any) -> int:
    return sum(blob.size_bytes for blob in ws.artifacts.blobs())


@pytest.mark.leaks("MLflow keeps threads")
def test_digest_of_a_million_rows(bench: Any, frame: Any) -> None:
    pd = pytest.importorskip("pandas")
    from nbops.data.frames import read
    from nbops.data.hashed import Hashed

    def ours(data: Any) -> str:
        return Hashed(read(data)).digest

    whole = ours(frame)
    rng = np.random.default_rng(1)
    changed = {}
    for name in ("f0", "i3", "t0", "d", "b"):
        row = int(rng.integers(10_001, len(frame)))
        other = frame.copy()
        cell = other[name].iloc[row]
        step = {"t0": "x", "d": pd.Timedelta(1, "us")}.get(name, 1)
        other.loc[row, name] = not cell if name == "b" else cell + step
        changed[name] = other
        assert ours(other) != whole, "a single changed cell, wherever it is, changes the digest"
    peers = {"pandas hash_pandas_object": seconds(lambda: pd.util.hash_pandas_object(frame), 1)}
    what = "digest of 1,000,000 rows × 20 columns of pandas, over every cell"
    if find_spec("mlflow"):
        from mlflow.data.pandas_dataset import from_pandas

        theirs = from_pandas(frame).digest
        missed = sum(from_pandas(other).digest == theirs for other in changed.values())
        assert missed == len(changed), "MLflow reads 10,000 rows; if that has changed, say so in the row"
        peers["MLflow dataset digest"] = seconds(lambda: from_pandas(frame).digest, 1)
        what += f" (MLflow's is of the first 10,000 rows: {missed} of {len(changed)} changed cells below missed)"
    bench.row(GROUP, what, ours=seconds(lambda: ours(frame), 3), unit="s", peers=peers, goal="≤ 1.2 s on 2 cores")


def test_storing_a_version_with_one_percent_changed(bench: Any, frame: Any, tmp_path: Path) -> None:
    pd, pq = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    from nbops.data.datasets import read_data
    from nbops.store.workspace import init

    ws = init(tmp_path)
    first = seconds(lambda: nb.snapshot(frame, "large", store=True), 1)
    size = stored(ws)
    rng = np.random.default_rng(2)
    rows = rng.choice(len(frame), len(frame) // 100, replace=False)
    other = frame.copy()
    for name in other.columns:
        values = other[name].to_numpy(copy=True)
        values[rows] = values[rng.permutation(rows)]
        other[name] = pd.Series(values, dtype=other[name].dtype)
    again = seconds(lambda: nb.snapshot(other, "large", store=True), 1)
    share = (stored(ws) - size) / size
    pd.testing.assert_frame_equal(read_data("large/2").to_pandas(), other, check_dtype=False)
    pd.testing.assert_frame_equal(read_data("large/1").to_pandas(), frame, check_dtype=False)
    file = tmp_path / "whole.parquet"
    written = seconds(lambda: pq.write_table(pa.Table.from_pandas(other), file, compression="zstd"), 1)
    said = "storing 1,000,000 rows × 20 columns with `nb.snapshot`, digest and profile included"
    bench.row(GROUP, said, ours=first, unit="s", peers={"pyarrow, the bare Parquet file": written})
    bench.row(GROUP, f"{said}: again with 1 % of the rows changed, scattered", ours=again, unit="s",
              peers={"pyarrow, the bare Parquet file": written})  # fmt: skip
    bench.row(GROUP, "bytes stored for that second version, of the first's", ours=100 * share, unit="%",
              peers={"a second Parquet file": 100 * file.stat().st_size / size}, goal="≤ 2 %")  # fmt: skip
    assert share <= 0.02
