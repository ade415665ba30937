"""The Store in memory: the plainest statement of what a store means, for tests and for short-lived work."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nbops.core.codec import decode, encode
from nbops.core.errors import NotFound
from nbops.core.protocols import Points
from nbops.core.query import Node, Order, matches, value_in
from nbops.core.records import Event, Link, Record, Run, replace
from nbops.store.chain import linked
from nbops.store.identity import user
from nbops.store.points import Columns, summarise

R = TypeVar("R", bound=Record)


@dataclass
class _State:
    """Everything that a transaction may have to undo."""

    records: dict[str, Record] = field(default_factory=dict)
    points: dict[tuple[str, str], Columns] = field(default_factory=dict)
    links: set[tuple[str, str, str]] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    folded: dict[str, int] = field(default_factory=dict)


class MemoryStore:
    """Records, links, events and points in this process; gone when it is."""

    def __init__(self) -> None:
        self._state = _State()
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join all calls within the block; an error undoes all of them."""
        with self._lock:
            before = None if self._depth else copy.copy(self._state)
            if before is not None:
                self._state = _State(**{name: copy.copy(value) for name, value in vars(before).items()})
            self._depth += 1
            try:
                yield
            except BaseException:
                if before is not None:
                    self._state = before
                raise
            finally:
                self._depth -= 1

    def put(self, item: Record, *, event: str = "", payload: Mapping[str, Any] | None = None) -> None:
        """Insert or replace a record and tell it."""
        with self.transaction():
            known = item.id in self._state.records
            stored = replace(item, summary={}) if isinstance(item, Run) else item
            self._state.records[item.id] = decode(encode(stored), type(item))  # as any store would give it back
            self.emit(event or f"{item.kind}.{'updated' if known else 'created'}", item.id, payload)

    def get(self, kind: type[R], id: str) -> R:
        """Return the record or raise `NotFound`."""
        with self._lock:
            found = self._state.records.get(id)
            if not isinstance(found, kind):
                raise NotFound(f"no {kind.kind} '{id}'", hint=f"List them with nb.find('{kind.kind}s').")
            return self._with_summary(found)

    def _with_summary(self, item: R) -> R:
        if not isinstance(item, Run):
            return item
        found = {m: summarise(c) for (run, m), c in sorted(self._state.points.items()) if run == item.id}
        return replace(item, summary=found)

    def find(
        self, kind: type[R], where: Node | None = None, *,
        order_by: Sequence[Order] = (), limit: int | None = None, offset: int = 0,
    ) -> list[R]:  # fmt: skip
        """Return matching records, newest first unless ordered otherwise."""
        with self._lock:
            items = [self._with_summary(r) for r in self._state.records.values() if isinstance(r, kind)]
        found = [item for item in items if where is None or matches(where, item)]
        found.sort(key=lambda r: (r.created_at, r.id), reverse=True)
        for order in reversed(order_by):
            found.sort(key=lambda r, o=order: _sort_key(r, o), reverse=order.descending)  # type: ignore[misc]
            found.sort(key=lambda r, o=order: _is_absent(r, o))  # type: ignore[misc]
        return found[offset : None if limit is None else offset + limit]

    def count(self, kind: type[Record], where: Node | None = None) -> int:
        """Return how many records match."""
        return len(self.find(kind, where))

    def update(self, kind: type[R], id: str, change: Callable[[R], R], *, event: str = "") -> R:
        """Read, change and put one record so that no other writer comes between."""
        with self.transaction():
            changed = change(self.get(kind, id))
            self.put(changed, event=event)
            return changed

    def delete(self, kind: type[Record], id: str) -> None:
        """Remove a record, its points and its links."""
        with self.transaction():
            self.get(kind, id)
            del self._state.records[id]
            self._state.points = {key: c for key, c in self._state.points.items() if key[0] != id}
            self._state.links = {edge for edge in self._state.links if id not in (edge[0], edge[2])}
            self.emit(f"{kind.kind}.deleted", id)

    def add_points(self, batch: Sequence[Points], *, journal: str = "", start: int = 0, end: int = 0) -> bool:
        """Append points and tell it; with `journal`, only if its folded offset is still `start`."""
        with self.transaction():
            if journal:
                if self.folded(journal) != start:
                    return False
                self._state.folded[journal] = end
            counts: dict[str, dict[str, int]] = {}
            for points in batch:
                fresh = Columns.of(points)
                if not len(fresh):
                    continue
                key = (points.run, points.metric)
                old = self._state.points.get(key)
                self._state.points[key] = Columns.joined([old, fresh] if old is not None else [fresh])
                counts.setdefault(points.run, {})[points.metric] = len(fresh)
            for run, gained in counts.items():
                self.emit("points.added", run, gained)
            return True

    def points(self, run: str, metric: str) -> Points:
        """Return all points of one metric in the order they were logged."""
        return self._state.points.get((run, metric), Columns.joined([])).to_points(run, metric)

    def folded(self, journal: str) -> int:
        """Return how many bytes of a journal are in the store."""
        return self._state.folded.get(journal, 0)

    def link(self, source: str, relation: str, target: str) -> None:
        """Add an edge; the same edge twice is one."""
        with self.transaction():
            self._state.links.add((source, relation, target))

    def links(self, id: str = "") -> list[Link]:
        """Return the edges that touch `id`, or all."""
        edges = sorted(edge for edge in self._state.links if not id or id in (edge[0], edge[2]))
        return [Link(source=source, relation=relation, target=target) for source, relation, target in edges]

    def emit(self, kind: str, subject: str, payload: Mapping[str, Any] | None = None) -> None:
        """Append an event."""
        with self.transaction():
            seq = self.last_event() + 1
            before = self._state.events[-1].digest if self._state.events else ""
            text = encode(payload or {}).decode()
            row = {"at": time.time(), "kind": kind, "subject": subject, "payload": text, "actor": user()}
            self._state.events.append(Event(seq=seq, **{**linked(before, row), "payload": decode(text, dict)}))

    def events(self, *, after: int = 0, limit: int = 1000, subject: str = "") -> list[Event]:
        """Return events with ``seq > after``, oldest first."""
        found = [e for e in self._state.events if e.seq > after and subject in ("", e.subject)]
        return found[:limit]

    def last_event(self) -> int:
        """Return the newest sequence number, 0 for none."""
        return self._state.events[-1].seq if self._state.events else 0

    def next_number(self, name: str) -> int:
        """Return 1, 2, 3 … for a named counter; a number is never given twice."""
        with self.transaction():
            self._state.counters[name] = self._state.counters.get(name, 0) + 1
            return self._state.counters[name]

    def close(self) -> None:
        """Nothing to release."""


def _is_absent(item: Record, order: Order) -> bool:
    value = value_in(item, order.field)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _sort_key(item: Record, order: Order) -> tuple[bool, float, str]:
    """Numbers and text of one field sort apart: text first, as NULL numbers do in SQL."""
    value = value_in(item, order.field)
    if _is_absent(item, order):
        return (False, 0.0, "")
    return (False, 0.0, value) if isinstance(value, str) else (True, float(value or 0), "")
