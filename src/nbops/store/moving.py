"""Moving a workspace: its records to another database, its files to another place, without losing anything.

Everything is copied first, then compared with the source, and only then does ``config.toml``
name the new places. The source is never changed. A move that was stopped goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from tqdm.auto import tqdm

from nbops.core.errors import Conflict, CorruptData, InvalidInput
from nbops.core.query import parse
from nbops.core.records import Run, RunStatus
from nbops.core.reports import Report
from nbops.store.artifacts import Artifacts
from nbops.store.engines import open_engine
from nbops.store.journal import owner_of
from nbops.store.recovery import journals_in
from nbops.store.sql import SqlStore
from nbops.store.tables import metadata
from nbops.store.workspace import Workspace, init, workspace

_ROWS = 1000
_CHUNK_ROWS = 50
_MARK = "nbops move from "  # a counter in the target that says whose half-made copy it is
_TRIES = 3
# What only lives while processes do stays behind.
_TABLES = [table for table in metadata.sorted_tables if table.name != "heartbeat"]


def move(*, store_url: str | None = None, artifacts_url: str | None = None) -> Report:
    """Move the current workspace to another database, or its files to another place, or both.

    The workspace's folder stays where it is; its ``config.toml`` names the new places when all
    was copied and compared. What was moved is left as it is: delete it when you are content.

    Parameters
    ----------
    store_url : str, optional
        ``postgresql://user@host/db``, or ``sqlite:////path/nbops.db``; an empty database.
    artifacts_url : str, optional
        A folder, or any fsspec URL: ``s3://bucket/nbops``.

    Returns
    -------
    Report
        How many rows and files were copied and compared.

    Raises
    ------
    Conflict
        A run is open, another process writes to the workspace, or the target holds other records.
    CorruptData
        A file of the source is damaged, or the copy differs from the source.
    InvalidInput
        Neither is given, or the target is where the workspace is already.
    """
    ws = workspace()
    if not (store_url or artifacts_url):
        raise InvalidInput("nowhere to move to", hint="Pass store_url= or artifacts_url=.")
    ws.flush()
    _refuse_writers(ws)
    counts: dict[str, int] = {}
    notes = []
    if artifacts_url:
        target = Artifacts(artifacts_url)
        if (target._fs, target._root) == (ws.artifacts._fs, ws.artifacts._root):
            raise InvalidInput(f"the files are at {artifacts_url} already", hint="Name another place.")
        counts |= _move_files(ws.artifacts, target)
        notes.append(f"The old files are still at {ws.artifacts.url}.")
    if store_url:
        counts |= _move_rows(ws.store, store_url)
        notes.append(f"The old records are still in {ws.store.engine.url.render_as_string(hide_password=True)}.")
    changes = {"store_url": store_url, "artifacts_url": artifacts_url}
    _rewrite(ws.path / "config.toml", {name: value for name, value in changes.items() if value})
    if store_url:
        _release(store_url)
    for name in changes:
        if changes[name] and f"NBOPS_{name.upper()}" in os.environ:
            notes.append(f"NBOPS_{name.upper()} is set and still decides: change it too.")
    init(ws.path, store_url=store_url, artifacts_url=artifacts_url)
    return Report("move", counts, str(ws.path), notes=tuple(notes))


def _refuse_writers(ws: Workspace) -> None:
    ws.recover()
    running = ws.store.find(Run, parse(f"status == '{RunStatus.RUNNING}'"), limit=3)
    if running:
        names = ", ".join(f"'{run.name}'" for run in running)
        raise Conflict(f"{names} is still running", hint="Move when no run is open.")
    for path in journals_in(ws.journals):
        if owner_of(path) != ws.known_owner and _is_locked(path):
            raise Conflict(f"another process has the workspace open ({owner_of(path)})",
                           hint="Stop its kernel, or wait until it has ended.")  # fmt: skip


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


# ---- files


def _move_files(source: Artifacts, target: Artifacts) -> dict[str, int]:
    there = {blob.digest: blob.size_bytes for blob in target.blobs()}
    blobs = list(source.blobs())
    size = 0
    for blob in tqdm(blobs, desc="copying files", unit=" files", leave=False):
        size += blob.size_bytes
        if there.get(blob.digest) == blob.size_bytes and _is_sound(target, blob.digest):
            continue
        with source.open(blob.digest) as stream:  # refuses damaged bytes
            digest, _ = target.put(stream)
        if digest != blob.digest or not _is_sound(target, digest):
            raise CorruptData(f"the copy of {blob.digest[:12]}… is damaged", hint="Move again; the source is whole.")
    return {"files": len(blobs), "bytes": size}


def _is_sound(artifacts: Artifacts, digest: str) -> bool:
    try:
        artifacts.open(digest).close()
    except CorruptData:
        return False
    return True


# ---- rows


def _move_rows(source: SqlStore, url: str) -> dict[str, int]:
    engine = open_engine(url)
    try:
        if _place(engine.url) == _place(source.engine.url):
            raise InvalidInput(f"the records are in {_place(engine.url)} already", hint="Name another database.")
        _claim(engine, _MARK + _place(source.engine.url), newest=source.last_event())
        target = SqlStore(url)
        try:
            rows = sum(_copy(source, target, table) for table in _TABLES)
            _number_on(target)
        finally:
            target.close()
    finally:
        engine.dispose()
    return {"rows": rows}


def _place(url: sa.URL) -> str:
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def _claim(engine: sa.Engine, mark: str, *, newest: int) -> None:
    """Mark an empty database as ours to fill; `Conflict` if it holds anything else.

    A database that bears our mark is a copy half made, unless it has events that the source has not:
    then it is in use.
    """
    counter, event = metadata.tables["counter"], metadata.tables["event"]
    with engine.connect().execution_options(nbops_write=True) as connection, connection.begin():
        marks = connection.execute(sa.select(counter.c.name).where(counter.c.name.startswith(_MARK))).scalars().all()
        if mark in marks and (connection.execute(sa.select(sa.func.max(event.c.seq))).scalar() or 0) <= newest:
            return
        full = [t.name for t in _TABLES if connection.execute(sa.select(sa.literal(1)).select_from(t).limit(1)).first()]
        if full:
            raise Conflict(f"the database {_place(engine.url)} is not empty: it has rows in {', '.join(full)}",
                           hint="Name an empty database; two workspaces cannot become one.")  # fmt: skip
        connection.execute(sa.insert(counter), [{"name": mark, "value": 0}])


def _copy(source: SqlStore, target: SqlStore, table: sa.Table) -> int:
    """Copy one table until a whole comparison finds no difference; return its number of rows."""
    for _ in range(_TRIES):
        total = written = 0
        for page in tqdm(_pages(source, table), desc=f"copying {table.name}", unit=" pages", leave=False):
            there = {_key(table, row): _digest(row) for row in _same(target, table, page)}
            rows = [row for row in page if there.get(_key(table, row)) != _digest(row)]
            if rows:
                with target._work() as work:
                    _replace(
                        work.connection, table, rows, stale=[_key(table, r) for r in rows if _key(table, r) in there]
                    )
            total, written = total + len(page), written + len(rows)
        if not written and not _drop_others(source, target, table, total):
            return total
    hint = "Stop what writes to the workspace, then move again."
    raise Conflict(f"the table '{table.name}' changes while it is copied", hint=hint)


def _same(store: SqlStore, table: sa.Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a store that have the primary keys of `rows`."""
    keys = [_key(table, row) for row in rows]
    query = sa.select(table).where(sa.tuple_(*table.primary_key).in_(keys))
    with store._reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _replace(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], *, stale: list[tuple[Any, ...]]
) -> None:
    if stale:  # an empty delete would already wake the guard of the events, which are only ever appended to
        connection.execute(sa.delete(table).where(sa.tuple_(*table.primary_key).in_(stale)))
    connection.execute(sa.insert(table), rows)


