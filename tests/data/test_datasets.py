"""`nb.snapshot` numbers versions by content, keeps small data, and never records the same content twice."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import nbops as nb
from nbops.core.errors import CorruptData, InvalidInput, NotFound
from nbops.core.records import Artifact, Dataset, Link, Source
from nbops.data.datasets import find_dataset, read_data
from nbops.data.frames import read
from nbops.data.hashed import Hashed
from nbops.store.context import inside_run
from nbops.store.workspace import Workspace, init

FRAME = pd.DataFrame({"id": [1, 2, 3], "city": ["Bern", None, "Graz"], "price": [1.5, 2.5, None]})


def test_snapshot_records_schema_profile_and_digest(workspace: Workspace) -> None:
    dataset = nb.snapshot(FRAME, "sales", source="export.csv", key="id", tags={"team": "x"})
    assert (dataset.name, dataset.version, dataset.rows) == ("sales", 1, 3)
    assert [(c.name, c.dtype) for c in dataset.columns] == [("id", "int64"), ("city", "text"), ("price", "float64")]
    assert len({column.digest for column in dataset.columns}) == 3
    assert dataset.profile["columns"]["price"]["max"] == 2.5
    assert dataset.profile["key"] == ["id"]
    assert dataset.source == Source(origin="export.csv")
    assert dataset.tags["team"] == "x"
    assert workspace.store.get(Dataset, dataset.id) == dataset
    assert [event.kind for event in workspace.store.events(subject=dataset.id)] == ["dataset.created"]


def test_the_same_content_is_the_same_version_and_any_change_a_new_one(workspace: Workspace) -> None:
    first = nb.snapshot(FRAME, "sales")
    assert nb.snapshot(FRAME, "sales") == first
    assert nb.snapshot(pl.from_pandas(FRAME), "sales") == first
    assert workspace.store.count(Dataset) == 1
    second = nb.snapshot(FRAME.assign(price=[1.5, 2.5, 0.0]), "sales")
    assert (second.version, nb.snapshot(FRAME, "sales").version) == (2, 1)
    assert [a.digest == b.digest for a, b in zip(first.columns, second.columns, strict=True)] == [True, True, False]
    assert nb.snapshot(FRAME, "other").version == 1


def test_a_re_run_takes_over_new_tags_source_and_key(workspace: Workspace) -> None:
    first = nb.snapshot(FRAME, "sales", tags={"a": "1"})
    again = nb.snapshot(
        FRAME, "sales", tags={"b": "2"}, source={"origin": "db", "label_set": "v2"}, key=["id", "city"][:1]
    )
    assert again.id == first.id
    kinds = [event.kind for event in workspace.store.events(subject=first.id)]
    assert kinds == ["dataset.created", "dataset.updated"]
    assert again.tags == first.tags | {"b": "2"}
    assert again.source == Source(origin="db", label_set="v2")
    assert find_dataset("sales") == again
    assert nb.snapshot(FRAME, "sales") == again


def test_the_current_run_is_linked_each_time(workspace: Workspace) -> None:
    with inside_run("run_1"):
        dataset = nb.snapshot(FRAME, "sales")
        nb.snapshot(FRAME, "sales")
    with inside_run("run_2"):
        nb.snapshot(FRAME, "sales")
    used = [link for link in workspace.store.links(dataset.id) if link.relation == "used_by"]
    assert used == [Link(source=dataset.id, relation="used_by", target=run) for run in ("run_1", "run_2")]


def test_two_processes_record_the_same_content_once(workspace: Workspace) -> None:
    script = "import sys, nbops as nb; print(nb.snapshot({'a': list(range(int(sys.argv[1])))}, 'd').version)"

    def snapshot(rows: int) -> str:
        done = subprocess.run([sys.executable, "-c", script, str(rows)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with ThreadPoolExecutor(3) as pool:
        versions = list(pool.map(snapshot, [5, 5, 6]))
    stored = {d.rows: str(d.version) for d in workspace.store.find(Dataset)}
    assert workspace.store.count(Dataset) == 2
    assert versions == [stored[5], stored[5], stored[6]]


@pytest.mark.parametrize(
    "form", [pd.DataFrame, pa.Table.from_pandas, pl.from_pandas], ids=["pandas", "Arrow", "polars"]
)
def test_small_tables_are_kept_and_come_back_equal(workspace: Workspace, form: Any) -> None:
    table = FRAME.assign(
        when=pd.to_datetime(["2024-01-01 01:02:03.004", None, "2024-02-01 00:00:00.0"]),
        local=pd.to_datetime(["2024-01-01", None, "2024-02-01"]).tz_localize("Europe/Paris"),
        flag=pd.array([True, None, False], "boolean"),
        count=pd.array([1, None, 3], "Int32"),
        span=pd.to_timedelta(["1s", None, "2s"]),
    )
    dataset = nb.snapshot(form(table), "sales")
    assert dataset.tags["stored"] == "pieces"
    stored = read_data("sales/1")
    assert stored.column_names == list(table.columns)
    assert nb.snapshot(stored, "sales") == dataset
    (link,) = workspace.store.links(dataset.id)
    artifact = workspace.store.get(Artifact, link.target)
    assert (artifact.name, artifact.media_type) == ("sales-1.json", "application/vnd.nbops.dataset+json")
    assert artifact.digest == dataset.manifest == dataset.tags["stored_digest"]


def test_rare_types_come_back_equal(workspace: Workspace) -> None:
    table = {
        "price": [Decimal("1.50"), None, Decimal("200")],
        "day": [dt.date(2024, 1, 1), None, dt.date(1960, 1, 1)],
        "clock": [dt.time(1, 2, 3), None, dt.time(5)],
        "raw": [b"x", None, b""],
        "none": [None, None, None],
    }
    dataset = nb.snapshot(table, "rare")
    assert dataset.tags["stored"] == "pieces"
    assert nb.snapshot(read_data("rare"), "rare") == dataset


def test_arrays_are_kept_as_arrays(workspace: Workspace, digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    pair = nb.snapshot((x, y), "digits")
    images = nb.snapshot({"X": x.reshape(-1, 8, 8), "y": y}, "images")
    bare = nb.snapshot(x, "features")
    assert [d.tags["stored"] for d in (pair, images, bare)] == ["pieces"] * 3
    np.testing.assert_array_equal(read_data("digits")["X"], x)
    np.testing.assert_array_equal(read_data(images)["X"], x.reshape(-1, 8, 8))
    assert list(read_data(bare)) == ["X"]
    for dataset in (pair, images, bare):
        assert nb.snapshot(read_data(dataset), dataset.name) == dataset


def test_tensors_beside_text_are_kept_too(workspace: Workspace) -> None:
    data = {"image": np.arange(8.0).reshape(2, 2, 2), "name": ["a", None], "n": pl.Series([1, None])}
    dataset = nb.snapshot(data, "mixed")
    stored = read_data(dataset)
    assert stored["name"].tolist() == ["a", None]
    assert stored["n"].tolist() == [1, None]
    assert nb.snapshot(stored, "mixed") == dataset


def test_tables_without_pyarrow_are_kept_as_npz(workspace: Workspace) -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
import nbops as nb
from nbops.data.datasets import read_data
from decimal import Decimal
data = {"n": [1, None], "t": ["a", None], "x": [0.5, None], "p": [Decimal("1.5"), None]}
dataset = nb.snapshot(data, "plain")
assert nb.snapshot(read_data("plain"), "plain") == dataset
print(dataset.tags["stored"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("npz", "")


def test_large_data_is_described_but_not_kept(tmp_path: Any) -> None:
    (tmp_path / ".nbops").mkdir()
    (tmp_path / ".nbops" / "config.toml").write_text("dataset_max_bytes = 1000\n")
    init(tmp_path)
    dataset = nb.snapshot({"a": np.zeros(126)}, "big")
    assert dataset.tags["stored"] == "1,008 bytes are more than dataset_max_bytes = 1,000"
    with pytest.raises(NotFound, match="'big/1' is not stored: 1,008 bytes"):
        read_data("big")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"a": [1, "x"]}, "column 'a' holds mixed values"),
        (pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)}), "Arrow cannot hold column 'a': Invalid UTF8"),
    ],
    ids=["mixed", "surrogate"],
)
def test_what_a_file_cannot_hold_is_said(workspace: Workspace, data: Any, why: str) -> None:
    assert why in nb.snapshot(data, "odd").tags["stored"]


def test_changed_bytes_are_refused(workspace: Workspace) -> None:
    dataset = nb.snapshot(FRAME, "sales")
    digest = dataset.tags["stored_digest"]
    (blob,) = (path for path in (workspace.path / "blobs").rglob(f"*{digest[2:]}") if path.is_file())
    blob.chmod(0o644)
    blob.write_bytes(b"something else")
    with pytest.raises(CorruptData):
        read_data(dataset)


def test_datasets_are_found_by_name_and_version(workspace: Workspace) -> None:
    nb.snapshot(FRAME, "sales")
    second = nb.snapshot(FRAME[:2], "sales")
    assert find_dataset("sales") == find_dataset("sales/2") == find_dataset(second) == second
    assert find_dataset("sales/1").rows == 3
    with pytest.raises(NotFound, match="no dataset 'sale'\nDid you mean 'sales'"):
        find_dataset("sale")
    for ref in ("sales/3", "sales/x"):
        with pytest.raises(NotFound, match=f"no dataset '{ref}'\nUse a version from 1 to 2"):
            find_dataset(ref)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "a/b"}, "cannot be named 'a/b'"),
        ({"name": ""}, "cannot be named ''"),
        ({"name": 3}, "cannot be named 3"),
        ({"source": {"origins": "x"}}, "source has no field 'origins'"),
        ({"tags": {"stored": "x"}}, "the tag 'stored' is written by nb.snapshot"),
        ({"key": "city"}, "key column 'city' has 1 missing cells"),
        ({"key": "twice"}, r"the key \(twice\) repeats in 1 rows"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_written(
    workspace: Workspace, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        nb.snapshot(FRAME.assign(twice=[1, 1, 2]), **{"name": "sales", **options})
    assert workspace.store.count(Dataset) == 0


def test_a_key_that_is_no_column_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="no column 'ids'\nDid you mean 'id'"):
        nb.snapshot(FRAME, "sales", key="ids")


def test_an_array_like_of_another_library_is_read() -> None:
    @dataclass
    class Other:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.arange(6.0).reshape(3, 2)

    assert Hashed(read(Other())).digest == Hashed(read(np.arange(6.0).reshape(3, 2))).digest
