"""`nb.serve` and its company: start, list, find again, stop. An endpoint is a process of its own with a record."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbops.core.errors import InvalidInput, NotFound
from nbops.core.ids import new_id
from nbops.core.query import Compare, Field
from nbops.core.records import Endpoint, ModelVersion
from nbops.core.table import Table
from nbops.models.bundle import materialise
from nbops.models.references import resolve
from nbops.serving import descriptor as runtime_file
from nbops.serving import records
from nbops.serving.descriptor import FOLDER, Descriptor, Paths
from nbops.serving.launching import end, launch
from nbops.serving.live import STOP_GRACE_S, LiveEndpoint
from nbops.store.journal import host_name
from nbops.store.workspace import Workspace, workspace

_LIMITS = ("max_batch", "max_wait_ms", "max_queue", "timeout_s")


def serve(
    ref: str | ModelVersion,
    *,
    port: int = 0,
    name: str | None = None,
    token: str | None = None,
    max_batch: int = 64,
    max_wait_ms: float = 0.0,
    max_queue: int = 4096,
    timeout_s: float = 60.0,
) -> LiveEndpoint:
    """Serve a registered model over HTTP (Open Inference Protocol v2) from a process of its own.

    The process outlives this kernel's interrupts and restarts; it ends with `stop`. It listens on
    127.0.0.1 only. Serving the same name again returns the running endpoint if it would serve the
    same version in the same way; else the new one takes over address and token, and the old
    one finishes what it has accepted and ends.

    Parameters
    ----------
    ref : str or ModelVersion
        ``digits``, ``digits@prod`` or ``digits/3``.
    port : int
        0 for a free one.
    name : str, optional
        Name of the endpoint; `ref` by default.
    token : str, optional
        Bearer token; a random one by default. An empty text lets every local user in.
    max_batch : int, rows
        Rows of concurrent requests that are computed together at most.
    max_wait_ms : float, milliseconds
        How long an idle endpoint waits for more rows; 0 starts at once.
    max_queue : int, rows
        Rows that may wait; more are answered with 429.
    timeout_s : float, seconds
        From the request to its answer; later ones are answered with 504.

    Returns
    -------
    LiveEndpoint

    Raises
    ------
    NotFound
        No such model, version or alias.
    InvalidInput
        A limit that cannot be.
    EndpointError
        The process did not start; the message has the end of its log.
    """
    _check(port=port, max_batch=max_batch, max_wait_ms=max_wait_ms, max_queue=max_queue, timeout_s=timeout_s)
    space = workspace()
    text = ref.ref if isinstance(ref, ModelVersion) else ref
    version = resolve(space, text)
    limits = dict(zip(_LIMITS, (max_batch, max_wait_ms, max_queue, timeout_s), strict=True))
    wanted = _describe(space, version, name=name or text, port=port, token=token, limits=limits)
    return LiveEndpoint(space.path, _settle(space, wanted, version, ref=text, token=token))


def _describe(
    space: Workspace, version: ModelVersion, *, name: str, port: int, token: str | None, limits: dict[str, Any]
) -> Descriptor:
    return Descriptor(
        id=new_id(Endpoint.prefix),
        name=name,
        token=secrets.token_urlsafe(32) if token is None else token,
        workspace=os.fspath(space.path),
        store_url=space.settings.store_url or "",
        port=port,
        bundles={version.ref: os.fspath(materialise(space, version.digest))},
        **limits,
    )


def _settle(space: Workspace, wanted: Descriptor, version: ModelVersion, *, ref: str, token: str | None) -> Descriptor:
    """Return the endpoint that serves as wanted: the running one, or a new one that takes over from it."""
    with _alone(space, wanted.name):
        records.refresh(space)
        old = _running(space, wanted.name)
        if old is not None:
            if _is_same(old, wanted, token=token):
                return old
            wanted.token = old.token if token is None else token
            wanted.port = wanted.port or old.port
            wanted.replaces = old.id if wanted.port == old.port else ""
        ready = _start(space, wanted, version, ref=ref)
        if old is not None:
            records.stop_record(space, space.store.get(Endpoint, old.id), grace_s=STOP_GRACE_S)
    return ready


def endpoints(*, stopped: bool = False) -> Table[Endpoint]:
    """Return the endpoints of this workspace, newest first.

    Each record is compared with its process first: one that has gone without saying so is DEAD.

    Parameters
    ----------
    stopped : bool
        Also list those that were stopped, and the dead that were served again since.
    """
    space = workspace()
    records.refresh(space)
    found = space.store.find(Endpoint)
    if not stopped:
        newest: dict[str, str] = {}
        for record in found:
            newest.setdefault(record.name, record.id)
        found = [
            r for r in found
            if r.status in records.LIVE or (r.status == records.DEAD and newest[r.name] == r.id)
        ]  # fmt: skip
    return Table("endpoint", found)


def attach(name_or_id: str) -> LiveEndpoint:
    """Return the handle of a running endpoint, for example after a kernel restart.

    Raises
    ------
    NotFound
        No endpoint has that name or id, or it does not run.
    """
    space = workspace()
    records.refresh(space)
    record = records.find(space, name_or_id)
    if record.status not in records.LIVE:
        raise NotFound(f"endpoint '{record.name}' is {record.status}", hint=f"Start it again: nb.serve('{record.ref}')")
    return LiveEndpoint(space.path, runtime_file.read(Paths(space.path, record.id).descriptor))


def stop(name_or_id: str, *, grace_s: float = STOP_GRACE_S) -> Endpoint:
    """Stop an endpoint: it finishes what it has accepted, then ends. Stopping a stopped one is fine.

    Parameters
    ----------
    name_or_id : str
        Its name, or its record id.
    grace_s : float, seconds
        After this long it is killed.

    Raises
    ------
    NotFound
        No endpoint has that name or id.
    EndpointError
        It runs on another host.
    """
    space = workspace()
    records.refresh(space)
    return records.stop_record(space, records.find(space, name_or_id), grace_s=grace_s)


def _start(space: Workspace, wanted: Descriptor, version: ModelVersion, *, ref: str) -> Descriptor:
    paths = Paths(space.path, wanted.id)
    runtime_file.write(paths, wanted)
    record = Endpoint(
        id=wanted.id,
        created_at=time.time(),
        name=wanted.name,
        url="",
        status=records.STARTING,
        pid=0,
        models=list(wanted.bundles),
        ref=ref,
        owner=f"{host_name()}..",
    )
    with space.store.transaction():
        space.store.put(record)
        space.store.link(version.id, "served_by", record.id)
    try:
        ready = launch(paths)
    except BaseException:
        end(paths, grace_s=0.0)
        records.mark(space, record.id, records.DEAD)
        raise
    records.mark_ready(space, ready)
    return ready


def _running(space: Workspace, name: str) -> Descriptor | None:
    """Return the descriptor of the running endpoint with that name on this host, or None."""
    for record in space.store.find(Endpoint, Compare(Field("name"), "==", name)):
        if record.status == records.READY and record.owner.partition(".")[0] == host_name():
            try:
                return runtime_file.read(Paths(space.path, record.id).descriptor)
            except NotFound:  # it is ending right now
                continue
    return None


def _is_same(old: Descriptor, wanted: Descriptor, *, token: str | None) -> bool:
    return (
        list(old.bundles) == list(wanted.bundles)
        and wanted.port in (0, old.port)
        and token in (None, old.token)
        and all(getattr(old, limit) == getattr(wanted, limit) for limit in _LIMITS)
    )


def _check(*, port: int, max_batch: int, max_wait_ms: float, max_queue: int, timeout_s: float) -> None:
    limits = {
        "port": (port, 0, 65535),
        "max_batch": (max_batch, 1, 65536),
        "max_wait_ms": (max_wait_ms, 0, 60_000),
        "max_queue": (max_queue, 1, 1 << 24),
        "timeout_s": (timeout_s, 0.1, 3600),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise InvalidInput(f"{name}={value} cannot be served with", hint=f"Pass {low:g} to {high:g}.")


@contextmanager
def _alone(space: Workspace, name: str) -> Iterator[None]:
    """Let one process or thread at a time serve `name`, so that two cells cannot start it twice."""
    folder = space.path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = Path(folder, f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
