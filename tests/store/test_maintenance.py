"""Trash, restore, purge and sweep, the same on SQLite and PostgreSQL; files go only when nothing names them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from nbops.core.codec import encode
from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.ids import new_id
from nbops.core.query import parse
from nbops.core.records import Alias, Artifact, Cell, Dataset, Endpoint, ModelVersion, Run, RunStatus, Signature
from nbops.store.artifacts import Artifacts
from nbops.store.maintenance import in_trash, purge, restore, sweep, trash, trashed
from nbops.store.sql import SqlStore
from nbops.testing import a_run, some_points, values_of

DONE = RunStatus.FINISHED


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "blobs"))


def an_artifact(digest: str, parent: str | None) -> Artifact:
    return Artifact(id=new_id("art"), created_at=1.0, name="f", digest=digest, size_bytes=1, parent=parent)


def a_cell(parent: str, **fields: Any) -> Cell:
    return Cell(id=new_id("cell"), created_at=1.0, parent=parent, cell_id="c", execution_count=1, source_digest="x",
                **fields)  # fmt: skip


def a_dataset(**fields: Any) -> Dataset:
    return Dataset(id=new_id("ds"), created_at=1.0, name="d", version=1, digest="x", rows=1, **fields)


def a_model(digest: str = "d" * 64, **fields: Any) -> ModelVersion:
    signature = Signature(inputs=[], outputs=[])
    return ModelVersion(**{"id": new_id("mv"), "created_at": 1.0, "name": "net", "number": 1, "digest": digest,
                           "signature": signature, **fields})  # fmt: skip


def age(artifacts: Artifacts, digest: str, seconds: float) -> None:
    path = Path(artifacts._path(digest))
    then = time.time() - seconds
    os.utime(path, (then, then))


class Keeping:
    """What trash, restore, purge and sweep keep on any database."""

    def test_what_is_in_the_trash_is_seen_by_no_query(self, store: SqlStore) -> None:
        run, other = a_run(name="r", status=DONE, params={"lr": 1}), a_run(name="other", params={"lr": 1})
        store.put(run)
        store.put(other)
        store.add_points([some_points(run.id, "acc", [0.9])])
        assert trash(store, run) == 1
        assert [r.id for r in store.find(Run)] == [other.id]
        assert store.count(Run, parse("params.lr == 1")) == 1
        assert store.count(Run, parse("metrics.acc > 0")) == 0
        with pytest.raises(NotFound):
            store.get(Run, run.id)
        assert in_trash(store, run.id)
        assert not in_trash(store, other.id)
        (item,) = trashed(store)
        assert (item.id, item.kind, item.name, item.records) == (run.id, "run", "r", 1)
        assert abs(item.at - time.time()) < 60

    def test_restore_brings_everything_back_as_it_was(self, store: SqlStore) -> None:
        run = a_run(status=DONE, params={"lr": 1}, tags={"a": "b"})
        store.put(run)
        store.add_points([some_points(run.id, "acc", [0.5, 0.9])])
        store.link("ds_1", "used_by", run.id)
        before = store.get(Run, run.id)
        trash(store, run)
        assert restore(store, run.id) == 1
        assert store.get(Run, run.id) == before
        assert store.count(Run, parse("params.lr == 1 and metrics.acc > 0.8 and tags.a == 'b'")) == 1
        assert values_of(store.points(run.id, "acc")) == [0.5, 0.9]
        assert len(store.links(run.id)) == 1
        assert trashed(store) == []
        assert [e.kind for e in store.events(subject=run.id)][-2:] == ["run.trashed", "run.restored"]
        with pytest.raises(NotFound, match="not in the trash"):
            restore(store, run.id)
        trash(store, run)  # and again
        assert restore(store, run.id) == 1

    def test_a_run_takes_along_what_belongs_to_it_and_leaves_models_and_data(self, store: SqlStore) -> None:
        run = a_run(status=DONE)
        inner = a_run(status=DONE, parent=run.id)
        cell = Cell(
            id=new_id("cell"), created_at=1.0, parent=inner.id, cell_id="c", execution_count=1, source_digest="x"
        )
        file, model = an_artifact("a" * 64, inner.id), a_model(parent=run.id)
        data = a_dataset()
        for item in (run, inner, cell, file, model, data):
            store.put(item)
        assert trash(store, run) == 4
        assert [store.count(kind) for kind in (Run, Cell, Artifact, ModelVersion, Dataset)] == [0, 0, 0, 1, 1]
        with pytest.raises(Conflict, match=run.id):
            restore(store, inner.id)
        restore(store, run.id)
        assert [store.count(kind) for kind in (Run, Cell, Artifact)] == [2, 1, 1]

    def test_what_went_before_stays_when_its_parent_comes_back(self, store: SqlStore) -> None:
        run = a_run(status=DONE)
        inner = a_run(status=DONE, parent=run.id)
        store.put(run)
        store.put(inner)
        trash(store, inner)
        trash(store, run)
        restore(store, run.id)
        assert [r.id for r in store.find(Run)] == [run.id]
        assert [t.id for t in trashed(store)] == [inner.id]

    def test_what_runs_serves_or_is_named_stays(self, store: SqlStore) -> None:
        run = a_run(status=DONE)
        inner = a_run(name="inner", parent=run.id)  # still running
        model = a_model()
        alias = Alias(id=new_id("al"), created_at=1.0, name="net@prod", model="net", alias="prod", number=1)
        endpoint = Endpoint(id=new_id("ep"), created_at=1.0, name="e", url="", status="READY", pid=1, models=[])
        for item in (run, inner, model, alias, endpoint):
            store.put(item)
        for item, match in ((run, "'inner' is running"), (model, "net@prod points at net/1"), (endpoint, "is READY")):
            with pytest.raises(Conflict, match=match):
                trash(store, item)
        with pytest.raises(InvalidInput, match="alias"):
            trash(store, alias)
        with pytest.raises(NotFound):
            trash(store, a_run())
        assert trashed(store) == []

    def test_purge_deletes_what_is_old_enough_and_nothing_else(self, store: SqlStore) -> None:
        old, new, kept = (a_run(name=name, status=DONE) for name in ("old", "new", "kept"))
        for run in (old, new, kept):
            store.put(run)
            store.add_points([some_points(run.id, "m", [1.0])])
            store.link("ds_1", "used_by", run.id)
        trash(store, old)
        between = time.time()
        trash(store, new)
        assert [t.id for t in purge(store, before=between)] == [old.id]
        assert values_of(store.points(old.id, "m")) == []
        assert store.links(old.id) == []
        with pytest.raises(NotFound):
            restore(store, old.id)
        restore(store, new.id)
        assert {r.name for r in store.find(Run)} == {"new", "kept"}
        assert values_of(store.points(new.id, "m")) == [1.0]
        assert store.events(subject=old.id)[-1].kind == "run.purged"
        assert purge(store, before=time.time() + 1) == []

    def test_a_file_goes_with_the_last_record_that_names_it(self, store: SqlStore, artifacts: Artifacts) -> None:
        shared, _ = artifacts.put(b"shared")
        own, _ = artifacts.put(b"own")
        a, b = a_run(status=DONE), a_run(status=DONE)
        for run in (a, b):
            store.put(run)
            store.put(an_artifact(shared, run.id))
        store.put(an_artifact(own, a.id))
        trash(store, a)
        assert sweep(store, artifacts, grace_s=0) == (0, 0)  # the trash still names them
        purge(store, before=time.time() + 1)
        assert sweep(store, artifacts, grace_s=0) == (1, 3)
        assert (artifacts.exists(shared), artifacts.exists(own)) == (True, False)
        trash(store, b)
        purge(store, before=time.time() + 1)
        assert sweep(store, artifacts, grace_s=0) == (1, 6)

    def test_manifests_cells_and_data_keep_their_files(self, store: SqlStore, artifacts: Artifacts) -> None:
        weights, _ = artifacts.put(b"\x00weights")
        manifest, _ = artifacts.put(encode({"files": {"model.onnx": {"digest": weights}}}))
        outputs, _ = artifacts.put(b"[]")
        table, _ = artifacts.put(b"rows")
        unknown, _ = artifacts.put(b"nobody's")
        model = a_model(manifest)
        store.put(model)
        store.put(Cell(id=new_id("cell"), created_at=1.0, parent="run_x", cell_id="c", execution_count=1,
                       source_digest="s", outputs=outputs))  # fmt: skip
        store.put(
            Dataset(id=new_id("ds"), created_at=1.0, name="d", version=1, digest="x", rows=1, profile={"at": table})
        )
        assert sweep(store, artifacts, grace_s=0) == (1, 8)
        assert not artifacts.exists(unknown)
        assert all(artifacts.exists(digest) for digest in (weights, manifest, outputs, table))
        trash(store, model)
        assert sweep(store, artifacts, grace_s=0) == (0, 0)
        purge(store, before=time.time() + 1)
        assert sweep(store, artifacts, grace_s=0)[0] == 2
        assert not artifacts.exists(weights)

    def test_a_fresh_file_of_a_running_writer_stays(self, store: SqlStore, artifacts: Artifacts) -> None:
        fresh, _ = artifacts.put(b"its record comes next")
        old, _ = artifacts.put(b"nobody's")
        age(artifacts, old, 90_000)
        left = Path(artifacts._root) / "tmp" / "blob-dead"
        left.write_bytes(b"half")
        os.utime(left, (1, 1))
        assert sweep(store, artifacts)[0] == 1
        assert (artifacts.exists(fresh), artifacts.exists(old), left.exists()) == (True, False, False)
        age(artifacts, fresh, 90_000)
        artifacts.put(b"its record comes next")  # stored again: young again
        assert sweep(store, artifacts) == (0, 0)


class TestSQLite(Keeping):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        opened = SqlStore(f"sqlite:///{tmp_path}/t.db")
        yield opened
        opened.close()


@pytest.mark.postgres
class TestPostgreSQL(Keeping):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SqlStore]:
        opened = SqlStore(postgres_url)
        yield opened
        opened.close()


def test_storing_again_makes_young_on_object_storage_too(tmp_path: Path) -> None:
    artifacts = Artifacts(f"memory://{tmp_path.name}")
    digest, _ = artifacts.put(b"x")
    file = fsspec.filesystem("memory").store[f"/{tmp_path.name}/{digest[:2]}/{digest}"]
    file.modified = file.created = file.modified.replace(year=2020)
    assert artifacts.modified_at(digest) < time.time() - 90_000
    artifacts.put(b"x")
    assert artifacts.modified_at(digest) > time.time() - 60
