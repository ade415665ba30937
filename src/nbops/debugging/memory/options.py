"""What could be done to need less: other optimizers, lower precision, checkpointing, accumulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nbops.core.errors import NotFound, did_you_mean
from nbops.debugging.memory.faking import Optimizers, with_foreach

_BLOCK_8_BIT = 256  # values that share one scale, as in bitsandbytes
_SMALL_8_BIT = 4096  # smaller tensors keep their state in float32 there
_EVERY = ("sgd", "momentum", "adam", "adamw", "adamw-8bit", "adafactor", "rmsprop", "adagrad")


class AdamW8bit(torch.optim.Optimizer):
    """The memory of an 8-bit AdamW: two bytes of state per value and two scales per block; it computes nothing.

    Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022; block size as in bitsandbytes.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make the state; the update itself needs no room."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or self.state[p]:
                    continue
                if p.numel() < _SMALL_8_BIT:
                    self.state[p] = {"m": torch.empty_like(p), "v": torch.empty_like(p)}
                    continue
                scales = p.new_empty(2 * -(-p.numel() // _BLOCK_8_BIT), dtype=torch.float32)
                values = [torch.empty_like(p, dtype=torch.uint8) for _ in range(2)]
                self.state[p] = {"m": values[0], "v": values[1], "scales": scales}


def optimizer_named(name: str, *, foreach: bool | None) -> Optimizers:
    """Return what makes the optimizer that `name` means, with the settings that matter for memory.

    Raises
    ------
    NotFound
        The name is none of those known.
    """
    known: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
        "sgd": partial(torch.optim.SGD, lr=0.01),
        "momentum": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
        "adam": partial(torch.optim.Adam, lr=1e-3),
        "adamw": partial(torch.optim.AdamW, lr=1e-3),
        "adamw-8bit": AdamW8bit,
        "adafactor": partial(torch.optim.Adafactor, lr=1e-3),
        "rmsprop": partial(torch.optim.RMSprop, lr=1e-3),
        "adagrad": partial(torch.optim.Adagrad, lr=1e-3),
    }
    word = name.lower().replace("_", "-")
    if word not in known:
        raise NotFound(f"no optimizer '{name}'", hint=did_you_mean(word, known) or f"Use one of: {', '.join(_EVERY)}")

    def make(model: nn.Module) -> torch.optim.Optimizer:
        return with_foreach(known[word]([p for p in model.parameters() if p.requires_grad]), foreach)

    return make


def checkpointed(model: nn.Module) -> None:
    """Let the blocks of a model be computed again in the backward pass instead of keeping what they gave."""
    for block in blocks_of(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a model: the outermost modules of one class, two at least, side by side."""
    for container in model.modules():
        children = [child for child in container.children() if any(True for _ in child.parameters())]
        kinds = [type(child) for child in children if any(True for _ in child.children())]
        if kinds and kinds.count(kinds[0]) == len(kinds) >= 2:
            return [child for child in children if type(child) is kinds[0]]
    return []
