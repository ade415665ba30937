"""Looking a workspace over, and mending what can be mended without losing anything.

Rows that repeat what a body or a chunk says are written anew from it; links to nothing are
dropped; damaged files and chunks are set aside. Everything else is only told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from nbops.core.codec import decode
from nbops.core.errors import CorruptData, NotFound
from nbops.core.records import Alias, Artifact, Dataset, ModelVersion, Record, Run, Summary, kinds
from nbops.core.reports import Report
from nbops.store.maintenance import TRASH
from nbops.store.manifests import stored_files
from nbops.store.points import Columns, decode_chunk, merge, summarise
from nbops.store.rows import attr_rows, clean, series_row, storable, summary_of
from nbops.store.sql import SqlStore
from nbops.store.summaries import break_seals, open_seal, read_summaries, seal
from nbops.store.tables import attr, chunk, counter, link, record, series
from nbops.store.workspace import Workspace

_PAGE = 500
_ASIDE = "set-aside"
# kind -> (field with its number, how its counter is called); see where the versions are numbered
_NUMBERED: dict[str, tuple[str, str]] = {
    ModelVersion.kind: ("number", "model/"),
    Dataset.kind: ("version", "dataset/"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what mends it, if anything does."""

    what: str
    mend: Callable[[], object] | None = None


def check_workspace(ws: Workspace) -> Report:
    """Look the whole workspace over and change nothing but what any start of nbops does.

    Every record is decoded, every chunk of points and every stored file is read.

    Returns
    -------
    Report
        What was looked at, and in `problems` what is wrong.
    """
    ws.flush()
    ws.recover()
    counts: Counter[str] = Counter()
    faults = list(_faults(ws, counts))
    lines = [fault.what + (" (can be mended)" if fault.mend else "") for fault in faults]
    return Report("workspace check", dict(counts), str(ws.path), problems=tuple(lines))


def repair_workspace(ws: Workspace) -> Report:
    """Look the whole workspace over and mend what can be mended without losing anything.

    Returns
    -------
    Report
        What was mended in `notes`; in `problems` what needs you.
    """
    ws.flush()
    ws.recover()
    counts: Counter[str] = Counter()
    mended, left = [], []
    for fault in list(_faults(ws, counts)):
        if fault.mend is None:
            left.append(fault.what)
        else:
            fault.mend()
            mended.append(fault.what)
    return Report(
        "workspace repair", {**counts, "mended": len(mended)}, str(ws.path), tuple(mended), problems=tuple(left)
    )


def _faults(ws: Workspace, counts: Counter[str]) -> Iterator[Fault]:
    yield from _database(ws.store)
    known: dict[str, Record] = {}
    digests: dict[str, str] = {}
    yield from _records(ws.store, counts, known, digests)
    yield from _series(ws, counts, known)
    yield from _seals(ws.store)
    yield from _links(ws.store, counts, known)
    yield from _names(ws.store, known)
    digests |= _stored_data(ws, known)
    yield from _files(ws, counts, digests)
    for path in sorted((ws.path / "journal").glob("*.torn")):
        yield Fault(f"the journal {path.name} ends in a damaged frame; its whole frames are in the store")


def _database(store: SqlStore) -> Iterator[Fault]:
    if store.engine.dialect.name == "sqlite":
        with store._reading() as connection:
            for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars():
                if line != "ok":
                    yield Fault(f"SQLite says: {line}")


def _records(
    store: SqlStore, counts: Counter[str], known: dict[str, Record], digests: dict[str, str]
) -> Iterator[Fault]:
    for rows, found in _pages(store):
        for row in rows:
            counts["records"] += 1
            name = row.kind.removeprefix(TRASH)
            if name not in kinds:
                yield Fault(f"{row.id} is of the kind '{row.kind}', which this nbops does not know")
                continue
            kind = kinds[name]
            try:
                item = decode(row.body, kind)
            except (msgspec.MsgspecError, ValueError, TypeError) as error:
                yield Fault(f"{row.id} cannot be read: {error}")
                continue
            if not row.kind.startswith(TRASH):
                known[item.id] = item
            if isinstance(item, Artifact):
                digests[item.digest] = f"'{item.name}' of {item.parent or item.id}"
            elif isinstance(item, ModelVersion):
                digests[item.digest] = f"the model {item.ref}"
            wanted = {(a["space"], a["key"], a["num"], a["text"]) for a in attr_rows(item)}
            if wanted != {a for a in found[row.id] if a[0] not in _made_elsewhere(kind)}:
                yield Fault(f"{row.id} is not found by all of its values", _rewriter(store, item.id, kind))


def _made_elsewhere(kind: type[Record]) -> tuple[str, ...]:
    """Return the spaces whose rows do not come from the record: the metrics of a run come from its points."""
    return ("metrics", "trash") if kind is Run else ("trash",)


