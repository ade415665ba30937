"""Random states that are as before after code that may draw from them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the states of all random generators back at the end: Python's, NumPy's, torch's, and those of used GPUs."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices: list[Tensor] = torch.cuda.get_rng_state_all() if _uses_gpu() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)


def _uses_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
