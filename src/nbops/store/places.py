"""Where the journals of a workspace may lie: in it, or with the account while it cannot be written to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from nbops.core.errors import StoreError
from nbops.store.telling import say_once


def journal_folders(workspace: Path) -> list[Path]:
    """Return the folders in which journals of a workspace may be, its own first; none need be there."""
    mark = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16]
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return [workspace / "journal", Path(state) / "nbops" / mark]


def make_journal_folder(workspace: Path) -> Path:
    """Return the first of these folders that can be written to, made if need be.

    Raises
    ------
    StoreError
        None of them can.
    """
    errors = []
    for folder in journal_folders(workspace):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            errors.append(f"{folder}: {error.strerror}")
            continue
        if not os.access(folder, os.W_OK):
            errors.append(f"{folder}: not writable")
            continue
        if errors:
            say_once(f"journal {workspace}", f"{workspace} cannot be written to. What is logged is kept in {folder} "
                                             "and moves to the workspace when that can be written to.")  # fmt: skip
        return folder
    hint = "Make one of these folders writable, or choose another workspace: nb.init(path)."
    raise StoreError(f"nothing can be logged: {'; '.join(errors)}", hint=hint)