def _rewriter(store: SqlStore, id: str, cls: type[Record]) -> Callable[[], None]:
    def rewrite() -> None:
        with store._work() as work:
            kept = sa.select(record.c.kind, record.c.body).where(record.c.id == id).with_for_update()
            now = work.connection.execute(kept).first()
            if now is None:  # deleted meanwhile
                return
            stale = sa.delete(attr).where(attr.c.record == id, attr.c.space.not_in(_made_elsewhere(cls)))
            work.connection.execute(stale)
            rows = [{**row, "kind": now.kind} for row in attr_rows(decode(now.body, cls))]
            if rows:
                work.connection.execute(sa.insert(attr), rows)

    return rewrite


def _series(ws: Workspace, counts: Counter[str], known: dict[str, Record]) -> Iterator[Fault]:
    store = ws.store
    with store._reading() as connection:
        both = sa.union(sa.select(series.c.run, series.c.metric), sa.select(chunk.c.run, chunk.c.metric))
        pairs = {(row.run, row.metric) for row in connection.execute(both)}
        every = set(connection.execute(sa.select(record.c.id)).scalars())
    for run, metric in sorted(pairs):
        counts["series"] += 1
        if run not in every:
            yield Fault(f"there are points of '{metric}' of {run}, which is not there")
        where = (chunk.c.run == run, chunk.c.metric == metric)
        summary: Summary | None = None
        number = -1
        with store._reading() as connection:
            row = connection.execute(sa.select(series).where(series.c.run == run, series.c.metric == metric)).first()
            said = (attr.c.record == run, attr.c.space == "metrics", attr.c.key == clean(metric))
            value = connection.execute(sa.select(attr.c.num).where(*said)).first()
            pieces = connection.execute(sa.select(chunk).where(*where).order_by(chunk.c.number)).all()
        for piece in pieces:
            number = piece.number
            try:
                summary = merge(summary, summarise(_checked(piece)))
            except CorruptData as error:
                name = f"'{metric}' of {run}, chunk {number}"
                yield Fault(f"{name}: {error.message}; it is set aside", _chunk_remover(ws, run, metric, number))
        counts["points"] += summary.count if summary else 0
        fits = row is not None and summary is not None and _same(summary_of(row), summary) and row.chunks == number + 1
        if not fits or value is None or value.num != (storable(summary.last) if summary else None):
            what = f"the summary of '{metric}' of {run} is not that of its points"
            yield Fault(what, _summariser(store, run, metric))


def _seals(store: SqlStore) -> Iterator[Fault]:
    """Compare what runs keep of their summaries with the rows of `series`."""
    last = ""
    while True:
        kept = (record.c.id > last, record.c.kind == Run.kind, record.c.summary.is_not(None))
        with store._reading() as connection:
            query = sa.select(record.c.id, record.c.summary).where(*kept).order_by(record.c.id).limit(_PAGE)
            rows = connection.execute(query).all()
            found = read_summaries(connection, [row.id for row in rows])
        for row in rows:
            sealed, true = open_seal(row.summary) or {}, found[row.id]
            if sealed.keys() != true.keys() or not all(_same(sealed[name], true[name]) for name in true):
                yield Fault(f"the sealed summaries of {row.id} are not those of its series", _sealer(store, row.id))
        if not rows:
            return
        last = rows[-1].id


def _sealer(store: SqlStore, id: str) -> Callable[[], None]:
    def seal_anew() -> None:
        with store._work() as work:
            seal(work.connection, [id])

    return seal_anew


def _checked(piece: Any) -> Columns:
    columns = decode_chunk(piece.data)
    if not len(columns) or len(columns) != piece.count:
        raise CorruptData(f"a chunk said to have {piece.count} points has {len(columns)}", hint="Restore a backup.")
    return columns


def _same(a: Summary, b: Summary) -> bool:
    return bool(np.array_equal(msgspec.structs.astuple(a), msgspec.structs.astuple(b), equal_nan=True))


def _chunk_remover(ws: Workspace, run: str, metric: str, number: int) -> Callable[[], None]:
    def remove() -> None:
        where = (chunk.c.run == run, chunk.c.metric == metric, chunk.c.number == number)
        folder = ws.path / _ASIDE
        folder.mkdir(exist_ok=True)
        with ws.store._work() as work:
            data = work.connection.execute(sa.select(chunk.c.data).where(*where)).scalar_one()
            (folder / f"chunk-{run}-{clean(metric).encode().hex()[:60]}-{number}").write_bytes(data)
            work.connection.execute(sa.delete(chunk).where(*where))
        _summarise(ws.store, run, metric)

    return remove


def _summariser(store: SqlStore, run: str, metric: str) -> Callable[[], None]:
    return lambda: _summarise(store, run, metric)


