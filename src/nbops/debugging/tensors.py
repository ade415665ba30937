"""Small tensor helpers that cost little: fused norms, one transfer for many scalars, slices. No hooks here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NARROW = (torch.float16, torch.bfloat16)
_SLICE = 4096  # values per tensor that are compared before and after a step


def dense(tensor: Tensor) -> Tensor:
    """Return the real values of a tensor: of a sparse one those that are stored. Call it without gradients."""
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the L2 norm of each dense tensor as a scalar on its device, in float32 or wider.

    float16 norms overflow at 65504 and would look like an infinity, so narrow types are widened.
    """
    if not tensors:
        return []
    if any(t.dtype in _NARROW for t in tensors):
        return [torch.linalg.vector_norm(t, dtype=torch.float32 if t.dtype in _NARROW else None) for t in tensors]
    return list(torch._foreach_norm(list(tensors)))


def is_finite(tensor: Any) -> bool:
    """Return whether every value is finite; True for what is no floating tensor. Reads one flag from the device."""
    if not isinstance(tensor, Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool(torch.isfinite(dense(tensor)).all())


def pack(scalars: Sequence[Tensor]) -> Tensor:
    """Return scalars of any device and type as one vector on the first one's device."""
    home = scalars[0].device
    return torch.stack([s if s.device == home else s.to(device=home, non_blocking=True) for s in scalars])


def slice_of(tensor: Tensor) -> Tensor:
    """Return some 4,096 evenly spaced values of a tensor (all that are stored of a sparse one), as a view if it can."""
    flat = dense(tensor).reshape(-1)
    return flat[:: max(1, flat.numel() // _SLICE)]


def first_tensor(value: Any) -> Tensor | None:
    """Return the first floating tensor of an output: itself, or in a tuple, list or dict."""
    return next((t for t in floating(value)), None)


def floating(value: Any) -> Iterator[Tensor]:
    """Iterate over the floating tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from floating(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from floating(item)


def detached(value: Any) -> Any:
    """Return nested tuples, lists and dicts with tensors cut from their graphs; other values as they are."""
    if isinstance(value, Tensor):
        return value.detach()
    if type(value) in (list, tuple):
        return type(value)(detached(item) for item in value)
    if type(value) is dict:
        return {key: detached(item) for key, item in value.items()}
    return value


def inert() -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return what ``__reduce__`` of a hook gives: a callable of the standard library that takes anything, returns None.

    A pickled or deep-copied model then carries no watch, and loads where nbops is not installed.
    """
    return getattr, (contextlib.nullcontext(), "__exit__")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside ``torch.compile`` and (distributed) data-parallel wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def is_compiled(model: nn.Module) -> bool:
    """Return whether ``torch.compile`` wraps the model or a part of it, so that hooks inside are not run."""
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) is not None for m in model.modules())


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the layers: modules that own parameters or have no children. A bare layer has its class's name."""
    for name, module in model.named_modules():
        if any(p is not None for p in module._parameters.values()) or not any(True for _ in module.children()):
            yield name or type(module).__name__, module
