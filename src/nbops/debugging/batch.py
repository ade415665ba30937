"""What is remembered of batches: calls and losses since the last step, and the last calls beyond it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from nbops.debugging.tensors import detached

RING = 3  # calls that are kept beyond their step
_DEPTH = 12  # frames of the caller that are remembered with a call
Place = tuple[int, Any, int]  # id of a frame, its code, the line that it was at


@dataclass(slots=True)
class Call:
    """Arguments of one forward call, cut from their graphs, and the state it ran under.

    step : optimizer steps taken before it
    places : the caller's frames, innermost first
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    autocast: tuple[str, bool, torch.dtype]
    step: int = -1
    random: Tensor | None = None
    device_random: Tensor | None = None
    is_training: bool = True
    places: tuple[Place, ...] = ()
    size_bytes: int = 0


class Batch:
    """Since the last step: the last call, the first call whose output was not finite, and the losses.

    Several losses are either those of micro-batches, or those of batches that the loop itself dropped.
    """

    def __init__(self) -> None:
        self._last: Call | None = None
        self._bad: Call | None = None
        self._loss: Tensor | None = None
        self._loss_sum: Tensor | None = None
        self.losses = 0

    def called(self, call: Call) -> None:
        """Keep the arguments of a call; the one before is forgotten."""
        self._last = call

    def keep_call(self) -> None:
        """Keep the last call as the bad one, unless there is one already."""
        self._bad = self._bad or self._last

    def forget_bad(self) -> None:
        """Forget a bad call of before the last one: the loop dropped its gradients."""
        if self._bad is not self._last:
            self._bad = None

    def add_loss(self, value: Tensor) -> None:
        """Add one loss, a scalar on any device; nothing is read."""
        self._loss = value
        self._loss_sum = value if self._loss_sum is None else self._loss_sum + value.to(self._loss_sum.device)
        self.losses += 1

    @property
    def call(self) -> Call | None:
        """The call to look at: the bad one if there is one."""
        return self._bad or self._last

    @property
    def loss(self) -> Tensor | None:
        """The last loss, None if there was none."""
        return self._loss

    def scalars(self) -> list[Tensor]:
        """Return the last loss and the mean of all; nothing if there was none."""
        if self._loss is None or self._loss_sum is None:
            return []
        return [self._loss, self._loss_sum if self.losses == 1 else self._loss_sum / self.losses]


@dataclass
class Ring:
    """The last calls, by reference, within a limit.

    limit_bytes : int
        What their tensors may hold together; a call beyond it is not kept.
    """

    limit_bytes: int
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=RING))

    def add(self, call: Call) -> None:
        """Keep a call, and let the oldest go."""
        self.calls.append(call)
        while self.calls and sum(one.size_bytes for one in self.calls) > self.limit_bytes:
            self.calls.popleft()

    @property
    def size_bytes(self) -> int:
        """What is held now."""
        return sum(one.size_bytes for one in self.calls)


def taken(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], str, int]:
    """Return arguments cut from their graphs, the type of device that they lie on, and the bytes of their tensors."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):  # nearly every call of a training
        only = args[0].detach()
        return (only,), kwargs, only.device.type, only.nbytes
    tensors = list(_tensors_in((args, kwargs)))
    device = next((t.device.type for t in tensors if t.device.type != "cpu"), "cpu")
    return detached(args), detached(kwargs), device, sum(t.numel() * t.element_size() for t in tensors)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)


def places_of(frame: FrameType | None) -> tuple[Place, ...]:
    """Return a frame and those below it, as far as they are the user's."""
    found: list[Place] = []
    while frame is not None and len(found) < _DEPTH:
        code = frame.f_code
        found.append((id(frame), code, frame.f_lineno))
        if code.co_name == "<module>":  # a cell or a script: what is below it is not the user's
            break
        frame = frame.f_back
    return tuple(found)
