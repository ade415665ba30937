"""Where the workspace is: found like git, by walking up from where one works."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = ".nbops"
VARIABLE = "NBOPS_WORKSPACE"


def locate(start: Path | None = None) -> Path:
    """Return the path of the workspace folder for work in `start`; it need not exist yet.

    The environment variable ``NBOPS_WORKSPACE``, else the nearest parent folder with
    ``.nbops/``, else the top of the git checkout, else `start` itself.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return as_workspace(Path(named))
    here = (start or Path.cwd()).resolve()
    parents = [here, *here.parents]
    for mark in (FOLDER, ".git"):
        for folder in parents:
            if (folder / mark).exists():
                return folder / FOLDER
    return here / FOLDER


def as_workspace(path: Path) -> Path:
    """Return the ``.nbops`` folder that `path` means: itself, or the one inside it."""
    path = path.expanduser().resolve()
    return path if path.name == FOLDER else path / FOLDER
