"""The Store on SQLite and PostgreSQL: one SQLAlchemy Core implementation for both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nbops.core.codec import decode, encode
from nbops.core.errors import NotFound, StoreError, StoreUnavailable
from nbops.core.protocols import Points
from nbops.core.query import Node, Order
from nbops.core.records import Event, Link, Record, Run, RunStatus
from nbops.store.chain import linked
from nbops.store.engines import PATIENCE, is_passing, is_writable, make_engine, reason_of, upgrade
from nbops.store.forking import ForkGate
from nbops.store.heartbeats import Heartbeats
from nbops.store.identity import user
from nbops.store.rows import attr_rows, clean, record_row
from nbops.store.series import SeriesTables
from nbops.store.sqlquery import among, compile_where, counted, first, ordered, texts_of
from nbops.store.summaries import break_seals, has_points, seal, with_summaries
from nbops.store.tables import attr, chunk, counter, event, link, record, series

R = TypeVar("R", bound=Record)
_EVENT_LOCK = 0x6E626F7065  # "nbope"
_MANY = 500  # values bound in one statement


@dataclass
class _Work:
    """One open transaction: its connection, and the events to append just before it commits."""

    connection: sa.Connection
    events: list[dict[str, Any]] = field(default_factory=list)


class SqlStore(Heartbeats):
    """Records, links, events and points in a relational database.

    Parameters
    ----------
    url : str
        ``sqlite:////path/nbops.db`` or ``postgresql://user@host/db``.
    patient : bool
        Whether a database that cannot be reached now is opened when it is needed; else it is an error.
    """

    def __init__(self, url: str, *, patient: bool = False) -> None:
        self.url = url
        self.engine = make_engine(url)
        self._insert: Any = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        self._local = threading.local()
        self._gate = ForkGate()
        self._series = SeriesTables(self._upsert)
        self._is_ready = False
        try:
            self._prepare()
        except StoreUnavailable:
            if not patient:
                raise

    @property
    def is_read_only(self) -> bool:
        """Whether the place of the database cannot be written to; looked at anew by the next write."""
        return "mode" in self.engine.url.query

    def _prepare(self, *, to_write: bool = False) -> None:
        """Bring the schema up to date at the first use, and leave reading alone once the place can be written to."""
        if to_write and self.is_read_only:
            if not is_writable(sa.engine.make_url(self.url).database or ""):
                hint = "Make it writable, or choose another workspace: nb.init(path)."
                raise StoreUnavailable(f"{self.url} is in a place that cannot be written to", hint=hint)
            self.engine.dispose()
            self.engine = make_engine(self.url)
            self._is_ready = False
        if not self._is_ready:
            upgrade(self.engine)
            self._is_ready = True

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Let the writes of this thread within the block wait no longer than this for others' locks."""
        before = getattr(self._local, "patience", None)
        self._local.patience = seconds
        try:
            yield
        finally:
            self._local.patience = before

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a transaction open."""
        return getattr(self._local, "work", None) is not None

    # transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join all calls of this thread within the block into one transaction."""
        with self._work():
            yield

    @contextmanager
    def _work(self) -> Iterator[_Work]:
        open_work: _Work | None = getattr(self._local, "work", None)
        if open_work is not None:
            yield open_work
            return
        patience = getattr(self._local, "patience", None)
        options: dict[str, Any] = {} if patience is None else {PATIENCE: int(patience * 1000)}
        try:
            self._prepare(to_write=True)
            with (
                self._gate.working(),
                self.engine.connect().execution_options(nbops_write=True, **options) as connection,
                connection.begin(),
            ):
                self._local.work = _Work(connection)
                try:
                    yield self._local.work
                    self._write_events(self._local.work)
                finally:
                    self._local.work = None
        except sa.exc.SQLAlchemyError as error:
            hint = "Check disk space and locks; nothing of this change was stored."
            raise (_failed("the store refused the write", error, hint=hint) or error) from error.__cause__

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        work: _Work | None = getattr(self._local, "work", None)
        if work is not None:
            yield work.connection
            return
        try:
            self._prepare()
            with self._gate.working(), self.engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            hint = "Check that the database is there and can be reached."
            raise (_failed("the store cannot be read", error, hint=hint) or error) from error.__cause__

    def _write_events(self, work: _Work) -> None:
        if not work.events:
            return
        if self.engine.dialect.name == "postgresql":
            # Sequence numbers are given before the commit: one writer at a time keeps them in commit order.
            work.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_EVENT_LOCK)))
        newest = sa.select(event.c.digest).order_by(event.c.seq.desc()).limit(1)
        digest, rows = work.connection.execute(newest).scalar() or "", []
        for row in work.events:
            rows.append(linked(digest, row))
            digest = rows[-1]["digest"]
        work.connection.execute(sa.insert(event), rows)

    def _upsert(self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        statement = self._insert(table)
        keys = [column.name for column in table.primary_key]
        rest = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest), list(rows))

    # records

    def put(self, item: Record, *, event: str = "", payload: Mapping[str, Any] | None = None) -> None:
        """Insert or replace a record and tell it."""
        with self._work() as work:
            known = work.connection.execute(sa.select(record.c.id).where(record.c.id == item.id)).first()
            self._upsert(work.connection, record, [record_row(item)])
            if known:
                stale = sa.delete(attr).where(attr.c.record == item.id)
                work.connection.execute(stale.where(attr.c.space != "metrics") if has_points(type(item)) else stale)
            rows = list(attr_rows(item))
            if rows:
                work.connection.execute(sa.insert(attr), rows)
            if isinstance(item, Run) and item.status is not RunStatus.RUNNING:
                seal(work.connection, [item.id])
            self.emit(event or f"{item.kind}.{'updated' if known else 'created'}", item.id, payload)

    def get(self, kind: type[R], id: str) -> R:
        """Return the record or raise `NotFound`."""
        with self._reading() as connection:
            return self._get(connection, kind, id, lock=False)

    def _get(self, connection: sa.Connection, kind: type[R], id: str, *, lock: bool) -> R:
        query = sa.select(record.c.body, record.c.summary).where(record.c.id == id, record.c.kind == kind.kind)
        is_askable = id == clean(id)  # PostgreSQL refuses to look for a NUL
        row = connection.execute(query.with_for_update() if lock else query).first() if is_askable else None
        if row is None:
            raise NotFound(f"no {kind.kind} '{id}'", hint=f"List them with nb.find('{kind.kind}s').")
        return _read(connection, kind, [row])[0]

    def find(
        self, kind: type[R], where: Node | None = None, *,
        order_by: Sequence[Order] = (), limit: int | None = None, offset: int = 0,
    ) -> list[R]:  # fmt: skip
        """Return matching records, newest first unless ordered otherwise."""
        by_id = bool(order_by and limit)  # ids are sorted without their bodies: only the page's own are read
        columns = (record.c.id,) if by_id else (record.c.body, record.c.summary)
        query = sa.select(*columns).where(record.c.kind == kind.kind)
        with self._reading() as connection:
            found = self._first(connection, kind, where, order_by, limit + offset) if limit else None
            if found is not None:
                return _read(connection, kind, self._bodies(connection, found[offset:]))
            if where is not None:
                query = query.where((among if limit else compile_where)(where, kind.kind))
            rows = connection.execute(ordered(query, order_by).limit(limit).offset(offset or None)).all()
            return _read(connection, kind, self._bodies(connection, [row[0] for row in rows]) if by_id else rows)

    def _first(
        self, connection: sa.Connection, kind: type[Record], where: Node | None, orders: Sequence[Order], count: int
    ) -> list[str] | None:  # fmt: skip
        """Return the ids of the first `count` records if a walk along their order finds so many, else None."""
        key = orders[0].field if orders else None
        for query in first(where, kind.kind, orders, count=count):
            if key is not None and key.space != "metrics" and connection.execute(texts_of(key, kind.kind)).first():
                return None
            found = list(connection.execute(query).scalars())
            if len(found) == count:
                return found
        return None

    def _bodies(self, connection: sa.Connection, ids: Sequence[str]) -> list[Any]:
        found: dict[str, Any] = {}
        for start in range(0, len(ids), _MANY):
            some = record.c.id.in_(ids[start : start + _MANY])
            query = sa.select(record.c.body, record.c.summary, record.c.id).where(some)
            found.update((row.id, row) for row in connection.execute(query))
        return [found[id] for id in ids if id in found]

    def count(self, kind: type[Record], where: Node | None = None) -> int:
        """Return how many records match."""
        with self._reading() as connection:
            return int(connection.execute(counted(where, kind.kind)).scalar_one())

    def update(self, kind: type[R], id: str, change: Callable[[R], R], *, event: str = "") -> R:
        """Read, change and put one record so that no other writer comes between."""
        with self._work() as work:
            changed = change(self._get(work.connection, kind, id, lock=True))
            self.put(changed, event=event)
            return changed

    def delete(self, kind: type[Record], id: str) -> None:
        """Remove a record, its points and its links."""
        with self._work() as work:
            gone = work.connection.execute(sa.delete(record).where(record.c.id == id, record.c.kind == kind.kind))
            if not gone.rowcount:
                raise NotFound(f"no {kind.kind} '{id}'", hint=f"List them with nb.find('{kind.kind}s').")
            for table, column in ((attr, attr.c.record), (series, series.c.run), (chunk, chunk.c.run)):
                work.connection.execute(sa.delete(table).where(column == id))
            work.connection.execute(sa.delete(link).where(sa.or_(link.c.source == id, link.c.target == id)))
            self.emit(f"{kind.kind}.deleted", id)

    # points

    def add_points(self, batch: Sequence[Points], *, journal: str = "", start: int = 0, end: int = 0) -> bool:
        """Append points and tell it; with `journal`, only if its folded offset is still `start`."""
        with self._work() as work:
            if journal and not self._series.advance(work.connection, journal, start, end):
                return False
            added = self._series.add(work.connection, batch)
            break_seals(work.connection, added)
            for run, counts in added.items():
                self.emit("points.added", run, counts)
        return True

    def points(self, run: str, metric: str) -> Points:
        """Return all points of one metric in the order they were logged."""
        with self._reading() as connection:
            return self._series.read(connection, run, metric)

    def sort_points(self, run: str, metric: str) -> None:
        """Put the points of one metric into the order of their times, where they came from a network in another."""
        with self._work() as work:
            segments = self._get(work.connection, Run, run, lock=True).segments
            self._series.sort(work.connection, run, metric, starts=[segment.get(metric, 0) for segment in segments])
            break_seals(work.connection, [run])

    def folded(self, journal: str) -> int:
        """Return how many bytes of a journal are in the store."""
        with self._reading() as connection:
            return self._series.folded(connection, journal)

    # links, events, counters

    def link(self, source: str, relation: str, target: str) -> None:
        """Add an edge; the same edge twice is one."""
        with self._work() as work:
            row = {"source": source, "relation": relation, "target": target}
            work.connection.execute(self._insert(link).on_conflict_do_nothing(), [row])

    def links(self, id: str = "") -> list[Link]:
        """Return the edges that touch `id`, or all."""
        query = sa.select(link).order_by(link.c.source, link.c.relation, link.c.target)
        if id:
            query = query.where(sa.or_(link.c.source == id, link.c.target == id))
        with self._reading() as connection:
            return [Link(source=r.source, relation=r.relation, target=r.target) for r in connection.execute(query)]

    def emit(self, kind: str, subject: str, payload: Mapping[str, Any] | None = None) -> None:
        """Append an event."""
        with self._work() as work:
            text = encode(payload or {}).decode()
            row = {"at": time.time(), "kind": kind, "subject": subject, "payload": text, "actor": user()}
            work.events.append(row)

    def events(self, *, after: int = 0, limit: int = 1000, subject: str = "") -> list[Event]:
        """Return events with ``seq > after``, oldest first."""
        query = sa.select(event).where(event.c.seq > after).order_by(event.c.seq).limit(limit)
        if subject:
            query = query.where(event.c.subject == subject)
        with self._reading() as connection:
            return [
                Event(
                    seq=r.seq,
                    at=r.at,
                    kind=r.kind,
                    subject=r.subject,
                    payload=decode(r.payload, dict),
                    actor=r.actor,
                    digest=r.digest,
                )
                for r in connection.execute(query)
            ]

    def last_event(self) -> int:
        """Return the newest sequence number, 0 for none: a cheap "has anything happened?"."""
        with self._reading() as connection:
            return int(connection.execute(sa.select(sa.func.max(event.c.seq))).scalar() or 0)

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3 … for a named counter; a number is never given twice."""
        statement = self._insert(counter).values(name=clean(name), value=1)
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"value": counter.c.value + 1})
        with self._work() as work:
            return int(work.connection.execute(statement.returning(counter.c.value)).scalar_one())

    def close(self) -> None:
        """Release connections."""
        self.engine.dispose()

    def before_fork(self) -> None:
        """Close all connections and let no work begin until `after_fork`."""
        self._gate.close()
        self.engine.dispose()

    def after_fork(self, *, in_child: bool) -> None:
        """Work may begin again; a child starts with fresh locks and no transaction."""
        if in_child:
            self._local, self._gate = threading.local(), ForkGate()
        else:
            self._gate.open()


def _failed(what: str, error: sa.exc.SQLAlchemyError, *, hint: str) -> StoreError | None:
    """Return what to raise for an error that comes from the place of the database; None for one that does not."""
    reason = reason_of(error)
    if is_passing(error):
        return StoreUnavailable(f"{what}: {reason}", hint=hint)
    return StoreError(f"{what}: {reason}", hint=hint) if isinstance(error, sa.exc.OperationalError) else None


def _read(connection: sa.Connection, kind: type[R], rows: Sequence[Any]) -> list[R]:
    """Return records from rows that begin with body and sealed summary."""
    items = [decode(row[0], kind) for row in rows]
    return with_summaries(connection, items, [row[1] for row in rows]) if has_points(kind) else items
