"""The store contract on SQLite, PostgreSQL and memory; the artifact contract on a folder and on fsspec's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from nbops.core.errors import CorruptData
from nbops.core.ids import new_id
from nbops.core.records import Run, RunStatus
from nbops.store.artifacts import Artifacts
from nbops.store.memory import MemoryStore
from nbops.store.points import Columns
from nbops.store.sql import SqlStore
from nbops.testing import ArtifactContract, StoreContract, a_run


class TestSQLite(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        store = SqlStore(f"sqlite:///{tmp_path}/nbops.db")
        yield store
        store.close()


@pytest.mark.postgres
class TestPostgreSQL(StoreContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SqlStore]:
        store = SqlStore(postgres_url)
        yield store
        store.close()


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    sqlite = f"sqlite:///{tmp_path}/nbops.db"
    store = SqlStore(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield store
    store.close()


def test_points_are_sorted_by_time_over_chunks_and_those_of_one_time_stay(database: SqlStore) -> None:
    n = 10_000
    run = Run(id=new_id(Run.prefix), created_at=1.0, name="mixed")
    database.put(run)
    order = np.random.default_rng(0).permutation(n)
    values = np.where(order == n - 1, np.nan, order / 2)
    database.add_points([Columns(order, order // 4, values).to_points(run.id, "m")])
    database.sort_points(run.id, "m")
    times = np.frombuffer(database.points(run.id, "m").times_ms, "<i8")
    steps = np.frombuffer(database.points(run.id, "m").steps, "<i8")
    expected = order[np.argsort(order // 4, kind="stable")]
    assert (np.diff(times) >= 0).all()
    assert steps.tolist() == expected.tolist()
    summary = database.get(Run, run.id).summary["m"]
    assert (summary.count, summary.last_step, summary.nan_count) == (n, int(expected[-1]), 1)
    database.add_points([Columns(np.array([n]), np.array([n]), np.array([7.0])).to_points(run.id, "m")])
    assert database.get(Run, run.id).metrics == {"m": 7.0}
    database.sort_points(run.id, "m")
    database.sort_points(run.id, "nothing")
    assert len(database.points(run.id, "m").steps) == 8 * (n + 1)


class TestFolder(ArtifactContract):
    @pytest.fixture
    def artifacts(self, tmp_path: Path) -> Artifacts:
        return Artifacts(str(tmp_path / "blobs"))

    @pytest.fixture
    def corrupt(self, tmp_path: Path) -> Callable[[str], None]:
        def change(digest: str) -> None:
            path = tmp_path / "blobs" / digest[:2] / digest
            path.write_bytes(b"X" + path.read_bytes()[1:])

        return change


class TestFsspecUrl(ArtifactContract):
    @pytest.fixture
    def artifacts(self, tmp_path: Path) -> Artifacts:
        return Artifacts(f"memory://{tmp_path.name}")

    @pytest.fixture
    def corrupt(self, tmp_path: Path) -> Callable[[str], None]:
        def change(digest: str) -> None:
            fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/{digest[:2]}/{digest}", b"other")

        return change


def test_a_stopped_write_leaves_no_blob(tmp_path: Path) -> None:
    class Broken:
        def __init__(self) -> None:
            self.reads = 0

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            if self.reads > 2:
                raise OSError("the source went away")
            return b"x" * size

    artifacts = Artifacts(str(tmp_path / "blobs"))
    with pytest.raises(OSError, match="went away"):
        artifacts.put(Broken())  # type: ignore[arg-type]
    assert [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()] == []


def test_storing_again_heals_a_damaged_blob(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "blobs"))
    digest, _ = artifacts.put(b"whole")
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"torn")
    artifacts.put(b"whole")
    assert artifacts.read(digest) == b"whole"


def test_points_are_sorted_within_their_segment_and_keep_their_cells(database: SqlStore) -> None:
    run = a_run(status=RunStatus.FINISHED, segments=[{"m": 2}])
    cells = ((0, "a#1"), (1, "b#2"), (2, "c#3"))
    columns = Columns(np.arange(4), np.array([20, 10, 4, 3]), np.array([1.0, 2.0, 3.0, 4.0]), cells)
    database.add_points([columns.to_points(run.id, "m")])
    database.put(run)
    database.sort_points(run.id, "m")
    found = Columns.of(database.points(run.id, "m"))
    assert found.steps.tolist() == [1, 0, 3, 2]
    assert found.cells == ((0, "b#2"), (1, "a#1"), (2, "c#3"))
    assert database.get(Run, run.id).metrics == {"m": 3.0}


def test_stored_bytes_are_never_replaced_by_others(tmp_path: Path) -> None:
    artifacts = Artifacts(str(tmp_path / "blobs"))
    digest, _ = artifacts.put(b"first")
    for other in (b"other", b"firsT", b"first\n", b""):
        found, _ = artifacts.put(other)  # its place is made from what it holds: nobody can name another
        assert found != digest
        assert artifacts.read(digest) == b"first"
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"other")  # past nbops: refused, not used
    with pytest.raises(CorruptData, match=digest[:12]):
        artifacts.open(digest)
    artifacts.put(b"other")
    assert artifacts.put(b"first")[0] == digest
    assert artifacts.read(digest) == b"first"
