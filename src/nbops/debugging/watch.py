"""`nb.watch`: attach to a model. The handle that it returns is in `nbops.debugging.handle`, the engine in `session`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from nbops.core.errors import InvalidInput, did_you_mean
from nbops.debugging import muting, stepping
from nbops.debugging.findings import warn
from nbops.debugging.handle import Watch
from nbops.debugging.live.screen import notebook
from nbops.debugging.measuring import Layout
from nbops.debugging.places import caller_frames
from nbops.debugging.session import Options, Session
from nbops.debugging.tensors import unwrap
from nbops.store.context import CellRef, current_cell

POLICIES = ("warn", "pause", "stop", "rollback")


def watch(
    model: nn.Module, *, optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
    loss: nn.Module | None = None, on_error: str = "warn", name: str = "", sample_every: int | None = None,
    step_ms: float | None = None, pause_s: float | None = None, batch_mb: float = 64, snapshot_mb: float = 256,
    live: bool | None = None,
) -> Watch:  # fmt: skip
    """Watch a model train, and tell what goes wrong: which rule, which layer, which step, why, and what to change.

    No change of the training loop is needed. Attaching again to the same model, under the same name, or from the
    same notebook cell closes the earlier watch.

    Parameters
    ----------
    model : nn.Module
        The model that is trained.
    optimizer : Optimizer or iterable of Optimizer, optional
        Look only at these. By default every optimizer that holds parameters of the model is found when it steps.
    loss : nn.Module, optional
        The loss module (``nn.CrossEntropyLoss()``); not needed: losses are seen when ``backward()`` is called on them.
    on_error : str
        What a finding of status error does. ``"warn"``: tell each finding once as a `DebuggerWarning`. ``"stop"``:
        raise `TrainingStopped` before the step is taken. ``"pause"``: wait in the step for a command (`Watch.resume`,
        ``nbops watch-control``). ``"rollback"``: put the last good snapshot back and go on, three times at most.
        Under each of them a step whose gradients hold NaN or infinities is not taken, so the weights stay whole.
    name : str
        A name for the eye; the model's class by default.
    sample_every : int, optional
        Measure every n-th step. By default every step of the first 20, then as many as cost 1 % of the time.
        Whether loss and gradients are finite is judged on every step in any case.
    step_ms : float, optional
        What a step may take, milliseconds; the part of a step that takes most is named when it takes longer.
    pause_s : float, optional
        Longest pause, seconds. By default an hour in a notebook that somebody sits before; a script and papermill stop.
    batch_mb, snapshot_mb : float
        Memory for the last three batches (by reference) and for copies of weights, MiB; 0 keeps none.

    live : bool, optional
        Draw loss, layers and findings under the cell that trains, by default in any notebook (under papermill: once).

    Returns
    -------
    Watch
        The handle; also a context manager that closes at the end of its block.

    Raises
    ------
    InvalidInput
        Not a module, an optimizer of another model, a loss that is no module, an unknown policy, an n below 1.
    TrainingStopped
        From ``optimizer.step()``, under ``on_error="stop"``.
    """
    optimizers = _checked(model, optimizer, loss, on_error, sample_every)
    _check_limits(step_ms=step_ms, pause_s=pause_s, batch_mb=batch_mb, snapshot_mb=snapshot_mb)
    options = Options(on_error, sample_every, step_ms, pause_s, batch_mb, snapshot_mb)
    model_name = type(unwrap(model)).__name__
    cell = current_cell()
    _supersede(model, name, cell, model_name)
    session = Session(model, optimizers=optimizers, loss=loss, options=options, label=name, cell=cell)
    _begin(session, loss, is_shown=live is not False)
    return Watch(session, name=name or model_name, model_name=model_name)


def _begin(session: Session, loss: nn.Module | None, *, is_shown: bool) -> None:
    """Tell what cannot be watched and what the code says, and show what is seen where this is a notebook."""
    muting.forget()
    for note in session.notes:
        warn(f"watching {session.model_name}: {note}")
    screen = notebook() if is_shown else None
    if screen is not None:
        session.show_on(screen)
    with session.contained():
        session.read(next(caller_frames(), None), loss=loss)


def _supersede(model: nn.Module, name: str, cell: CellRef | None, model_name: str) -> None:
    """Close the watch that this one replaces: of the same model, of the same name, or of an earlier run of the cell."""
    for other in stepping.open_sessions():
        is_same_name = bool(name) and other.label == name
        is_rerun = (
            cell is not None and other.cell is not None and other.cell.cell_id == cell.cell_id
            and other.cell is not cell and (other.label, other.model_name) == (name, model_name)
        )  # fmt: skip
        if other.model is model or is_same_name or is_rerun:
            other.close()


def _checked(
    model: object, optimizer: object, loss: object, on_error: object, sample_every: object
) -> list[torch.optim.Optimizer]:
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"cannot watch a {type(model).__name__}", hint="Pass a torch.nn.Module.")
    if loss is not None and not isinstance(loss, nn.Module):
        raise InvalidInput(
            f"loss is a {type(loss).__name__}, which cannot be hooked",
            hint="Pass a loss module such as nn.CrossEntropyLoss(), or leave loss out.",
        )
    if on_error not in POLICIES:
        near = did_you_mean(str(on_error), POLICIES)
        raise InvalidInput(f"on_error is {on_error!r}", hint=near or "Use 'warn', 'pause', 'stop' or 'rollback'.")
    if sample_every is not None and (not isinstance(sample_every, int) or sample_every < 1):
        raise InvalidInput(f"sample_every is {sample_every!r}", hint="Give a whole number of steps from 1.")
    if optimizer is None:
        return []
    optimizers = [optimizer] if isinstance(optimizer, torch.optim.Optimizer) else _listed(optimizer)
    layout = Layout(unwrap(model))
    for one in optimizers:
        if not isinstance(one, torch.optim.Optimizer):
            raise InvalidInput(
                f"optimizer is a {type(one).__name__}", hint="Pass a torch.optim.Optimizer or several in a list."
            )
        if not layout.owned(one):
            raise InvalidInput(
                f"{type(one).__name__} holds no parameter of this {type(model).__name__}",
                hint="Build the optimizer from model.parameters() again, after building the model.",
            )
    return optimizers


def _check_limits(**limits: float | None) -> None:
    for name, value in limits.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise InvalidInput(f"{name} is {value!r}", hint="Give a number from 0.")


def _listed(value: object) -> list[torch.optim.Optimizer]:
    return list(value) if isinstance(value, Iterable) else [value]  # type: ignore[list-item]
