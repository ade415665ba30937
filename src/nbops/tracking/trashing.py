"""The trash of the workspace: moving things there, taking them back, and deleting them for ever."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

from nbops.core.errors import InvalidInput
from nbops.core.records import Record
from nbops.core.reports import Report
from nbops.store import maintenance
from nbops.store.workspace import workspace
from nbops.tracking.lineage import resolve

DAY_S = 86_400.0


def trash(ref: Any = None) -> Report:
    """Move something to the trash, or say what is in it.

    A run takes along its cells, files, checks, diagnoses and the runs inside it; models and
    datasets stay. Nothing is deleted: `restore` brings it back, `purge` deletes it.

    Parameters
    ----------
    ref : record, handle or str, optional
        A run, dataset, model version, artifact …; or its id or name. None lists the trash.

    Raises
    ------
    Conflict
        It runs, or an alias points at it.
    NotFound
        Nothing is called so.
    """
    ws = workspace()
    ws.flush()
    if ref is None:
        found = maintenance.trashed(ws.store)
        lines = tuple(f"{t.kind} {t.name} {t.id} · {_age(t.at)} · {_records(t.records)}" for t in found)
        return Report("trash", {"things": len(found), "records": sum(t.records for t in found)}, notes=lines)
    record = ref if isinstance(ref, Record) else getattr(ref, "record", None) or getattr(ref, "version", None)
    if not isinstance(record, Record):
        if not isinstance(ref, str):
            raise InvalidInput(f"a {type(ref).__name__} has no trash", hint="Pass a record, a handle, an id or a name.")
        record = resolve(ws, ref)
    count = maintenance.trash(ws.store, record)
    note = f"Take it back with nb.restore('{record.id}')."
    return Report(f"{record.kind} in the trash", {"records": count}, record.id, notes=(note,))


def restore(id: str) -> Report:
    """Take something out of the trash, with all that went there with it.

    Parameters
    ----------
    id : str
        As `nb.trash()` lists it.

    Raises
    ------
    NotFound
        It is not in the trash.
    Conflict
        It went there with another record, which must come back with it.
    """
    return Report("restored", {"records": maintenance.restore(workspace().store, id)}, id)


def purge(*, older_than_days: float = 30.0, grace_hours: float = 24.0) -> Report:
    """Delete for ever what has been in the trash for some time, and files that nothing names any more.

    Parameters
    ----------
    older_than_days : float, days
        0 empties the trash.
    grace_hours : float, hours
        Files stored since stay, whatever names them: a writer stores a file first and its record
        after. Lower it only when nobody writes.
    """
    if older_than_days < 0 or grace_hours < 0:
        raise InvalidInput(f"{older_than_days} days and {grace_hours} hours cannot be negative", hint="Pass 0 or more.")
    ws = workspace()
    gone = maintenance.purge(ws.store, before=time.time() - older_than_days * DAY_S)
    files, size = maintenance.sweep(ws.store, ws.artifacts, grace_s=grace_hours * 3600)
    for folder in (ws.path / "bundles").glob("*"):  # unpacked models; a file that is open stays readable
        if maintenance.DIGEST.fullmatch(folder.name) and not ws.artifacts.exists(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
    counts: Mapping[str, int] = {
        "things": len(gone), "records": sum(t.records for t in gone), "files": files, "bytes": size,
    }  # fmt: skip
    return Report("purge", counts)


def _age(at: float) -> str:
    days = (time.time() - at) / DAY_S
    return "today" if days < 1 else f"{days:.0f} days ago"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
