"""Reading other tools' databases: their tables as plain rows, never written to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from nbops.core.errors import InvalidInput, MissingDependency, StoreError

_ROWS = 10_000


class Tables:
    """The tables of one database, open for reading.

    Attributes
    ----------
    names : frozenset of str
        What tables there are.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._inspector = sa.inspect(connection)
        self.names = frozenset(self._inspector.get_table_names())

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns, in order; none for a table that is not there."""
        return [column["name"] for column in self._inspector.get_columns(table)] if table in self.names else []

    def rows(self, table: str, *, order_by: Sequence[str] = (), **equal: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of `table` whose columns equal the values given; nothing for a table that is not there."""
        names = self.columns(table)
        if not names:
            return
        columns: dict[str, sa.ColumnClause[Any]] = {name: sa.column(name) for name in names}
        query = sa.select(*columns.values()).select_from(sa.table(table))
        query = query.where(*(columns[name] == value for name, value in equal.items()))
        query = query.order_by(*(columns[name] for name in order_by if name in columns))
        found = self._connection.execution_options(yield_per=_ROWS).execute(query)
        yield from (dict(row) for row in found.mappings())


@contextmanager
def open_tables(source: str | Path) -> Iterator[Tables]:
    """Open a SQLite file, or a database by URL, for reading.

    Parameters
    ----------
    source : str or Path
        A path, or an SQLAlchemy URL: ``sqlite:////path/mlflow.db``, ``postgresql://user@host/db``.

    Raises
    ------
    InvalidInput
        The URL cannot be read.
    MissingDependency
        The driver of the database is not installed.
    StoreError
        The database cannot be opened or read.
    """
    try:
        url = _url_of(source)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise InvalidInput(f"database URL {str(source)!r} cannot be read: {error}",
                           hint="Pass a path, sqlite:///… or postgresql://…") from None  # fmt: skip
    except ImportError as error:
        if url.get_backend_name() == "postgresql":
            raise MissingDependency.of("psycopg", "postgres") from None
        raise MissingDependency(
            f"{error.name} is not installed", hint="Install the driver that the URL names."
        ) from None
    try:
        with engine.connect() as connection:
            yield Tables(connection)
    except sa.exc.SQLAlchemyError as error:
        where = url.render_as_string(hide_password=True)
        hint = "Check the path or URL, and that it is the database of the tool named."
        raise StoreError(f"cannot read the database {where}: {error.__cause__ or error}", hint=hint) from error
    finally:
        engine.dispose()


def _url_of(source: str | Path) -> sa.URL:
    text = str(source)
    if "://" in text:
        url = sa.engine.make_url(text)
        if url.drivername == "postgresql":
            return url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() != "sqlite":
            return url
        text = url.database or ""
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise StoreError(f"no database file {path}", hint="Check the path.")
    # A database left without a WAL in a folder that cannot be written to opens only as immutable.
    mode = {"mode": "ro"} if _has_wal(path) else {"immutable": "1"}
    return sa.URL.create("sqlite", database=f"file:{quote(str(path))}", query={**mode, "uri": "true"})


def _has_wal(path: Path) -> bool:
    return path.with_name(path.name + "-wal").exists() or path.with_name(path.name + "-journal").exists()
