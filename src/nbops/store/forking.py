"""A gate that keeps `os.fork` and open database work apart.

SQLite's locks are per process and its connections may not cross a fork: before one, new work
waits, running work ends, and all connections are closed; both sides open new ones at need.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_S = 5.0


class ForkGate:
    """Counts work in progress; `close` waits until there is none but the calling thread's own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working: dict[int, int] = {}
        self._closed = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the gate open while some work uses a connection."""
        me = threading.get_ident()
        with self._changed:
            while self._closed and me not in self._working:
                self._changed.wait()
            self._working[me] = self._working.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._working[me] -= 1
                if not self._working[me]:
                    del self._working[me]
                self._changed.notify_all()

    def close(self) -> None:
        """Let no new work begin and wait for what runs, a few seconds at most."""
        me = threading.get_ident()
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._working.keys() <= {me}, timeout=_PATIENCE_S)

    def open(self) -> None:
        """Let work begin again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()
