"""The one workspace that a server reads: opened at the first request, and again when it was replaced on disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


class Backend:
    """Holds the workspace of a server.

    Parameters
    ----------
    path : Path
        The ``.nbops`` folder; it need not exist yet, and reading never makes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: Workspace | None = None
        self._inode = -1
        self._lock = threading.Lock()

    def workspace(self) -> Workspace | None:
        """Return the open workspace, or None while there is none on disk."""
        with self._lock:
            try:
                inode = self.path.stat().st_ino
            except OSError:
                inode = -1
            if inode != self._inode and self._open is not None:
                self._open.close()
                self._open = None
            if inode >= 0 and self._open is None:
                from nbops.store.workspace import Workspace

                self._open = Workspace.open(self.path)
            self._inode = inode
            return self._open

    def made(self) -> Workspace:
        """Return the open workspace, making it on disk if there is none."""
        found = self.workspace()
        if found is not None:
            return found
        from nbops.store.workspace import Workspace

        Workspace.open(self.path).close()
        return self.workspace() or self.made()

    def close(self) -> None:
        """Release the workspace; a later request opens it again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open, self._inode = None, -1
