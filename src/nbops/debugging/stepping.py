"""torch's global optimizer hooks and patches, shared by all open watches: applied while any is open, none otherwise.

They see every optimizer of the process, so a loop needs no change and the optimizer need
not be passed; each watch looks only at optimizers that hold parameters of its model.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from nbops.debugging import patches
from nbops.store.context import CellRef


class Listener(patches.Listener, Protocol):
    """What is told about steps: a session."""

    label: str
    cell: CellRef | None
    model_name: str
    is_open: bool
    is_replaying: bool

    @property
    def model(self) -> nn.Module | None: ...
    def before(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def after(self, optimizer: torch.optim.Optimizer) -> None: ...
    def close(self) -> None: ...


_sessions: list[weakref.ref[Listener]] = []  # asked several times in each step: a WeakSet takes ten times as long
_handles: list[Any] = []
_depth = 0  # torch iterates over its hooks: they must not be removed from inside one


def enlist(session: Listener) -> None:
    """Let `session` see optimizer steps."""
    _sessions[:] = [one for one in _sessions if one() not in (None, session)] + [weakref.ref(session)]
    if not _handles:
        _handles.append(register_optimizer_step_pre_hook(_before))
        _handles.append(register_optimizer_step_post_hook(_after))
        patches.apply(open_sessions)


def dismiss(session: Listener) -> None:
    """Stop telling `session`; the hooks go with the last one that is open."""
    _sessions[:] = [one for one in _sessions if one() not in (None, session)]
    prune()


def prune() -> None:
    """Put torch back if no session is open: also after a model was freed without closing its watch."""
    if not _depth and not open_sessions():
        while _handles:
            _handles.pop().remove()
        patches.undo()


def open_sessions() -> list[Listener]:
    """Return the sessions that are open."""
    return [session for one in _sessions if (session := one()) is not None and session.is_open]


def _before(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    global _depth
    if torch.compiler.is_compiling():
        return None
    patches.was_called(optimizer)
    call = args, kwargs
    _depth += 1
    try:
        for session in open_sessions():
            call = session.before(optimizer, *call)
    finally:
        _depth -= 1
    return call


def _after(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    global _depth
    if torch.compiler.is_compiling():
        return
    _depth += 1
    try:
        for session in open_sessions():
            session.after(optimizer)
    finally:
        _depth -= 1
