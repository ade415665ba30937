"""Writing records although the database may be out of reach: then they go to the journal and are folded later.

Only what a run writes of itself goes this way: its record, its cells, files, findings and links. What must look before
it writes, such as the number of a model's next version, goes to the store and fails where that fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from nbops.core.changes import Amend, Change, Put, difference, join_of, pack, put_of
from nbops.core.errors import StoreUnavailable
from nbops.core.records import Link, Record
from nbops.store.journal import Journal
from nbops.store.sql import SqlStore
from nbops.store.telling import say_changed, say_once

R = TypeVar("R", bound=Record)
PATIENCE_S = 5.0  # how long a cell waits for somebody else's lock


class Outbox:
    """Where this process's records of runs go.

    Parameters
    ----------
    store : SqlStore
    journal : callable
        Returns this process's journal.

    Attributes
    ----------
    waiting : int
        Changes that are in the journal and not yet in the store.
    reason : str
        Why they are.
    """

    def __init__(self, store: SqlStore, journal: Callable[[], Journal]) -> None:
        self.waiting = 0
        self.reason = ""
        self._store = store
        self._journal = journal
        self._known: dict[str, Record] = {}  # as this process knows them: of open runs, and what waits
        self._kept: set[str] = set()
        self._lock = threading.Lock()

    @property
    def is_behind(self) -> bool:
        """Whether changes wait: the next ones wait too, so that their order stays."""
        return self.waiting > 0

    def put(
        self, *records: Record, links: Sequence[Link] = (), event: str = "", payload: Mapping[str, Any] | None = None
    ) -> None:
        """Store records and links, all or none of them; `event` and `payload` are told of each record."""
        self._remember(records)
        if not self.is_behind and self._written(lambda: self._put_now(records, links, event, payload)):
            return
        self._defer([*(put_of(one, event=event, payload=payload) for one in records), *map(join_of, links)])
        self._remember(records, always=True)

    def update(
        self, kind: type[R], id: str, change: Callable[[R], R], *, event: str = "",
        only_if: Mapping[str, Any] | None = None,
    ) -> R:  # fmt: skip
        """Change one record so that no other writer comes between, and return it.

        `only_if` names fields and the values that they must have; else the record stays as it is. While the store
        cannot be written to, the change is made to what this process knows of the record, and what differs waits.

        Raises
        ------
        NotFound
            No such record.
        StoreUnavailable
            The store cannot be written to, and this process does not know the record.
        """
        if not self.is_behind:
            done: list[R] = []
            if self._written(lambda: done.append(self._store.update(kind, id, change, event=event))):
                if id in self._known:
                    self._known[id] = done[0]
                return done[0]
        with self._lock:
            before = self._known.get(id)
            if before is None:
                raise StoreUnavailable(f"{kind.kind} '{id}' cannot be changed now: {self.reason}",
                                       hint="Try again when the store can be reached.")  # fmt: skip
            after = change(cast(R, before))
            self._known[id] = after
        self._defer([difference(before, after, only_if=only_if, event=event)])
        return after

    def keep(self, record: Record) -> None:
        """Know a record until `forget`: it can be changed while the store is out of reach."""
        with self._lock:
            self._kept.add(record.id)
            self._known[record.id] = record

    def forget(self, id: str) -> None:
        """Know a record no longer, once nothing of it waits."""
        with self._lock:
            self._kept.discard(id)
            if not self.is_behind:
                self._known.pop(id, None)

    def known(self, id: str) -> Record | None:
        """Return a record as this process knows it, or None."""
        return self._known.get(id)

    def fall_behind(self, error: StoreUnavailable) -> None:
        """Say once that the store cannot be written to."""
        self.reason = error.message
        say_once(f"store {self._store.url}", f"{error.message}. The run goes on; what it logs is kept in the journal "
                                             "and stored when that is possible again.")  # fmt: skip

    def carried_out(self, changes: Sequence[Change]) -> None:
        """Note that the folding has brought changes into the store."""
        with self._lock:
            self.waiting = max(0, self.waiting - len(changes))
            if self.waiting:
                return
            self._known = {id: record for id, record in self._known.items() if id in self._kept}
        count = f"{len(changes):,} changes" if len(changes) != 1 else "1 change"
        say_changed(f"store {self._store.url}", f"the store can be written to again; the last {count} that waited "
                                                "are in it.")  # fmt: skip

    def _put_now(
        self, records: Sequence[Record], links: Sequence[Link], event: str, payload: Mapping[str, Any] | None
    ) -> None:
        with self._store.transaction():
            for one in records:
                self._store.put(one, event=event, payload=payload)
            for link in links:
                self._store.link(link.source, link.relation, link.target)

    def _written(self, write: Callable[[], None]) -> bool:
        """Write to the store; False if it cannot be written to now."""
        if self._store.in_transaction:  # its end decides, not this call
            write()
            return True
        try:
            with self._store.patience(PATIENCE_S):
                write()
        except StoreUnavailable as error:
            self.fall_behind(error)
            return False
        return True

    def _defer(self, changes: Sequence[Put | Amend | Change]) -> None:
        with self._lock:
            self._journal().note(pack(changes))
            self.waiting += len(changes)

    def _remember(self, records: Sequence[Record], *, always: bool = False) -> None:
        for one in records:
            if always or one.id in self._known:
                self._known[one.id] = one
