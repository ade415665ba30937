"""What can be told of a data loader without asking it for anything."""

from __future__ import annotations

from typing import Any

import torch


def kind_of(loader: Any, workers: int) -> tuple[bool, str]:
    """Return whether the data set is a stream, and the name of a random generator of its own that workers copy."""
    dataset = getattr(loader, "dataset", None)
    is_stream = isinstance(dataset, torch.utils.data.IterableDataset)
    if not workers or getattr(loader, "worker_init_fn", None) is not None:
        return is_stream, ""
    plain = getattr(dataset, "__dict__", {})
    kinds = ("Generator", "RandomState", "Random")
    return is_stream, next((name for name, value in plain.items() if type(value).__name__ in kinds), "")


def length(loader: Any) -> int | None:
    """Return how many batches a loader has, or rows a data set; None for a stream."""
    try:
        return None if loader is None else len(loader)
    except TypeError:  # a stream
        return None
