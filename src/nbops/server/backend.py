"""The one workspace that a server reads: opened at the first request, and again when it was replaced on disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from nbops.core.errors import InvalidInput
from nbops.store.identity import acting_as

if TYPE_CHECKING:
    from nbops.store.workspace import Workspace


class Backend:
    """Holds the workspace of a server.

    Parameters
    ----------
    path : Path
        The ``.nbops`` folder; it need not exist yet, and reading never makes it.
    root : Path, optional
        The folder whose files the server shows; None if it shows none.
    """

    def __init__(self, path: Path, *, root: Path | None = None) -> None:
        self.path = path
        self.root = root
        self._open: Workspace | None = None
        self._inode = -1
        self._lock = threading.Lock()

    def workspace(self) -> Workspace | None:
        """Return the open workspace, or None while there is none on disk.

        It is opened and closed by the server itself: whoever asks first did not close the runs of dead processes.
        """
        with self._lock, acting_as(""):
            try:
                inode = self.path.stat().st_ino
            except OSError:
                inode = -1
            if inode != self._inode and self._open is not None:
                self._open.close()
                self._open = None
            if inode >= 0 and self._open is None:
                self._open = self._opened()
            self._inode = inode
            return self._open

    def made(self) -> Workspace:
        """Return the open workspace, making it on disk if there is none."""
        found = self.workspace()
        if found is not None:
            return found
        with acting_as(""):
            self._opened().close()
        return self.workspace() or self.made()

    def _opened(self) -> Workspace:
        from nbops.store.workspace import Workspace

        try:
            return Workspace.open(self.path)
        except UnicodeDecodeError:
            raise InvalidInput("config.toml is not UTF-8", hint="Save it as UTF-8.") from None

    def close(self) -> None:
        """Release the workspace; a later request opens it again."""
        with self._lock, acting_as(""):
            if self._open is not None:
                self._open.close()
            self._open, self._inode = None, -1
