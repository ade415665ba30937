"""What a value looks like from outside: type and shape, in one short line; and the tensors inside nested values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

FEW = 4


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Return a tensor's shape as plain integers."""
    return tuple(int(n) for n in tensor.shape)


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``float32`` of ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def listed(shape: tuple[int, ...]) -> str:
    """Return ``[32, 10]``."""
    return f"[{', '.join(map(str, shape))}]"


def spec(value: Any, *, depth: int = 2) -> str:
    """Return what a value is: ``float32 [32, 10]``, ``tuple of (…)``, ``dict with 'x': …``, ``None``, ``int 3``."""
    if isinstance(value, Tensor):
        device = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{dtype_name(value.dtype)} {listed(shape_of(value))}{device}"
    if value is None or isinstance(value, bool | int | float | str):
        return "None" if value is None else f"{type(value).__name__} {value!r}"[:40]
    kind = type(value).__name__
    if depth == 0:
        return kind
    if isinstance(value, Mapping):
        items = [f"{key!r}: {spec(item, depth=depth - 1)}" for key, item in list(value.items())[:FEW]]
        return f"{kind} with {', '.join(items)}{', …' if len(value) > FEW else ''}"
    if isinstance(value, list | tuple):
        items = [spec(item, depth=depth - 1) for item in value[:FEW]]
        return f"{kind} of ({', '.join(items)}{', …' if len(value) > FEW else ''})"
    return kind


def tensors_in(value: Any, *, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Iterate over the tensors in nested containers, each with its path: ``[0]``, ``['ids']``, ``.x``."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, path=f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors_in(item, path=f"{path}[{i}]")
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        for name, item in vars(value).items():
            if isinstance(item, Tensor | list | tuple | dict):
                yield from tensors_in(item, path=f"{path}.{name}")


def first_tensor_in(value: Any) -> Tensor | None:
    """Return the first tensor of a nested value, or None."""
    return next((tensor for _, tensor in tensors_in(value)), None)
