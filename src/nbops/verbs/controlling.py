"""Sending a command to a watched run of another process, and waiting for what comes of it."""

from __future__ import annotations

import time

from nbops.core.commands import Command
from nbops.core.records import Run
from nbops.store.workspace import workspace
from nbops.tracking.commanding import ask
from nbops.tracking.lineage import resolve

_LOOK_S = 0.1


def send(run: str, name: str, *, value: float | None, wait_s: float) -> Command:
    """Write a command and return it as it stands when it was carried out, or after `wait_s` seconds.

    Raises
    ------
    NotFound
        No such run.
    Conflict
        The run has ended, or no watch listens in it.
    """
    ws = workspace()
    command = ask(ws, resolve(ws, run, kind=Run).id, name, value=value)
    until = time.monotonic() + wait_s
    while command.status == "pending" and time.monotonic() < until:
        time.sleep(_LOOK_S)
        command = ws.store.get(Command, command.id)
    return command
