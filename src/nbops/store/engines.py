"""Connections: SQLite with WAL where the file system carries it, PostgreSQL by URL; schema brought up to date."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from nbops.core.errors import InvalidInput, MissingDependency, StoreError, StoreUnavailable

HEAD = "0006"
_READABLE = "0005"  # the oldest schema whose tables are today's: what came after are views, which we do not read
_BUSY_MS = 30_000
# File systems on which SQLite's shared-memory WAL is unsafe (https://sqlite.org/wal.html, "Disadvantages").
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs",
           "fuse.s3fs", "fuse.gcsfuse", "glusterfs", "fuse.glusterfs", "virtiofs"}  # fmt: skip
_ADVISORY_LOCK = 0x6E626F7073  # "nbops"
PATIENCE = "nbops_patience_ms"  # an execution option: how long a write waits for a lock
# A server that went away is noticed by its silence: libpq would wait for a quarter of an hour.
_LIBPQ = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
          "tcp_user_timeout": 20_000}  # fmt: skip
_PASSING = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}  # fmt: skip


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `url` whose schema is current.

    Parameters
    ----------
    url : str
        ``sqlite:////path/nbops.db`` or ``postgresql://user@host/db``.

    Raises
    ------
    InvalidInput
        The URL names another kind of database.
    MissingDependency
        PostgreSQL without the ``postgres`` extra.
    StoreError
        The database cannot be opened; `StoreUnavailable` if it may be later.
    """
    engine = make_engine(url)
    upgrade(engine)
    return engine


def make_engine(url: str) -> sa.Engine:
    """Return an engine for `url` that has not connected yet; `open_engine` says what may be wrong with a URL."""
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError:
        raise InvalidInput(f"store URL {url!r} cannot be read", hint="Use sqlite:///… or postgresql://…") from None
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed)
    raise InvalidInput(f"store URL names '{parsed.drivername}'", hint="Use sqlite:///… or postgresql://…")


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema up to date.

    Raises
    ------
    StoreError
        The database cannot be opened, or a newer nbops wrote it; `StoreUnavailable` if it may be opened later.
    """
    try:
        _upgrade(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        where = engine.url.render_as_string(hide_password=True)
        kind = StoreUnavailable if is_passing(error) else StoreError
        raise kind(f"cannot open the store {where}: {reason_of(error)}",
                   hint="Check the path, its permissions, or that the server runs.") from error  # fmt: skip


def is_passing(error: sa.exc.SQLAlchemyError) -> bool:
    """Return whether an error comes from the state of the place, not from what was asked: it may go away by itself."""
    if not isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.TimeoutError)  # no connection was free in the pool
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _PASSING
    return error.connection_invalidated or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)


def reason_of(error: sa.exc.SQLAlchemyError) -> str:
    """Return what the database said, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


def is_writable(database: str) -> bool:
    """Return whether a SQLite file, and the folder where its log is, can be written to."""
    path = Path(database)
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _sqlite(url: sa.URL) -> sa.Engine:
    path = Path(url.database or "")
    if path.exists() and not is_writable(os.fspath(path)):
        return _read_only(path)
    wal = file_system(path.parent) not in _REMOTE
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves: see _begin
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        connection.execute("PRAGMA wal_autocheckpoint=10000")  # 40 MB: a fold does not wait for the disk
        connection.execute(f"PRAGMA synchronous={'NORMAL' if wal else 'FULL'}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A writer that starts as a reader can meet SQLITE_BUSY at its first write; take the lock at once.
        options = connection.get_execution_options()
        patience = options.get(PATIENCE, _BUSY_MS)
        if connection.info.get(PATIENCE, _BUSY_MS) != patience:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={patience}")
            connection.info[PATIENCE] = patience
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("nbops_write", False) else "BEGIN")

    return engine


def _read_only(path: Path) -> sa.Engine:
    """Return an engine that reads a file in a place that cannot be written to."""
    has_log = path.with_name(path.name + "-wal").exists()
    query = {"mode": "ro", "uri": "true"} | ({} if has_log else {"immutable": "1"})
    url = sa.URL.create("sqlite", database=f"file:{quote(os.fspath(path))}", query=query)
    return sa.create_engine(url, connect_args={"check_same_thread": False})


def _postgres(url: sa.URL) -> sa.Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        options = {name: value for name, value in _LIBPQ.items() if name not in url.query}
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=options)
    except ImportError:
        raise MissingDependency.of("psycopg", "postgres") from None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        patience = connection.get_execution_options().get(PATIENCE)
        if patience is not None:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(patience)}")

    return engine


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder` (Linux), or an empty string."""
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return ""
    best, kind = "", ""
    here = os.fspath(folder.resolve())
    for line in mounts.splitlines():
        _, point, fs, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and (here == point or here.startswith(point.rstrip("/") + "/")):
            best, kind = point, fs
    return kind


def _upgrade(engine: sa.Engine) -> None:
    known = _revision(engine)
    if known == HEAD or (known == _READABLE and "mode" in engine.url.query):  # it cannot be written to, but read
        return
    with _alone(engine):
        if _revision(engine) == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "nbops.store:migrations")
        with engine.connect().execution_options(nbops_write=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _revision(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(sa.text("select version_num from alembic_version")).scalar()
    if found is not None and found > HEAD:
        raise StoreError(f"the workspace has schema {found}, this nbops knows {HEAD}", hint="Upgrade nbops.")
    return found


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[None]:
    """Keep other processes from changing the schema at the same time."""
    if engine.dialect.name == "sqlite":
        path = Path(engine.url.database or "").with_suffix(".lock")
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(_ADVISORY_LOCK)))
        try:
            yield
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_ADVISORY_LOCK)))
