"""Reading other tools' databases: rows as they are, nothing written, and what is wrong said."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nbops.core.errors import InvalidInput, MissingDependency, StoreError
from nbops.store.foreign import open_tables


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "odd # name?.db"
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (key TEXT, value REAL); INSERT INTO t VALUES ('b', 2), ('a', 1), ('b', 3)")
    connection.close()
    return path


def test_rows_come_filtered_and_in_order(database: Path) -> None:
    with open_tables(database) as tables:
        assert tables.names == {"t"}
        assert tables.columns("t") == ["key", "value"]
        assert tables.columns("none") == []
        assert list(tables.rows("none")) == []
        assert [row["value"] for row in tables.rows("t", order_by=("key", "value", "unknown"))] == [1.0, 2.0, 3.0]
        assert list(tables.rows("t", key="b", value=3)) == [{"key": "b", "value": 3.0}]
    plain = database.rename(database.with_name("plain.db"))
    with open_tables(f"sqlite:///{plain}") as tables:
        assert len(list(tables.rows("t"))) == 3


def test_the_folder_is_left_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    database.chmod(0o400)
    database.parent.chmod(0o500)
    try:
        with open_tables(database) as tables:
            assert len(list(tables.rows("t"))) == 3
    finally:
        database.parent.chmod(0o700)
    assert (database.read_bytes(), [p.name for p in database.parent.glob("*.db*")]) == (before, [database.name])


def test_a_database_that_is_being_written_is_read_with_its_log(database: Path) -> None:
    writer = sqlite3.connect(database)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("INSERT INTO t VALUES ('c', 4)")
    writer.commit()
    with open_tables(database) as tables:
        assert len(list(tables.rows("t", key="c"))) == 1
    writer.close()


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database file"), open_tables(tmp_path / "nowhere.db"):
        pass
    (tmp_path / "text.db").write_text("this is no database, but long enough to look for a header in it" * 20)
    with pytest.raises(StoreError, match="cannot read the database"), open_tables(tmp_path / "text.db"):
        pass
    with pytest.raises(InvalidInput, match="cannot be read"), open_tables("nosuch://host/db"):
        pass
    with (
        pytest.raises(MissingDependency, match="cx_Oracle is not installed"),
        open_tables("oracle+cx_oracle://host/db"),
    ):
        pass


def test_a_missing_driver_of_postgresql_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependency) as caught, open_tables("postgresql://host/db"):
        pass
    assert "nbops[postgres]" in caught.value.hint
