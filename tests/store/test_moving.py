"""A workspace moves to PostgreSQL and to other places for its files: nothing is lost, and the source is left."""

from __future__ import annotations

import fcntl
import math
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import nbops as nb
from nbops.core.errors import Conflict, CorruptData, InvalidInput
from nbops.core.query import parse
from nbops.core.records import Artifact, Dataset, Run, RunStatus
from nbops.store import moving
from nbops.store.artifacts import Artifacts
from nbops.store.auditing import walk
from nbops.store.inspection import check_workspace
from nbops.store.maintenance import sweep, trash, trashed
from nbops.store.moving import move
from nbops.store.sql import SqlStore
from nbops.store.tables import metadata
from nbops.store.workspace import Workspace, init
from nbops.store.workspace import workspace as current
from nbops.testing import a_run, some_points, values_of

ODD = [0.1, math.nan, -math.inf, math.inf, -0.0, 5e-324]


def fill(ws: Workspace) -> None:
    """Put in some of everything that a store holds."""
    for n in range(20):
        run = a_run(name=f"rün/{n}", status=RunStatus.FINISHED, params={"n": n, "bad": math.inf}, note="\x00 nul")
        ws.store.put(run)
        ws.store.add_points([some_points(run.id, f"m{k}", [float(k)] * 5) for k in range(3)])
        ws.save_artifact(b"%d" % (n % 7), name="f", parent=run.id)
    ws.store.add_points([some_points(run.id, "odd", ODD), some_points(run.id, "long", [0.5] * 9000)])
    ws.store.put(Dataset(id="ds_1", created_at=1.0, name="d", version=1, digest="x", rows=1))
    ws.store.link("ds_1", "used_by", run.id)
    ws.store.next_number("dataset/d")
    trash(ws.store, ws.store.find(Run, parse("params.n == 3"))[0])


def rows(store: SqlStore) -> dict[str, list[Any]]:
    """Everything in a store, table by table."""
    with store._reading() as connection:
        return {
            table.name: sorted(map(repr, map(tuple, connection.execute(sa.select(table)))))
            for table in metadata.sorted_tables
            if table.name != "heartbeat"
        }


@pytest.mark.postgres
def test_from_sqlite_to_postgresql_nothing_is_lost(workspace: Workspace, postgres_url: str) -> None:
    fill(workspace)
    before, path = rows(workspace.store), workspace.path
    run = workspace.store.find(Run, parse("params.n == 19"))[0]
    report = move(store_url=postgres_url)
    moved = current()
    assert moved.store.is_shared
    assert (rows(moved.store), report.counts["rows"]) == (before, sum(map(len, before.values())))
    assert values_of(moved.store.points(run.id, "odd"))[2:] == ODD[2:]
    assert moved.store.get(Run, run.id) == run
    assert len(trashed(moved.store)) == 1
    assert check_workspace(moved).is_well
    later = a_run(name="after")  # numbering goes on where it was
    moved.store.put(later)
    assert moved.store.next_number("dataset/d") == 2
    numbers = [e.seq for e in moved.store.events(limit=10_000)]
    assert numbers == sorted(set(numbers))
    assert walk(moved.store).is_whole
    old = SqlStore(f"sqlite:///{path / 'nbops.db'}")
    assert rows(old) == before
    old.close()
    moved.close()
    assert later.id in {r.id for r in init(path).store.find(Run)}  # config.toml names the new place
    assert (path / "config.toml").stat().st_mode & 0o077 == 0


def test_to_another_sqlite_file_and_folder(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.path / "config.toml").write_text(
        '# mine\ndataset_max_bytes = 10\nartifacts_url = ""\n\n[roles]\nanna = "approver"\n'
    )
    fill(workspace)
    before, blobs = rows(workspace.store), list(workspace.artifacts.blobs())
    report = move(store_url=f"sqlite:///{tmp_path}/other.db", artifacts_url=str(tmp_path / "files"))
    assert report.counts == {"files": 7, "bytes": 7, "rows": sum(map(len, before.values()))}
    assert rows(current().store) == before
    assert list(current().artifacts.blobs()) == blobs == list(workspace.artifacts.blobs())
    text = (current().path / "config.toml").read_text()
    assert "# mine" in text
    assert tomllib.loads(text) == {
        "store_url": f"sqlite:///{tmp_path}/other.db",
        "artifacts_url": str(tmp_path / "files"),
        "dataset_max_bytes": 10,
        "roles": {"anna": "approver"},
    }
    for file in current().store.find(Artifact):
        assert current().artifacts.open(file.digest).read() in {b"%d" % n for n in range(7)}
    assert any("old files" in line for line in report.notes)