def _summarise(store: SqlStore, run: str, metric: str) -> None:
    """Write the rows that repeat what the chunks of a metric say."""
    with store._work() as work:
        query = sa.select(chunk).where(chunk.c.run == run, chunk.c.metric == metric).order_by(chunk.c.number)
        summary, number = None, -1
        for piece in work.connection.execute(query).all():
            try:
                summary = merge(summary, summarise(_checked(piece)))
            except CorruptData:  # has a fault of its own, which sets it aside and comes here again
                number = max(number, piece.number)
                continue
            number = piece.number
        break_seals(work.connection, [run])
        work.connection.execute(sa.delete(series).where(series.c.run == run, series.c.metric == metric))
        gone = sa.delete(attr).where(attr.c.record == run, attr.c.space == "metrics", attr.c.key == clean(metric))
        work.connection.execute(gone)
        if summary is None:
            return
        kind = work.connection.execute(sa.select(record.c.kind).where(record.c.id == run)).scalar() or Run.kind
        work.connection.execute(sa.insert(series), [series_row(run, metric, summary, number + 1)])
        value = {"record": run, "kind": kind, "space": "metrics", "key": clean(metric), "text": None}
        work.connection.execute(sa.insert(attr), [{**value, "num": storable(summary.last)}])


def _links(store: SqlStore, counts: Counter[str], known: dict[str, Record]) -> Iterator[Fault]:
    with store._reading() as connection:
        every = set(connection.execute(sa.select(record.c.id)).scalars())
    for edge in store.links():
        counts["links"] += 1
        missing = [id for id in (edge.source, edge.target) if id not in every]
        if missing:
            what = f"the link {edge.source} {edge.relation} {edge.target} leads to {missing[0]}, which is not there"
            yield Fault(what, _unlinker(store, edge.source, edge.relation, edge.target))


def _unlinker(store: SqlStore, source: str, relation: str, target: str) -> Callable[[], None]:
    def unlink() -> None:
        same = (link.c.source == source, link.c.relation == relation, link.c.target == target)
        with store._work() as work:
            work.connection.execute(sa.delete(link).where(*same))

    return unlink


def _names(store: SqlStore, known: dict[str, Record]) -> Iterator[Fault]:
    versions = {(item.name, item.number) for item in known.values() if isinstance(item, ModelVersion)}
    newest: Counter[str] = Counter()
    for item in known.values():
        if isinstance(item, Alias) and (item.model, item.number) not in versions:
            yield Fault(f"the alias {item.name} points at version {item.number}, which is not there: promote another")
        if item.kind in _NUMBERED:
            field, prefix = _NUMBERED[item.kind]
            name = prefix + str(getattr(item, "name", ""))
            newest[name] = max(newest[name], int(getattr(item, field)))
    with store._reading() as connection:
        given = {row.name: row.value for row in connection.execute(sa.select(counter))}
    for name, number in sorted(newest.items()):
        if given.get(clean(name), 0) < number:
            yield Fault(f"the counter '{name}' stands at {given.get(clean(name), 0)}, below version {number}",
                        _raiser(store, clean(name), number))  # fmt: skip


def _raiser(store: SqlStore, name: str, number: int) -> Callable[[], None]:
    def lift() -> None:
        with store._work() as work:
            store._upsert(work.connection, counter, [{"name": name, "value": number}])

    return lift


def _stored_data(ws: Workspace, known: dict[str, Record]) -> dict[str, str]:
    """Return what the manifests of datasets name, and whose it is; nothing of those whose data is not stored."""
    found: dict[str, str] = {}
    for item in known.values():
        if isinstance(item, Dataset) and item.manifest and item.tags.get("stored_digest") == item.manifest:
            for digest in stored_files(ws.artifacts.read_unverified(item.manifest)):
                found[digest] = f"data of {item.name}/{item.version}"
    return found


def _files(ws: Workspace, counts: Counter[str], digests: dict[str, str]) -> Iterator[Fault]:
    stored = set()
    for blob in ws.artifacts.blobs():
        counts["files"] += 1
        stored.add(blob.digest)
        try:
            ws.artifacts.open(blob.digest).close()
        except NotFound:  # purged meanwhile
            continue
        except CorruptData:
            whose = digests.pop(blob.digest, "no record")
            yield Fault(f"the file {blob.digest[:12]}… ({whose}) is damaged; it is set aside: store it again",
                        _setter_aside(ws, blob.digest))  # fmt: skip
    for digest, whose in sorted(digests.items()):
        if digest not in stored:
            yield Fault(f"the file {digest[:12]}… ({whose}) is missing: store it again")


def _setter_aside(ws: Workspace, digest: str) -> Callable[[], object]:
    return lambda: ws.artifacts.set_aside(digest, ws.path / _ASIDE)


def _pages(store: SqlStore) -> Iterator[tuple[list[Any], dict[str, set[Any]]]]:
    """Yield rows of records, and what the attr table says of each, as of one moment."""
    last = ""
    while True:
        query = sa.select(record.c.id, record.c.kind, record.c.body).where(record.c.id > last).order_by(record.c.id)
        with store._reading() as connection:
            rows = list(connection.execute(query.limit(_PAGE)))
            found: dict[str, set[Any]] = {row.id: set() for row in rows}
            values = sa.select(attr).where(attr.c.record.in_(found))
            for a in connection.execute(values):
                found[a.record].add((a.space, a.key, a.num, a.text))
        if not rows:
            return
        yield rows, found
        last = rows[-1].id
