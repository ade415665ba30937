"""Norms of large gradients, taken as soon as autograd has written them: they still lie in the processor's cache then.

Read again at the step, they would have to come from memory, which costs more than all else that a watch does. What
was noted counts only for the tensor and the version that it was taken of; clipping, for one, makes it void.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.tensors import inert

LARGE = 1 << 18  # values
_TYPES = (torch.float32, torch.float64)
_TOLERANCE = 1e-3
Note = tuple["weakref.ref[Tensor]", int, Tensor]


class Fresh:
    """Hooks on large parameters on the CPU. Holds no tensor of the model.

    ``grad.data`` can be written to without a change of the version. Where a step that is measured in full shows that
    this was done, the hooks are taken away for good.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._notes: dict[int, Note] = {}
        self._hooked: list[tuple[weakref.ref[Tensor], Any]] = []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return  # gradients are still summed over the processes
        for p in parameters:
            if p.numel() >= LARGE and p.requires_grad and p.is_leaf and p.device.type == "cpu" and p.dtype in _TYPES:
                handle = p.register_post_accumulate_grad_hook(_Noting(self._notes))  # type: ignore[no-untyped-call]
                self._hooked.append((weakref.ref(p), handle))

    def norm(self, p: Tensor, grad: Tensor) -> Tensor | None:
        """Return the norm of a gradient if it was noted and has not changed since."""
        note = self._notes.get(id(p))
        return note[2] if note is not None and note[0]() is grad and note[1] == grad._version else None

    def check(self, tensors: Sequence[Tensor], norms: Sequence[float]) -> None:
        """Compare what was noted with the norms of the gradients as they are now."""
        for p, now in zip(tensors, norms, strict=True):
            noted = self.norm(p, p.grad) if p.grad is not None and self._notes else None
            if noted is not None and not math.isclose(float(noted), now, rel_tol=_TOLERANCE) and math.isfinite(now):
                self.close()
                return

    def close(self) -> None:
        """Take the hooks away, and leave the parameters as they were."""
        for reference, handle in self._hooked:
            handle.remove()
            p = reference()
            if p is not None and not p._post_accumulate_grad_hooks:
                p._post_accumulate_grad_hooks = None  # type: ignore[assignment]  # as it was
        self._hooked.clear()
        self._notes.clear()


class _Noting:
    """Hook of one parameter."""

    def __init__(self, notes: dict[int, Note]) -> None:
        self._notes = notes

    def __call__(self, p: Tensor) -> None:
        grad = p.grad
        if grad is not None and grad.layout is torch.strided and not torch.compiler.is_compiling():
            with torch.no_grad():
                self._notes[id(p)] = weakref.ref(grad), grad._version, torch.linalg.vector_norm(grad)

    def __reduce__(self) -> Any:
        return inert()
