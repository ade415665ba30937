"""Folding: a journal's points become columnar chunks and one event, in one transaction.

Idempotent: the folded offset moves in the same transaction, and only from where this fold began.
"""

from __future__ import annotations

import threading

from nbops.core.protocols import Points, Store
from nbops.store.journal import Journal
from nbops.store.scanning import Scan

INTERVAL_S = 0.4
_STRETCH_BYTES = 16 << 20
_ROTATE_BYTES = 64 << 20
_IDLE_ROUNDS = 5


class Folder:
    """Folds one live journal, on a thread of its own or on demand."""

    def __init__(self, journal: Journal, store: Store) -> None:
        self.journal = journal
        self.store = store
        self.error: BaseException | None = None
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
            size = self.journal.size  # what comes while we fold waits for the next round
            while self._folded < size:
                data = self.journal.read(self._folded, min(_STRETCH_BYTES, size - self._folded))
                self._scan.read(data, verify=False)
                if not self._scan.consumed:  # one frame larger than a stretch
                    data = self.journal.read(self._folded, size - self._folded)
                    self._scan.read(data, verify=False)
                end = self._folded + self._scan.consumed
                add(self.store, self._scan, name=self.journal.path.stem, start=self._folded, end=end)
                self._folded = end
            if self._folded > _ROTATE_BYTES:
                self.journal.rotate(self._folded)

    def stop(self) -> None:
        """End the thread and fold what is left."""
        self._stop.set()
        self.journal.wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.fold()

    def _work(self) -> None:
        idle = 0
        while not self._stop.is_set():
            before = self._folded
            try:
                self.fold()
                if self._folded != before:
                    self.journal.sync()
                self.error = None
            except Exception as error:  # the journal keeps every point; the next round tries again
                self.error = error
            idle = idle + 1 if self._folded == before else 0
            if idle > _IDLE_ROUNDS:
                self.journal.parked = True
                if self.journal.size == self._folded:
                    self.journal.wake.wait()
                self.journal.parked = False
                self.journal.wake.clear()
                idle = 0
            self._stop.wait(INTERVAL_S)


def add(store: Store, scan: Scan, *, name: str, start: int, end: int) -> bool:
    """Write what `scan` holds as points of the journal `name`; False if another process was first."""
    batch: list[Points] = [columns.to_points(run, metric) for run, metric, columns in scan.columns()]
    return store.add_points(batch, journal=name, start=start, end=end)
