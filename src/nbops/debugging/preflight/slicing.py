"""How many samples a batch has, and the first of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nbops.debugging.specs import tensors_in


def most_frequent_size(batch: Any) -> int:
    """Return the most frequent first dimension of a batch's tensors; 0 if there is none."""
    sizes = Counter(int(t.shape[0]) for _, t in tensors_in(batch) if t.ndim)
    return sizes.most_common(1)[0][0] if sizes else 0


def samples_apart(batch: Any) -> int:
    """Return how many samples a batch has that keeps each in an item of a list, as images and boxes; 0 if not."""
    parts = list(batch.values()) if isinstance(batch, Mapping) else batch
    if not isinstance(parts, list | tuple):
        return 0
    sizes = {int(part.shape[0]) for part in parts if isinstance(part, Tensor) and part.ndim}
    for row in parts:
        if not isinstance(row, list) or not any(True for _ in tensors_in(row)):
            continue
        is_of_batches = all(isinstance(item, Tensor) and item.shape[:1] == (len(row),) for item in row)
        if any(isinstance(item, Mapping) for item in row) or (len(row) in sizes and not is_of_batches):
            return len(row)
    return 0


def cut(value: Any, size: int, samples: int) -> Any:
    """Return the first samples of a batch: of each of its tensors whose first dimension is `size`."""
    if isinstance(value, Tensor):
        return value[:samples] if value.ndim and value.shape[0] == size else value
    if isinstance(value, dict):
        made = copy.copy(value)
        made.update((key, cut(item, size, samples)) for key, item in value.items())
        return made
    if isinstance(value, list | tuple):
        if len(value) == size and not any(True for _ in tensors_in(value)):
            return value[:samples]
        items = [cut(item, size, samples) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if hasattr(value, "__dict__") and not isinstance(value, type) and any(True for _ in tensors_in(value)):
        made = copy.copy(value)  # a batch object of its own class
        for name, item in vars(value).items():
            object.__setattr__(made, name, cut(item, size, samples))
        return made
    return value
