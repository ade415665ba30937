"""Stand-ins without data: a model, a batch and an optimizer that behave as the originals and allocate nothing.

All of them are on the fake CPU, wherever the originals are: on a build of PyTorch for the CPU a backward pass of fake
CUDA tensors ends the process.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

Optimizers = Callable[[nn.Module], torch.optim.Optimizer]


@contextmanager
def faking() -> Iterator[None]:
    """Open a mode in which tensors have shapes and no data; random states stay as they are."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    state, level = torch.get_rng_state(), log.level
    log.setLevel(logging.CRITICAL)  # a step that cannot run is told as an error of ours, without its inner traceback
    try:
        with FakeTensorMode():
            yield
    finally:
        log.setLevel(level)
        torch.set_rng_state(state)


def fake_model(model: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
    """Return a copy of `model` without its data, within `faking`; floating values in `dtype` if given."""
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        memo.setdefault(id(tensor), _fake(tensor, dtype=dtype))
    return copy.deepcopy(model, memo)


def _fake(tensor: Tensor, *, dtype: torch.dtype | None) -> Tensor:
    kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    found = torch.empty_strided(tensor.size(), tensor.stride(), dtype=kind)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(found, requires_grad=tensor.requires_grad)
    return found


def fake_batch(batch: Any, *, size: int, of: int, dtype: torch.dtype | None = None) -> Any:
    """Return the batch without its data, within `faking`; tensors whose first dimension is `of` get `size` there."""

    def fake(item: Any) -> Any:
        if not isinstance(item, Tensor):
            return item
        shape = (size, *item.shape[1:]) if item.ndim and item.shape[0] == of else tuple(item.shape)
        kind = dtype if dtype is not None and item.is_floating_point() else item.dtype
        return torch.empty(shape, dtype=kind)

    return tree_map(fake, batch)


def batch_size_of(batch: Any) -> int:
    """Return the size of the first dimension that most tensors of a batch share; 0 if there is no tensor."""
    sizes: list[int] = []
    tree_map(lambda item: sizes.append(item.shape[0]) if isinstance(item, Tensor) and item.ndim else None, batch)
    return max(set(sizes), key=sizes.count) if sizes else 0


def rebuilt(optimizer: torch.optim.Optimizer, model: nn.Module, *, foreach: bool | None) -> Optimizers:
    """Return what makes an optimizer like `optimizer` for a copy of `model`: same groups, same settings."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {**group, "params": [names[id(p)] for p in group["params"] if id(p) in names]}
        for group in optimizer.param_groups
    ]

    def make(copied: nn.Module) -> torch.optim.Optimizer:
        known = dict(copied.named_parameters())
        fresh = [{**group, "params": [known[name] for name in group["params"]]} for group in groups if group["params"]]
        made = copy.copy(optimizer)
        made.__dict__ = {**optimizer.__dict__, "state": type(optimizer.state)(dict), "param_groups": fresh}
        return with_foreach(made, foreach)

    return make


def with_foreach(optimizer: torch.optim.Optimizer, foreach: bool | None) -> torch.optim.Optimizer:
    """Say whether updates of all tensors are one operation, as they are on CUDA by default, where nobody has said."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = foreach
    return optimizer
