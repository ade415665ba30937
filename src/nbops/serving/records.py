"""Endpoint records: made, read by name or id, and kept true to the processes that they describe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nbops.core.errors import EndpointError, NotFound, not_found
from nbops.core.query import Compare, Field, parse
from nbops.core.records import Endpoint, replace
from nbops.serving import descriptor as runtime_file
from nbops.serving.descriptor import Descriptor, Paths
from nbops.serving.launching import end
from nbops.store.journal import host_name
from nbops.store.workspace import Workspace, is_open, workspace

STARTING, READY, STOPPED, DEAD = "STARTING", "READY", "STOPPED", "DEAD"
LIVE = (STARTING, READY)
_LIVE = parse("status in ('STARTING', 'READY')")
_GRACE_S = 30.0  # a starting endpoint tells its process within this time


def mark(workspace: Workspace, id: str, status: str) -> Endpoint:
    """Set the status of a record; one that has ended (STOPPED, DEAD) stays as it is."""

    def change(record: Endpoint) -> Endpoint:
        if record.status not in LIVE or record.status == status:
            return record
        ended = None if status in LIVE else time.time()
        changed: Endpoint = replace(record, status=status, ended_at=ended)
        return changed

    current = workspace.store.get(Endpoint, id)
    if change(current) is current:
        return current
    return workspace.store.update(Endpoint, id, change, event=f"endpoint.{status.lower()}")


def mark_ready(workspace: Workspace, descriptor: Descriptor) -> Endpoint:
    """Set READY with the address and process that the descriptor tells."""

    def change(record: Endpoint) -> Endpoint:
        if record.status not in LIVE:
            return record
        changed: Endpoint = replace(
            record, status=READY, url=descriptor.url, pid=descriptor.pid, owner=owner_of(descriptor)
        )
        return changed

    return workspace.store.update(Endpoint, descriptor.id, change, event="endpoint.ready")


def owner_of(descriptor: Descriptor) -> str:
    """Return host, pid and start of the process."""
    return f"{host_name()}.{descriptor.pid}.{descriptor.pid_started}"


def refresh(workspace: Workspace) -> None:
    """Compare the records that say they live with their processes: mark those that are ready, and the dead.

    Only endpoints of this host are judged.
    """
    for record in workspace.store.find(Endpoint, _LIVE):
        if record.owner.partition(".")[0] != host_name():
            continue
        paths = Paths(workspace.path, record.id)
        try:
            known = runtime_file.read(paths.descriptor)
        except NotFound:
            mark(workspace, record.id, STOPPED if _pid_is_gone(record) else record.status)
            continue
        if known.is_alive:
            if known.state == "ready" and record.status == STARTING:
                mark_ready(workspace, known)
        elif known.pid or time.time() - record.created_at > _GRACE_S:
            mark(workspace, record.id, DEAD)
            runtime_file.remove(paths)


def find(workspace: Workspace, name_or_id: str) -> Endpoint:
    """Return the newest record with that id or name, a running one before others; `NotFound` with the nearest name."""
    if name_or_id.startswith(f"{Endpoint.prefix}_"):
        return workspace.store.get(Endpoint, name_or_id)
    named = workspace.store.find(Endpoint, Compare(Field("name"), "==", name_or_id))
    if not named:
        names = {record.name for record in workspace.store.find(Endpoint)}
        raise not_found("endpoint", name_or_id, names, hint="List them with nb.endpoints().")
    return next((record for record in named if record.status in LIVE), named[0])


def stop_record(workspace: Workspace, record: Endpoint, *, grace_s: float) -> Endpoint:
    """End the process of a record and return the record as STOPPED; one that has ended is returned as it is."""
    if record.status not in LIVE:
        return record
    host = record.owner.partition(".")[0]
    if host != host_name():
        raise EndpointError(f"endpoint '{record.name}' runs on host '{host}'", hint=f"Stop it from a kernel on {host}.")
    end(Paths(workspace.path, record.id), grace_s=grace_s)
    return mark(workspace, record.id, STOPPED)


@contextmanager
def opened(path: Path, store_url: str) -> Iterator[Workspace]:
    """Give the current workspace if it is the one at `path`, else that one for the time of the block."""
    if is_open() and workspace().path == path:
        yield workspace()
        return
    other = Workspace.open(path, store_url=store_url or None)
    try:
        yield other
    finally:
        other.close()


def _pid_is_gone(record: Endpoint) -> bool:
    started = record.owner.rpartition(".")[2]
    return not record.pid or runtime_file.process_start(record.pid) != started
