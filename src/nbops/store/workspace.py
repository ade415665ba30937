"""The workspace: records, files and this process's journal behind one handle, and which one is current."""

from __future__ import annotations

import atexit
import mimetypes
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from nbops.core.errors import StoreError, StoreUnavailable
from nbops.core.ids import new_id
from nbops.core.protocols import Points
from nbops.core.records import Artifact, Link, Run
from nbops.core.settings import Settings, read_settings
from nbops.store.artifacts import Artifacts
from nbops.store.context import current_cell_id, unwatch_cells, watch_cells
from nbops.store.discovery import as_workspace, locate
from nbops.store.folding import Folder
from nbops.store.journal import Journal
from nbops.store.keeping import Keeper
from nbops.store.notes import CellNote
from nbops.store.outbox import PATIENCE_S, Outbox
from nbops.store.places import journal_folders, make_journal_folder
from nbops.store.recovery import SILENT_S, recover
from nbops.store.spool import Spool
from nbops.store.sql import SqlStore
from nbops.store.telling import say_once

_FRAME_POINTS = 1 << 20  # of arrays: a frame's length has 32 bits, and small frames stay in the cache
_current: Workspace | None = None
_opened: weakref.WeakSet[Workspace] = weakref.WeakSet()
_lock = threading.RLock()


