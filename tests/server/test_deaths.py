"""A server whose panel was asked once notices that a process died, and tells it as an event."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import nbops as nb
from nbops.core.records import Run, RunStatus
from nbops.server.backend import Backend
from nbops.store.identity import acting_as
from nbops.store.workspace import Workspace

DIE = "import os, nbops as nb; nb.start('doomed'); nb.log(x=1.0); os.kill(os.getpid(), 9)"


def test_the_server_closes_the_runs_of_a_dead_process(workspace: Workspace) -> None:
    backend = Backend(workspace.path)
    seen = backend.workspace()
    assert seen is not None
    workspace.close()
    subprocess.run([sys.executable, "-c", DIE], check=False)
    end = time.monotonic() + 10
    while seen.store.find(Run)[0].status is RunStatus.RUNNING and time.monotonic() < end:
        time.sleep(0.05)
    (run,) = seen.store.find(Run)
    kinds = [event.kind for event in seen.store.events(subject=run.id)]
    backend.close()
    assert (run.status, run.metrics) == (RunStatus.INTERRUPTED, {"x": 1.0})
    assert "run.interrupted" in kinds
    assert nb.find("runs").total == 1


def test_whoever_asks_first_did_not_close_them(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.close()
    subprocess.run([sys.executable, "-c", DIE], check=False)
    monkeypatch.setenv("NBOPS_USER", "server")
    backend = Backend(workspace.path)
    with acting_as("anna"):
        seen = backend.workspace()
    assert seen is not None
    actors = {event.kind: event.actor for event in seen.store.events()}
    backend.close()
    assert (actors["points.added"], actors["run.interrupted"]) == ("server", "server")
