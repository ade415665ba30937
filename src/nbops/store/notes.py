"""A small file beside a journal: which cell its process executes, for whoever finds that process dead.

One `pwrite` per cell; like the journal it is in the page cache when the call returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from nbops.store.context import CellRef, current_cell

SUFFIX = ".cell"
_BYTES = 512
_MAX_ID = 100


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The last cell of a process, "" for none, and whether it was executing."""

    cell_id: str = ""
    is_running: bool = False


class CellNote:
    """The note of this process.

    Parameters
    ----------
    folder : Path
        Where the journals are.
    owner : str
        The name of this process.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.path = note_path(folder, owner)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last = ""
        self.write(current_cell())

    def write(self, cell: CellRef | None) -> None:
        """Note that `cell` executes now, or that none does."""
        if cell is not None:
            self._last = cell.cell_id[:_MAX_ID]
        data = msgspec.json.encode(Note(cell_id=self._last, is_running=cell is not None))
        with suppress(OSError):  # a full disk: who finds this process dead does not learn its cell
            os.pwrite(self._fd, data.ljust(_BYTES), 0)

    def close(self, *, remove: bool = True) -> None:
        """Release the file, and delete it if this process ended in order."""
        os.close(self._fd)
        if remove:
            self.path.unlink(missing_ok=True)


def note_path(folder: Path, owner: str) -> Path:
    """Return where the note of a process is."""
    return folder / f"{owner}{SUFFIX}"


def read_note(folders: Iterable[Path], owner: str) -> Note:
    """Return what a process noted in one of `folders`; an empty note if it left none that can be read."""
    for folder in folders:
        try:
            return msgspec.json.decode(note_path(folder, owner).read_bytes().strip(), type=Note)
        except (OSError, msgspec.DecodeError):
            continue
    return Note()
