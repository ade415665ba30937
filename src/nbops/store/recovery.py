"""Cleaning up after processes that died: their points are folded, their runs closed as INTERRUPTED.

A process is dead when the lock of its journal is free. Where its journal is not here, a database
that hosts share is asked how long the process has been silent; in a database of this folder the
process is dead if it ran on this host.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbops.core.errors import Conflict, NotFound
from nbops.core.protocols import Store
from nbops.core.query import parse
from nbops.core.records import Failure, Run, RunStatus, replace
from nbops.store.folding import add
from nbops.store.journal import host_name, owner_of
from nbops.store.mapped import SUFFIX
from nbops.store.notes import Note, note_path, read_note
from nbops.store.scanning import Scan

BEAT_S = 5.0
SILENT_S = 20.0  # four heartbeats missed
DEATHS = ("KernelDied", "ProcessDied")
_STRETCH_BYTES = 16 << 20
_NEWBORN_S = 60.0
_OPEN_RUNS = parse(f"status == '{RunStatus.RUNNING}'")


@dataclass
class _Dead:
    """The journal of a dead process; we hold its lock."""

    path: Path
    fd: int
    is_whole: bool = False

    @property
    def owner(self) -> str:
        return owner_of(self.path)

    def put_away(self) -> None:
        """Remove the journal; keep it aside if a frame was cut: no call returned for that one."""
        if self.is_whole:
            self.path.unlink(missing_ok=True)
        else:
            self.path.replace(self.path.with_suffix(".torn"))
        note_path(self.path.parent, self.owner).unlink(missing_ok=True)


def recover(
    store: Store, folders: Sequence[Path], *, own: str, silences: Callable[[], Mapping[str, float]] | None = None
) -> list[Run]:
    """Fold the journals of dead processes and return the runs that were closed.

    Safe to call at any time, from any number of processes at once.

    Parameters
    ----------
    store : Store
    folders : sequence of Path
        Where this workspace's journals may be.
    own : str
        The owner name of this process, "" for none.
    silences : callable, optional
        For a database that hosts share: seconds since each process's last heartbeat.
    """
    dead: list[_Dead] = []
    try:
        for path in journals_in(folders):
            if owner_of(path) != own and (fd := _lock(path)) is not None:
                dead.append(_Dead(path, fd))
        for one in dead:
            one.is_whole = _fold_all(store, one.path.stem, one.fd)
        closed = _close_all(store, folders, dead, own=own, silences=silences)
        for one in dead:
            one.put_away()
        return closed
    finally:
        for one in dead:
            os.close(one.fd)


def journals_in(folders: Sequence[Path], *, owner: str = "*") -> list[Path]:
    """Return the journals in some folders, of one owner or of all."""
    return [path for folder in folders for path in sorted(folder.glob(f"{owner}.*{SUFFIX}"))]


def revive(store: Store, own: str) -> list[Run]:
    """Open again what others closed while this process, `own`, could not tell that it lives."""
    found = store.find(Run, parse(f"status == '{RunStatus.INTERRUPTED}' and owner == '{own}'"))
    return [
        store.update(Run, run.id, _reopened, event="run.revived")
        for run in found
        if run.error is not None and run.error.type in DEATHS
    ]


def is_dead(path: Path) -> bool:
    """Return whether the owner of a journal is dead, without touching the journal."""
    fd = _lock(path)
    if fd is None:
        return False
    os.close(fd)
    return True


def _lock(path: Path) -> int | None:
    """Return the descriptor of a dead process's journal, locked; None if its owner lives or it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # gone, or not ours to judge: another user's, or a folder that we may only read
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # alive, or another process is recovering it
        os.close(fd)
        return None
    state = os.fstat(fd)
    is_newborn = state.st_size == 0 and time.time() - state.st_mtime < _NEWBORN_S  # made, about to be locked
    if is_newborn or state.st_nlink == 0:
        os.close(fd)
        return None
    return fd


def _close_all(
    store: Store, folders: Sequence[Path], dead: list[_Dead], *, own: str,
    silences: Callable[[], Mapping[str, float]] | None,
) -> list[Run]:  # fmt: skip
    last_write = {one.owner: os.fstat(one.fd).st_mtime for one in dead}
    runs = [run for run in store.find(Run, _OPEN_RUNS) if run.owner and run.owner != own]
    silent = (
        silences() if silences is not None and runs else {}
    )  # asked after the runs: a heartbeat comes before its run
    closed = []
    for run in runs:
        if run.owner in last_write:
            is_over = True
        elif journals_in(folders, owner=run.owner):
            is_over = False
        elif silences is not None:
            is_over = silent.get(run.owner, SILENT_S + 1) > SILENT_S
        else:
            is_over = run.owner.partition(".")[0] == host_name()
        if is_over:
            note = read_note(folders, run.owner)
            closed.append(_close(store, run.id, last_write.get(run.owner, time.time()), note))
    return [run for run in closed if run is not None]


def _fold_all(store: Store, name: str, fd: int) -> bool:
    """Fold a journal from where its owner stopped; False if its end cannot be read."""
    scan, at, size = Scan(), 0, os.fstat(fd).st_size
    folded = store.folded(name)
    while at < size:
        bound = folded if at < folded else size  # what was folded is read again for its definitions only
        scan.read(os.pread(fd, min(_STRETCH_BYTES, bound - at), at), verify=True)
        if not scan.consumed and bound - at > _STRETCH_BYTES:  # one frame longer than a stretch
            scan.read(os.pread(fd, bound - at, at), verify=True)
        if not scan.consumed:
            return scan.is_at_end
        if at < folded:
            scan.columns()
            scan.changes()
        else:
            if add(store, scan, name=name, start=at, end=at + scan.consumed) is None:
                raise Conflict(f"the journal {name} is folded by another process", hint="Try again.")
        at += scan.consumed
    return True


def _close(store: Store, id: str, ended_at: float, note: Note | None = None) -> Run | None:
    def interrupted(run: Run) -> Run:
        if run.status is not RunStatus.RUNNING:
            return run
        at = max(ended_at, run.created_at, *run.resumes)
        return replace(run, status=RunStatus.INTERRUPTED, ended_at=at, error=_death(run.owner, note or Note()))

    try:
        return store.update(Run, id, interrupted, event="run.interrupted")
    except NotFound:  # deleted meanwhile
        return None


def _death(owner: str, note: Note) -> Failure:
    host, pid, *_ = [*owner.split("."), "?"]
    place = f"process {pid} on {host}"
    if not note.cell_id:
        return Failure(type="ProcessDied", message=f"{place} ended without closing the run")
    when = f"while cell {note.cell_id} executed" if note.is_running else f"after cell {note.cell_id}"
    cell_id = note.cell_id if note.is_running else None
    return Failure(type="KernelDied", message=f"the kernel, {place}, died {when}", cell_id=cell_id)


def _reopened(run: Run) -> Run:
    return replace(run, status=RunStatus.RUNNING, ended_at=None, error=None)
