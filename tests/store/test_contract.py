"""The store contract on SQLite, PostgreSQL and memory; the artifact contract on a folder and on fsspec's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from nbops.store.artifacts import Artifacts
from nbops.store.memory import MemoryStore
from nbops.store.sql import SqlStore
from nbops.testing import ArtifactContract, StoreContract


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
