"""Changes made to a training while it runs: learning rate, batch size."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nbops.core.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Change:
    """One change: who made what of what, before which step."""

    step: int
    what: str  # lr, batch_size, pause, resume, rollback, stop
    before: Any = None
    after: Any = None
    by: str = "code"


def set_rate(optimizers: Iterable[torch.optim.Optimizer], lr: float) -> tuple[list[float], float]:
    """Give every group of the optimizers a learning rate; return what they had, and what they have."""
    before = []
    with torch.no_grad():
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                before.append(float(group["lr"]))
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr
    return before, lr


def set_size(samplers: Mapping[Any, weakref.ref[Any] | None], size: int) -> tuple[list[int], int]:
    """Let data loaders make batches of another size; return what they had, and what they have.

    Parameters
    ----------
    samplers : mapping
        What gives the loaders their indices, to the loader if it is known.

    Raises
    ------
    InvalidInput
        No loader was seen, or one without a batch sampler whose size can be changed.
    """
    able = [one for one in samplers if hasattr(one, "batch_size")]
    if not able:
        raise InvalidInput(
            "the data loader has no batch sampler with a size" if samplers else
            "no data loader whose batch size can be changed was seen",
            hint="Train from a torch DataLoader(batch_size=…); a list of tensors or batch_size=None cannot be changed.",
        )  # fmt: skip
    before = []
    for sampler in able:
        before.append(int(sampler.batch_size))
        sampler.batch_size = size
        reference = samplers[sampler]
        loader = reference() if reference is not None else None
        if loader is not None and getattr(loader, "batch_sampler", None) is sampler:
            loader.__dict__["batch_size"] = size  # the loader's own word for it, which it does not let others write
    return before, size


def checked_rate(lr: object) -> float:
    """Return a learning rate that can be used.

    Raises
    ------
    InvalidInput
        It is no finite number from 0.
    """
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 <= lr < float("inf"):
        raise InvalidInput(f"a learning rate of {lr!r}", hint="Give a number from 0.")
    return float(lr)


def checked_size(size: object) -> int:
    """Return a batch size that can be used.

    Raises
    ------
    InvalidInput
        It is no whole number from 1.
    """
    if isinstance(size, bool) or not isinstance(size, int | float) or size < 1 or size != int(size):
        raise InvalidInput(f"a batch size of {size!r}", hint="Give a whole number from 1.")
    return int(size)
