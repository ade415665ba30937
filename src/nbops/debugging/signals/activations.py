"""Outputs of layers, reduced at once to a few numbers; how long each unit has been dead. Reads nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbops.debugging.signals.histograms import exponents
from nbops.debugging.tensors import dense, first_tensor

_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)
SATURATING = {nn.Sigmoid: 6.0, nn.Tanh: 3.0}  # beyond, the slope is below 1 % of its maximum


@dataclass(slots=True)
class Seen:
    """The last output of one layer on a sampled step.

    numbers : mean, rms, zero share; peaks, valleys : largest and smallest value of each unit, over all calls
    """

    numbers: tuple[Tensor, Tensor, Tensor]
    peaks: Tensor | None
    valleys: Tensor | None
    is_unit: bool
    samples: int
    sizes: tuple[int, ...]
    calls: int
    is_training: bool


class Board:
    """What layers gave since the last sampled step was judged, and for how many samples each unit has been dead."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.samples: dict[str, int] = {}
        self.order: dict[str, int] = {}  # layer -> position in the forward pass
        self.saturated: dict[str, Tensor] = {}
        self.histograms: dict[str, tuple[Tensor, int]] = {}
        self.wants_histograms = False
        self._dead_for: dict[str, Tensor] = {}

    def note(self, name: str, module: nn.Module, output: Any) -> None:
        """Reduce one output; no value is read from the device."""
        found = first_tensor(output)
        if found is None or found.numel() == 0:
            return
        x = dense(found)
        wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        rms = torch.linalg.vector_norm(x, dtype=wide) / x.numel() ** 0.5
        zeros = torch.count_nonzero(x) / x.numel()
        axis, is_unit = _axis(module, x)
        peaks = valleys = None
        if axis is not None:
            valleys, peaks = _extremes(x, axis)
        before = self.seen.get(name)
        if before is not None:  # several micro-batches, or a layer that is called twice
            peaks = _joined(torch.maximum, peaks, before.peaks)
            valleys = _joined(torch.minimum, valleys, before.valleys)
        self.order.setdefault(name, len(self.order))
        count = x.shape[0] if x.ndim > 1 else 1
        self.seen[name] = Seen(
            (x.mean(dtype=wide), rms, 1 - zeros), peaks, valleys, is_unit, count + (before.samples if before else 0),
            tuple(found.shape), 1 + (before.calls if before else 0), module.training,
        )  # fmt: skip
        if self.wants_histograms:
            self.histograms[name] = exponents(x), x.numel()

    def note_input(self, name: str, module: nn.Module, value: Any) -> None:
        """Reduce the input of a saturating activation; before the call, for it may work in place."""
        found = first_tensor(value)
        limit = SATURATING.get(type(module))
        if found is not None and limit is not None and found.numel():
            self.saturated[name] = (found.detach().abs() > limit).float().mean()

    def scalars(self, name: str, module: nn.Module) -> dict[str, Tensor]:
        """Return the numbers of one layer as scalars on its device, by their name in a `LayerView`."""
        seen = self.seen[name]
        mean, rms, zeros = seen.numbers
        found = {"activation_mean": mean, "activation_rms": rms, "zero_share": zeros}
        if seen.peaks is not None and seen.valleys is not None:
            found["activation_absmax"] = torch.maximum(seen.peaks.amax().abs(), seen.valleys.amin().abs())
            if seen.samples > 1 and seen.peaks.numel() > 0:
                found["constant_share"] = (seen.peaks == seen.valleys).float().mean()
        if name in self.saturated:
            found["saturated_share"] = self.saturated[name]
        dead = self._dead_share(seen, name, module)
        if dead is not None:
            found["dead_share"] = dead
        return found

    def clear(self) -> None:
        """Begin anew after a step was judged."""
        self.seen.clear()
        self.saturated.clear()
        self.histograms.clear()

    def _dead_share(self, seen: Seen, name: str, module: nn.Module) -> Tensor | None:
        """Return the share of units that have been dead on 5 sampled steps in a row and over 200 samples.

        Dead in one step: the output is never above 0 and the gradient of the unit's weight and bias is exactly 0.
        """
        if seen.peaks is None or not seen.is_unit:
            return None
        quiet = seen.peaks <= 0
        owned = [p for p in module._parameters.values() if p is not None]
        if not owned or any(p.grad is None or p.grad.is_sparse or len(p) != len(quiet) for p in owned):
            return None
        for p in owned:
            grad = dense(p.grad) if p.grad is not None else p
            quiet = quiet & (grad.reshape(len(quiet), -1).abs().amax(dim=1) == 0).to(quiet.device)
        known = self._dead_for.get(name)
        if known is None or known.shape != quiet.shape:
            known = torch.zeros_like(quiet, dtype=torch.int64)
        self._dead_for[name] = known = torch.where(quiet, known + seen.samples, 0)
        return (known >= max(200, 5 * seen.samples)).float().mean()


def _joined(join: Callable[[Tensor, Tensor], Tensor], now: Tensor | None, before: Tensor | None) -> Tensor | None:
    return now if now is None or before is None or now.shape != before.shape else join(now, before)


def _axis(module: nn.Module, x: Tensor) -> tuple[int | None, bool]:
    """Return the axis of the units, and whether the module's parameters belong to those units."""
    if x.ndim < 2:
        return None, False
    if isinstance(module, _LAST):
        return x.ndim - 1, True
    if isinstance(module, _SECOND):
        return 1, True
    return (1 if x.ndim == 4 else x.ndim - 1), False


def _extremes(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value of each unit."""
    if axis == x.ndim - 1:
        low, high = torch.aminmax(x.reshape(-1, x.shape[-1]), dim=0)
        return low, high
    low, high = torch.aminmax(x.flatten(2), dim=2) if x.ndim > 2 else (x, x)
    return low.amin(0), high.amax(0)
