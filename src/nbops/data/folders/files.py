"""The files of a folder as they are stored, compared and written out again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from nbops.core.display import Shown
from nbops.core.errors import Conflict, CorruptData, InvalidInput, NotFound
from nbops.core.protocols import ArtifactStore
from nbops.core.records import Dataset
from nbops.data.folders.scanning import FileEntry, Scan

FILES = "files"
_THREADS = 4


class FolderManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a folder, in the order of their paths."""

    format: int = msgspec.field(name="nbops.folder")
    files: list[FileEntry]

    def encoded(self) -> bytes:
        """Return the bytes of the file that is kept."""
        return msgspec.json.encode(self)


def store_files(found: Scan, *, artifacts: ArtifactStore) -> None:
    """Store the files that are not stored yet, each under its sha256.

    Raises
    ------
    Conflict
        A file was changed after it had been looked at.
    """
    fresh = {file.sha256: file for file in found.files}

    def put(file: FileEntry) -> None:
        if artifacts.exists(file.sha256):
            return
        try:
            digest, _ = artifacts.put((found.root / file.path).resolve())
        except FileNotFoundError:
            digest = ""
        if digest != file.sha256:
            raise Conflict(f"'{file.path}' changes while it is stored",
                           hint="Snapshot the folder when nothing writes to it.")  # fmt: skip

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="nbops-files") as pool:
        list(pool.map(put, fresh.values()))


def files_of(dataset: Dataset, *, artifacts: ArtifactStore) -> list[FileEntry]:
    """Return the files of a snapshot of a folder.

    Raises
    ------
    InvalidInput
        It is a table.
    CorruptData
        Its manifest is not as nbops writes it.
    NotFound
        Its manifest is gone.
    """
    if not dataset.is_folder or dataset.manifest is None:
        raise InvalidInput(f"'{dataset.name}/{dataset.version}' is a table, not a folder",
                           hint="Read it with nbops.data.datasets.read_data.")  # fmt: skip
    with artifacts.open(dataset.manifest) as file:
        data = file.read()
    try:
        files = msgspec.json.decode(data, type=FolderManifest).files
    except msgspec.MsgspecError as error:
        raise _damaged(dataset, str(error)) from error
    if Scan(Path(), tuple(files)).digest != dataset.digest:
        raise _damaged(dataset, "it is that of other files")
    return files


def restore_files(dataset: Dataset, *, to: str | os.PathLike[str], artifacts: ArtifactStore) -> Path:
    """Write the stored files of a snapshot into a new folder, which appears whole or not at all; return it.

    Raises
    ------
    InvalidInput
        The folder is there and not empty, or the snapshot is a table.
    NotFound
        The files were not stored.
    CorruptData
        A stored file is damaged, or a path leads out of the folder.
    """
    folder = Path(to).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"'{to}' is there already", hint="Name a new folder, or empty that one.")
    files = files_of(dataset, artifacts=artifacts)
    if not dataset.tags.get("stored_digest"):
        raise NotFound(f"the files of '{dataset.name}/{dataset.version}' are not stored",
                       hint="Store them with nb.snapshot(folder, name, store=True) while you have them.")  # fmt: skip
    for file in files:
        parts = PurePosixPath(file.path).parts
        if not parts or "\0" in file.path or ".." in parts or parts[0] == "/" or "/".join(parts) != file.path:
            raise _damaged(dataset, f"the path {file.path[:200]!r} leads out of the folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for file in files:
            path = made / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with artifacts.open(file.sha256) as stream, path.open("xb") as out:
                shutil.copyfileobj(stream, out)
        made.chmod(0o755)
        made.replace(folder)  # an empty folder gives way
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _damaged(dataset: Dataset, what: str) -> CorruptData:
    return CorruptData(f"the manifest of '{dataset.name}/{dataset.version}' cannot be used: {what}",
                       hint="Restore the files of the workspace from a backup; nothing was written.")  # fmt: skip


# ---- what differs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderDifference(Shown):
    """What `nb.diff` returns for two folders.

    Attributes
    ----------
    a, b : str
        Their names.
    added, removed, changed : tuple of FileEntry
        Files that only the second, only the first has, and the second's of those with other content.
    renamed : tuple of (str, str)
        Old and new paths of files with the same content.
    same : int
        How many files are alike.
    """

    a: str
    b: str
    added: tuple[FileEntry, ...]
    removed: tuple[FileEntry, ...]
    changed: tuple[FileEntry, ...]
    renamed: tuple[tuple[str, str], ...]
    same: int

    @property
    def is_same(self) -> bool:
        """Whether both have the same files under the same names."""
        return not (self.added or self.removed or self.changed or self.renamed)

    def __repr__(self) -> str:
        return (
            f"FolderDifference({self.a!r}, {self.b!r}: +{len(self.added)} −{len(self.removed)} files, "
            f"{len(self.changed)} changed, {len(self.renamed)} renamed)"
        )


def diff_files(a: tuple[str, Sequence[FileEntry]], b: tuple[str, Sequence[FileEntry]]) -> FolderDifference:
    """Return what differs between the files of two folders, each with its name."""
    old, new = ({file.path: file for file in files} for _, files in (a, b))
    gone: dict[str, list[str]] = defaultdict(list)
    for path, file in old.items():
        if path not in new:
            gone[file.sha256].append(path)
    renamed, added = [], []
    for path, file in new.items():
        if path in old:
            continue
        if gone[file.sha256]:
            renamed.append((gone[file.sha256].pop(0), path))
        else:
            added.append(file)
    moved = {path for path, _ in renamed}
    both = [(old[path], file) for path, file in new.items() if path in old]
    changed = tuple(file for before, file in both if before.sha256 != file.sha256)
    removed = tuple(file for path, file in old.items() if path not in new and path not in moved)
    return FolderDifference(a[0], b[0], tuple(added), removed, changed, tuple(renamed), len(both) - len(changed))
