"""The audit log: whole when nobody touched it, broken at the first entry that somebody did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import nbops as nb
from nbops.core.protocols import Store
from nbops.store.auditing import walk
from nbops.store.memory import MemoryStore
from nbops.store.sql import SqlStore
from nbops.testing import a_run

FORGERIES = {
    "text": "update event set subject = 'other' where seq = 3",
    "person": "update event set actor = 'mallory' where seq = 3",
    "payload": "update event set payload = '{\"to\":9}' where seq = 3",
    "gone": "delete from event where seq = 3",
}


def some_events(store: Store) -> None:
    for i in range(5):
        store.emit("alias.moved", f"m{i}", {"to": i, "x": float("nan")})


def forge(store: SqlStore, statement: str) -> None:
    """Change the log as an administrator of the database can: by removing the triggers first."""
    with store.engine.begin() as connection:
        if store.engine.dialect.name == "sqlite":
            connection.execute(sa.text("drop trigger event_no_update"))
            connection.execute(sa.text("drop trigger event_no_delete"))
        else:
            connection.execute(sa.text("drop trigger event_append_only on event"))
        connection.exec_driver_sql(statement)


class AuditContract:
    """What holds on every database; a subclass provides `store`."""

    def test_an_untouched_log_is_whole(self, store: SqlStore) -> None:
        some_events(store)
        report = walk(store, last=2)
        assert (report.is_whole, report.events, [e.payload["to"] for e in report.newest]) == (True, 5, [3, 4])
        assert report.head == report.newest[-1].digest
        assert "whole" in repr(report)

    @pytest.mark.parametrize("statement", FORGERIES.values(), ids=FORGERIES)
    def test_a_changed_entry_is_found(self, store: SqlStore, statement: str) -> None:
        some_events(store)
        forge(store, statement)
        report = walk(store)
        assert report.broken_at == (4 if statement.startswith("delete") else 3)
        assert f"BROKEN at event {report.broken_at}" in repr(report)

    def test_events_older_than_the_chain_are_no_break_but_blanked_ones_are(self, store: SqlStore) -> None:
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "insert into event (at, kind, subject, payload) values (1.0, 'run.created', 'run_1', '{}')"
            )
        some_events(store)
        assert (walk(store).is_whole, walk(store).events) == (True, 6)
        forge(store, "update event set digest = '' where seq = 2")
        assert walk(store).broken_at == 3

    @pytest.mark.parametrize("statement", [FORGERIES["text"], FORGERIES["gone"]])
    def test_the_database_refuses_changes(self, store: SqlStore, statement: str) -> None:
        some_events(store)
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), store.engine.begin() as connection:
            connection.exec_driver_sql(statement)
        assert walk(store).is_whole

    def test_writers_side_by_side_make_one_chain(self, store: SqlStore) -> None:
        threads = [threading.Thread(target=some_events, args=(store,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (walk(store).is_whole, walk(store).events) == (True, 30)

    def test_an_undone_transaction_leaves_no_gap(self, store: SqlStore) -> None:
        some_events(store)

        def half() -> None:
            with store.transaction():
                store.put(a_run())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            half()
        store.put(a_run())
        assert (walk(store).is_whole, walk(store).events) == (True, 6)


class TestSQLite(AuditContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqlStore]:
        store = SqlStore(f"sqlite:///{tmp_path}/a.db")
        yield store
        store.close()


@pytest.mark.postgres
class TestPostgreSQL(AuditContract):
    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[SqlStore]:
        store = SqlStore(postgres_url)
        yield store
        store.close()


def test_the_memory_store_chains_too() -> None:
    store = MemoryStore()
    some_events(store)
    assert walk(store).is_whole


def test_the_actor_is_who_the_environment_says(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    with nb.run("r"):
        pass
    monkeypatch.setenv("NBOPS_USER", "grace")
    with nb.run("r"):
        pass
    assert {e.actor for e in nb.audit(last=50).newest} == {"ada", "grace"}