def _drop_others(source: SqlStore, target: SqlStore, table: sa.Table, total: int) -> int:
    """Delete what an earlier try copied and the source has no more; return how many rows."""
    if sum(len(page) for page in _pages(target, table, keys_only=True)) == total:
        return 0
    dropped = 0
    for page in _pages(target, table, keys_only=True):
        kept = {_key(table, row) for row in _same(source, table, page)}
        stale = [_key(table, row) for row in page if _key(table, row) not in kept]
        if stale:
            with target._work() as work:
                work.connection.execute(sa.delete(table).where(sa.tuple_(*table.primary_key).in_(stale)))
        dropped += len(stale)
    return dropped


def _key(table: sa.Table, row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def _digest(row: dict[str, Any]) -> bytes:
    hasher = hashlib.sha256()
    for name in sorted(row):
        value = row[name]
        if isinstance(value, float):
            value = struct.pack("<d", value)
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        hasher.update(struct.pack("<Q", len(data)) + data)
    return hasher.digest()[:16]


def _pages(store: SqlStore, table: sa.Table, *, keys_only: bool = False) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in pages, in the order of the primary key; each page is read by itself."""
    keys = list(table.primary_key)
    size = _CHUNK_ROWS if table.name == "chunk" and not keys_only else _ROWS
    query = (sa.select(*keys) if keys_only else sa.select(table)).order_by(*keys).limit(size)
    if table.name == "counter":
        query = query.where(sa.not_(table.c.name.startswith(_MARK)))
    last: tuple[Any, ...] | None = None
    while True:
        page = query if last is None else query.where(sa.tuple_(*keys) > sa.tuple_(*map(sa.literal, last)))
        with store._reading() as connection:
            rows = [dict(row) for row in connection.execute(page).mappings()]
        if not rows:
            return
        yield rows
        last = _key(table, rows[-1])


def _number_on(target: SqlStore) -> None:
    """Let PostgreSQL number events after the newest that was copied."""
    if target.engine.dialect.name == "postgresql":
        newest = sa.select(sa.func.max(metadata.tables["event"].c.seq)).scalar_subquery()
        with target._work() as work:  # setval of NULL, for no events, changes nothing
            work.connection.execute(sa.select(sa.func.setval(sa.func.pg_get_serial_sequence("event", "seq"), newest)))


def _release(url: str) -> None:
    """Remove the mark: from here on the database is a workspace's own."""
    engine = open_engine(url)
    counter = metadata.tables["counter"]
    with engine.connect().execution_options(nbops_write=True) as connection, connection.begin():
        connection.execute(sa.delete(counter).where(counter.c.name.startswith(_MARK)))
    engine.dispose()


# ---- config.toml


def _rewrite(path: Path, changes: dict[str, str]) -> None:
    """Set names in ``config.toml``, leaving every other line as it is; the file appears whole or not at all."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.partition("=")[0].strip() not in changes]
    # A URL may hold a password, so that only the owner reads the file; JSON's text is TOML's too.
    made = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in changes.items()]
    part = path.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write("\n".join([*made, *kept]) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