def test_files_go_to_an_object_store(workspace: Workspace, tmp_path: Path) -> None:
    digest, _ = workspace.artifacts.put(b"kept")
    assert move(artifacts_url=f"memory://{tmp_path.name}-bucket").counts["files"] == 1
    assert current().artifacts.url.startswith("memory://")
    assert current().artifacts.read(digest) == b"kept"


def test_a_move_that_was_stopped_goes_on(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(workspace)
    url = f"sqlite:///{tmp_path}/other.db"
    before, replace, calls = rows(workspace.store), moving._replace, []

    def stopped(connection: Any, table: Any, items: Any, **keys: Any) -> None:
        calls.append(table.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        replace(connection, table, items, **keys)

    monkeypatch.setattr(moving, "_replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        move(store_url=url)
    assert not (workspace.path / "config.toml").exists()
    assert current() is workspace
    workspace.store.delete(Run, workspace.store.find(Run)[0].id)  # life goes on at the source
    after = rows(workspace.store)
    assert after != before
    move(store_url=url)
    assert rows(current().store) == after


def test_what_cannot_move_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        move()
    with pytest.raises(InvalidInput, match="already"):
        move(artifacts_url=str(workspace.path / "blobs"))
    with pytest.raises(InvalidInput, match="already"):
        move(store_url=f"sqlite:///{workspace.path / 'nbops.db'}")
    with nb.run("open"), pytest.raises(Conflict, match="'open' is still running"):
        move(artifacts_url=str(tmp_path / "x"))
    (workspace.path / "journal").mkdir(exist_ok=True)
    other = workspace.path / "journal" / "host.1.abc.0.nbj"
    with other.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match=r"another process .*host\.1\.abc"):
            move(artifacts_url=str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_database_in_use_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    taken = SqlStore(f"sqlite:///{tmp_path}/taken.db")
    taken.put(a_run())
    taken.close()
    with pytest.raises(Conflict, match="is not empty"):
        move(store_url=f"sqlite:///{tmp_path}/taken.db")
    assert current() is workspace


def test_a_copy_that_has_gone_on_is_not_taken_for_half_made(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    url, path = f"sqlite:///{tmp_path}/other.db", workspace.path
    move(store_url=url)
    current().store.put(a_run(name="newer"))
    init(path, store_url=f"sqlite:///{path / 'nbops.db'}")
    with pytest.raises(Conflict, match="is not empty"):
        move(store_url=url)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        mark = f"nbops move from sqlite:///{path / 'nbops.db'}"
        connection.execute("INSERT INTO counter VALUES (?, 0)", (mark,))
    connection.close()
    with pytest.raises(Conflict, match="is not empty"):
        move(store_url=url)


def test_a_damaged_file_stops_the_move(workspace: Workspace, tmp_path: Path) -> None:
    digest, _ = workspace.artifacts.put(b"whole")
    Path(workspace.artifacts._path(digest)).write_bytes(b"torn!")
    with pytest.raises(CorruptData, match=digest[:12]):
        move(artifacts_url=str(tmp_path / "x"))
    assert current() is workspace


def test_a_damaged_copy_is_made_again(workspace: Workspace, tmp_path: Path) -> None:
    digest, _ = workspace.artifacts.put(b"whole")
    target = Artifacts(str(tmp_path / "x"))
    target.put(b"whole")
    Path(target._path(digest)).write_bytes(b"torn!")
    move(artifacts_url=str(tmp_path / "x"))
    assert target.read(digest) == b"whole"


def test_a_variable_that_still_decides_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBOPS_ARTIFACTS_URL", str(workspace.path / "blobs"))
    report = move(artifacts_url=str(tmp_path / "x"))
    assert any("NBOPS_ARTIFACTS_URL is set" in line for line in report.notes)


@pytest.mark.leaks("s3fs keeps its thread of requests for the whole process")
def test_files_go_to_s3(workspace: Workspace, s3_bucket: str) -> None:
    fill(workspace)
    blobs = list(workspace.artifacts.blobs())
    assert move(artifacts_url=f"{s3_bucket}/nbops").counts["files"] == 7
    moved = current()
    assert list(moved.artifacts.blobs()) == blobs
    assert check_workspace(moved).is_well
    orphan, _ = moved.artifacts.put(b"nobody's")
    assert nb.purge(older_than_days=0, grace_hours=0).counts == {"things": 1, "records": 2, "files": 1, "bytes": 8}
    assert not moved.artifacts.exists(orphan)
    fresh, _ = moved.artifacts.put(b"fresh")
    assert sweep(moved.store, moved.artifacts) == (0, 0)
    assert moved.artifacts.read(fresh) == b"fresh"
