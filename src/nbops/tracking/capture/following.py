"""What goes on beside an open run: its surroundings, what it reads, what it uses. Called where runs open and end."""

from __future__ import annotations

import os
import time
from typing import Any

from nbops.store.workspace import Workspace
from nbops.tracking.capture import inputs
from nbops.tracking.capture.background import drain, submit
from nbops.tracking.capture.surroundings import capture_later
from nbops.tracking.machine import sampling
from nbops.tracking.machine.cost import added

_since: dict[str, float] = {}


def run_opened(ws: Workspace, run_id: str) -> None:
    """Begin to follow a run that was just stored, or resumed."""
    if run_id in _since:
        return
    _since[run_id] = time.time()
    ws.before_close(drain)
    inputs.run_opened(ws)
    sampling.run_opened(ws, run_id)
    capture_later(ws, run_id)


def run_ending(ws: Workspace, run_id: str) -> dict[str, Any]:
    """Stop following a run; return what its context is to get. A run that is not followed gets nothing."""
    since = _since.pop(run_id, None)
    if since is None:
        return {}
    used = sampling.run_ending(run_id)
    read = inputs.run_ending(ws, run_id, since=since)
    return {**used, **({"inputs": read} if read else {})}


def run_ended(ws: Workspace, run_id: str) -> None:
    """Let go of a run's record once what is still found out about the run has been added to it."""
    submit(lambda: ws.outbox.forget(run_id))


def joined(context: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return a run's context with what its end adds; a resumed run's costs add up, its inputs are joined."""
    if not more:
        return context
    result = {**context, **more}
    if "cost" in context and "cost" in more:
        result["cost"] = added(context["cost"], more["cost"])
    if "inputs" in context and "inputs" in more:
        result["inputs"] = inputs.joined(context["inputs"], more["inputs"])
    return result


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_since.clear)
