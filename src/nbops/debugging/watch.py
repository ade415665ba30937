"""`nb.watch`: attach to a model, and the handle that it returns. The engine is in `nbops.debugging.session`."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

import torch
from torch import nn

from nbops.core.display import Shown
from nbops.core.errors import InvalidInput, did_you_mean
from nbops.core.records import Diagnosis
from nbops.debugging import stepping
from nbops.debugging.findings import warn
from nbops.debugging.measuring import Layout
from nbops.debugging.session import Session
from nbops.debugging.tensors import unwrap
from nbops.store.context import CellRef, current_cell

POLICIES = ("warn", "stop")


class Watch(Shown):
    """Handle of a watched model; made by `watch`. Holds the model weakly.

    Attributes
    ----------
    name, model_name : str
        Name of the watch (by default the model's class), and the model's class.
    """

    def __init__(self, session: Session, *, name: str, model_name: str) -> None:
        self.name = name
        self.model_name = model_name
        self._session = session

    @property
    def model(self) -> nn.Module | None:
        """The watched model; None once it was freed."""
        return self._session.model

    @property
    def run_id(self) -> str | None:
        """Id of the last run that was open while the model was watched."""
        return self._session.run_id

    @property
    def steps(self) -> int:
        """Optimizer steps seen, in the current run if there is one."""
        return self._session.steps

    @property
    def sampled(self) -> int:
        """How many of `steps` were measured in full."""
        return self._session.sampled

    @property
    def is_open(self) -> bool:
        """False after `close`, when another watch took over, or when the model is gone."""
        return self._session.is_open

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """What was found, oldest first; each rule and layer once per run."""
        return list(self._session.judge.findings.diagnoses)

    @property
    def counts(self) -> dict[str, int]:
        """How often each diagnosis was found, by its id."""
        return dict(self._session.judge.findings.counts)

    @property
    def stats(self) -> dict[str, dict[str, float]]:
        """Last numbers of each layer in forward order: ``grad_norm``, ``update_ratio``, ``zero_share`` and others."""
        return {name: dict(numbers) for name, numbers in self._session.stats.items()}

    @property
    def notes(self) -> list[str]:
        """What cannot be watched here, and why."""
        return list(self._session.notes)

    @property
    def errors(self) -> list[str]:
        """Errors of the watch itself; the third switches it off."""
        return list(self._session.errors)

    def close(self) -> None:
        """Remove every hook. What was found stays readable; closing twice is fine."""
        self._session.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        lines = [f"Watch({self.name}): {self.steps} steps, {self.sampled} sampled, {state}"]
        lines += [f"  note: {note}" for note in self.notes]
        for d in self._session.judge.findings.diagnoses:
            lines.append(f"  {d.status}: {d.name} at step {d.step} in '{d.layer}', {self.counts[d.id]}x: {d.what}")
        if len(lines) == 1 + len(self.notes):
            lines.append("  nothing found")
        return "\n".join(lines)


def watch(
    model: nn.Module, *, optimizer: torch.optim.Optimizer | Iterable[torch.optim.Optimizer] | None = None,
    loss: nn.Module | None = None, on_error: str = "warn", name: str = "", sample_every: int | None = None,
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
        The loss module (``nn.CrossEntropyLoss()``). Without it a NaN is found in the gradients.
    on_error : str
        ``"warn"``: tell each finding once as a `DebuggerWarning`. ``"stop"``: a finding of status error also raises
        `TrainingStopped` before the step is taken, so that the weights stay as they were.
    name : str
        A name for the eye; the model's class by default.
    sample_every : int, optional
        Measure every n-th step. By default every step of the first 20, then as many as cost 1 % of the time.
        Whether loss and gradients are finite is judged on every step in any case.

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
    model_name = type(unwrap(model)).__name__
    cell = current_cell()
    _supersede(model, name, cell, model_name)
    session = Session(
        model, optimizers=optimizers, loss=loss, on_error=on_error, sample_every=sample_every, label=name, cell=cell
    )
    for note in session.notes:
        warn(f"watching {model_name}: {note}")
    return Watch(session, name=name or model_name, model_name=model_name)


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
        raise InvalidInput(f"on_error is {on_error!r}", hint=near or "Use 'warn' or 'stop'.")
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


def _listed(value: object) -> list[torch.optim.Optimizer]:
    return list(value) if isinstance(value, Iterable) else [value]  # type: ignore[list-item]
