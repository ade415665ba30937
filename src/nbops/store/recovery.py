"""Cleaning up after processes that died: their points are folded, their runs closed as INTERRUPTED.

A process is dead when its journal is gone or its lock is free. Only journals in this
workspace's folder are judged, and only runs written on this host.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from nbops.core.errors import NotFound
from nbops.core.protocols import Store
from nbops.core.query import parse
from nbops.core.records import Run, RunStatus, replace
from nbops.store.folding import add
from nbops.store.journal import SUFFIX, host_name, owner_of
from nbops.store.scanning import Scan

_STRETCH_BYTES = 16 << 20
_OPEN_RUNS = parse(f"status == '{RunStatus.RUNNING}'")


def recover(store: Store, journals: Path, *, own: str) -> list[Run]:
    """Fold the journals of dead processes and return the runs that were closed.

    Safe to call at any time, from any number of processes at once.
    """
    last_write: dict[str, float] = {}
    for path in sorted(journals.glob(f"*{SUFFIX}")):
        if owner_of(path) != own:
            _fold_dead(store, path, last_write)
    closed = []
    for run in store.find(Run, _OPEN_RUNS):
        host = run.owner.partition(".")[0]
        if run.owner and run.owner != own and host == host_name() and not list(journals.glob(f"{run.owner}.*{SUFFIX}")):
            closed.append(_close(store, run.id, last_write.get(run.owner, time.time())))
    return [run for run in closed if run is not None]


def _fold_dead(store: Store, path: Path, last_write: dict[str, float]) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _fold_all(store, path.stem, fd):
            path.unlink(missing_ok=True)
        else:  # a frame was cut or damaged: no call returned for it, but keep the evidence
            path.replace(path.with_suffix(".torn"))
        last_write[owner_of(path)] = os.fstat(fd).st_mtime
    except BlockingIOError:
        return  # alive, or another process is recovering it
    finally:
        os.close(fd)


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
        else:
            add(store, scan, name=name, start=at, end=at + scan.consumed)
        at += scan.consumed
    return True


def _close(store: Store, id: str, ended_at: float) -> Run | None:
    def interrupted(run: Run) -> Run:
        if run.status is not RunStatus.RUNNING:
            return run
        return replace(run, status=RunStatus.INTERRUPTED, ended_at=max(ended_at, run.created_at))

    try:
        return store.update(Run, id, interrupted, event="run.interrupted")
    except NotFound:  # deleted meanwhile
        return None
