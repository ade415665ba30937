"""A version stores what the one before it does not have, and comes back exactly."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbops as nb
from nbops.core.errors import CorruptData, InvalidInput
from nbops.core.records import Dataset
from nbops.data.datasets import checkout, read_data
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.versions.cells import decoded, encoded
from nbops.data.versions.manifest import Manifest, read_manifest
from nbops.data.versions.reading import StoredCells
from nbops.data.versions.writing import store_cells
from nbops.store.artifacts import Artifacts
from nbops.store.inspection import check_workspace
from nbops.store.maintenance import purge, sweep, trash
from nbops.store.moving import move
from nbops.store.workspace import Workspace, init

ROWS = 200_000
Table = dict[str, Any]


def table(rows: int = ROWS) -> Table:
    """Numbers that no codec shrinks, a text, a category of few values, and times with gaps."""
    rng = np.random.default_rng(0)
    at = rng.integers(0, 10**15, rows).astype("datetime64[us]")
    at[::7] = np.datetime64("NaT")
    made = {f"x{k}": rng.normal(size=rows) for k in range(6)}
    return made | {
        "id": rng.permutation(rows), "at": at,
        "text": np.array([f"user {k}" for k in rng.integers(0, 10**9, rows)], object),
        "kind": np.array(["a", "b", "c"], object)[rng.integers(0, 3, rows)],
    }  # fmt: skip


def stored_bytes(ws: Workspace) -> int:
    return sum(blob.size_bytes for blob in ws.artifacts.blobs())


def stored_by(ws: Workspace, data: Table, name: str = "sales") -> int:
    """Snapshot and return how many bytes were stored; what was stored comes back equal."""
    before = stored_bytes(ws)
    dataset = nb.snapshot(data, name, store=True)
    assert dataset.tags["stored"] == "pieces"
    assert nb.snapshot(read_data(dataset), name) == dataset
    return stored_bytes(ws) - before


def rows_at(data: Table, rows: Any) -> Table:
    return {name: values[rows] for name, values in data.items()}


def joined(*parts: Table) -> Table:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def with_other_rows(data: Table, at: Any) -> Table:
    """Every cell of some rows is another's."""
    made = {name: values.copy() for name, values in data.items()}
    for values in made.values():
        values[at] = np.roll(values[at], 1)
    return made


