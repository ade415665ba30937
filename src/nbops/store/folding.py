"""Folding: a journal's points become columnar chunks and one event, its changes records, in one transaction.

Idempotent: the folded offset moves in the same transaction, and only from where this fold began.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from nbops.core.changes import Change, apply
from nbops.core.errors import Conflict
from nbops.core.protocols import Points, Store
from nbops.store.journal import Journal
from nbops.store.scanning import Scan
from nbops.store.telling import say_once

INTERVAL_S = 0.4
_PATIENCE_S = 5.0  # the longest wait before a store that failed is tried again
_STRETCH_BYTES = 16 << 20
_ROTATE_BYTES = 64 << 20
_IDLE_ROUNDS = 5


class Folder:
    """Folds one live journal, on a thread of its own or on demand.

    Parameters
    ----------
    journal : Journal
    store : Store
    on_change : callable, optional
        Called with the changes that were carried out.
    patiently : callable, optional
        Returns what the thread enters around each fold: it bounds how long a fold waits for locks.
    """

    def __init__(
        self, journal: Journal, store: Store, *, on_change: Callable[[Sequence[Change]], None] | None = None,
        patiently: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.store = store
        self.error: BaseException | None = None
        self._on_change = on_change
        self._patiently = patiently
        self._folded = 0
        self._generation = 0
        self._scan = Scan()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; nothing happens if it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="nbops-folding", daemon=True)
            self._thread.start()

    def fold(self) -> None:
        """Fold everything that is in the journal now."""
        with self._lock:
            if self._generation != self.journal.generation:
                self._generation, self._folded = self.journal.generation, 0
            self._fold_file()
            if self.journal.is_waiting and not self.journal.settle():
                self._begin_anew()  # what is folded makes room for what waits
                self.journal.settle()
            elif self._folded > _ROTATE_BYTES:
                self._begin_anew()

    def _begin_anew(self) -> None:
        if self.journal.rotate(self._folded):
            self._generation, self._folded = self.journal.generation, 0

    def _fold_file(self) -> None:
        size = self.journal.size  # what comes while we fold waits for the next round
        while self._folded < size:
            data = self.journal.read(self._folded, min(_STRETCH_BYTES, size - self._folded))
            self._scan.read(data, verify=False)
            if not self._scan.consumed:  # one frame larger than a stretch
                data = self.journal.read(self._folded, size - self._folded)
                self._scan.read(data, verify=False)
            end = self._folded + self._scan.consumed
            changes = add(self.store, self._scan, name=self.journal.path.stem, start=self._folded, end=end)
            if changes is None:
                self._find_place()
                continue
            self._folded = end
            if changes and self._on_change is not None:
                self._on_change(changes)

    def _find_place(self) -> None:
        """Go on from where the store is: behind us if it was set back, before us if another process folded for us."""
        place = self.store.folded(self.journal.path.stem)
        if place == self._folded:
            raise Conflict(f"the journal {self.journal.path.name} is folded by another process", hint="Try again.")
        self._scan, self._folded = Scan(), 0
        while self._folded < place:  # read again for its definitions only
            self._scan.read(self.journal.read(self._folded, place - self._folded), verify=False)
            self._scan.columns()
            self._scan.changes()
            self._folded += self._scan.consumed

    def stop(self) -> None:
        """End the thread and fold what is left."""
        self._stop.set()
        self.journal.wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.fold()

    def _work(self) -> None:
        idle, pause_s = 0, INTERVAL_S
        while not self._stop.is_set():
            before = self._folded
            try:
                with self._patiently():
                    self.fold()
                if self._folded != before:
                    self.journal.sync()
                self.error, pause_s = None, INTERVAL_S
            except Exception as error:  # the journal keeps every point; a later round tries again
                self.error, pause_s = error, min(2 * pause_s, _PATIENCE_S)
            idle = idle + 1 if self._folded == before and self.error is None else 0
            if idle > _IDLE_ROUNDS:
                self._park()
                idle = 0
            self._stop.wait(pause_s)

    def _park(self) -> None:
        """Wait until something is logged."""
        self.journal.parked = True
        if self.journal.size == self._folded and not self.journal.is_waiting and not self._stop.is_set():
            self.journal.wake.wait()
        self.journal.parked = False
        self.journal.wake.clear()


def add(store: Store, scan: Scan, *, name: str, start: int, end: int) -> list[Change] | None:
    """Write what `scan` holds of the journal `name` and return the changes; None if the store is elsewhere in it."""
    batch: list[Points] = [columns.to_points(run, metric) for run, metric, columns in scan.columns()]
    changes = scan.changes()
    if not changes:
        return [] if store.add_points(batch, journal=name, start=start, end=end) else None
    with store.transaction():
        if not store.add_points([], journal=name, start=start, end=end):
            return None
        for problem in apply(store, changes):
            say_once(problem, problem)
        store.add_points(batch)
    return changes
