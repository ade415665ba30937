"""What is remembered of the batch that is being worked on: the model's last call and the loss. Cleared after a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True)
class Call:
    """Arguments of one forward call, cut from their graphs, and the autocast state it ran under."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    autocast: tuple[str, bool, torch.dtype]


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
