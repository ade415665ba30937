"""The views: what they promise on both databases, what they hide, and how workspaces of before come by them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from nbops.core.errors import StoreError
from nbops.core.records import (
    Alias,
    AliasMove,
    Artifact,
    Cell,
    CheckReport,
    Dataset,
    Diagnosis,
    Failure,
    ModelVersion,
    Run,
    RunStatus,
    Signature,
    Source,
    Verdict,
)
from nbops.store.engines import make_engine, open_engine
from nbops.store.maintenance import restore, trash
from nbops.store.sql import SqlStore
from nbops.testing import a_run, some_points

PROMISED = {
    "runs": "id name type status parent created_at ended_at duration_s cell_id note error_type error_message source "
            "git_commit git_dirty params_json",
    "params": "run name number text",
    "metrics": "run name value first min max last_step count nan_count",
    "tags": "record kind name value",
    "cells": "id run cell_id execution_count status created_at duration_s source source_digest error_type "
             "error_message",
    "models": "id name version status run created_at digest size_bytes cell_id",
    "model_metrics": "model name value",
    "aliases": "model alias version created_at",
    "datasets": "id name version digest row_count created_at origin cell_id",
    "artifacts": "id name parent digest size_bytes media_type created_at cell_id",
    "checks": "id name status run dataset row_count column_count created_at duration_s cell_id",
    "diagnoses": "id rule status run step layer measured limit_value confidence what why fix created_at cell_id",
    "links": "source source_kind relation target target_kind",
}  # fmt: skip
JOIN = """
select d.name as dataset, d.version as data_version, r.name as run, p.number as lr, m.value as loss, v.version as model
from datasets d
join links l on l.source = d.id and l.relation = 'used_by'
join runs r on r.id = l.target
join params p on p.run = r.id and p.name = 'lr'
join metrics m on m.run = r.id and m.name = 'loss'
join models v on v.run = r.id
where m.value < 0.4
order by r.created_at
"""


def fill(store: SqlStore) -> Run:
    """Put in one record of each kind, all of one run, and return that."""
    error = Failure(type="ValueError", message='bad "x"')
    git = {"git": {"commit": "c0ffee", "dirty": True}, "source": "train.ipynb"}
    run = a_run(
        name="fit", created_at=100.0, ended_at=160.5, status=RunStatus.FAILED, error=error, cell_id="c1",
        params={"lr": 0.1, "bias": True, "net": {"width": 8}, "optimizer": "sgd"}, tags={"team": "x"},
        note="a \x00 note", context=git,
    )  # fmt: skip
    base: dict[str, Any] = {"created_at": 101.0, "cell_id": "c1"}
    signature = Signature(inputs=[], outputs=[])
    for one in (
        run,
        Dataset(id="ds_1", name="train", version=2, digest="d1", rows=10, source=Source(origin="s3://x"), **base),
        Cell(id="cell_1", parent=run.id, execution_count=7, source_digest="s1", source="fit()\n" * 200, status="error",
             error=error, duration_s=0.5, **base),
        Artifact(id="art_1", name="plot.png", digest="a1", size_bytes=1 << 40, parent=run.id, **base),
        CheckReport(id="chk_1", name="train", status=Verdict.FAIL, rows=10, columns=3, duration_s=0.25, dataset="ds_1",
                    parent=run.id, **base),
        Diagnosis(id="dg_1", name="dead-layer", status="error", step=412, layer="fc", measured=math.nan, limit=0.5,
                  what="w", why="y", fix="f", confidence=0.9, parent=run.id, **base),
        ModelVersion(id="mv_1", name="digits", number=3, digest="m1", signature=signature, size_bytes=9, parent=run.id,
                     metrics={"acc": 0.98}, tags={"team": "y"}, **base),
        Alias(id="al_1", created_at=101.0, name="digits@prod", model="digits", alias="prod", number=3,
              history=[AliasMove(number=3, at=101.0)]),
    ):  # fmt: skip
        store.put(one)
    store.add_points([some_points(run.id, "loss", [0.75, 0.25]), some_points(run.id, "bad", [1.0, math.nan])])
    for source, relation, target in (("ds_1", "used_by", run.id), (run.id, "produced", "mv_1")):
        store.link(source, relation, target)
    return run


def rows(store: SqlStore, query: str) -> list[dict[str, Any]]:
    with store.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.text(query)).mappings()]


def one(store: SqlStore, view: str) -> dict[str, Any]:
    (row,) = rows(store, f"select * from {view}")
    return row


class TestSqlite:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        opened = SqlStore(f"sqlite:///{tmp_path}/a.db")
        yield opened
        opened.close()

    def test_every_promised_column_is_there_and_no_other(self, store: SqlStore) -> None:
        with store.engine.connect() as connection:
            inspector = sa.inspect(connection)
            found = {name: [column["name"] for column in inspector.get_columns(name)] for name in PROMISED}
            assert set(inspector.get_view_names()) == set(PROMISED)
        assert found == {name: columns.split() for name, columns in PROMISED.items()}

    def test_one_statement_joins_data_runs_and_models(self, store: SqlStore) -> None:
        fill(store)
        assert rows(store, JOIN) == [
            {"dataset": "train", "data_version": 2, "run": "fit", "lr": 0.1, "loss": 0.25, "model": 3}
        ]
        assert rows(store, JOIN.replace("< 0.4", "< 0.2")) == []

    def test_values_are_as_they_were_logged(self, store: SqlStore) -> None:
        run = fill(store)
        found = one(store, "runs")
        assert found["id"] == run.id
        assert (found["created_at"], found["ended_at"], found["duration_s"]) == (100.0, 160.5, 60.5)
        assert (found["error_type"], found["error_message"]) == ("ValueError", 'bad "x"')
        assert (found["git_commit"], bool(found["git_dirty"]), found["source"]) == ("c0ffee", True, "train.ipynb")
        assert found["note"].startswith("a ")
        assert '"width":8' in found["params_json"].replace(" ", "")
        params = {row["name"]: (row["number"], row["text"]) for row in rows(store, "select * from params")}
        assert params == {"lr": (0.1, None), "bias": (1.0, None), "optimizer": (None, "sgd")}
        metrics = {row["name"]: row for row in rows(store, "select * from metrics")}
        assert (metrics["loss"]["value"], metrics["loss"]["max"], metrics["loss"]["count"]) == (0.25, 0.75, 2)
        assert (metrics["bad"]["value"], metrics["bad"]["nan_count"]) == (None, 1)
        tags = {(row["kind"], row["value"]) for row in rows(store, "select * from tags")}
        assert tags == {("run", "x"), ("model", "y")}
        assert one(store, "cells")["source"] == "fit()\n" * 200
        assert one(store, "cells")["execution_count"] == 7
        assert one(store, "artifacts")["size_bytes"] == 1 << 40
        assert one(store, "datasets")["origin"] == "s3://x"
        assert (one(store, "checks")["status"], one(store, "checks")["dataset"]) == ("fail", "ds_1")
        assert (one(store, "diagnoses")["measured"], one(store, "diagnoses")["limit_value"]) == (None, 0.5)
        assert one(store, "model_metrics") == {"model": "mv_1", "name": "acc", "value": 0.98}
        assert (one(store, "aliases")["alias"], one(store, "aliases")["version"]) == ("prod", 3)

    def test_what_is_in_the_trash_is_in_no_view(self, store: SqlStore) -> None:
        run = fill(store)
        before = {view: len(rows(store, f"select * from {view}")) for view in PROMISED}
        assert min(before.values()) >= 1
        trash(store, run)
        after = {view: len(rows(store, f"select * from {view}")) for view in PROMISED}
        stays = {"datasets": 1, "models": 1, "model_metrics": 1, "aliases": 1, "tags": 1}
        assert after == {view: stays.get(view, 0) for view in PROMISED}
        restore(store, run.id)
        assert {view: len(rows(store, f"select * from {view}")) for view in PROMISED} == before


@pytest.mark.postgres
class TestPostgresql(TestSqlite):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SqlStore]:
        opened = SqlStore(postgres_url)
        yield opened
        opened.close()


def test_values_are_found_through_an_index(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/a.db").close()
    connection = sqlite3.connect(tmp_path / "a.db")
    plan = [row[3] for row in connection.execute(f"explain query plan {JOIN}")]
    connection.close()
    assert not [line for line in plan if line.startswith("SCAN")], plan


def test_duckdb_understands_the_views_of_sqlite(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pd = pytest.importorskip("pandas")
    store = SqlStore(f"sqlite:///{tmp_path}/a.db")
    fill(store)
    source = sqlite3.connect(tmp_path / "a.db")
    duck = duckdb.connect()
    for table in ("record", "attr", "series", "link"):  # as its extension for SQLite shows them, which has no copy here
        columns = "id, kind, name, status, parent, created_at, body" if table == "record" else "*"
        frame = pd.read_sql(f"select {columns} from {table}", source)
        duck.register("frame", frame)
        duck.execute(f"create table {table} as select * from frame")
    for (made,) in source.execute("select sql from sqlite_master where type = 'view'").fetchall():
        duck.execute(made)
    assert duck.execute(JOIN).fetchall() == [tuple(row.values()) for row in rows(store, JOIN)]
    for view in PROMISED:
        assert len(duck.execute(f"select * from {view}").fetchall()) == len(rows(store, f"select * from {view}")), view
    source.close()
    duck.close()
    store.close()


# ---- workspaces of before --------------------------------------------------------------------------------------------


def make_old(url: str) -> None:
    """Make a database as the nbops before the views left it."""
    engine = make_engine(url)
    config = Config()
    config.set_main_option("script_location", "nbops.store:migrations")
    with engine.connect().execution_options(nbops_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        record = "insert into record (id, kind, name, created_at, body) values ('run_1', 'run', 'old', 1.0, :body)"
        body = '{"id":"run_1","created_at":1.0,"name":"old","status":"FINISHED"}'
        connection.execute(sa.text(record), {"body": body})
    engine.dispose()


def test_an_older_workspace_gets_the_views(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    make_old(url)
    store = SqlStore(url)
    assert [row["name"] for row in rows(store, "select name from runs")] == ["old"]
    assert store.get(Run, "run_1").name == "old"
    store.close()


def test_an_older_workspace_that_cannot_be_written_to_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    make_old(url)
    monkeypatch.setattr("nbops.store.engines.is_writable", lambda database: False)  # root may write anywhere
    monkeypatch.setattr("nbops.store.sql.is_writable", lambda database: False)
    store = SqlStore(url)
    assert [run.name for run in store.find(Run)] == ["old"]
    with pytest.raises(StoreError, match="cannot be written to"):
        store.put(a_run())
    monkeypatch.undo()
    store.put(a_run(name="new"))  # it can be written to now, and gets what it lacks
    assert {row["name"] for row in rows(store, "select name from runs")} == {"old", "new"}
    store.close()


def test_a_name_that_the_database_uses_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    make_old(url)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table tags (mine text)")
    connection.close()
    engine = open_engine(url)
    with engine.connect() as connection:
        assert [c["name"] for c in sa.inspect(connection).get_columns("tags")] == ["mine"]
        assert "runs" in sa.inspect(connection).get_view_names()
    engine.dispose()
