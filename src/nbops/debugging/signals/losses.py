"""What a step minimises: the losses whose backward passes reached an optimizer's parameters, by place of the call."""

from __future__ import annotations

import os
from types import FrameType

from torch import Tensor

from nbops.debugging.tensors import dense

Site = tuple[str, int]
_NOTEBOOK = ("ipykernel_", "ipython-input", "<ipython", "<cell")


class Losses:
    """Losses since the gradients were cleared; several at one place (micro-batches) are added. Reads no value."""

    def __init__(self) -> None:
        self._sums: dict[Site, Tensor] = {}
        self.count = 0

    def add(self, site: Site, value: Tensor) -> None:
        """Add one loss, a scalar on any device."""
        known = self._sums.get(site)
        self._sums[site] = value if known is None else known + value.to(known.device)
        self.count += 1

    def clear(self) -> None:
        """Forget them: the gradients were cleared, or the step is taken."""
        if self.count:
            self._sums.clear()
            self.count = 0

    def scalars(self) -> list[Tensor]:
        """Return the sum of each place."""
        return list(self._sums.values())

    def names(self) -> list[str]:
        """Return the places as people call them, in the order of `scalars`."""
        return [label(site) for site in self._sums]


def scalar_of(losses: list[Tensor]) -> Tensor | None:
    """Return the sum of the tensors that one backward call began at, as a scalar; None if there is none."""
    found: Tensor | None = None
    for loss in losses:
        one = loss.detach()
        one = one if one.ndim == 0 else dense(one).float().mean()
        found = one if found is None else found + one.to(found.device)
    return found


def site_of(frame: FrameType | None) -> Site:
    """Return file and line of a frame."""
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def label(site: Site) -> str:
    """Return ``train.py:12``, or ``cell line 3`` in a notebook."""
    name, line = site
    return f"cell line {line}" if any(part in name for part in _NOTEBOOK) else f"{os.path.basename(name)}:{line}"