@pytest.mark.slow
def test_one_percent_of_changed_rows_stores_at_most_two_percent(workspace: Workspace) -> None:
    data = table()
    whole = stored_by(workspace, data)
    assert whole > 8 * 6 * ROWS
    scattered = np.random.default_rng(1).choice(ROWS, ROWS // 100, replace=False)
    data = with_other_rows(data, scattered)
    assert stored_by(workspace, data) <= 0.02 * whole
    data = with_other_rows(data, slice(50_000, 50_000 + ROWS // 100))
    assert stored_by(workspace, data) <= 0.02 * whole
    for round in range(3):  # changes upon changes
        data = with_other_rows(data, np.random.default_rng(round).choice(ROWS, ROWS // 100, replace=False))
        assert stored_by(workspace, data) <= 0.02 * whole
    assert nb.snapshot(table(), "sales").version == 1
    assert Hashed(read(read_data("sales/1"))).digest == Hashed(read(table())).digest


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (lambda d: joined(d, rows_at(table(ROWS // 50), slice(None))), 0.025),
        (lambda d: joined(rows_at(d, slice(0, 70_000)), table(2_000), rows_at(d, slice(70_000, None))), 0.02),
        (lambda d: rows_at(d, np.r_[0:10_000, 10_500:90_000, 90_001:ROWS]), 0.01),
        (lambda d: rows_at(d, np.r_[100_000:ROWS, 0:100_000]), 0.01),
        (lambda d: rows_at(d, slice(0, ROWS // 3)), 0.01),
        (lambda d: d | {"new": np.random.default_rng(5).normal(size=ROWS)}, 0.15),
        (lambda d: {name: d[name] for name in list(d)[::2]}, 0.01),
        (lambda d: {f"{name}_": values for name, values in d.items()}, 0.01),
        (lambda d: dict(reversed(d.items())), 0.01),
        (lambda d: d | {"x0": d["x0"] * 2}, 0.15),
    ],
    ids=[
        "append",
        "insert",
        "delete",
        "move",
        "head",
        "new column",
        "fewer columns",
        "rename",
        "reorder",
        "one column",
    ],
)
def test_only_what_is_new_is_stored(workspace: Workspace, change: Callable[[Table], Table], share: float) -> None:
    data = table()
    whole = stored_by(workspace, data)
    assert stored_by(workspace, change(data)) <= share * whole


@pytest.mark.slow
def test_many_versions_of_few_rows_stay_readable(workspace: Workspace) -> None:
    data = table(3000)
    for version in range(1, 25):  # more than pieces may lie upon each other
        data = with_other_rows(data, [version, 2 * version, 1000 + version])
        data = joined(data, rows_at(data, slice(0, 1)))
        stored_by(workspace, data)
    for version in (1, 12, 24):
        assert len(read_data(f"sales/{version}")) == 3000 + version


def test_other_datasets_share_whole_columns(workspace: Workspace) -> None:
    data = table()
    whole = stored_by(workspace, data)
    assert stored_by(workspace, {"x1": data["x1"], "text": data["text"]}, "other") < 0.02 * whole


def test_a_version_that_was_only_described_can_be_stored_later(workspace: Workspace) -> None:
    first = nb.snapshot(table(100), "sales", store=False)
    assert first.tags["stored"] == "store=False"
    again = nb.snapshot(table(100), "sales", store=True)
    assert (again.id, again.version, again.tags["stored"]) == (first.id, 1, "pieces")
    assert len(read_data("sales")) == 100
    assert nb.snapshot(table(100), "sales", store=False) == again


# ---- exact types -----------------------------------------------------------------------------------------------------

ODD = pa.table({
    "small": pa.array([1, None, 3], pa.int8()), "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "half": pa.array(np.array([1, 2, np.nan], np.float16)), "nan or null": pa.array([float("nan"), None, -0.0]),
    "text": pa.array(["a", None, ""], pa.string()), "large": pa.array(["né", None, "x"], pa.large_string()),
    "view": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
    "bytes": pa.array([b"", None, b"\xff"], pa.binary()), "flag": pa.array([True, None, False]),
    "price": pa.array([Decimal("1.50"), None, Decimal("-2.25")], pa.decimal128(10, 2)),
    "day": pa.array([dt.date(2024, 1, 1), None, dt.date(1, 1, 1)], pa.date32()),
    "day64": pa.array([dt.date(2024, 1, 1), None, dt.date(1960, 1, 1)], pa.date64()),
    "clock": pa.array([dt.time(1, 2, 3), None, dt.time(5)], pa.time32("s")),
    "zone": pa.array([0, None, 10**9], pa.timestamp("ms", "Europe/Vienna")),
    "fine": pa.array([1, None, 10**18 + 1], pa.timestamp("ns")), "span": pa.array([1, None, 3], pa.duration("s")),
    "category": pa.DictionaryArray.from_arrays(pa.array([2, None, 1], pa.int16()), ["z", "b", "a"], ordered=True),
    "whole category": pa.array([5, None, 7]).dictionary_encode(),
    "list": pa.array([[1, 2], None, []], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}]),
    "none": pa.nulls(3),
}, metadata={"made by": "hand"})  # fmt: skip


def same(one: pa.Table, two: pa.Table) -> bool:
    """Equal in every bit: pyarrow takes NaN for unlike itself."""
    return one.schema.equals(two.schema, check_metadata=True) and repr(one.to_pylist()) == repr(two.to_pylist())


def test_arrow_types_come_back_exactly(workspace: Workspace) -> None:
    dataset = nb.snapshot(ODD, "odd")
    assert dataset.tags["stored"] == "pieces"
    stored = read_data(dataset)
    assert same(stored, ODD)
    assert stored["category"].chunk(0).dictionary.to_pylist() == ["z", "b", "a"]
    chunked = pa.concat_tables([ODD.slice(2), ODD, ODD.slice(1, 1)])
    nb.snapshot(chunked, "odd")
    assert same(read_data("odd/2"), chunked.combine_chunks())
    assert same(read_data("odd/1"), ODD)


def test_polars_types_come_back(workspace: Workspace) -> None:
    frame = pl.DataFrame({
        "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["z", "a", "b"])), "list": [[1], None, [2, 3]],
        "cat": pl.Series(["x", "y", None], dtype=pl.Categorical), "time": [dt.time(1), None, dt.time(2)],
        "dec": pl.Series([Decimal("1.25"), None, Decimal("3")], dtype=pl.Decimal(12, 4)), "s": ["a", None, "b"],
    })  # fmt: skip
    dataset = nb.snapshot(frame, "frame")
    assert dataset.tags["stored"] == "pieces"
    back = pl.from_arrow(read_data(dataset))
    assert isinstance(back, pl.DataFrame)
    assert back.drop("enum", "cat").equals(frame.drop("enum", "cat"))
    assert back["enum"].to_list() == ["b", None, "a"]
    assert back.schema["dec"] == pl.Decimal(12, 4)


@pytest.mark.slow
def test_a_category_that_comes_and_goes_stores_only_its_list(workspace: Workspace) -> None:
    values = np.array(["a", "b", "c"], object)[np.random.default_rng(0).integers(0, 3, ROWS)]
    first = pd.DataFrame({"k": pd.Categorical(values, categories=["a", "b", "c"])})
    nb.snapshot(first, "k")
    before = stored_bytes(workspace)
    second = pd.DataFrame({"k": pd.Categorical([*values, "d"], categories=["d", "c", "b", "a"])})
    nb.snapshot(second, "k")
    assert stored_bytes(workspace) - before < 5000
    pd.testing.assert_frame_equal(read_data("k").to_pandas(), second)
    pd.testing.assert_frame_equal(read_data("k/1").to_pandas(), first)


def test_arrays_and_images_store_what_changed(workspace: Workspace) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5000, 8, 8), np.uint8)
    labels = np.arange(5000) % 10
    nb.snapshot({"X": images, "y": labels}, "images", store=True)
    whole = stored_bytes(workspace)
    changed = images.copy()
    changed[17, 3, 3] ^= 1
    more = np.concatenate([changed, images[:20]])
    nb.snapshot({"X": more, "y": np.append(labels, labels[:20])}, "images", store=True)
    assert stored_bytes(workspace) - whole < 0.02 * whole
    stored = read_data("images")
    np.testing.assert_array_equal(stored["X"], more)
    np.testing.assert_array_equal(read_data("images/1")["X"], images)
    assert stored["X"].dtype == np.uint8


def test_times_in_a_finer_unit_are_stored_anew_and_right(workspace: Workspace) -> None:
    at = np.arange(1000).astype("datetime64[us]")
    nb.snapshot({"t": at}, "times")
    fine = at.astype("datetime64[ns]") + np.timedelta64(1, "ns")
    nb.snapshot({"t": fine}, "times")
    np.testing.assert_array_equal(read_data("times")["t"].to_numpy(), fine)
    np.testing.assert_array_equal(read_data("times/1")["t"].to_numpy(), at)


CELLS = st.lists(st.none() | st.integers(0, 3), min_size=0, max_size=12)


@given(st.lists(st.tuples(CELLS, st.integers(0, 2)), min_size=2, max_size=5))
def test_any_history_of_tables_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[int | None], int]]
) -> None:
    """Each version is stored upon the one before; long repeats make runs that move."""
    artifacts, base = Artifacts(str(tmp_path_factory.mktemp("pieces"))), None
    told: list[tuple[Manifest, pa.Table]] = []
    for cells, shift in steps:
        repeated = [*range(shift * 40), *(c for c in cells for _ in range(9)), *range(60)]
        data = pa.table(
            {"n": pa.array(repeated, pa.int64()), "t": pa.array([None if c is None else f"v{c}" for c in repeated])}
        )
        frame = read(data)
        base = store_cells(frame, Hashed(frame).tree, base=base, artifacts=artifacts)
        told.append((base, data))
    for manifest, data in told:
        assert manifest.stored is not None
        assert StoredCells(manifest, manifest.stored, artifacts=artifacts).table().equals(data)


# ---- faults and keeping ----------------------------------------------------------------------------------------------


def test_bytes_that_are_no_piece_are_refused() -> None:
    cells, at = decoded(encoded(pa.array([1, 2]), np.array([3, 5])))
    assert (cells.to_pylist(), at.tolist()) == ([1, 2], [3, 5])
    whole = encoded(pa.array([1, 2]))
    for data in (b"", b"x", whole[:-3], b"\xff" * 8 + whole[8:], whole[:8] + b"junk"):
        with pytest.raises(CorruptData, match="a stored piece of a column cannot be read"):
            decoded(data)


def test_a_damaged_version_before_costs_only_its_bytes(workspace: Workspace) -> None:
    dataset = nb.snapshot(table(5000), "sales")
    manifest = read_manifest(dataset, artifacts=workspace.artifacts)
    assert manifest is not None
    assert manifest.stored is not None
    for digest in manifest.stored.objects:
        workspace.artifacts.delete(digest)
    assert not check_workspace(workspace).is_well
    changed = with_other_rows(table(5000), [1, 2])
    nb.snapshot(changed, "sales")
    assert Hashed(read(read_data("sales/2"))).digest == Hashed(read(changed)).digest


@pytest.mark.slow
def test_killed_while_it_stores_nothing_is_seen(workspace: Workspace) -> None:
    script = """
import sys, os
sys.path.insert(0, sys.argv[1])
import test_versions as t, nbops as nb
from nbops.store.artifacts import Artifacts
put = Artifacts.put
def slow(self, data):
    done = put(self, data)
    print("stored", flush=True)
    sys.stdin.readline()
    return done
Artifacts.put = slow
nb.snapshot(t.table(), "sales", store=True)
"""
    for puts in (1, 5, 12):
        process = subprocess.Popen([sys.executable, "-c", script, os.path.dirname(__file__)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            for _ in range(puts):
                assert process.stdout.readline() == "stored\n"
                process.stdin.write("\n")
                process.stdin.flush()
            process.send_signal(signal.SIGKILL)
        assert workspace.store.count(Dataset) == 0
        assert stored_bytes(workspace) > 0
    assert check_workspace(workspace).is_well
    sweep(workspace.store, workspace.artifacts, grace_s=-1)
    assert stored_bytes(workspace) == 0
    assert nb.snapshot(table(), "sales", store=True).version == 1


def test_a_sweep_keeps_what_any_version_needs(workspace: Workspace) -> None:
    data = table(20_000)
    first = nb.snapshot(data, "sales")
    nb.snapshot(with_other_rows(data, [1, 5, 9]), "sales")
    kept = stored_bytes(workspace)
    assert sweep(workspace.store, workspace.artifacts, grace_s=-1) == (0, 0)
    trash(workspace.store, first)
    purge(workspace.store, before=time.time() + 1)
    sweep(workspace.store, workspace.artifacts, grace_s=-1)
    assert len(read_data("sales/2")) == 20_000
    assert kept - 20_000 < stored_bytes(workspace) < kept  # the manifest of the first went
    assert check_workspace(workspace).is_well


@pytest.mark.slow
def test_a_manifest_of_many_columns_is_followed_by_a_sweep(workspace: Workspace) -> None:
    nb.snapshot(pa.table({f"c{k}": pa.array([k, k + 1]) for k in range(9000)}), "wide")
    assert max(blob.size_bytes for blob in workspace.artifacts.blobs()) > 1 << 20
    assert sweep(workspace.store, workspace.artifacts, grace_s=-1) == (0, 0)


def test_a_bundle_and_a_move_take_the_data_along(workspace: Workspace, tmp_path: Path) -> None:
    data = table(20_000)
    nb.snapshot(data, "sales")
    newer = nb.snapshot(with_other_rows(data, [1, 5]), "sales")
    with nb.run("fit", data=newer):
        pass
    report = nb.export_runs("shared.nbops.zip", format="bundle")
    assert report.is_well, report.problems
    move(artifacts_url=str(tmp_path / "elsewhere"))
    assert len(read_data("sales/2")) == 20_000
    other = init(tmp_path / "other")
    imported = nb.import_runs("shared.nbops.zip")
    assert imported.is_well, imported.problems
    (dataset,) = other.store.find(Dataset)
    assert nb.snapshot(read_data(dataset), "sales").digest == newer.digest
    assert check_workspace(other).is_well
    assert sweep(other.store, other.artifacts, grace_s=-1)[0] == 0


def test_a_table_is_checked_out_as_parquet(workspace: Workspace, tmp_path: Path) -> None:
    frame = pd.DataFrame({"k": pd.Categorical(["a", "b", "a"]), "n": [1, 2, 3]})
    dataset = nb.snapshot(frame, "sales")
    path = checkout("sales", to=tmp_path / "out" / "sales.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    assert nb.snapshot(path, "sales") == dataset
    with pytest.raises(InvalidInput, match="is there already"):
        checkout("sales", to=path)
    nb.snapshot(np.zeros((3, 2)), "array")
    with pytest.raises(ValueError, match="holds arrays: X"):
        checkout("array", to=tmp_path / "x.parquet")


def test_a_parquet_file_that_is_cut_off_is_said(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pd.DataFrame({"a": range(1000)}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InvalidInput, match="cannot read .*cut.parquet' as Parquet: .*\nThe file may be cut off"):
        nb.snapshot(path, "cut")
    with pytest.raises(InvalidInput, match="column name used twice: .*'a'"):
        nb.snapshot(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "twice")
    assert workspace.store.count(Dataset) == 0
