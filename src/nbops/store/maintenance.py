"""Trash, restore and purge: a record in the trash is seen by no query, and its files go only when nothing names them.

Trashing renames the kind of a record (``run`` becomes ``trash:run``), so no query can forget to look away.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from nbops.core.errors import Conflict, InvalidInput, NotFound
from nbops.core.query import Both, Compare, Field
from nbops.core.records import Alias, Endpoint, ModelVersion, Record, Run, RunStatus
from nbops.store.artifacts import Artifacts
from nbops.store.manifests import START
from nbops.store.sql import SqlStore
from nbops.store.tables import attr, chunk, link, record, series

TRASH = "trash:"
GRACE_S = 24 * 3600.0
DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SPACE, _KEY = "trash", "at"  # the attr row of a record in the trash: num is when, text the record it went with
# What goes with its parent; models and data stay.
_ALONG = (Run.kind, "cell", "artifact", "check", "diagnosis", "watch", "command")
_PIECE = 500
_MANIFEST_BYTES = 1 << 20  # a larger JSON file is looked into only if it begins as our manifests do


@dataclass(frozen=True)
class Trashed:
    """One thing in the trash.

    Attributes
    ----------
    records : int
        How many records lie there with it, itself included.
    at : float, seconds since the epoch
    """

    id: str
    kind: str
    name: str
    at: float
    records: int


def trash(store: SqlStore, item: Record) -> int:
    """Move a record, and what belongs to it, into the trash; return how many records that are.

    Raises
    ------
    Conflict
        A run or an endpoint among them still runs, or an alias points at the version.
    InvalidInput
        It is an alias, which has no trash.
    NotFound
        It is not there (any more).
    """
    _refuse(store, item)
    with store._work() as work:
        ids = _family(work.connection, item)
        now = time.time()
        for piece in _pieces(ids):
            for table, key in ((record, record.c.id), (attr, attr.c.record)):
                renamed = sa.update(table).where(key.in_(piece)).values(kind=sa.literal(TRASH) + table.c.kind)
                work.connection.execute(renamed)
            marks = [{"record": id, "kind": TRASH, "space": _SPACE, "key": _KEY, "num": now, "text": item.id}
                     for id in piece]  # fmt: skip
            work.connection.execute(sa.delete(attr).where(attr.c.space == _SPACE, attr.c.record.in_(piece)))
            work.connection.execute(sa.insert(attr), marks)
        store.emit(f"{item.kind}.trashed", item.id, {"records": len(ids)})
    return len(ids)


def _refuse(store: SqlStore, item: Record) -> None:
    if isinstance(item, Alias):
        raise InvalidInput(f"the alias '{item.name}' cannot go to the trash", hint="Move it with nb.promote instead.")
    if isinstance(item, Endpoint) and item.status not in ("STOPPED", "DEAD"):
        raise Conflict(f"the endpoint '{item.name}' is {item.status}", hint="Stop it first with nb.stop.")
    if isinstance(item, ModelVersion):
        where = Both("and", (Compare(Field("model"), "==", item.name), Compare(Field("number"), "==", item.number)))
        names = ", ".join(alias.name for alias in store.find(Alias, where))
        if names:
            raise Conflict(f"{names} points at {item.ref}", hint="Move the alias to another version first.")


def _family(connection: sa.Connection, item: Record) -> list[str]:
    """Return the ids of `item` and of all that belongs to it, locked; `Conflict` if one of them runs."""
    query = sa.select(record.c.id, record.c.kind, record.c.status, record.c.name).with_for_update()
    rows = connection.execute(query.where(record.c.id == item.id, record.c.kind == item.kind)).all()
    if not rows:
        raise NotFound(f"no {item.kind} '{item.id}'", hint="It may be in the trash already: nb.trash() lists it.")
    ids: dict[str, None] = {}
    while rows:
        for row in rows:
            if row.kind == Run.kind and row.status == RunStatus.RUNNING:
                raise Conflict(f"run '{row.name}' is running", hint="End it first, or wait until it has ended.")
        fresh = [row.id for row in rows if row.id not in ids]
        ids.update(dict.fromkeys(fresh))
        rows = [
            row
            for piece in _pieces(fresh)
            for row in connection.execute(query.where(record.c.parent.in_(piece), record.c.kind.in_(_ALONG)))
        ]
    return list(ids)


def restore(store: SqlStore, id: str) -> int:
    """Take a record, and what went with it, out of the trash; return how many records that are.

    Raises
    ------
    NotFound
        It is not in the trash.
    Conflict
        It went there with another record, which must come back with it.
    """
    mark = sa.select(attr.c.record, attr.c.text).where(attr.c.space == _SPACE)
    with store._work() as work:
        row = work.connection.execute(mark.where(attr.c.record == id)).first()
        if row is None:
            raise NotFound(f"'{id}' is not in the trash", hint="List the trash with nb.trash().")
        if row.text != id:
            raise Conflict(f"'{id}' went to the trash with {row.text}", hint=f"Restore that: nb.restore('{row.text}')")
        ids = [found.record for found in work.connection.execute(mark.where(attr.c.text == id))]
        for piece in _pieces(ids):
            work.connection.execute(sa.delete(attr).where(attr.c.space == _SPACE, attr.c.record.in_(piece)))
            for table, key in ((record, record.c.id), (attr, attr.c.record)):
                there = table.c.kind.startswith(TRASH, autoescape=True)
                plain = sa.func.substr(table.c.kind, len(TRASH) + 1)
                work.connection.execute(sa.update(table).where(key.in_(piece), there).values(kind=plain))
        kind = work.connection.execute(sa.select(record.c.kind).where(record.c.id == id)).scalar_one()
        store.emit(f"{kind}.restored", id, {"records": len(ids)})
    return len(ids)


def trashed(store: SqlStore) -> list[Trashed]:
    """Return what is in the trash, the newest first."""
    with store._reading() as connection:
        grouped = sa.select(attr.c.text, sa.func.count()).where(attr.c.space == _SPACE).group_by(attr.c.text)
        counts: dict[str, int] = {id: count for id, count in connection.execute(grouped)}
        query = (
            sa.select(record.c.id, record.c.kind, record.c.name, attr.c.num)
            .join(attr, attr.c.record == record.c.id)
            .where(attr.c.space == _SPACE, attr.c.text == record.c.id)
            .order_by(attr.c.num.desc(), record.c.id)
        )
        return [
            Trashed(row.id, row.kind.removeprefix(TRASH), row.name or "", row.num, counts[row.id])
            for row in connection.execute(query)
        ]


def in_trash(store: SqlStore, id: str) -> bool:
    """Return whether the record `id` is in the trash."""
    with store._reading() as connection:
        kind = connection.execute(sa.select(record.c.kind).where(record.c.id == id)).scalar()
    return kind is not None and str(kind).startswith(TRASH)


def kinds_of(store: SqlStore, ids: Iterable[str]) -> dict[str, str]:
    """Return the kinds of the records that there are among `ids`; of one in the trash it begins with ``trash:``."""
    found: dict[str, str] = {}
    with store._reading() as connection:
        for piece in _pieces(ids):
            query = sa.select(record.c.id, record.c.kind).where(record.c.id.in_(piece))
            found.update((row.id, row.kind) for row in connection.execute(query))
    return found


def purge(store: SqlStore, *, before: float) -> list[Trashed]:
    """Delete for ever what went to the trash before a time (seconds); files are left to `sweep`."""
    gone = [item for item in trashed(store) if item.at < before]
    for item in gone:
        with store._work() as work:
            found = sa.select(attr.c.record).where(attr.c.space == _SPACE, attr.c.text == item.id)
            ids = list(work.connection.execute(found).scalars())  # none if another process was first
            for piece in _pieces(ids):
                for table, keys in (
                    (link, (link.c.source, link.c.target)),
                    (series, (series.c.run,)),
                    (chunk, (chunk.c.run,)),
                    (attr, (attr.c.record,)),
                    (record, (record.c.id,)),
                ):
                    work.connection.execute(sa.delete(table).where(sa.or_(*(key.in_(piece) for key in keys))))
            if ids:
                store.emit(f"{item.kind}.purged", item.id, {"records": len(ids)})
    return gone


def sweep(store: SqlStore, artifacts: Artifacts, *, grace_s: float = GRACE_S) -> tuple[int, int]:
    """Remove files that nothing names any more; return how many and their bytes.

    Any sha256 in any record counts as a name, also one in the trash; so does one in a small JSON
    file that is named itself, such as a bundle's manifest, and in a dataset's manifest of any size.
    Files younger than `grace_s` stay: a writer stores the bytes first and their record after.
    """
    sizes = {blob.digest: blob.size_bytes for blob in artifacts.blobs()}
    orphans = sizes.keys() - _named(store, artifacts, sizes)
    oldest_kept = time.time() - grace_s
    count = size = 0
    for digest in sorted(orphans):
        if artifacts.modified_at(digest) < oldest_kept:
            artifacts.delete(digest)
            count, size = count + 1, size + sizes[digest]
    artifacts.clear_staging(before=oldest_kept)
    return count, size


def _named(store: SqlStore, artifacts: Artifacts, sizes: dict[str, int]) -> set[str]:
    named = {digest for body in bodies(store) for digest in DIGEST.findall(body)}
    if not sizes.keys() - named:
        return named
    unread = set(named)
    while unread:
        digest = unread.pop()
        fresh = set(_named_in(artifacts, digest, size=sizes[digest])) - named if digest in sizes else set()
        named |= fresh
        unread |= fresh
    return named


def _named_in(artifacts: Artifacts, digest: str, *, size: int) -> list[str]:
    """Return the digests that a stored file names: a small one of JSON, or a manifest of any size."""
    if size >= _MANIFEST_BYTES and not artifacts.begins_with(digest, START):
        return []
    data = artifacts.read_unverified(digest)
    return DIGEST.findall(data.decode("utf-8", "replace")) if data[:1] in (b"{", b"[") else []


def bodies(store: SqlStore) -> Iterator[str]:
    """Yield the JSON of every record, in the trash or not."""
    last = ""
    while True:
        with store._reading() as connection:
            query = sa.select(record.c.id, record.c.body).where(record.c.id > last).order_by(record.c.id)
            rows = connection.execute(query.limit(_PIECE)).all()
        if not rows:
            return
        yield from (row.body for row in rows)
        last = rows[-1].id


def _pieces(ids: Iterable[str]) -> Iterator[list[str]]:
    items = list(ids)
    for start in range(0, len(items), _PIECE):
        yield items[start : start + _PIECE]
