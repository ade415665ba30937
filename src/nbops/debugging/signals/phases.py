"""In which mode the model is called: training passes, and evaluations between the steps."""

from __future__ import annotations

import statistics
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.aspects import EvaluationView, Spread, TensorStats
from nbops.debugging.signals.batches import stats
from nbops.debugging.signals.graphs import Canary, canary_in
from nbops.debugging.tensors import first_tensor

_DROPOUT = (nn.modules.dropout._DropoutNd,)
_GRAPHS, _INPUTS = 32, 8  # outputs and inputs of one evaluation that are looked at
_BATCHNORM = (nn.modules.batchnorm._BatchNorm,)


def has_dropout(model: nn.Module) -> bool:
    """Return whether a dropout module with a rate above 0 is in the model."""
    return any(isinstance(m, _DROPOUT) and m.p > 0 for m in model.modules())


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether a module that keeps running statistics is in the model."""
    return any(isinstance(m, _BATCHNORM) and m.track_running_stats for m in model.modules())


def active_kinds(model: nn.Module) -> tuple[str, ...]:
    """Return the kinds of modules that depend on the mode and are in training mode now."""
    found = {
        type(m).__name__ for m in model.modules()
        if m.training and ((isinstance(m, _DROPOUT) and m.p > 0) or (isinstance(m, _BATCHNORM)))
    }  # fmt: skip
    return tuple(sorted(found))


@dataclass(slots=True)
class Evaluation:
    """One evaluation that goes on, or has ended."""

    batches: int = 0
    is_training_mode: bool = False
    active: tuple[str, ...] = ()
    losses: int = 0
    loss_sum: float = 0.0
    rows: int = 0
    leaked: int = 0
    mixed: int = 0
    is_told: bool = False
    inputs: list[TensorStats] = field(default_factory=list)
    graphs: list[weakref.ref[Canary]] = field(default_factory=list)

    def saw(self, inputs: Tensor | None, output: Tensor | None) -> None:
        """Measure some inputs, and follow the graphs of some outputs; `output` is None where it was not recorded."""
        if output is not None and len(self.graphs) < _GRAPHS:
            self.graphs += [one for one in [canary_in(output)] if one is not None]
        if len(self.inputs) < _INPUTS and (seen := stats(inputs)) is not None:
            self.inputs.append(seen)

    def kept_graphs(self) -> int:
        """Return how many of its graphs are alive."""
        return sum(one() is not None for one in self.graphs)


@dataclass(slots=True)
class Phases:
    """What is going on between two steps.

    Attributes
    ----------
    forwards : int
        Training passes since the last step.
    is_training : bool or None
        Mode of the model in its last training pass.
    """

    forwards: int = 0
    is_training: bool | None = None
    begun: int = 0
    is_tried: bool = False  # whether a second pass of an evaluation batch was considered
    difference: float | None = None
    dropout: bool = False
    evaluation: Evaluation = field(default_factory=Evaluation)
    best_loss: float | None = None  # smallest mean loss of the evaluations that have ended
    _is_open: bool = False
    _pending: bool = False  # the last call had gradients in evaluation mode: a backward pass will tell

    def called(self, model: nn.Module, *, has_gradients: bool) -> bool:
        """Note a call of the model; return whether it belongs to an evaluation."""
        training = model.training
        if has_gradients and training:
            self._pending = False
            self.forwards += 1
            self.is_training = True
            return False
        self._pending = has_gradients
        if not self._is_open:
            self._is_open = True
            self.begun += 1
            self._note_best()
            self.evaluation = Evaluation()
        now = self.evaluation
        now.batches += 1
        if training and not now.is_training_mode:
            now.is_training_mode, now.active = True, active_kinds(model)
        return True

    def _note_best(self) -> None:
        now = self.evaluation
        if now.losses and now.loss_sum == now.loss_sum:
            mean = now.loss_sum / now.losses
            self.best_loss = mean if self.best_loss is None else min(self.best_loss, mean)

    def reached(self) -> None:
        """Note that a backward pass reached the model: a call with gradients in evaluation mode was a training pass."""
        if self._pending:
            self._pending = False
            self.forwards += 1
            self.is_training = False
            if self._is_open:
                self.evaluation.batches -= 1
                if self.evaluation.batches <= 0:
                    self._is_open = False
                    self.begun -= 1

    def add_loss(self, value: Tensor) -> None:
        """Add a loss that was computed without gradients; read now on the CPU only."""
        if self._is_open and value.ndim == 0:
            self.evaluation.losses += 1
            self.evaluation.loss_sum += float(value) if value.device.type == "cpu" else float("nan")

    @property
    def is_open(self) -> bool:
        """Whether an evaluation goes on."""
        return self._is_open

    def stepped(self) -> None:
        """Note that a step was taken: it ends an evaluation."""
        self.forwards = 0
        self._is_open = False

    def view(self, steps: int) -> EvaluationView | None:
        """Return the evaluation that goes on, or the last one; None before the first."""
        now = self.evaluation
        if not now.batches:
            return None
        mean = now.loss_sum / now.losses if now.losses else None
        return EvaluationView(
            now.batches, self.begun, steps, now.is_training_mode, now.active, now.losses,
            None if mean is None or mean != mean else mean, now.rows, now.leaked / now.rows if now.rows else None,
            self.difference, self.dropout, self.best_loss, mixed_share=now.mixed / now.rows if now.rows else 0.0,
            kept_graphs=now.kept_graphs(), inputs=spread_of(now.inputs),
        )  # fmt: skip


def spread_of(found: Sequence[TensorStats | None]) -> Spread | None:
    """Return the scale of some batches of floating inputs; None where they are no such, or of several shapes."""
    known = [one for one in found if one is not None and not one.is_integer]
    if not known or len({one.sizes[1:] for one in known}) != 1 or any(one.mean is None for one in known):
        return None
    means = [one.mean or 0.0 for one in known]
    mean = statistics.fmean(means)
    square = statistics.fmean((one.std or 0.0) ** 2 + (one.mean or 0.0) ** 2 for one in known)
    spread = statistics.pstdev(means)
    return Spread(len(known), known[0].sizes[1:], mean, max(0.0, square - mean**2) ** 0.5, spread)


def has_gradients() -> bool:
    """Return whether what is computed now is recorded for a backward pass."""
    return torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def has_gradients_at(output: Any) -> bool:
    """Return whether an output is the beginning of a backward pass."""
    found = first_tensor(output)
    return found is not None and found.requires_grad
