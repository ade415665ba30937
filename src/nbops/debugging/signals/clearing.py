"""Which gradients a backward pass changed, and whether they were cleared before: from identity and version, no value.

A few parameters stand for all. Their gradients' version counters are compared before and after
each backward pass and after each step: a pass reaches the optimizers whose gradients it changed,
and a gradient was cleared when it is gone or was written to between a step and the pass after.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence

from torch import Tensor

FEW = 8
_PER_OPTIMIZER = 4
_LOOK = 64  # values of a gradient
Mark = tuple["weakref.ref[Tensor]", int] | None


class Probes:
    """Some parameters of a model, and the state of their gradients when they were looked at last."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        trainable = [p for p in parameters if p.requires_grad]
        self._tensors: dict[int, weakref.ref[Tensor]] = {}
        self._marks: dict[int, Mark] = {}
        self._versions: dict[int, int] = {}
        self._add(_spread(trainable, FEW))

    def include(self, parameters: Sequence[Tensor]) -> None:
        """Let some parameters of an optimizer be among them."""
        chosen = [p for p in parameters if p.requires_grad]
        if sum(id(p) in self._tensors for p in chosen) < min(_PER_OPTIMIZER, len(chosen)):
            self._add(_spread(chosen, _PER_OPTIMIZER))

    def _add(self, parameters: Iterable[Tensor]) -> None:
        for p in parameters:
            if id(p) not in self._tensors:
                self._tensors[id(p)] = weakref.ref(p)
                self._marks[id(p)] = _mark(p.grad)

    def changed(self) -> set[int]:
        """Return the ids of the parameters whose gradients are others than at the last `remember`."""
        found = set()
        for key, reference in self._tensors.items():
            p = reference()
            if p is None:
                continue
            grad, mark = p.grad, self._marks[key]
            if grad is None:
                if mark is not None:
                    found.add(key)
            elif mark is None or mark[1] != grad._version or mark[0]() is not grad:
                found.add(key)
        return found

    def remember(self) -> None:
        """Note the gradients as they are now."""
        marks, versions = self._marks, self._versions
        for key, reference in self._tensors.items():
            p = reference()
            if p is None:
                marks[key], versions[key] = None, -1
            else:
                grad = p.grad
                marks[key] = None if grad is None else (weakref.ref(grad), grad._version)
                versions[key] = p._version

    def are_gone(self, changed: set[int]) -> bool:
        """Return whether gradients that changed are none, or zeros where a look is free: clipping changes them too."""
        grads = [p.grad for p in (self._tensors[key]() for key in changed) if p is not None]
        return all(g is None or (g.device.type == "cpu" and not g.detach().flatten()[:_LOOK].any()) for g in grads)

    @property
    def is_written(self) -> bool:
        """Whether the parameters themselves were changed since the last `remember`: a step that is made by hand."""
        known = ((self._versions.get(key), reference()) for key, reference in self._tensors.items())
        return any(p is not None and version not in (None, p._version) for version, p in known)

    def having(self) -> set[int]:
        """Return the ids of the parameters that had a gradient at the last `remember`."""
        return {key for key, mark in self._marks.items() if mark is not None}


class Clearing:
    """Whether one optimizer's gradients were cleared since its last step.

    Attributes
    ----------
    is_cleared : bool or None
        None before the first step, and as long as no backward pass came.
    uncleared_steps : int
        Steps in a row whose gradients still held those of the step before.
    """

    def __init__(self) -> None:
        self.is_cleared: bool | None = None
        self.uncleared_steps = 0
        self.backwards = 0
        self._held: set[int] = set()

    def begins(self, changed: set[int]) -> bool:
        """Tell what changed outside of backward passes before one begins; return whether gradients were cleared."""
        if not self._held:
            return False
        was_cleared = len(changed & self._held) * 2 >= len(self._held)
        if was_cleared:
            self.is_cleared = True
            self._held = set()
        elif self.is_cleared is None:
            self.is_cleared = False
        return was_cleared

    def stepping(self) -> tuple[bool | None, int]:
        """Return whether they were cleared before this step, and for how many steps in a row they were not."""
        if self.is_cleared is False and self.backwards:
            self.uncleared_steps += 1
        elif self.is_cleared:
            self.uncleared_steps = 0
        return (self.is_cleared if self.backwards else None), self.uncleared_steps

    def stepped(self, held: set[int]) -> None:
        """Begin anew after a step; `held` are the ids of its parameters that have a gradient now."""
        self.is_cleared, self.backwards, self._held = None, 0, held


def _mark(grad: Tensor | None) -> Mark:
    return None if grad is None else (weakref.ref(grad), grad._version)


def _spread(items: Sequence[Tensor], count: int) -> list[Tensor]:
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
