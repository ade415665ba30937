"""Two folders compared: snapshots by what was recorded, others by what they hold now."""

from __future__ import annotations

import os
from typing import Any

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.records import Dataset
from nbops.data.datasets import find_dataset
from nbops.data.folders.files import FolderDifference, diff_files, files_of
from nbops.data.folders.scanning import FileEntry, is_folder, scan
from nbops.store.workspace import workspace


def diff_folders(a: Any, b: Any) -> FolderDifference | None:
    """Return what differs between two folders; None if neither is one.

    Parameters
    ----------
    a, b
        Snapshots (``"images/1"``), or paths; a name of a snapshot comes first, so a folder of that name is written
        ``"images/"``.

    Raises
    ------
    InvalidInput
        Only one of them is a folder; a file that may not be read.
    """
    sides = [_side(one) for one in (a, b)]
    one, two = sides
    if one is None and two is None:
        return None
    if one is None or two is None:
        other = a if one is None else b
        name = f"'{other}'" if isinstance(other, str | os.PathLike) else f"a {type(other).__name__}"
        raise InvalidInput(
            f"{name} is no folder of files, and the other is", hint="Compare two folders, or two tables."
        )
    return diff_files(one, two)


def _side(data: Any) -> tuple[str, list[FileEntry]] | None:
    ws = workspace()
    if isinstance(data, str | Dataset):
        try:
            dataset = find_dataset(data, ws=ws)
        except NotFound:
            dataset = None
        if dataset is not None:
            name = f"{dataset.name}/{dataset.version}"
            return (name, files_of(dataset, artifacts=ws.artifacts)) if dataset.is_folder else None
    if is_folder(data):
        return os.fspath(data), list(scan(data, cache=ws.path / "cache" / "folders").files)
    return None
