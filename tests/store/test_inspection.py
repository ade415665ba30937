"""Each fault that a workspace can have is found, mended where that loses nothing, and told where not."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import nbops as nb
from nbops.core.query import parse
from nbops.core.records import Alias, ModelVersion, Run, RunStatus, Signature, replace
from nbops.store.inspection import check_workspace, repair_workspace
from nbops.store.maintenance import trash
from nbops.store.tables import attr, chunk, link, record, series
from nbops.store.workspace import Workspace, init
from nbops.testing import a_run, some_points


def filled(folder: Path, url: str | None) -> Iterator[Workspace]:
    """A workspace with a little of everything, and nothing wrong."""
    opened = init(folder, store_url=url)
    store = opened.store
    a = a_run(name="a", status=RunStatus.FINISHED, params={"lr": 0.1}, tags={"team": "x"})
    b = a_run(name="b", status=RunStatus.FINISHED, parent=a.id)
    gone = a_run(name="gone", status=RunStatus.FINISHED, params={"lr": 0.2})
    for run in (a, b, gone):
        store.put(run)
        store.add_points([some_points(run.id, "loss", [1 / (step + 1) for step in range(10)])])
    store.add_points([some_points(a.id, "bad", [1.0, math.nan])])
    store.link(a.id, "parent_of", b.id)
    opened.save_artifact(b"bytes", name="b.bin", parent=a.id)
    trash(store, gone)
    yield opened
    opened.close()


def change(ws: Workspace, statement: Any) -> None:
    with ws.store._work() as work:
        work.connection.execute(statement)


def the_run(ws: Workspace) -> Run:
    return ws.store.find(Run, parse("name == 'a'"))[0]


def mended(ws: Workspace, what: str) -> None:
    """The fault is told, is not there after a repair, and a second repair finds nothing."""
    told = check_workspace(ws)
    assert not told.is_well
    assert any(what in line and "can be mended" in line for line in told.problems), told.problems
    report = repair_workspace(ws)
    assert any(what in line for line in report.notes)
    assert report.counts["mended"] == len(report.notes)
    assert check_workspace(ws).problems == ()
    assert repair_workspace(ws).counts["mended"] == 0


def told_only(ws: Workspace, what: str) -> None:
    """The fault is told and left as it is."""
    for report in (check_workspace(ws), repair_workspace(ws), check_workspace(ws)):
        assert any(what in line and "can be mended" not in line for line in report.problems), report.problems


def a_model(ws: Workspace, number: int) -> None:
    digest, size = ws.artifacts.put(b"m")
    ws.store.put(ModelVersion(id=f"mv_{number}", created_at=1.0, name="net", number=number, digest=digest,
                              size_bytes=size, signature=Signature(inputs=[], outputs=[])))  # fmt: skip


class Inspecting:
    """What check and repair find and mend on any database."""

    def test_a_sound_workspace_is_well(self, ws: Workspace) -> None:
        before = ws.store.last_event()
        report = check_workspace(ws)
        assert (report.problems, report.is_well) == ((), True)
        assert report.counts["records"] == 4
        assert (report.counts["series"], report.counts["points"], report.counts["files"]) == (4, 32, 1)
        assert repair_workspace(ws).counts["mended"] == 0
        assert ws.store.last_event() == before

    def test_a_model_with_metrics_is_well(self, ws: Workspace) -> None:
        a_model(ws, 1)
        ws.store.next_number("model/net")
        ws.store.update(ModelVersion, "mv_1", lambda model: replace(model, metrics={"acc": 0.5}))
        assert check_workspace(ws).is_well
        change(ws, sa.delete(attr).where(attr.c.record == "mv_1", attr.c.space == "metrics"))
        mended(ws, "is not found by all of its values")
        assert ws.store.count(ModelVersion, parse("metrics.acc == 0.5")) == 1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda id: sa.delete(attr).where(attr.c.record == id, attr.c.space == "params"),
            lambda id: sa.update(attr).where(attr.c.record == id, attr.c.space == "params").values(num=7.0),
            lambda id: sa.insert(attr).values(record=id, kind="run", space="tags", key="ghost", text="x"),
        ],
    )
    def test_values_that_queries_ask_for_are_written_anew(self, ws: Workspace, damage: Callable[[str], Any]) -> None:
        change(ws, damage(the_run(ws).id))
        mended(ws, "is not found by all of its values")
        assert ws.store.count(Run, parse("params.lr == 0.1 and tags.team == 'x' and not tags.ghost")) == 1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda id: sa.delete(series).where(series.c.run == id, series.c.metric == "loss"),
            lambda id: sa.update(series).where(series.c.run == id, series.c.metric == "loss").values(max=9.0),
            lambda id: sa.update(series).where(series.c.run == id, series.c.metric == "loss").values(chunks=5),
            lambda id: sa.delete(attr).where(attr.c.record == id, attr.c.space == "metrics", attr.c.key == "loss"),
        ],
    )
    def test_summaries_are_made_from_the_points(self, ws: Workspace, damage: Callable[[str], Any]) -> None:
        before = the_run(ws)
        change(ws, damage(before.id))
        mended(ws, "is not that of its points")
        assert str(the_run(ws)) == str(before)
        assert ws.store.count(Run, parse("metrics.loss <= 0.1")) == 2

    def test_a_damaged_chunk_is_set_aside_and_the_rest_is_readable(self, ws: Workspace) -> None:
        run = the_run(ws)
        change(ws, sa.update(chunk).where(chunk.c.run == run.id, chunk.c.metric == "loss").values(data=b"torn"))
        mended(ws, "it is set aside")
        assert set(the_run(ws).summary) == {"bad"}
        (kept,) = (ws.path / "set-aside").iterdir()
        assert kept.read_bytes() == b"torn"

    def test_links_to_nothing_are_dropped(self, ws: Workspace) -> None:
        ws.store.link("ds_missing", "used_by", the_run(ws).id)
        count = len(ws.store.links())
        mended(ws, "leads to ds_missing")
        assert len(ws.store.links()) == count - 1

    def test_a_counter_below_the_newest_version_is_raised(self, ws: Workspace) -> None:
        a_model(ws, 3)
        mended(ws, "below version 3")
        assert ws.store.next_number("model/net") == 4

    def test_an_alias_of_a_missing_version_is_told(self, ws: Workspace) -> None:
        a_model(ws, 1)
        ws.store.next_number("model/net")
        ws.store.put(Alias(id="al_1", created_at=1.0, name="net@prod", model="net", alias="prod", number=2))
        told_only(ws, "net@prod points at version 2")

    def test_a_damaged_file_is_set_aside_and_a_missing_one_told(self, ws: Workspace) -> None:
        (file,) = nb.find("artifacts")
        path = Path(ws.artifacts._path(file.digest))
        path.write_bytes(b"bitrot")
        assert any("is damaged" in line and "b.bin" in line for line in check_workspace(ws).problems)
        assert any("is set aside" in line for line in repair_workspace(ws).notes)
        assert (ws.path / "set-aside" / file.digest).read_bytes() == b"bitrot"
        told_only(ws, "is missing: store it again")
        ws.artifacts.put(b"bytes")
        assert check_workspace(ws).is_well

    def test_what_cannot_be_read_is_told(self, ws: Workspace) -> None:
        change(ws, sa.update(record).where(record.c.id == the_run(ws).id).values(body='{"id": 3}'))
        told_only(ws, "cannot be read")
        with ws.store._work() as work:
            work.connection.execute(sa.insert(record).values(id="zz_1", kind="future", created_at=1.0, body="{}"))
        told_only(ws, "of the kind 'future'")

    def test_points_without_a_run_and_torn_journals_are_told(self, ws: Workspace) -> None:
        change(ws, sa.update(chunk).where(chunk.c.metric == "bad").values(run="run_x"))
        change(ws, sa.update(series).where(series.c.metric == "bad").values(run="run_x"))
        change(ws, sa.delete(attr).where(attr.c.key == "bad"))
        change(ws, sa.insert(attr).values(record="run_x", kind="run", space="metrics", key="bad", num=None, text=None))
        (ws.path / "journal").mkdir(exist_ok=True)
        (ws.path / "journal" / "host.1.x.0.torn").write_bytes(b"")
        told_only(ws, "points of 'bad' of run_x")
        told_only(ws, "ends in a damaged frame")

    def test_a_link_that_is_there_is_left(self, ws: Workspace) -> None:
        edges = ws.store.links()
        change(ws, sa.delete(link).where(link.c.source == "nothing"))
        repair_workspace(ws)
        assert ws.store.links() == edges


class TestSQLite(Inspecting):
    @pytest.fixture
    def ws(self, tmp_path: Path) -> Iterator[Workspace]:
        yield from filled(tmp_path, None)


@pytest.mark.postgres
class TestPostgreSQL(Inspecting):
    @pytest.fixture
    def ws(self, tmp_path: Path, postgres_url: str) -> Iterator[Workspace]:
        yield from filled(tmp_path, postgres_url)


def test_damage_of_the_database_file_is_told(tmp_path: Path) -> None:
    opened = init(tmp_path)
    opened.store.put(a_run(name="a"))
    opened.close()
    with sqlite3.connect(tmp_path / ".nbops" / "nbops.db") as connection:
        connection.execute("PRAGMA writable_schema = ON")
        sql = "CREATE INDEX ix_record_kind_name ON record (kind, status)"
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'ix_record_kind_name'", (sql,))
    connection.close()
    assert any("SQLite says" in line for line in check_workspace(init(tmp_path)).problems)
