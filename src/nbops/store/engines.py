"""Connections: SQLite with WAL where the file system carries it, PostgreSQL by URL; schema brought up to date."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nbops.core.errors import InvalidInput, MissingDependency, StoreError

HEAD = "0004"
_BUSY_MS = 30_000
# File systems on which SQLite's shared-memory WAL is unsafe (https://sqlite.org/wal.html, "Disadvantages").
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "fuse.sshfs",
           "fuse.s3fs", "fuse.gcsfuse", "glusterfs", "fuse.glusterfs", "virtiofs"}  # fmt: skip
_ADVISORY_LOCK = 0x6E626F7073  # "nbops"


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
        The database cannot be opened.
    """
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError:
        raise InvalidInput(f"store URL {url!r} cannot be read", hint="Use sqlite:///… or postgresql://…") from None
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite(parsed)
    elif parsed.get_backend_name() == "postgresql":
        engine = _postgres(parsed)
    else:
        raise InvalidInput(f"store URL names '{parsed.drivername}'", hint="Use sqlite:///… or postgresql://…")
    try:
        _upgrade(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        where = parsed.render_as_string(hide_password=True)
        raise StoreError(f"cannot open the store {where}: {error.__cause__ or error}",
                         hint="Check the path, its permissions, or that the server runs.") from error  # fmt: skip
    return engine


def _sqlite(url: sa.URL) -> sa.Engine:
    path = Path(url.database or "")
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
        writing = connection.get_execution_options().get("nbops_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgres(url: sa.URL) -> sa.Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        return sa.create_engine(url, pool_pre_ping=True)
    except ImportError:
        raise MissingDependency.of("psycopg", "postgres") from None


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
    if _revision(engine) == HEAD:
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
