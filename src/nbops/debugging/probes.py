"""Hooks on modules: outputs reduced at once to a few numbers, the model's last call, the loss.

Hooks hold their session strongly and the session holds no module, so a watch lives as long
as its model. Copies and pickles of the model get an inert hook. Each hook leaves at once
while a graph is captured, in evaluation, and without gradients (export, inference).
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nbops.debugging.batch import Call
from nbops.debugging.tensors import dense, detached, first_tensor, floating, inert

_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)
_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm)


def is_training(module: nn.Module) -> bool:
    """Return whether a call of `module` is part of a training step that we can look at."""
    return not torch.compiler.is_compiling() and module.training and torch.is_grad_enabled()


@dataclass(slots=True)
class Seen:
    """The last output of one layer on a sampled step: mean, rms and zero share, and each unit's largest value."""

    numbers: tuple[Tensor, Tensor, Tensor]
    peaks: Tensor | None
    samples: int


class Board:
    """What layers gave since the last sampled step was judged, and for how many samples each unit has been dead."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.samples: dict[str, int] = {}
        self.order: dict[str, int] = {}  # layer -> position in the forward pass
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
        axis = _unit_axis(module, x)
        peaks = None if axis is None else x.amax(dim=[d for d in range(x.ndim) if d != axis % x.ndim])
        before = self.seen.get(name)
        if peaks is not None and before is not None and before.peaks is not None:
            peaks = torch.maximum(peaks, before.peaks)  # several micro-batches, or a layer that is called twice
        self.order.setdefault(name, len(self.order))
        count = x.shape[0] if x.ndim > 1 else 1
        self.seen[name] = Seen((x.mean(dtype=wide), rms, 1 - zeros), peaks, count + (before.samples if before else 0))

    def dead_share(self, name: str, module: nn.Module) -> Tensor | None:
        """Return the share of units that have been dead on 5 sampled steps in a row and over 200 samples.

        Dead in one step: the output is never above 0 and the gradient of the unit's weight and bias is exactly 0.
        """
        seen = self.seen[name]
        if seen.peaks is None:
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


def _unit_axis(module: nn.Module, x: Tensor) -> int | None:
    if isinstance(module, _LAST) and x.ndim > 1:
        return -1
    if isinstance(module, _SECOND) and x.ndim > 1:
        return 1
    return None


class Listener(Protocol):
    """What the hooks tell: the session."""

    board: Board
    is_armed: bool
    spent_s: float

    def contained(self) -> AbstractContextManager[None]: ...
    def called(self, call: Call) -> None: ...
    def keep_call(self) -> None: ...
    def saw_loss(self, output: Any) -> None: ...


class LayerHook:
    """Forward hook of one layer."""

    def __init__(self, session: Listener, name: str) -> None:
        self._session = session
        self._name = name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return  # first, so that a captured graph depends on nothing of ours
        session = self._session
        if not session.is_armed or not is_training(module):
            return
        started = time.perf_counter()
        with session.contained(), torch.no_grad():
            session.board.note(self._name, module, output)
        session.spent_s += time.perf_counter() - started

    def __reduce__(self) -> Any:
        return inert()


class CallHook:
    """Forward pre-hook of the model: keeps the arguments until the step, to find the layer that made a NaN."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or not is_training(module):
            return
        with self._session.contained():
            device = next((t.device.type for t in floating((args, kwargs))), "cpu")
            state = (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
            self._session.called(Call(detached(args), detached(kwargs), state))

    def __reduce__(self) -> Any:
        return inert()


class OutputHook:
    """Forward hook of the model: on the CPU, where reading is free, remembers which call gave a non-finite output."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or not is_training(module):
            return
        with self._session.contained(), torch.no_grad():
            found = first_tensor(output)
            if found is not None and found.device.type == "cpu" and not math.isfinite(found.sum().item()):
                self._session.keep_call()

    def __reduce__(self) -> Any:
        return inert()


class LossHook:
    """Forward hook of the loss module."""

    def __init__(self, session: Listener) -> None:
        self._session = session

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            self._session.saw_loss(output)

    def __reduce__(self) -> Any:
        return inert()
