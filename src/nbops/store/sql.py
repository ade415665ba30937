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
from nbops.core.errors import NotFound, StoreError
from nbops.core.protocols import Points
from nbops.core.query import Node, Order
from nbops.core.records import Event, Link, Record, Run, replace
from nbops.store.chain import linked
from nbops.store.engines import open_engine
from nbops.store.forking import ForkGate
from nbops.store.identity import user
from nbops.store.rows import SUMMARY_COLUMNS, attr_rows, clean, record_row, summary_from
from nbops.store.series import SeriesTables
from nbops.store.sqlquery import compile_where, ordered
from nbops.store.tables import attr, chunk, counter, event, heartbeat, link, record, series

R = TypeVar("R", bound=Record)
_EVENT_LOCK = 0x6E626F7065  # "nbope"
_MANY = 500  # values bound in one statement


@dataclass
class _Work:
    """One open transaction: its connection, and the events to append just before it commits."""

    connection: sa.Connection
    events: list[dict[str, Any]] = field(default_factory=list)


class SqlStore:
    """Records, links, events and points in a relational database.

    Parameters
    ----------
    url : str
        ``sqlite:////path/nbops.db`` or ``postgresql://user@host/db``.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._insert: Any = sqlite.insert if self.engine.dialect.name == "sqlite" else postgresql.insert
        self._local = threading.local()
        self._gate = ForkGate()
        self._series = SeriesTables(self._upsert)

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
        try:
            with (
                self._gate.working(),
                self.engine.connect().execution_options(nbops_write=True) as connection,
                connection.begin(),
            ):
                self._local.work = _Work(connection)
                try:
                    yield self._local.work
                    self._write_events(self._local.work)
                finally:
                    self._local.work = None
        except sa.exc.OperationalError as error:
            hint = "Check disk space and locks; nothing of this change was stored."
            raise StoreError(f"the store refused the write: {error.orig}", hint=hint) from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        work: _Work | None = getattr(self._local, "work", None)
        if work is not None:
            yield work.connection
            return
        try:
            with self._gate.working(), self.engine.connect() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            hint = "Check that the database is there and can be reached."
            raise StoreError(f"the store cannot be read: {error.orig}", hint=hint) from error

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
                work.connection.execute(stale.where(attr.c.space != "metrics") if _has_points(type(item)) else stale)
            rows = list(attr_rows(item))
            if rows:
                work.connection.execute(sa.insert(attr), rows)
            self.emit(event or f"{item.kind}.{'updated' if known else 'created'}", item.id, payload)

    def get(self, kind: type[R], id: str) -> R:
        """Return the record or raise `NotFound`."""
        with self._reading() as connection:
            return self._get(connection, kind, id, lock=False)

    def _get(self, connection: sa.Connection, kind: type[R], id: str, *, lock: bool) -> R:
        query = sa.select(record.c.body).where(record.c.id == id, record.c.kind == kind.kind)
        body = connection.execute(query.with_for_update() if lock else query).scalar()
        if body is None:
            raise NotFound(f"no {kind.kind} '{id}'", hint=f"List them with nb.find('{kind.kind}s').")
        return self._with_summaries(connection, kind, [decode(body, kind)])[0]

    def find(
        self, kind: type[R], where: Node | None = None, *,
        order_by: Sequence[Order] = (), limit: int | None = None, offset: int = 0,
    ) -> list[R]:  # fmt: skip
        """Return matching records, newest first unless ordered otherwise."""
        query = sa.select(record.c.id if order_by and limit else record.c.body).where(*_where(kind, where))
        with self._reading() as connection:
            bodies = connection.execute(ordered(query, order_by).limit(limit).offset(offset or None)).scalars().all()
            if order_by and limit:  # ids are sorted without their bodies: only the page's own are read
                bodies = self._bodies(connection, bodies)
            return self._with_summaries(connection, kind, [decode(body, kind) for body in bodies])

    def _bodies(self, connection: sa.Connection, ids: Sequence[str]) -> list[str]:
        found: dict[str, str] = {}
        for start in range(0, len(ids), _MANY):
            query = sa.select(record.c.id, record.c.body).where(record.c.id.in_(ids[start : start + _MANY]))
            found.update((id, body) for id, body in connection.execute(query))
        return [found[id] for id in ids if id in found]

    def count(self, kind: type[Record], where: Node | None = None) -> int:
        """Return how many records match."""
        query = sa.select(sa.func.count()).select_from(record).where(*_where(kind, where))
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

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

    def _with_summaries(self, connection: sa.Connection, kind: type[R], items: list[R]) -> list[R]:
        if not _has_points(kind) or not items:
            return items
        found: dict[str, dict[str, Any]] = {item.id: {} for item in items}
        ids = list(found)
        for start in range(0, len(ids), _MANY):
            query = sa.select(*SUMMARY_COLUMNS).where(series.c.run.in_(ids[start : start + _MANY]))
            for run, metric, *values in _plain_rows(connection, query.order_by(series.c.run, series.c.metric)):
                found[run][metric] = summary_from(*values)
        return [replace(item, summary=found[item.id]) if found[item.id] else item for item in items]

    # points

    def add_points(self, batch: Sequence[Points], *, journal: str = "", start: int = 0, end: int = 0) -> bool:
        """Append points and tell it; with `journal`, only if its folded offset is still `start`."""
        with self._work() as work:
            if journal and not self._series.advance(work.connection, journal, start, end):
                return False
            for run, counts in self._series.add(work.connection, batch).items():
                self.emit("points.added", run, counts)
        return True

    def points(self, run: str, metric: str) -> Points:
        """Return all points of one metric in the order they were logged."""
        with self._reading() as connection:
            return self._series.read(connection, run, metric)

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

    # heartbeats

    @property
    def is_shared(self) -> bool:
        """Whether processes of other hosts may use this database."""
        return bool(self.engine.dialect.name == "postgresql")

    def beat(self, owner: str) -> float | None:
        """Tell that the process `owner` lives; return the seconds since it last said so, None for the first time."""
        with self._work() as work:
            now = self._now(work.connection)
            last = work.connection.execute(sa.select(heartbeat.c.at).where(heartbeat.c.owner == owner)).scalar()
            self._upsert(work.connection, heartbeat, [{"owner": owner, "at": now}])
            return None if last is None else now - last

    def silences(self) -> dict[str, float]:
        """Return for each process the seconds since its last heartbeat."""
        with self._reading() as connection:
            now = self._now(connection)
            return {row.owner: now - row.at for row in connection.execute(sa.select(heartbeat))}

    def forget_beats(self, owners: Sequence[str]) -> None:
        """Forget processes that have ended."""
        if owners:
            with self._work() as work:
                work.connection.execute(sa.delete(heartbeat).where(heartbeat.c.owner.in_(owners)))

    def _now(self, connection: sa.Connection) -> float:
        """Return the time by the clock that all processes of this database share."""
        if not self.is_shared:
            return time.time()
        return float(connection.execute(sa.select(sa.extract("epoch", sa.func.clock_timestamp()))).scalar_one())

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


def _plain_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """Return rows as the driver gives them: of millions of numbers, wrapping each row would take half the time."""
    with connection.execute(query) as result:
        return list(result.cursor.fetchall()) if result.cursor is not None else []


def _has_points(kind: type[Record]) -> bool:
    return issubclass(kind, Run)


def _where(kind: type[Record], where: Node | None) -> list[sa.ColumnElement[bool]]:
    clauses: list[sa.ColumnElement[bool]] = [record.c.kind == kind.kind]
    return clauses if where is None else [*clauses, compile_where(where, kind.kind)]