class Workspace:
    """One workspace, open in this process.

    Attributes
    ----------
    path : Path
        The ``.nbops`` folder.
    store : Store
        Records, links, events and points.
    artifacts : ArtifactStore
        Files by content.
    outbox : Outbox
        Writes the records of runs, whether or not the store can be reached.
    journals : list of Path
        Where journals of this workspace may lie.
    settings : Settings
        What ``config.toml`` and the environment say.
    """

    def __init__(self, path: Path, *, settings: Settings, patient: bool = False) -> None:
        self.path = path
        self.settings = settings
        self.journals = journal_folders(path)
        self.store = SqlStore(settings.store_url or f"sqlite:///{path / 'nbops.db'}", patient=patient)
        spool = Spool(lambda: make_journal_folder(path) / "files")
        self.artifacts = Artifacts(settings.artifacts_url or os.fspath(path / "blobs"), spool=spool)
        self.outbox = self._new_outbox()
        self._journal: Journal | None = None
        self._folder: Folder | None = None
        self._note: CellNote | None = None
        self._keeper: Keeper | None = None
        self._closed = False
        self._before_close: dict[Callable[[], object], None] = {}
        self._settling: dict[Callable[[], None], None] = {}
        _opened.add(self)

    @classmethod
    def open(cls, path: str | Path | None = None, *, store_url: str | None = None,
             artifacts_url: str | None = None, patient: bool = False) -> Workspace:  # fmt: skip
        """Open the workspace at `path` (found like git if None), making it if it is not there.

        Raises
        ------
        StoreError
            The folder cannot be made or the database cannot be opened; with `patient`, a database that may be there
            later is no error.
        InvalidInput
            ``config.toml`` or a URL cannot be used.
        """
        folder = locate() if path is None else as_workspace(Path(path))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ignore = folder / ".gitignore"
            if not ignore.exists() and os.access(folder, os.W_OK):
                ignore.write_text("*\n")
            config = folder / "config.toml"
            text = config.read_text() if config.exists() else ""
        except OSError as error:
            raise StoreError(f"cannot make the workspace {folder}: {error.strerror}",
                             hint="Choose another place: nb.init(path) or NBOPS_WORKSPACE.") from error  # fmt: skip
        given = {"NBOPS_STORE_URL": store_url, "NBOPS_ARTIFACTS_URL": artifacts_url}
        environ = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
        opened = cls(folder, settings=read_settings(text, environ), patient=patient)
        try:
            opened.recover()
        except StoreUnavailable as error:
            if not patient:
                opened.store.close()
                raise
            opened.outbox.fall_behind(error)
            opened._keep(is_due=True)
        opened._keep()
        return opened

    @property
    def owner(self) -> str:
        """The name under which this process owns runs; opens its journal."""
        return self._writer().owner

    @property
    def known_owner(self) -> str:
        """The same name, "" as long as this process has written nothing."""
        journal = self._journal
        return journal.owner if journal is not None else ""

    def log(self, run_id: str, step: int | None, metrics: Mapping[str, float]) -> None:
        """Append one point per metric to the journal: safe against a kill when it returns."""
        journal = self._journal or self._writer()
        journal.log(run_id, step, metrics)

    def log_arrays(self, points: Points) -> None:
        """Append many points of one metric."""
        from nbops.store.points import Columns, stride_of

        journal, whole = self._writer(), Columns.of(points)
        for start in range(0, len(whole), _FRAME_POINTS):
            columns = whole.slice(start, start + _FRAME_POINTS)
            part, stride = columns.to_points(points.run, points.metric), stride_of(columns.steps)
            if stride is None or columns.times_ms.min() != columns.times_ms.max():
                journal.log_arrays(part.run, part.metric, steps=part.steps, times_ms=part.times_ms, values=part.values)
            else:
                first, time_ms = int(columns.steps[0]), int(columns.times_ms[0])
                journal.log_even(part.run, part.metric, first=first, stride=stride, time_ms=time_ms, values=part.values)

    def log_counted(self, run_id: str, metric: str, values: memoryview) -> None:
        """Append many points of one metric whose steps count up: float64 values as bytes."""
        journal, time_ms = self._writer(), time.time_ns() // 1_000_000
        for start in range(0, len(values), 8 * _FRAME_POINTS):
            journal.log_even(run_id, metric, values=values[start : start + 8 * _FRAME_POINTS], time_ms=time_ms)

    def next_step(self, run_id: str, metric: str) -> int:
        """Return the step that an unstepped point of `metric` would get."""
        return self._writer().next_step(run_id, metric)

    def flush(self) -> None:
        """Fold this process's journal now, so that its points can be read.

        Raises
        ------
        StoreUnavailable
            The store cannot be written to; nothing is lost.
        """
        for settle in list(self._settling):
            settle()
        if self._folder is not None:
            self._folder.fold()

    def continue_after(self, run_id: str, last_steps: Mapping[str, int]) -> None:
        """Let the unstepped points of a run's metrics count on after the steps they have."""
        self._writer().continue_after(run_id, last_steps)

    def forget(self, run_id: str) -> None:
        """Fold and drop what the journal remembers of a run that has ended; what cannot be folded now waits."""
        try:
            if not self.outbox.is_behind:
                with self.store.patience(PATIENCE_S):
                    self.flush()
        except StoreUnavailable as error:
            self.outbox.fall_behind(error)
        if self._journal is not None:
            self._journal.forget(run_id)

    def recover(self) -> list[Run]:
        """Fold the journals of dead processes and close their runs; return the closed runs."""
        own = self.known_owner
        if not self.store.is_shared:
            return recover(self.store, self.journals, own=own)
        closed = recover(self.store, self.journals, own=own, silences=self.store.silences)
        silent = [owner for owner, silence in self.store.silences().items() if silence > SILENT_S and owner != own]
        self.store.forget_beats([*silent, *(run.owner for run in closed)])
        return closed

    def save_artifact(
        self, data: bytes | Path, *, name: str, media_type: str = "", parent: str | None = None
    ) -> Artifact:
        """Store a file's bytes, and its record and link in one transaction."""
        digest, size = self.artifacts.put(data)
        artifact = Artifact(
            id=new_id(Artifact.prefix),
            created_at=time.time(),
            name=name,
            digest=digest,
            size_bytes=size,
            media_type=media_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
            parent=parent,
            cell_id=current_cell_id(),
        )
        links = [Link(source=parent, relation="produced", target=artifact.id)] if parent else []
        self.outbox.put(artifact, links=links)
        return artifact

    def settle_with(self, callback: Callable[[], None]) -> None:
        """Let `callback` be called before records are read: it writes what it still holds back."""
        self._settling[callback] = None

    def before_close(self, callback: Callable[[], object]) -> None:
        """Let `callback` be called once when the workspace is about to close: others may still be writing to it."""
        self._before_close[callback] = None

    def close(self) -> None:
        """Fold what is left, remove the journal, release connections; closing twice is fine."""
        if self._closed:
            return
        for callback in self._before_close:
            callback()
        self._closed = True
        if self._keeper is not None:
            self._keeper.stop()
        is_folded = self._fold_the_last()
        self.artifacts.settle()
        self.store.close()  # the last connection to close writes the WAL back
        if self._journal is not None:
            self._journal.close(remove=is_folded)
        if self._note is not None:
            unwatch_cells(self._note.write)
            self._note.close()

    def _new_outbox(self) -> Outbox:
        me = weakref.proxy(self)  # a workspace that nobody uses any more is let go
        return Outbox(self.store, lambda: cast(Workspace, me)._writer())

    def _fold_the_last(self) -> bool:
        """Fold what is left; False if the store cannot be written to: whoever opens the workspace next folds it."""
        if self._folder is None or self._journal is None:
            return True
        try:
            with self.store.patience(PATIENCE_S):
                self._folder.stop()
                self._journal.sync()
                if self.store.is_shared:
                    self.store.forget_beats([self._journal.owner])
        except StoreUnavailable as error:
            say_once(f"left {self._journal.path}", f"{error.message}. What was logged is kept in {self._journal.path} "
                                                   "and stored by whoever opens the workspace next.")  # fmt: skip
            return False
        return not self._journal.is_waiting

    def _writer(self) -> Journal:
        with _lock:
            if self._closed:
                raise StoreError(f"the workspace {self.path} is closed", hint="Open it again with nb.init().")
            if self._journal is None:
                self._journal = Journal(make_journal_folder(self.path))
                self._folder = Folder(
                    self._journal,
                    self.store,
                    on_change=self.outbox.carried_out,
                    patiently=partial(self.store.patience, PATIENCE_S),
                )
                self._folder.start()
                self._take_notes(self._journal)
                self._first_beat(self._journal.owner)
                self._keep()
            return self._journal

    def _take_notes(self, journal: Journal) -> None:
        try:
            self._note = CellNote(journal.folder, journal.owner)
        except OSError:  # a full disk: who finds this process dead does not learn its cell
            return
        watch_cells(self._note.write)

    def _first_beat(self, owner: str) -> None:
        try:
            if self.store.is_shared:
                self.store.beat(owner)
        except StoreUnavailable as error:  # the keeper beats when it can
            self.outbox.fall_behind(error)

    def _keep(self, *, is_due: bool = False) -> None:
        if self._keeper is None:
            self._keeper = Keeper(self, is_due=is_due)
            self._keeper.start()

    def _after_fork_in_child(self) -> None:
        """Leave the parent's journal and thread alone; begin anew at need."""
        if self._journal is not None:
            self._journal.abandon()
        if self._note is not None:
            unwatch_cells(self._note.write)
            self._note.close(remove=False)
        self._journal, self._folder, self._note, self._keeper = None, None, None, None
        self.store.after_fork(in_child=True)
        self.outbox = self._new_outbox()


