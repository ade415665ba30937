"""Whether a graph of past computations is still alive: a canary in it lives as long as the graph does."""

from __future__ import annotations

import weakref

from torch import Tensor


class Canary:
    """What is put into a graph."""

    __slots__ = ("__weakref__",)


def canary_in(result: Tensor) -> weakref.ref[Canary] | None:
    """Put a canary into the graph of a result; None where it has no graph."""
    if result.grad_fn is None:
        return None
    canary = Canary()
    result.grad_fn.metadata["nbops"] = canary  # type: ignore[index]
    return weakref.ref(canary)
