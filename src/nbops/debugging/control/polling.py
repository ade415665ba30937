"""Commands that another process wrote to the store: a side thread looks for them while a watched run is open."""

from __future__ import annotations

import threading
from collections.abc import Callable

from nbops.core.commands import Command
from nbops.core.errors import NbopsError
from nbops.core.query import Both, Compare, Field
from nbops.core.records import replace

INTERVAL_S = 0.25


class Poller:
    """A thread that hands new commands of one run to `take`, at most four times a second.

    Parameters
    ----------
    run_id : str
    take : callable
        Is given each command once; returns False when nobody listens any more.
    ended : callable
        Called in the thread when it ends.
    """

    def __init__(self, run_id: str, take: Callable[[Command], bool], *, ended: Callable[[], None]) -> None:
        self.run_id = run_id
        self._take = take
        self._ended = ended
        self._stop = threading.Event()
        self._taken: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="nbops-commands", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End the thread."""
        self._stop.set()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _work(self) -> None:
        try:
            self._listen()
        finally:
            self._ended()

    def _listen(self) -> None:
        from nbops.store.workspace import is_open, workspace

        asked = Both("and", (Compare(Field("parent"), "==", self.run_id), Compare(Field("status"), "==", "pending")))
        while not self._stop.wait(INTERVAL_S):
            if not is_open():
                continue
            try:
                found = workspace().store.find(Command, asked, limit=20)
            except (NbopsError, OSError):  # the store is away: commands wait there
                continue
            for command in reversed(found):
                if command.id not in self._taken:
                    self._taken.add(command.id)
                    if not self._take(command):
                        return


def answer(command: Command, *, status: str, step: int, note: str) -> None:
    """Say in the store what came of a command."""
    from nbops.store.workspace import workspace

    def answered(known: Command) -> Command:
        return replace(known, status=status, step=step, note=note)

    workspace().outbox.update(Command, command.id, answered)


def is_withdrawn(command: Command) -> bool:
    """Return whether who gave a command has taken it back; where the store cannot say, they have not."""
    from nbops.store.workspace import is_open, workspace

    try:
        return is_open() and workspace().store.get(Command, command.id).status == "withdrawn"
    except (NbopsError, OSError):
        return False