def init(
    path: str | Path | None = None, *, store_url: str | None = None, artifacts_url: str | None = None
) -> Workspace:
    """Open a workspace and make it the current one of this process.

    Parameters
    ----------
    path : str or Path, optional
        The folder that holds (or gets) ``.nbops``; found like git if None.
    store_url : str, optional
        ``postgresql://user@host/db`` for a team's database; SQLite in the folder if None.
    artifacts_url : str, optional
        Any fsspec URL for files; the folder itself if None.
    """
    global _current
    opened = Workspace.open(path, store_url=store_url, artifacts_url=artifacts_url)
    with _lock:
        old, _current = _current, opened
    if old is not None:
        old.close()
    return opened


def workspace() -> Workspace:
    """Return the current workspace, opening the one found from here if there is none yet."""
    global _current
    with _lock:
        if _current is None or _current._closed:
            _current = Workspace.open(patient=True)
        return _current


def is_open() -> bool:
    """Return whether a workspace is open in this process."""
    return _current is not None and not _current._closed


@atexit.register
def _close_at_exit() -> None:
    if _current is not None:
        _current.close()


def _open_workspaces() -> list[Workspace]:
    return [ws for ws in _opened if not ws._closed]


def _before_fork() -> None:
    for ws in _open_workspaces():
        ws.store.before_fork()


def _after_fork_in_parent() -> None:
    for ws in _open_workspaces():
        ws.store.after_fork(in_child=False)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for ws in _open_workspaces():
        ws._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
