"""Opening databases: migrations build the declared schema, first opens race safely, network folders get no WAL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nbops.core.errors import InvalidInput, StoreError
from nbops.store import engines
from nbops.store.engines import file_system, open_engine
from nbops.store.sql import SqlStore
from nbops.store.tables import metadata
from nbops.testing import a_run


def differences(engine: sa.Engine) -> list[object]:
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), metadata)


def test_the_migrations_build_the_declared_schema(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/a.db")
    assert differences(engine) == []
    engine.dispose()


@pytest.mark.postgres
def test_the_migrations_build_the_declared_schema_on_postgresql(postgres_url: str) -> None:
    engine = open_engine(postgres_url)
    assert differences(engine) == []
    engine.dispose()


def test_first_opens_may_race(tmp_path: Path) -> None:
    code = f"from nbops.store.sql import SqlStore; SqlStore('sqlite:///{tmp_path}/a.db').close()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreError, match="schema 9999"):
        open_engine(url)


def test_local_folders_use_wal_and_network_folders_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mode(name: str) -> str:
        engine = open_engine(f"sqlite:///{tmp_path}/{name}.db")
        with engine.connect() as connection:
            found = connection.execute(sa.text("pragma journal_mode")).scalar_one()
        engine.dispose()
        return str(found)

    assert mode("local") == "wal"
    monkeypatch.setattr(engines, "file_system", lambda folder: "nfs4")
    assert mode("remote") == "delete"


def test_the_file_system_is_that_of_the_deepest_mount() -> None:
    assert file_system(Path("/proc/self")) == "proc"


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(InvalidInput, match="store URL names 'oracle'"):
        open_engine("oracle://host/db")


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreError) as caught:
        open_engine("postgresql://user:hunter2@127.0.0.1:1/db")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_locked_database_is_an_error_with_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_BUSY_MS", 50)
    url = f"sqlite:///{tmp_path}/a.db"
    store, other = SqlStore(url), SqlStore(url)
    run = a_run()
    with other.transaction():
        other.emit("busy", "x")
        other.next_number("n")
        with pytest.raises(StoreError, match="refused the write"):
            store.put(run)
    store.put(run)
    assert store.count(type(run)) == 1
    store.close()
    other.close()
