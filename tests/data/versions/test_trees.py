"""A snapshot keeps the digest of each chunk, so that two of them tell where they differ without being read."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import nbops as nb
from nbops.core.errors import CorruptData, NotFound
from nbops.core.ids import new_id
from nbops.core.records import ColumnSchema, Dataset, replace
from nbops.data.datasets import known_dataset, read_data
from nbops.data.digest import CHUNK_ROWS, chunks_of
from nbops.data.drifting.sides import Side, with_dataset
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.data.versions.manifest import Manifest, differing_rows, read_manifest
from nbops.store.workspace import Workspace

ROWS = 3 * CHUNK_ROWS + 100
OLD = {
    "n": [1, None, 3], "x": [0.5, None, -0.0], "t": ["a", None, "né"], "b": [True, None, False],
    "d": [dt.datetime(2024, 1, 1), None, dt.datetime(1960, 1, 1, 0, 0, 0, 7)],
}  # fmt: skip
OLD_DIGEST = "4f2bdb58a5f1e67497194a1b9191fa7fa8a1fee16995171be547fc2add1b149e"  # as it was recorded before trees
OLD_PAIR = "3d7e35472dc8999c57179e370a93ef5b75a650ec1eca3770cbf50f869a455fce"
OLD_FEATURES = "877611ae9f28537b036c73b0c91e5388684b62319f6dac4a31a4401751e12a50"


def manifest_of(workspace: Workspace, dataset: Dataset) -> Manifest:
    found = read_manifest(dataset, artifacts=workspace.artifacts)
    assert found is not None
    return found


def wide(rows: int = ROWS) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"a": rng.normal(size=rows), "b": rng.integers(0, 9, rows), "t": [f"user {k % 999}" for k in range(rows)]}


@pytest.mark.parametrize("row", [0, CHUNK_ROWS - 1, CHUNK_ROWS, ROWS - 1])
@pytest.mark.parametrize("name", ["a", "b", "t"])
def test_one_cell_changes_one_chunk_of_one_column(row: int, name: str) -> None:
    data = wide()
    old = Hashed(read(data))
    data[name] = [*data[name][:row], "x" if name == "t" else data[name][row] + 1, *data[name][row + 1 :]]
    if name != "t":
        data[name] = np.asarray(data[name])
    new = Hashed(read(data))
    assert old.digest != new.digest
    moved = [
        (one.name, number)
        for one, two in zip(old.tree, new.tree, strict=True)
        for number, pair in enumerate(zip(one.chunks, two.chunks, strict=True))
        if pair[0] != pair[1]
    ]
    assert moved == [(name, row // CHUNK_ROWS)]


def test_chunks_are_fixed_and_the_last_one_is_short() -> None:
    assert [chunks_of(n) for n in (0, 1, CHUNK_ROWS, CHUNK_ROWS + 1)] == [0, 1, 1, 2]
    tree = Hashed(read(wide())).tree
    assert [len(column.chunks) for column in tree] == [4, 4, 4]
    part = Hashed(read({name: values[:CHUNK_ROWS] for name, values in wide().items()})).tree
    assert [column.chunks for column in part] == [column.chunks[:1] for column in tree]


def test_the_number_of_threads_does_not_show() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1])\n" \
             "import test_trees; from nbops.data.hashed import Hashed; from nbops.data.frames import read\n" \
             "print(Hashed(read(test_trees.wide())).digest)"  # fmt: skip
    here = os.path.dirname(__file__)
    one_core = ["taskset", "-c", "0"] if sys.platform == "linux" else []
    told = subprocess.run(
        [*one_core, sys.executable, "-c", f"import os; os.cpu_count = lambda: 1\n{script}", here],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told.strip() == Hashed(read(wide())).digest


def test_two_snapshots_tell_their_differing_rows_without_data(workspace: Workspace) -> None:
    data = wide()
    one = nb.snapshot(data, "wide", store=False)
    data["a"] = np.where(np.arange(ROWS) // CHUNK_ROWS == 1, 0.0, data["a"])
    data["new"] = data.pop("b")
    two = nb.snapshot(data, "wide", store=False)
    with pytest.raises(NotFound, match="store=True stores"):
        read_data(two)
    a, b = manifest_of(workspace, one), manifest_of(workspace, two)
    assert differing_rows(a, b, "a") == [(CHUNK_ROWS, 2 * CHUNK_ROWS)]
    assert differing_rows(a, b, "t") == []
    assert differing_rows(a, b, "b") is None
    longer = {name: [*values, values[0]] for name, values in wide().items()}
    three = nb.snapshot(longer, "wide", store=False)
    assert differing_rows(a, manifest_of(workspace, three), "t") == [(3 * CHUNK_ROWS, ROWS + 1)]
    told = {c.name: (c.change, c.rows) for c in nb.diff("wide/1", "wide/2").columns}
    assert told["a"] == ("changed", ((CHUNK_ROWS, 2 * CHUNK_ROWS),))
    assert told["t"] == ("same", ())


def test_no_rows_one_row_and_no_columns_have_trees(workspace: Workspace) -> None:
    for name, table in {
        "none": pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.string())}),
        "one": pa.table({"a": [1], "b": ["x"]}),
        "bare": pa.table({}),
    }.items():
        dataset = nb.snapshot(table, name)
        assert read_data(dataset).equals(table), name
        assert nb.snapshot(read_data(dataset), name) == dataset


@pytest.mark.slow
def test_ten_thousand_columns_are_one_small_pack(workspace: Workspace) -> None:
    table = pa.table({f"c{k}": pa.array([k, k + 1]) for k in range(10_000)})
    dataset = nb.snapshot(table, "wide")
    assert read_data(dataset).equals(table)
    assert len(list(workspace.artifacts.blobs())) < 5


# ---- what was recorded before there were trees ----------------------------------------------------------------------


def recorded_before(workspace: Workspace, digest: str, data: Any, name: str = "old") -> Dataset:
    """A record as the first scheme left it: no scheme, no manifest."""
    frame = read(data)
    columns = [ColumnSchema(name=c.name, dtype=c.dtype, digest=d)
               for c, d in zip(frame.columns, Hashed(frame).older_columns, strict=True)]  # fmt: skip
    dataset = Dataset(id=new_id(Dataset.prefix), created_at=1.7e9, name=name, version=1, digest=digest,
                      rows=frame.rows, columns=columns)  # fmt: skip
    workspace.store.put(dataset)
    workspace.store.next_number(f"dataset/{name}")
    return dataset


def test_the_first_scheme_is_still_known(workspace: Workspace) -> None:
    old = recorded_before(workspace, OLD_DIGEST, OLD)
    assert nb.snapshot(OLD, "old") == old
    assert nb.snapshot(OLD, "old", store=True) == old
    changed = nb.snapshot({**OLD, "n": [1, None, 4]}, "old")
    assert (changed.version, changed.scheme) == (2, "tree")
    assert known_dataset(workspace, Hashed(read(OLD))) == old


def test_drift_links_data_to_a_snapshot_of_either_scheme(workspace: Workspace) -> None:
    old = recorded_before(workspace, OLD_DIGEST, OLD)
    assert with_dataset(Side(None, read(OLD)), ws=workspace).dataset == old
    changed = {**OLD, "n": [1, None, 4]}
    assert with_dataset(Side(None, read(changed)), ws=workspace).dataset is None
    new = nb.snapshot(changed, "new")
    assert with_dataset(Side(None, read(changed)), ws=workspace).dataset == new


def test_labels_and_features_of_the_first_scheme_are_found(workspace: Workspace) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    features = recorded_before(workspace, OLD_FEATURES, x, "features")
    assert known_dataset(workspace, Hashed(read((x, y)))) == features
    pair = recorded_before(workspace, OLD_PAIR, (x, y), "pair")
    assert known_dataset(workspace, Hashed(read((x, y)))) == pair
    assert known_dataset(workspace, Hashed(read((x, y + 1)))) == features
    assert known_dataset(workspace, Hashed(read(x + 1))) is None


def test_two_schemes_are_compared_where_data_is_there_and_not_guessed_at_where_not(workspace: Workspace) -> None:
    recorded_before(workspace, OLD_DIGEST, OLD)
    again = nb.snapshot(OLD, "again", store=False)
    unsure = nb.diff("old/1", "again/1")
    assert {column.change for column in unsure.columns} == {"unknown"}
    assert not unsure.is_same
    assert "another scheme" in str(unsure)
    with_data = nb.diff("old/1", OLD)
    assert {column.change for column in with_data.columns} == {"same"}
    assert nb.diff("again/1", OLD).is_same
    assert again.scheme == "tree"


# ---- damaged manifests -----------------------------------------------------------------------------------------------


def damaged(change: Any) -> Any:
    def make(manifest: Manifest) -> bytes:
        plain = msgspec.json.decode(manifest.encoded())
        change(plain)
        return msgspec.json.encode(plain)

    return make


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda _: b"{", "cannot be used"),
        (damaged(lambda m: m["tree"][0][2].append("00")), "do not fit together"),
        (damaged(lambda m: m["tree"][0][2].__setitem__(0, "00")), "that of other data"),
        (damaged(lambda m: m["tree"].pop()), "do not fit together|other data"),
        (damaged(lambda m: m["stored"]["columns"][0][0].__setitem__(0, 99)), "do not fit together"),
        (damaged(lambda m: m["stored"]["columns"][0][0].__setitem__(2, 2)), "do not fit together"),
        (damaged(lambda m: m["stored"]["pieces"][0].__setitem__(0, 7)), "do not fit together"),
        (damaged(lambda m: m["stored"]["pieces"][0].__setitem__(4, 0)), "do not fit together"),
        (damaged(lambda m: m["stored"]["categories"].__setitem__(0, 99)), "do not fit together"),
        (damaged(lambda m: m["stored"].__setitem__("categories", [])), "do not fit together"),
        (damaged(lambda m: m["stored"].__setitem__("schema", "!")), "stored types of a dataset cannot be read"),
        (damaged(lambda m: m["stored"]["pieces"][0].__setitem__(2, 10**9)), "a piece ends beyond its object"),
        (damaged(lambda m: m["stored"]["pieces"][0].__setitem__(1, 5)), "piece"),
        (damaged(lambda m: m["stored"]["columns"].reverse()), "holds"),
        (damaged(lambda m: m.__setitem__("nbops.dataset", 9)), "do not fit together"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(workspace: Workspace, made: Any, says: str) -> None:
    dataset = nb.snapshot({"a": [1, 2, 3], "t": ["x", "y", "z"]}, "d")
    digest, _ = workspace.artifacts.put(made(manifest_of(workspace, dataset)))
    workspace.store.put(replace(dataset, manifest=digest))
    with pytest.raises(CorruptData, match=says):
        read_data("d")


def test_stored_cells_that_are_others_than_recorded_are_not_given_out(workspace: Workspace) -> None:
    one, two = nb.snapshot({"a": [1, 2]}, "d"), nb.snapshot({"a": [1, 3]}, "d")
    a, b = manifest_of(workspace, one), manifest_of(workspace, two)
    digest, _ = workspace.artifacts.put(msgspec.structs.replace(a, stored=b.stored).encoded())
    workspace.store.put(replace(one, manifest=digest))
    with pytest.raises(CorruptData, match="'d/1' is not what was recorded"):
        read_data("d/1")


def test_pandas_comes_back_as_it_was(workspace: Workspace) -> None:
    frame = pd.DataFrame({
        "category": pd.Categorical(["b", None, "a"], categories=["z", "a", "b"], ordered=True),
        "whole": pd.array([1, None, 3], "Int16"), "text": pd.Series(["a", None, ""], dtype="str"),
        "zone": pd.to_datetime(["2024-01-01", None, "2024-07-01"]).tz_localize("Asia/Tokyo").as_unit("ms"),
        "fine": pd.to_datetime([1, 2, 3], unit="ns"), "span": pd.to_timedelta([1, None, 3], unit="s"),
        "flag": pd.array([True, None, False], "boolean"), "real": np.array([1.5, np.nan, -0.0], np.float32),
    })  # fmt: skip
    nb.snapshot(frame, "frame")
    pd.testing.assert_frame_equal(read_data("frame").to_pandas(), frame)
