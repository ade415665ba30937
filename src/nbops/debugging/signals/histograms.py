"""Histograms over powers of two, from the exponents of the values: one pass, no extremes, nothing dropped."""

from __future__ import annotations

import torch
from torch import Tensor

from nbops.debugging.views import Histogram

BINS, LOWEST = 64, Histogram.LOWEST
_VALUES = 262_144
_ZERO, _NAN, _INF, _NEGATIVE = range(BINS, BINS + 4)


def exponents(tensor: Tensor) -> Tensor:
    """Return counts on the device, int64 [68]: the 64 bins, zeros, NaN, infinities, negative values."""
    x = tensor.detach().reshape(-1)
    x = x[:: max(1, x.numel() // _VALUES)]
    x = x if x.dtype == torch.float64 else x.float()
    _, power = torch.frexp(x)
    slot = (power.to(torch.int64) - 1 - LOWEST).clamp(0, BINS - 1)
    slot = torch.where(x == 0, _ZERO, slot)
    slot = torch.where(torch.isnan(x), _NAN, slot)
    slot = torch.where(torch.isinf(x), _INF, slot)
    counts = _count(slot)
    return torch.cat([counts, (x < 0).sum()[None]])


def _count(slot: Tensor) -> Tensor:
    if slot.device.type == "cpu":
        return torch.bincount(slot, minlength=_NEGATIVE)
    # bincount would wait for the device, and scatter_add is refused in deterministic mode
    bins = torch.arange(_NEGATIVE, device=slot.device)
    return torch.stack([(slot == one).sum() for one in bins.unbind()])


def histogram(layer: str, what: str, step: int, counts: list[int], size: int) -> Histogram:
    """Return the histogram of counts as `exponents` gives them."""
    return Histogram(
        layer, what, step, tuple(counts[:BINS]), zero=counts[_ZERO], nan=counts[_NAN], inf=counts[_INF],
        negative=counts[_NEGATIVE], size=size,
    )  # fmt: skip
