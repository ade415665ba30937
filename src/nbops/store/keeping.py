"""Keeping a workspace true while it is open: the runs of processes that died are closed within seconds.

One thread per open workspace. A round lists the journals and asks for their locks; the database is
touched only when a process came to an end, and every few seconds where hosts share it.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING

from nbops.store.journal import owner_of
from nbops.store.recovery import BEAT_S, SILENT_S, is_dead, journals_in, revive

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace

ROUND_S = 2.5
_PATIENCE_S = 5.0


class Keeper:
    """Looks after one workspace, on a thread of its own.

    Parameters
    ----------
    workspace : Workspace
        Held weakly: a workspace that nobody uses any more is let go.
    is_due : bool
        Whether the first round looks after dead processes, whatever it finds.

    Attributes
    ----------
    error : BaseException or None
        What the last round met; the next one tries again.
    """

    def __init__(self, workspace: Workspace, *, is_due: bool = False) -> None:
        self.error: BaseException | None = None
        self._workspace = weakref.ref(workspace)
        self._known: set[str] = set()
        self._is_due = is_due
        self._next_beat = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="nbops-keeping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that waits for a database is left to itself."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE_S)

    def look(self, workspace: Workspace) -> None:
        """Do one round."""
        own = workspace.known_owner
        paths = [path for path in journals_in(workspace.journals) if owner_of(path) != own]
        others = {owner_of(path) for path in paths}
        self._is_due |= bool(self._known - others) or any(is_dead(path) for path in paths)
        self._known = others
        if workspace.store.is_shared and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_S
            self._beat(workspace, own, others)
        if self._is_due:
            workspace.recover()
            self._is_due = False
        workspace.artifacts.settle()

    def _beat(self, workspace: Workspace, own: str, here: set[str]) -> None:
        store = workspace.store
        if own:
            silence = store.beat(own)
            if silence is None or silence > SILENT_S:  # None: somebody took us for dead and forgot us
                revive(store, own)
        silences = store.silences().items()
        self._is_due |= any(silence > SILENT_S and owner not in here for owner, silence in silences)

    def _work(self) -> None:
        while not self._stop.wait(ROUND_S):
            workspace = self._workspace()
            if workspace is None:
                return
            try:
                self.look(workspace)
                self.error = None
            except Exception as error:  # a database out of reach, say: runs are closed a round later
                self.error = error
            del workspace
