"""The guard: is a gradient or the loss non-finite, read now or, where reading would stall the device, later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.measuring import Owned
from nbops.debugging.tensors import dense, is_finite


def bad_ones(have: Sequence[Owned], grads: Sequence[float]) -> list[Owned]:
    """Return the parameters whose gradient holds a non-finite value.

    A norm is non-finite only if a value is, or if it overflowed (above about 1e19 in float32), so only those
    tensors are read again.
    """
    suspects = [o for o, norm in zip(have, grads, strict=True) if not math.isfinite(norm)]
    return [o for o in suspects if o.tensor.grad is not None and not is_finite(dense(o.tensor.grad))]


def is_skipped_by_scaler(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a gradient scaler told a fused optimizer to skip this step because it found infinities.

    Other optimizers are not called at all for such a step.
    """
    found: Any = getattr(optimizer, "found_inf", None)
    return isinstance(found, Tensor) and bool(found.item())


def unless_skipped(optimizer: torch.optim.Optimizer, values: Tensor) -> Tensor:
    """Return `values`, as zeros where a gradient scaler makes the optimizer skip the step; reads nothing."""
    found: Any = getattr(optimizer, "found_inf", None)
    return torch.where(found.to(values.device).any(), 0, values) if isinstance(found, Tensor) else values


def scale_in(optimizer: torch.optim.Optimizer) -> float:
    """Return the factor that a gradient scaler left in the gradients for a fused optimizer to take out; 1 if none."""
    scale: Any = getattr(optimizer, "grad_scale", None)
    return float(scale.item()) if isinstance(scale, Tensor) else 1.0


class Tripwire:
    """Remembers on the device at which step each watched value was first non-finite; reads nothing until asked."""

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._names: tuple[str, ...] = ()

    def takes(self, names: Sequence[str]) -> bool:
        """Return whether values under `names` can be noted without reading what is noted so far."""
        return self._first is None or self._names == tuple(names)

    def note(self, names: Sequence[str], values: Tensor, step: int) -> None:
        """Note the values (float32 [n]) of one step."""
        if self._first is None:
            self._names = tuple(names)
            self._first = torch.full_like(values, -1.0)
        is_new = ~torch.isfinite(values) & (self._first < 0)
        self._first = torch.where(is_new, float(step), self._first)

    def read(self) -> tuple[int, list[str]] | None:
        """Return the first bad step and what was bad then, or None, and begin anew."""
        if self._first is None:
            return None
        first, names = self._first.tolist(), self._names
        self._first = None
        bad = [step for step in first if step >= 0]
        if not bad:
            return None
        return int(min(bad)), [name for name, step in zip(names, first, strict=True) if step == min(bad)]
